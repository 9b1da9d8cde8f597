/** Owns reading an age X25519 secret key out of bytes, so that the buffer can be wiped (sops B6). */

const CHARSET = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l'
const PREFIX = 'age-secret-key-'
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3]
const SCALAR_BYTES = 32
/** 256 bits in groups of five, and six of checksum. */
const DATA_CHARS = 52 + 6

function polymod(checksum: number, value: number): number {
  const top = checksum >>> 25
  let next = ((checksum & 0x1ffffff) << 5) ^ value
  GENERATOR.forEach((term, bit) => {
    if (((top >>> bit) & 1) === 1) next ^= term
  })
  return next
}

/**
 * The 32 secret bytes of `AGE-SECRET-KEY-1…`, given in upper case as ASCII bytes. Undefined when
 * length, alphabet or checksum are wrong.
 */
export function decodeAgeSecretKey(ascii: Uint8Array): Buffer | undefined {
  if (ascii.length !== PREFIX.length + 1 + DATA_CHARS) return undefined
  let checksum = 1
  for (const char of PREFIX) checksum = polymod(checksum, char.charCodeAt(0) >>> 5)
  checksum = polymod(checksum, 0)
  for (const char of PREFIX) checksum = polymod(checksum, char.charCodeAt(0) & 31)
  const scalar = Buffer.allocUnsafeSlow(SCALAR_BYTES)
  let bits = 0
  let pending = 0
  let written = 0
  for (let i = 0; i < DATA_CHARS; i += 1) {
    const code = ascii[PREFIX.length + 1 + i] ?? 0
    const isLower = code >= 0x61 && code <= 0x7a
    const value = isLower ? -1 : CHARSET.indexOf(String.fromCharCode(code).toLowerCase())
    if (value === -1) return undefined
    checksum = polymod(checksum, value)
    if (i >= DATA_CHARS - 6) continue
    pending = ((pending << 5) | value) & 0xfff
    bits += 5
    if (bits >= 8) {
      bits -= 8
      scalar[written] = (pending >>> bits) & 0xff
      written += 1
    }
  }
  const isPadded = (pending & ((1 << bits) - 1)) === 0
  if (checksum !== 1 || !isPadded || written !== SCALAR_BYTES) {
    scalar.fill(0)
    return undefined
  }
  return scalar
}
