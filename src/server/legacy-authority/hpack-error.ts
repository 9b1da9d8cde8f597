/** Owns the one error of header decompression. */

/** A header block that no correct peer would send. The connection cannot be used any further. */
export class HpackError extends Error {
  override readonly name = 'HpackError'
}
