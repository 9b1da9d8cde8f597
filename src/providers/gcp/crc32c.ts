/** Owns CRC-32C (Castagnoli), the checksum that Google's APIs send with a payload (gcp.md section 6). */

/** Signed, so that every entry is a small integer to the engine. */
const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
  return value | 0
})

/** The checksum of `bytes`, 0 to 2^32 - 1. Of `123456789` it is 0xE3069283. */
export function crc32c(bytes: Uint8Array): number {
  let crc = -1
  // An index loop: payloads have up to a mebibyte, and iterators cost several times as much.
  for (let at = 0; at < bytes.length; at += 1) {
    crc = (crc >>> 8) ^ (TABLE[(crc ^ (bytes[at] ?? 0)) & 0xff] ?? 0)
  }
  return ~crc >>> 0
}

/** Whether a checksum as a reply has it (decimal digits, or absent) fits the bytes. */
export function fitsChecksum(claimed: unknown, bytes: Uint8Array): boolean {
  if (claimed === undefined) return true
  const digits = typeof claimed === 'number' ? claimed.toString() : claimed
  return digits === crc32c(bytes).toString()
}
