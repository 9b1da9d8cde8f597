/**
 * Owns the address guard: which network addresses a destination named by a tenant may lead to
 * (threat model T11). Pure; `lookup.ts` applies it to what names resolve to.
 *
 * Private ranges pass: a Vault inside the cluster is an ordinary thing to name. Refused is what only
 * this node or the platform should reach: loopback, link-local, instance metadata, the API server.
 */

/** What a guard refuses besides its own table. */
export interface GuardRules {
  /**
   * Host names, addresses and CIDR ranges that parameters must not lead to: the API server's names,
   * service address and endpoints, the node's own addresses.
   */
  readonly refused: readonly string[]
}

interface Address {
  readonly family: 4 | 6
  readonly value: bigint
}

interface Range extends Address {
  /** Leading bits that must agree. */
  readonly bits: number
  readonly reason: string
}

const METADATA = 'an instance metadata address'

const REFUSED: readonly Range[] = (
  [
    ['0.0.0.0/8', 'an unspecified address'],
    ['127.0.0.0/8', 'a loopback address'],
    ['169.254.0.0/16', 'a link-local or instance metadata address'],
    ['100.100.100.200/32', METADATA],
    ['168.63.129.16/32', METADATA],
    ['192.0.0.0/24', 'a reserved address'],
    ['224.0.0.0/4', 'a multicast address'],
    ['240.0.0.0/4', 'a reserved or broadcast address'],
    ['::/128', 'an unspecified address'],
    ['::1/128', 'a loopback address'],
    ['fe80::/10', 'a link-local address'],
    ['fec0::/10', 'a site-local address'],
    ['ff00::/8', 'a multicast address'],
    ['fd00:ec2::/32', METADATA],
    ['fd20:ce::/32', METADATA],
    ['64:ff9b:1::/48', 'a translated address'],
    ['2001::/32', 'a tunnelled address'],
    ['100::/64', 'a reserved address'],
  ] as const
).map(([cidr, reason]) => range(cidr, reason))

/** IPv6 ranges that carry an IPv4 address, and how far to its right end: the inner address is checked too. */
const EMBEDDING: readonly (Range & { readonly shift: bigint })[] = (
  [
    ['::ffff:0:0/96', 0n],
    ['::ffff:0:0:0/96', 0n],
    ['::/96', 0n],
    ['64:ff9b::/96', 0n],
    ['2002::/16', 80n],
  ] as const
).map(([cidr, shift]) => ({ ...range(cidr, ''), shift }))

function range(cidr: string, reason: string): Range {
  const found = parseRange(cidr)
  if (found === undefined) throw new Error(`not a CIDR range: ${cidr}`)
  return { ...found, reason }
}

function parseRange(text: string): Omit<Range, 'reason'> | undefined {
  const slash = text.indexOf('/')
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash))
  if (address === undefined) return undefined
  const width = address.family === 4 ? 32 : 128
  const bits = slash < 0 ? width : Number(text.slice(slash + 1))
  return Number.isInteger(bits) && bits >= 0 && bits <= width ? { ...address, bits } : undefined
}

function within(address: Address, { family, value, bits }: Omit<Range, 'reason'>): boolean {
  const shift = BigInt((family === 4 ? 32 : 128) - bits)
  return address.family === family && address.value >> shift === value >> shift
}

/**
 * An address in any spelling that some resolver accepts: dotted, decimal, octal and hexadecimal IPv4 of
 * one to four parts; IPv6 with or without brackets, `::`, a dotted end or a zone.
 */
export function parseAddress(text: string): Address | undefined {
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text
  const value = bare.includes(':') ? parseIPv6(bare) : parseIPv4(bare)
  return value === undefined ? undefined : { family: bare.includes(':') ? 6 : 4, value }
}

function parseIPv4(text: string): bigint | undefined {
  const parts = (text.endsWith('.') ? text.slice(0, -1) : text).split('.')
  if (parts.length > 4) return undefined
  let value = 0n
  for (const [index, part] of parts.entries()) {
    const number = parseOctets(part)
    if (number === undefined) return undefined
    // The last part fills all octets that are left.
    const octets = index === parts.length - 1 ? 4 - index : 1
    if (number >= 256n ** BigInt(octets)) return undefined
    value = (value << BigInt(8 * octets)) | number
  }
  return value
}

function parseOctets(part: string): bigint | undefined {
  if (part.length > 12) return undefined
  if (/^0[xX][0-9a-fA-F]*$/.test(part)) return BigInt(part.length === 2 ? 0 : `0x${part.slice(2)}`)
  if (/^0[0-7]+$/.test(part)) return BigInt(`0o${part}`)
  return /^(?:0|[1-9][0-9]*)$/.test(part) ? BigInt(part) : undefined
}

function parseIPv6(text: string): bigint | undefined {
  const zone = text.indexOf('%')
  const bare = zone < 0 ? text : text.slice(0, zone)
  const halves = bare.split('::')
  if (halves.length > 2) return undefined
  const [head, tail] = [groups(halves[0] ?? ''), groups(halves[1] ?? '')]
  if (head === undefined || tail === undefined) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined
  return [...head, ...Array<bigint>(missing).fill(0n), ...tail].reduce(
    (value, group) => (value << 16n) | group,
    0n,
  )
}

function groups(text: string): readonly bigint[] | undefined {
  if (text === '') return []
  const parts = text.split(':')
  const result: bigint[] = []
  for (const [index, part] of parts.entries()) {
    if (index === parts.length - 1 && part.includes('.')) {
      const inner = parseIPv4(part)
      if (inner === undefined) return undefined
      result.push(inner >> 16n, inner & 0xffffn)
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) result.push(BigInt(`0x${part}`))
    else return undefined
  }
  return result
}

/** The IPv4 addresses that an IPv6 address leads to by mapping, translation or tunnelling. */
function embedded(address: Address): readonly Address[] {
  if (address.family === 4) return []
  const inner = EMBEDDING.filter((range) => within(address, range)).map(({ shift }) => address.value >> shift)
  const isatap = (address.value >> 32n) & 0xfdff_ffffn
  if (isatap === 0x5efen) inner.push(address.value)
  return inner.map((value) => ({ family: 4, value: value & 0xffff_ffffn }))
}

/**
 * Why a destination named by a parameter must not be the IP address `address`; `undefined` if it may.
 * Text that is no address is refused: the caller asks about what a name resolved to.
 */
export function addressRefusal(address: string, rules: GuardRules): string | undefined {
  const parsed = parseAddress(address)
  if (parsed === undefined) return 'not an IP address'
  if (address.includes('%')) return 'a link-local address'
  const own = rules.refused.flatMap((text): readonly Range[] => {
    const found = parseRange(text)
    return found === undefined ? [] : [{ ...found, reason: 'an address of the cluster itself' }]
  })
  for (const candidate of [parsed, ...embedded(parsed)]) {
    const hit = [...REFUSED, ...own].find((range) => within(candidate, range))
    if (hit !== undefined) return hit.reason
  }
  return undefined
}

/**
 * Why a destination named by a parameter must not have this host, before any resolution: names that mean
 * this machine or the API server, and addresses of {@link addressRefusal} in any spelling.
 */
export function hostRefusal(host: string, rules: GuardRules): string | undefined {
  if (parseAddress(host) !== undefined) return addressRefusal(host, rules)
  const name = host.toLowerCase().replace(/\.$/, '')
  if (name === '') return 'an empty host'
  if (name === 'localhost' || name.endsWith('.localhost')) return 'a loopback name'
  const refused = rules.refused.some((other) => other.toLowerCase().replace(/\.$/, '') === name)
  return refused ? 'a name of the cluster itself' : undefined
}
