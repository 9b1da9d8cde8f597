/** Owns reading ASN.1: BER and DER into a tree, bounded in depth and size (X.690). */

/** The bytes are not ASN.1, or more of it than is read. */
export class DerError extends Error {
  override readonly name = 'DerError'
}

/** One value. Buffers are views of the input, except the joined parts of a constructed string. */
export interface DerNode {
  /** Class and number as in the identifier octet without its constructed bit, e.g. 0x10 for SEQUENCE. */
  readonly tag: number
  readonly constructed: boolean
  /** Contents octets of a primitive value; empty for a constructed one. */
  readonly contents: Buffer
  /** The whole encoding. */
  readonly raw: Buffer
  readonly children: readonly DerNode[]
}

export const TAG = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  sequence: 0x10,
  set: 0x11,
} as const

/** Tag of a context-specific value, e.g. `[0]`. */
export const context = (number: number): number => 0x80 | number

const MAX_DEPTH = 32
const MAX_NODES = 20_000

interface Reading {
  readonly bytes: Buffer
  nodes: number
}

/**
 * Reads one value, which must be all of `bytes`.
 * @throws DerError
 */
export function parseDer(bytes: Buffer): DerNode {
  const reading = { bytes, nodes: 0 }
  const { node, end } = readNode(reading, 0, bytes.length, 0)
  if (end !== bytes.length) throw new DerError('there is something after the ASN.1 value')
  return node
}

interface Read {
  readonly node: DerNode
  readonly end: number
}

function readNode(reading: Reading, start: number, limit: number, depth: number): Read {
  const { bytes } = reading
  reading.nodes += 1
  if (depth > MAX_DEPTH || reading.nodes > MAX_NODES)
    throw new DerError('the ASN.1 is nested too deeply or too large')
  const identifier = octet(bytes, start, limit)
  if ((identifier & 0x1f) === 0x1f) throw new DerError('ASN.1 tags above 30 are not supported')
  const constructed = (identifier & 0x20) !== 0
  const { length, at } = readLength(bytes, start + 1, limit)
  const tag = identifier & 0xdf
  if (length === undefined) {
    if (!constructed) throw new DerError('a primitive ASN.1 value without a length')
    const { children, end } = readUntilEnd(reading, at, limit, depth)
    return { node: { tag, constructed, contents: EMPTY, raw: bytes.subarray(start, end), children }, end }
  }
  const end = at + length
  if (end > limit) throw new DerError('the ASN.1 is cut short')
  const raw = bytes.subarray(start, end)
  if (!constructed)
    return { node: { tag, constructed, contents: bytes.subarray(at, end), raw, children: [] }, end }
  const children: DerNode[] = []
  for (let next = at; next < end;) {
    const child = readNode(reading, next, end, depth + 1)
    children.push(child.node)
    next = child.end
  }
  return { node: { tag, constructed, contents: EMPTY, raw, children }, end }
}

const EMPTY = Buffer.alloc(0)

/** Children of a value with indefinite length: up to the two zero octets. */
function readUntilEnd(
  reading: Reading,
  start: number,
  limit: number,
  depth: number,
): { readonly children: readonly DerNode[]; readonly end: number } {
  const children: DerNode[] = []
  let next = start
  for (;;) {
    if (octet(reading.bytes, next, limit) === 0 && octet(reading.bytes, next + 1, limit) === 0) {
      return { children, end: next + 2 }
    }
    const child = readNode(reading, next, limit, depth + 1)
    children.push(child.node)
    next = child.end
  }
}

function octet(bytes: Buffer, at: number, limit: number): number {
  const value = at < limit ? bytes[at] : undefined
  if (value === undefined) throw new DerError('the ASN.1 is cut short')
  return value
}

/** `length` is undefined for the indefinite form. */
function readLength(
  bytes: Buffer,
  start: number,
  limit: number,
): { readonly length: number | undefined; readonly at: number } {
  const first = octet(bytes, start, limit)
  if (first < 0x80) return { length: first, at: start + 1 }
  if (first === 0x80) return { length: undefined, at: start + 1 }
  const size = first & 0x7f
  if (size > 4) throw new DerError('an ASN.1 length of more than four octets')
  let length = 0
  for (let i = 1; i <= size; i += 1) length = length * 256 + octet(bytes, start + i, limit)
  return { length, at: start + 1 + size }
}

/**
 * The child at `index`, of the given tag.
 * @throws DerError when there is none.
 */
export function child(node: DerNode, index: number, tag?: number): DerNode {
  const found = node.children[index]
  if (found === undefined || (tag !== undefined && found.tag !== tag))
    throw new DerError('the ASN.1 lacks a part')
  return found
}

/**
 * Bytes of an OCTET STRING (or one tagged `[n]`), whether it is in one piece or in several.
 * @throws DerError
 */
export function octets(node: DerNode): Buffer {
  return node.constructed ? Buffer.concat(node.children.map(octets)) : node.contents
}

/**
 * A non-negative INTEGER.
 * @throws DerError for a negative one or one of more than 47 bits.
 */
export function smallInteger(node: DerNode): number {
  const { tag, contents } = node
  const [first = 0x80] = contents
  if (tag !== TAG.integer || first > 0x7f || contents.length > 6)
    throw new DerError('an ASN.1 integer is missing, negative or too large')
  return contents.readUIntBE(0, contents.length)
}

/** Dotted text of an OBJECT IDENTIFIER. @throws DerError */
export function oid(node: DerNode): string {
  if (node.tag !== TAG.oid || node.contents.length === 0 || node.contents.length > 64)
    throw new DerError('an ASN.1 object identifier is missing')
  const parts: number[] = []
  let value = 0
  for (const byte of node.contents) {
    value = value * 128 + (byte & 0x7f)
    if (value > Number.MAX_SAFE_INTEGER / 128) throw new DerError('an ASN.1 object identifier is too large')
    if ((byte & 0x80) !== 0) continue
    if (parts.length === 0)
      parts.push(Math.min(Math.floor(value / 40), 2), value - 40 * Math.min(Math.floor(value / 40), 2))
    else parts.push(value)
    value = 0
  }
  return parts.join('.')
}
