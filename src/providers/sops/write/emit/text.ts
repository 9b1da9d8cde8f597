/** Owns what the emitters share: UTF-8 checks, float lexemes and readable key paths for errors. */
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
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new WriteError(
      'usage',
      `${pathName(path)} stands in clear and is not UTF-8 text`,
      'Let the rule encrypt it, or store the file as a document of its own with --format binary.',
    )
  }
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
