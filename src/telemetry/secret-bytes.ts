/** Owns the type in which secret values travel: bytes that cannot be printed by accident. */
import { inspect } from 'node:util'

const MASK = '[redacted]'

/**
 * Secret bytes. `toString`, `toJSON`, `inspect` and template literals give `[redacted]`; the content
 * is reached only through {@link SecretBytes.reveal}, which is easy to find in a review.
 * The bytes live in an unpooled buffer of their own, so that {@link SecretBytes.wipe} overwrites
 * nothing else (threat model T22, T24).
 */
export class SecretBytes {
  readonly #bytes: Buffer

  private constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** Copies `bytes` (or the UTF-8 of a text) into memory of its own. */
  static copyOf(bytes: Uint8Array | string): SecretBytes {
    if (typeof bytes === 'string') {
      const own = Buffer.allocUnsafeSlow(Buffer.byteLength(bytes))
      own.write(bytes)
      return new SecretBytes(own)
    }
    const own = Buffer.allocUnsafeSlow(bytes.byteLength)
    own.set(bytes)
    return new SecretBytes(own)
  }

  /** The content itself, not a copy. Do not keep, log or modify it. */
  reveal(): Buffer {
    return this.#bytes
  }

  /** Length in bytes. */
  get length(): number {
    return this.#bytes.length
  }

  /** Overwrites the content with zeros. The value must not be used afterwards. */
  wipe(): void {
    this.#bytes.fill(0)
  }

  toString(): string {
    return MASK
  }

  toJSON(): string {
    return MASK
  }

  [inspect.custom](): string {
    return MASK
  }
}
