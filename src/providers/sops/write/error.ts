/** Owns the one error of everything that writes SOPS documents: what failed, and what to do about it. */

/** How a write can fail. The exit code of `keyferry secret` follows from it (sops B2). */
export type WriteErrorKind = 'usage' | 'not-found' | 'conflict' | 'integrity' | 'permission' | 'failed'

/** A document could not be written. The message names document and key, never a value. */
export class WriteError extends Error {
  override readonly name = 'WriteError'
  readonly kind: WriteErrorKind
  /** What to do about it, one sentence. */
  readonly remedy: string | undefined

  constructor(kind: WriteErrorKind, message: string, remedy?: string) {
    super(message)
    this.kind = kind
    this.remedy = remedy
  }
}
