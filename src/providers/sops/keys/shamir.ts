/** Owns Shamir's secret sharing as SOPS uses it: shares of 32 bytes and their x (sops A10). */

export const SHARE_BYTES = 33
const SECRET_BYTES = 32

/** Product in GF(2^8) modulo 0x11B, without a branch or a table that depends on the operands (T19). */
function multiply(a: number, b: number): number {
  let product = 0
  let factor = a
  for (let bit = 0; bit < 8; bit += 1) {
    product ^= factor & -((b >>> bit) & 1)
    factor = ((factor << 1) ^ (0x11b & -(factor >>> 7))) & 0x1ff
  }
  return product & 0xff
}

/** a^254, which is 1/a for every a but 0. */
function inverse(a: number): number {
  let power = a
  let result = 1
  for (let i = 0; i < 7; i += 1) {
    power = multiply(power, power)
    result = multiply(result, power)
  }
  return result
}

/** The x of a share; 0 would be the secret itself and is refused by {@link combine}. */
export function shareX(share: Uint8Array): number {
  return share[SECRET_BYTES] ?? 0
}

/**
 * The secret of shares, by Lagrange interpolation at 0 over all of them.
 * @param shares at least two, of {@link SHARE_BYTES} each
 * @returns undefined for fewer, for a wrong length, for x = 0 and for a repeated x
 */
export function combine(shares: readonly Uint8Array[]): Buffer | undefined {
  const xs = shares.map(shareX)
  const isUsable =
    shares.length >= 2 &&
    shares.every((share) => share.length === SHARE_BYTES) &&
    xs.every((x) => x !== 0) &&
    new Set(xs).size === xs.length
  if (!isUsable) return undefined
  const secret = Buffer.alloc(SECRET_BYTES)
  shares.forEach((share, i) => {
    const xi = xs[i] ?? 0
    // Weight of this share at 0: product of xj / (xj - xi); minus is xor here.
    const weight = xs.reduce(
      (product, xj, j) => (j === i ? product : multiply(product, multiply(xj, inverse(xj ^ xi)))),
      1,
    )
    for (let at = 0; at < SECRET_BYTES; at += 1) {
      secret[at] = (secret[at] ?? 0) ^ multiply(share[at] ?? 0, weight)
    }
  })
  return secret
}
