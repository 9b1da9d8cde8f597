/** Owns what the refusals of Key Vault and Entra ID mean: status and code → kind, documented code, remedy (azure section 12). */
import { HttpError, type HttpFailure, type HttpResponse } from '../../net/http.ts'
import { BackendError, type ErrorKind } from '../adapter.ts'

/** Documented codes, in docs/azure.md. */
export type AzureCode =
  | 'AZURE_AUTH'
  | 'AZURE_BAD_ANSWER'
  | 'AZURE_BAD_VALUE'
  | 'AZURE_CLOUD'
  | 'AZURE_DENIED'
  | 'AZURE_DISABLED'
  | 'AZURE_IDENTITY'
  | 'AZURE_NETWORK'
  | 'AZURE_NOT_FOUND'
  | 'AZURE_REQUEST'
  | 'AZURE_THROTTLED'
  | 'AZURE_TOKENS_MISSING'
  | 'AZURE_UNREACHABLE'

export interface AzureFault {
  readonly kind: ErrorKind
  readonly code: AzureCode
  readonly message: string
  readonly remedy: string
  readonly retryAfterMs?: number | undefined
  /** See AdapterErrorOptions. */
  readonly indirect?: boolean
}

/** An error as the host takes it. */
export function azureError({ retryAfterMs, ...fault }: AzureFault): BackendError {
  return new BackendError({ ...fault, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) })
}

/** The same error, said of one object. Everything but the text stays. */
export function inObject(error: BackendError, prefix: string): BackendError {
  const { kind, code, remedy, retryAfterMs, indirect } = error
  return new BackendError({
    kind,
    code,
    indirect,
    message: prefix + error.message,
    ...(remedy === undefined ? {} : { remedy }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  })
}

/** An answer that lacks what every answer has. */
export function badAnswer(message: string): BackendError {
  return azureError({
    kind: 'malformed',
    code: 'AZURE_BAD_ANSWER',
    message,
    remedy: 'Check what stands between this node and the vault; see docs/azure.md, "Troubleshooting".',
  })
}

/** Content that cannot become the file that was asked for. */
export function badValue(message: string): BackendError {
  return azureError({
    kind: 'malformed',
    code: 'AZURE_BAD_VALUE',
    message,
    remedy:
      'Check contentType and value of the secret against objectFormat; see docs/azure.md, "Certificates".',
  })
}

const REACH: Readonly<Record<HttpFailure, Pick<AzureFault, 'kind' | 'code'>>> = {
  'refused-address': { kind: 'config', code: 'AZURE_NETWORK' },
  unreachable: { kind: 'unavailable', code: 'AZURE_UNREACHABLE' },
  tls: { kind: 'unavailable', code: 'AZURE_UNREACHABLE' },
  timeout: { kind: 'timeout', code: 'AZURE_UNREACHABLE' },
  aborted: { kind: 'timeout', code: 'AZURE_UNREACHABLE' },
  'too-large': { kind: 'too-large', code: 'AZURE_BAD_ANSWER' },
  malformed: { kind: 'malformed', code: 'AZURE_BAD_ANSWER' },
}

/** A call without a usable reply, as an error. Anything else is passed on as it is. */
export function unanswered(error: unknown): unknown {
  if (!(error instanceof HttpError)) return error
  return azureError({
    ...REACH[error.failure],
    message: error.message,
    remedy:
      'Check name resolution, firewall and proxy between this node and Azure; kubelet tries again by itself.',
  })
}

/** Key Vault's and Entra's codes are words; whatever else stands there is not passed on. */
function word(value: unknown): string {
  return typeof value === 'string' && /^[A-Za-z][\w.-]{0,60}$/.test(value) ? value : ''
}

/** A field of parsed JSON; undefined for anything that is not there. */
export function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? Reflect.get(value, name)
    : undefined
}

/** JSON of a body, or undefined: a parser's own words could quote it. */
export function jsonOf(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString())
  } catch {
    return undefined
  }
}

type Meaning = Pick<AzureFault, 'kind' | 'code' | 'remedy' | 'indirect'>

const DISABLED: Meaning = {
  kind: 'denied',
  code: 'AZURE_DISABLED',
  remedy: 'Enable the object or this version of it in the vault.',
}
const NETWORK: Meaning = {
  kind: 'denied',
  code: 'AZURE_NETWORK',
  indirect: true,
  remedy: "Allow this node's network in the vault's firewall, or reach the vault by its private endpoint.",
}
const DENIED: Meaning = {
  kind: 'denied',
  code: 'AZURE_DENIED',
  remedy:
    'Give the identity the get permission on this kind of object (role Key Vault Secrets User, Certificate User or Crypto User), and list for objectVersionHistory.',
}

/** Inner codes of a 403. */
const FORBIDDEN: ReadonlyMap<string, Meaning> = new Map([
  ['SecretDisabled', DISABLED],
  ['KeyDisabled', DISABLED],
  ['CertificateDisabled', DISABLED],
  ['ForbiddenByFirewall', NETWORK],
  ['ForbiddenByConnection', NETWORK],
])

const NOT_FOUND: ReadonlySet<string> = new Set(['SecretNotFound', 'KeyNotFound', 'CertificateNotFound'])

function meaningOf(status: number, code: string, inner: string): Meaning {
  if (status === 401) {
    return {
      kind: 'unauthenticated',
      code: 'AZURE_AUTH',
      remedy: "Check that tenantID is the tenant of the vault, and the identity's client id.",
    }
  }
  // Another's 403, such as a proxy's, says nothing about the object.
  if (status === 403) return FORBIDDEN.get(inner) ?? { ...DENIED, indirect: code === '' }
  // A 404 of a proxy in between must not make an optional object disappear.
  if (status === 404 && NOT_FOUND.has(code)) {
    return {
      kind: 'not-found',
      code: 'AZURE_NOT_FOUND',
      remedy:
        'Check objectName, objectType, objectVersion and keyvaultName, and whether the object was deleted.',
    }
  }
  if (status === 429) {
    return {
      kind: 'throttled',
      code: 'AZURE_THROTTLED',
      remedy:
        'The vault limits the rate of calls; kubelet tries again by itself. Raise cache.freshFor if it lasts.',
    }
  }
  if (status === 408 || status >= 500) {
    return {
      kind: 'unavailable',
      code: 'AZURE_UNREACHABLE',
      remedy: 'See the health of Key Vault in this region; kubelet tries again by itself.',
    }
  }
  if (status === 400) {
    return {
      kind: 'config',
      code: 'AZURE_REQUEST',
      remedy: 'Check objectName and objectVersion of the object.',
    }
  }
  return {
    kind: 'malformed',
    code: 'AZURE_BAD_ANSWER',
    remedy: 'Check what stands between this node and the vault: this is no answer of Key Vault.',
  }
}

/** What a reply other than 200 says: HTTP status with Azure's own codes, the vault, one remedy. */
export function vaultRefusal(vault: string, reply: HttpResponse, retryAfterMs?: number): BackendError {
  const error = field(jsonOf(reply.body), 'error')
  const code = word(field(error, 'code'))
  const inner = word(field(field(error, 'innererror'), 'code'))
  const names = [code, inner].filter((name) => name !== '').join(', ')
  return azureError({
    ...meaningOf(reply.status, code, inner),
    message: `vault ${vault} answered HTTP ${reply.status}${names === '' ? '' : ` ${names}`}`,
    retryAfterMs,
  })
}

/** Remedies by Entra's number. */
const ENTRA: ReadonlyMap<string, string> = new Map([
  ['700016', 'Check clientID: the tenant has no such application or managed identity.'],
  ['90002', 'Check tenantID: there is no such tenant.'],
  ['900023', 'Check tenantID: it is neither the id nor a domain of a tenant.'],
  [
    '70021',
    "Add a federated credential with this cluster's issuer and the pod's namespace and service account as subject.",
  ],
  ['700211', "Add a federated credential whose issuer is this cluster's OIDC issuer."],
  ['700212', 'Add a federated credential with the audience api://AzureADTokenExchange.'],
  ['700213', "Add a federated credential whose subject is the pod's service account."],
  ['700024', 'Check the clocks: the assertion is outside of its time.'],
  [
    '7000215',
    'Check clientsecret in the nodePublishSecretRef Secret: it must be the value, not the id, of the client secret.',
  ],
  ['7000222', 'Make a new client secret: the one in the nodePublishSecretRef Secret has expired.'],
  ['700027', 'Register the certificate of the nodePublishSecretRef Secret with the application.'],
])

/** What an answer of a token endpoint other than 200 says. */
export function entraRefusal(reply: HttpResponse, retryAfterMs?: number): BackendError {
  const parsed = jsonOf(reply.body)
  const error = word(field(parsed, 'error'))
  const numbers = field(parsed, 'error_codes')
  const listed = Array.isArray(numbers) && typeof numbers[0] === 'number' ? String(numbers[0]) : undefined
  const description = field(parsed, 'error_description')
  const told = typeof description === 'string' ? /^AADSTS(\d{4,9})/.exec(description)?.[1] : undefined
  const number = listed ?? told
  const names = [error, number === undefined ? '' : `AADSTS${number}`].filter((name) => name !== '').join(' ')
  const again = reply.status === 429 || reply.status >= 500
  return azureError({
    kind: reply.status === 429 ? 'throttled' : again ? 'unavailable' : 'unauthenticated',
    code: again ? 'AZURE_UNREACHABLE' : 'AZURE_AUTH',
    message: `Entra ID answered HTTP ${reply.status}${names === '' ? '' : ` ${names}`}`,
    remedy:
      ENTRA.get(number ?? '') ??
      (again
        ? 'Entra ID cannot answer now; kubelet tries again by itself.'
        : 'Look the AADSTS number up at https://login.microsoftonline.com/error.'),
    retryAfterMs,
  })
}

/** How long a reply asks to wait, milliseconds. */
export function retryAfterOf(reply: HttpResponse, now: Date): number | undefined {
  for (const name of ['retry-after-ms', 'x-ms-retry-after-ms']) {
    const ms = reply.headers[name]
    if (ms !== undefined && /^\d{1,9}$/.test(ms)) return Number(ms)
  }
  const text = reply.headers['retry-after']
  if (text === undefined) return undefined
  if (/^\d{1,6}$/.test(text)) return Number(text) * 1000
  const at = Date.parse(text)
  return Number.isNaN(at) ? undefined : Math.max(0, at - now.getTime())
}
