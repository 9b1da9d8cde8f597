/** Owns the message authentication code over a whole document (sops A9). */
import { createHash, timingSafeEqual } from 'node:crypto'
import { canonicalBytes } from './canonical.ts'
import { lastModifiedAad } from './time.ts'
import { decryptToken, encryptToken, parseToken } from './token.ts'
import { text, type Scalar } from './tree.ts'

/** SHA-256 of `sops`: fed first when only encrypted leaves count (A9.1). */
const MAC_ONLY_ENCRYPTED_SALT = Buffer.from(
  '8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69',
  'hex',
)

/** Collects the leaves of all documents, depth first in document order. */
export interface MacHash {
  /** Feeds a decrypted leaf, comments excepted. */
  leaf(scalar: Scalar, encrypted: boolean): void
  /** 128 upper-case hexadecimal digits. Ends the hash. */
  digest(): string
}

/** A fresh MAC computation. */
export function macHash(macOnlyEncrypted: boolean): MacHash {
  const hash = createHash('sha512')
  if (macOnlyEncrypted) hash.update(MAC_ONLY_ENCRYPTED_SALT)
  return {
    leaf(scalar, encrypted) {
      if (encrypted || !macOnlyEncrypted) hash.update(canonicalBytes(scalar))
    },
    digest: () => hash.digest('hex').toUpperCase(),
  }
}

/**
 * Whether the recorded `mac` token holds `digest`. Absent, empty, no token, undecryptable or not of
 * type `str` is false like any other mismatch (A5).
 */
export function macMatches(
  digest: string,
  recorded: Uint8Array | undefined,
  key: Uint8Array,
  lastModified: string,
): boolean {
  const aad = lastModifiedAad(lastModified)
  if (recorded === undefined || aad === undefined) return false
  const token = parseToken(recorded)
  if ('fault' in token || token.type !== 'str') return false
  const plain = decryptToken(token, key, aad)
  if ('fault' in plain || plain.type !== 'str') return false
  const expected = Buffer.from(digest)
  return plain.bytes.length === expected.length && timingSafeEqual(plain.bytes, expected)
}

/**
 * The `mac` token to record for `digest`.
 * @param lastModified RFC 3339 text, the same that is written as `lastmodified`
 * @throws RangeError when `lastModified` is no such text
 */
export function macToken(digest: string, key: Uint8Array, lastModified: string): string {
  const aad = lastModifiedAad(lastModified)
  if (aad === undefined) throw new RangeError('lastmodified is no RFC 3339 time')
  return encryptToken(text(digest), key, aad)
}
