/** Owns the encrypted value token `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]` (sops A6). */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { canonicalBytes, scalarFromPlaintext, TOKEN_TYPES, type TokenType } from './canonical.ts'
import { strictBase64 } from './encodings.ts'
import type { Scalar } from './tree.ts'

const PREFIX = 'ENC[AES256_GCM,'
const PREFIX_BYTES = Buffer.from(PREFIX)
const TAG_BYTES = 16
const MAX_IV_BYTES = 64
/** What SOPS writes, and what its editing commands demand (A20). */
const WRITTEN_IV_BYTES = 32

/** The fields of a token. The type word is not authenticated (A14). */
export interface Token {
  readonly data: Buffer
  readonly iv: Buffer
  readonly tag: Buffer
  readonly type: TokenType
}

/** Why a text is no usable token, or a token no value. A phrase for a message; never quotes the text. */
export type TokenFault = { readonly fault: string }

/** AAD of a value: keys from the root, each followed by `:`; list positions are not part of it (A6). */
export function aadOf(path: readonly string[]): string {
  return path.map((key) => `${key}:`).join('')
}

/** Whether a leaf begins like a token (the shape rule of A8). */
export function looksLikeToken(bytes: Uint8Array): boolean {
  return PREFIX_BYTES.equals(bytes.subarray(0, PREFIX_BYTES.length))
}

function field(text: string | undefined, name: string): string | undefined {
  return text?.startsWith(`${name}:`) === true ? text.slice(name.length + 1) : undefined
}

/** Parses a token; text after its last `]` before the first line feed is ignored (A6.3). */
export function parseToken(bytes: Uint8Array): Token | TokenFault {
  if (!looksLikeToken(bytes)) return { fault: 'it is no encrypted value' }
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  const lineFeed = all.indexOf('\n')
  const line = lineFeed === -1 ? all : all.slice(0, lineFeed)
  const end = line.lastIndexOf(']')
  if (end < PREFIX.length) return { fault: 'the token has no end' }
  const fields = line.slice(PREFIX.length, end).split(',', 5)
  const [dataText, ivText, tagText, word] = ['data', 'iv', 'tag', 'type'].map((name, i) =>
    field(fields[i], name),
  )
  if (
    fields.length !== 4 ||
    dataText === undefined ||
    ivText === undefined ||
    tagText === undefined ||
    word === undefined
  ) {
    return { fault: 'the token does not have the fields data, iv, tag, type in that order' }
  }
  const data = strictBase64(dataText)
  const iv = strictBase64(ivText)
  const tag = strictBase64(tagText)
  if (data === undefined || iv === undefined || tag === undefined) {
    return { fault: 'a field of the token is no strict base64' }
  }
  if (data.length === 0) return { fault: 'the token has no data' }
  if (iv.length === 0 || iv.length > MAX_IV_BYTES)
    return { fault: `the iv is not 1 to ${MAX_IV_BYTES} bytes` }
  // Checked before any decipher sees it: Node would take four bytes (A6.1).
  if (tag.length !== TAG_BYTES) return { fault: `the tag is not ${TAG_BYTES} bytes` }
  const type = TOKEN_TYPES.find((known) => known === word)
  if (type === undefined) return { fault: 'the type is unknown' }
  return { data, iv, tag, type }
}

/**
 * Decrypts a token and reads the plaintext as its type says; a `comment` comes as text.
 * @param key 32 bytes
 * @param aad from {@link aadOf}
 */
export function decryptToken(token: Token, key: Uint8Array, aad: string): Scalar | TokenFault {
  const decipher = createDecipheriv('aes-256-gcm', key, token.iv, { authTagLength: TAG_BYTES })
  decipher.setAAD(Buffer.from(aad))
  decipher.setAuthTag(token.tag)
  const plaintext = decipher.update(token.data)
  try {
    decipher.final()
  } catch {
    plaintext.fill(0)
    return { fault: 'it does not decrypt under the data key at this place' }
  }
  const scalar = scalarFromPlaintext(token.type, plaintext)
  if (scalar?.type !== 'str') plaintext.fill(0)
  return scalar ?? { fault: `the plaintext is no ${token.type}` }
}

/**
 * The token of a scalar, under a fresh random iv. Empty text and null are never encrypted: they are
 * written as they are (A6.4).
 * @param as `comment` for an encrypted comment of a list; default: the scalar's type
 * @throws RangeError for empty text and null
 */
export function encryptToken(
  scalar: Exclude<Scalar, { type: 'null' }>,
  key: Uint8Array,
  aad: string,
  as: TokenType = scalar.type,
): string {
  const plaintext = canonicalBytes(scalar)
  if (plaintext.length === 0) throw new RangeError('an empty value is never encrypted (sops A6.4)')
  const iv = randomBytes(WRITTEN_IV_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES })
  cipher.setAAD(Buffer.from(aad))
  const data = Buffer.concat([cipher.update(plaintext), cipher.final()])
  const [d, i, t] = [data, iv, cipher.getAuthTag()].map((bytes) => bytes.toString('base64'))
  return `${PREFIX}data:${d},iv:${i},tag:${t},type:${as}]`
}
