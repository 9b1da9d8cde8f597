/** Owns building PKCS#12 files for tests, byte by byte: any order of bags, any claim about iterations. */

/** One DER value. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const contents = Buffer.concat(parts)
  const length =
    contents.length < 0x80
      ? [contents.length]
      : [0x83, contents.length >> 16, (contents.length >> 8) & 0xff, contents.length & 0xff]
  return Buffer.concat([Buffer.from([tag, ...length]), contents])
}

/** OBJECT IDENTIFIER of a dotted text. */
export function derOid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number)
  const groups = [first * 40 + second, ...rest].map((value) => {
    const bytes = [value & 0x7f]
    for (let left = Math.floor(value / 128); left > 0; left = Math.floor(left / 128))
      bytes.unshift((left & 0x7f) | 0x80)
    return Buffer.from(bytes)
  })
  return der(6, ...groups)
}

export const derInteger = (value: number): Buffer => {
  const hex = value.toString(16)
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
  return der(2, (bytes[0] ?? 0) > 0x7f ? Buffer.concat([Buffer.of(0), bytes]) : bytes)
}

const DATA = '1.2.840.113549.1.7.1'
const BAG = '1.2.840.113549.1.12.10.1'

export type Bag = { readonly key: Buffer } | { readonly certificate: Buffer } | { readonly raw: Buffer }

function bagOf(bag: Bag): Buffer {
  if ('raw' in bag) return bag.raw
  if ('key' in bag) return der(0x30, derOid(`${BAG}.1`), der(0xa0, bag.key))
  const inner = der(0x30, derOid('1.2.840.113549.1.9.22.1'), der(0xa0, der(4, bag.certificate)))
  return der(0x30, derOid(`${BAG}.3`), der(0xa0, inner))
}

export interface Made {
  /** Each list becomes one safe. */
  readonly safes: readonly (readonly Bag[])[]
  /** A MAC that need not be right. */
  readonly mac?: { readonly digestOid: string; readonly iterations: number }
}

/** An unencrypted PKCS#12 file. */
export function makePkcs12({ safes, mac }: Made): Buffer {
  const contents = safes.map((bags) =>
    der(0x30, derOid(DATA), der(0xa0, der(4, der(0x30, ...bags.map(bagOf))))),
  )
  const authSafe = der(0x30, derOid(DATA), der(0xa0, der(4, der(0x30, ...contents))))
  const macData =
    mac === undefined
      ? []
      : [
          der(
            0x30,
            der(0x30, der(0x30, derOid(mac.digestOid), der(5)), der(4, Buffer.alloc(20))),
            der(4, Buffer.alloc(8)),
            derInteger(mac.iterations),
          ),
        ]
  return der(0x30, derInteger(3), authSafe, ...macData)
}
