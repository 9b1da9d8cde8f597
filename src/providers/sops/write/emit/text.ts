/** Owns what the emitters share: UTF-8 checks, float lexemes and readable key paths for errors. */
import { canonicalText } from '../../canonical.ts'
import { strictUtf8 } from '../../encodings.ts'
import type { Scalar } from '../../tree.ts'
import { WriteError } from '../error.ts'

/** Mapping keys from the root to a value; list positions as `[n]`. For error messages only. */
export type KeyPath = readonly string[]

/** `db/password`, for messages. Key names are not secret: SOPS leaves them in clear. */
export function pathName(path: KeyPath): string {
  return path.length === 0 ? 'the document' : `"${path.join('/')}"`
}

/**
 * The text of `bytes`.
 * @throws WriteError when they are not UTF-8: stock would read other bytes back (sops A4).
 */
export function utf8Text(bytes: Uint8Array, path: KeyPath): string {
  const text = strictUtf8(bytes)
  if (text !== undefined) return text
  throw new WriteError(
    'usage',
    `${pathName(path)} stands in clear and is not UTF-8 text`,
    'Let the rule encrypt it, or store the file as a document of its own with --format binary.',
  )
}

/** A metadata scalar as the flat formats hold it; line feeds are still line feeds. */
export function flatText(scalar: Scalar, name: string): string {
  if (scalar.type === 'str') return utf8Text(scalar.bytes, ['sops', name])
  if (scalar.type === 'bool') return scalar.value ? 'true' : 'false'
  return canonicalText(scalar)
}

/** Shortest digits of a finite float, in a form that YAML and JSON both read as a float and not as an int. */
export function floatLexeme(value: number, path: KeyPath): string {
  if (Object.is(value, -0)) {
    // Stock writes `-0` back, which is the int 0: the MAC would no longer match (sops A20).
    throw new WriteError('usage', `${pathName(path)} is negative zero, which SOPS cannot keep in clear`)
  }
  const digits = String(value)
  return /[.e]/.test(digits) ? digits : `${digits}.0`
}
