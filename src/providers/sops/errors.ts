/** Owns the error codes of SOPS documents (sops A17) and the kind each belongs to (driver.md section 8.3). */
import { BackendError, type ErrorKind } from '../adapter.ts'

/** Every code of sops A17. The word stands in the reply, so that a user can search for it. */
export const SOPS_ERROR_KINDS = {
  INVALID_PARAMETER: 'config',
  METADATA_NOT_FOUND: 'config',
  METADATA_INVALID: 'config',
  FORMAT_INVALID: 'config',
  RULE_INVALID: 'config',
  NOT_BOUND: 'denied',
  IDENTITY_NOT_ALLOWED: 'denied',
  NO_KEY_OPENED: 'denied',
  KEY_SERVICE_UNAVAILABLE: 'unavailable',
  TOKEN_INVALID: 'malformed',
  MAC_MISMATCH: 'malformed',
  CLEARTEXT_UNAUTHENTICATED: 'malformed',
  LIMIT_EXCEEDED: 'too-large',
  OBJECT_NOT_FOUND: 'not-found',
} as const satisfies Record<string, ErrorKind>
export type SopsErrorCode = keyof typeof SOPS_ERROR_KINDS

/** An error of sops A17. The message names object, path and key kind; never a value. */
export function sopsError(code: SopsErrorCode, message: string, remedy?: string): BackendError {
  return new BackendError({
    kind: SOPS_ERROR_KINDS[code],
    code,
    message,
    ...(remedy === undefined ? {} : { remedy }),
    // A node that lost an identity file must not take the files of all its pods with it.
    indirect: code === 'NO_KEY_OPENED',
  })
}

/** The same refusal where the node is at fault, or may be: no file of a running pod is taken away for it. */
export function indirectly({ kind, code, message, remedy }: BackendError): BackendError {
  return new BackendError({ kind, code, message, remedy, indirect: true })
}

/** Foreign text (a key, a path) as it may stand in a message: JSON-quoted and cut. */
export function quoted(foreign: string): string {
  return JSON.stringify(foreign.length > 120 ? `${foreign.slice(0, 120)}…` : foreign)
}
