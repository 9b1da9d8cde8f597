/** Owns which error kind a Vault reply or a broken connection means, and its text (vault sections 4 and 13). */
import { HttpError, type HttpFailure } from '../../net/http.ts'
import { BackendError, type AdapterErrorOptions, type ErrorKind } from '../adapter.ts'
import { isVaults, parseFailure, type Failure } from './response.ts'

/** What was asked for, as far as an error may tell. */
export interface Asked {
  readonly method: string
  /** Path below the address, without arguments. */
  readonly path: string
  /** `login` maps refusals to the pod's identity, `read` to its rights. */
  readonly purpose: 'login' | 'read'
  /** Texts that a hostile server could send back: they never reach an error. */
  readonly secrets: readonly string[]
}

const KIND_OF_STATUS = new Map<number, ErrorKind>([
  [400, 'config'],
  [403, 'denied'],
  [404, 'not-found'],
  [405, 'config'],
  [412, 'unavailable'],
  [413, 'config'],
  [429, 'throttled'],
  [472, 'unavailable'],
  [473, 'unavailable'],
])

function kindOf(status: number, purpose: Asked['purpose']): ErrorKind {
  // JWT auth says 400 for nearly everything, outages of its key server included: no denial for ever.
  if (purpose === 'login' && status === 400) return 'unauthenticated'
  return KIND_OF_STATUS.get(status) ?? (status >= 500 ? 'unavailable' : 'malformed')
}

const REMEDIES: Readonly<Record<Asked['purpose'], Partial<Record<ErrorKind, string>>>> = {
  login: {
    denied: 'Check which service accounts and namespaces the role is bound to',
    unauthenticated: "Check the role's name, its audience and the auth mount",
    'not-found': 'Check the auth mount and the namespace',
  },
  read: {
    denied: "Check the policies of the role and the path; a KV v2 path needs 'data/' after the mount",
    'not-found': "Check the path and the namespace; a KV v2 path needs 'data/' after the mount",
    config: 'Check secretPath, method and secretArgs against what the secrets engine documents',
    throttled: 'Raise the quota, or poll less often',
  },
}

/** The error for a reply that is no success. */
export function replyError(
  asked: Asked,
  status: number,
  headers: Readonly<Record<string, string>>,
  body: Uint8Array,
): BackendError {
  const failure = parseFailure(body)
  const gone = status === 404 && (failure.destroyed === true || failure.deletionTime !== undefined)
  const kind = gone ? 'gone' : kindOf(status, asked.purpose)
  const retryAfterMs = retryAfter(headers['retry-after'])
  const remedy = gone ? 'Undelete the version, or ask for another one' : REMEDIES[asked.purpose][kind]
  return new BackendError({
    kind,
    code: `VAULT_HTTP_${status}`,
    message: scrubbed(replyText(asked, status, failure), asked.secrets),
    // A refused login can be the fault of Vault's own way to the cluster; another's 404 says nothing at all.
    indirect: asked.purpose === 'login' || !isVaults(body),
    ...(remedy !== undefined && { remedy }),
    ...((status === 429 || status === 503) && retryAfterMs !== undefined && { retryAfterMs }),
  })
}

function replyText(asked: Asked, status: number, failure: Failure): string {
  const prefix = asked.purpose === 'login' ? 'failed to login: ' : ''
  const said = failure.errors.map((error) => `* ${error}`).join(' ')
  const text = `${prefix}${asked.method} ${asked.path}: Code: ${status}. Errors: ${said}`.trimEnd()
  const version = failure.version === undefined ? 'the version' : `version ${failure.version}`
  const facts = [
    failure.destroyed ? `${version} is destroyed` : undefined,
    !failure.destroyed && failure.deletionTime !== undefined
      ? `${version} was deleted at ${failure.deletionTime}`
      : undefined,
    ...failure.warnings,
  ].filter((fact) => fact !== undefined)
  return facts.length === 0 ? text : `${text} (${facts.join('; ')})`
}

/** Seconds, or a date, as milliseconds from now; only the first form is in use. */
function retryAfter(header: string | undefined): number | undefined {
  return header !== undefined && /^[0-9]{1,6}$/.test(header) ? Number(header) * 1000 : undefined
}

function scrubbed(text: string, secrets: readonly string[]): string {
  return secrets.reduce(
    (kept, secret) => (secret.length > 3 ? kept.replaceAll(secret, '[redacted]') : kept),
    text,
  )
}

const OF_HTTP_FAILURE: Readonly<Record<HttpFailure, { kind: ErrorKind; code: string; remedy?: string }>> = {
  'refused-address': {
    kind: 'config',
    code: 'VAULT_ADDRESS_REFUSED',
    remedy: 'Use an https address, or have the operator list it under backends.vault.addresses',
  },
  unreachable: { kind: 'unavailable', code: 'VAULT_UNREACHABLE' },
  tls: {
    kind: 'config',
    code: 'VAULT_TLS',
    remedy: 'Check the CA, the server name and the client certificate',
  },
  timeout: { kind: 'timeout', code: 'VAULT_TIMEOUT' },
  aborted: { kind: 'timeout', code: 'VAULT_TIMEOUT' },
  'too-large': { kind: 'too-large', code: 'VAULT_REPLY_TOO_LARGE' },
  malformed: { kind: 'malformed', code: 'VAULT_REPLY_MALFORMED' },
}

/** The error for a call without a reply. Anything but an HttpError is thrown on. */
export function connectionError(asked: Asked, error: unknown): BackendError {
  if (!(error instanceof HttpError)) throw error
  const { kind, code, remedy } = OF_HTTP_FAILURE[error.failure]
  const prefix = asked.purpose === 'login' ? 'failed to login: ' : ''
  return failed({
    kind,
    code,
    message: `${prefix}${asked.method} ${asked.path}: ${error.message}`,
    ...(remedy !== undefined && { remedy }),
  })
}

export function failed(options: AdapterErrorOptions): BackendError {
  return new BackendError(options)
}
