/**
 * Owns what AWS's refusals mean: error code → kind, documented code, remedy and whether a second
 * region may be asked (aws.md section 7). Codes decide, not HTTP status: emulators and proxies answer
 * with other numbers than AWS.
 */
import { HttpError } from '../../net/http.ts'
import type { HttpFailure } from '../../net/http.ts'
import type { ErrorKind } from '../adapter.ts'
import { BackendError } from '../adapter.ts'

/** One call that failed in one region. */
export class AwsFailure extends Error {
  override readonly name = 'AwsFailure'
  readonly kind: ErrorKind
  /** `AWS_NOT_FOUND`, … */
  readonly code: string
  /** A second region is not asked after this one. */
  readonly final: boolean
  readonly awsCode: string
  /** For logs only: a text that reaches an event must not vary (driver.md section 3). */
  readonly requestId: string | undefined

  constructor(options: {
    kind: ErrorKind
    awsCode: string
    message: string
    final?: boolean
    code?: string
    requestId?: string | undefined
  }) {
    super(options.message)
    this.kind = options.kind
    this.code = options.code ?? DOCUMENTED[options.kind]
    this.final = options.final ?? false
    this.awsCode = options.awsCode
    this.requestId = options.requestId
  }
}

const DOCUMENTED: Readonly<Record<ErrorKind, string>> = {
  config: 'AWS_FETCH',
  unauthenticated: 'AWS_AUTH',
  denied: 'AWS_ACCESS_DENIED',
  'not-found': 'AWS_NOT_FOUND',
  gone: 'AWS_NOT_FOUND',
  throttled: 'AWS_THROTTLED',
  unavailable: 'AWS_FETCH',
  timeout: 'AWS_FETCH',
  malformed: 'AWS_FETCH',
  'too-large': 'AWS_FETCH',
  internal: 'AWS_FETCH',
}

const REMEDIES: Readonly<Record<string, string>> = {
  AWS_NOT_FOUND: 'Check the name, the version or label, the region and the account of the object.',
  AWS_ACCESS_DENIED:
    "Allow the pod's role secretsmanager:GetSecretValue or ssm:GetParameters on this object, and kms:Decrypt on its key.",
  AWS_AUTH:
    "Check the role of the pod's service account, its trust policy and the token audience of the driver.",
  AWS_THROTTLED: 'AWS limits the rate of calls for this account and region; the mount is tried again.',
  AWS_INCOMPLETE: 'AWS left the parameter out of its answer; the mount is tried again.',
}

/** One sentence of advice. */
function remedyFor(code: string, kind: ErrorKind): string {
  if (kind === 'unavailable' || kind === 'timeout')
    return 'Check that AWS can be reached from this node; kubelet tries again by itself.'
  return REMEDIES[code] ?? 'See docs/aws.md, "Troubleshooting", for this AWS code.'
}

interface Meaning {
  readonly kind: ErrorKind
  /** Modelled by the service with a fault of the caller: asking elsewhere is no help. */
  readonly final?: true
}

const fatal = (kind: ErrorKind): Meaning => ({ kind, final: true })

/** AWS error codes, without a trailing `Exception` or `Error`. */
const MEANINGS: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  // Secrets Manager
  ['ResourceNotFound', fatal('not-found')],
  ['InvalidParameter', fatal('config')],
  ['InvalidRequest', fatal('config')],
  ['DecryptionFailure', fatal('denied')],
  ['InternalService', { kind: 'unavailable' }],
  // Parameter Store
  ['InvalidKeyId', fatal('denied')],
  ['ParameterNotFound', fatal('not-found')],
  ['ParameterVersionNotFound', fatal('not-found')],
  // STS
  ['ExpiredToken', fatal('unauthenticated')],
  ['InvalidIdentityToken', fatal('unauthenticated')],
  ['IDPRejectedClaim', fatal('unauthenticated')],
  ['IDPCommunication', fatal('unavailable')],
  ['MalformedPolicyDocument', fatal('config')],
  ['PackedPolicyTooLarge', fatal('config')],
  ['RegionDisabled', fatal('denied')],
  // KMS
  ['InvalidCiphertext', fatal('malformed')],
  ['IncorrectKey', fatal('config')],
  ['NotFound', fatal('not-found')],
  ['Disabled', fatal('denied')],
  ['KMSInvalidState', fatal('denied')],
  ['KeyUnavailable', { kind: 'unavailable' }],
  ['DependencyTimeout', { kind: 'unavailable' }],
  ['KMSInternal', { kind: 'unavailable' }],
  // Common to all services; no SDK models them
  ['AccessDenied', { kind: 'denied' }],
  ['UnauthorizedOperation', { kind: 'denied' }],
  ['OptInRequired', { kind: 'denied' }],
  ['Throttling', { kind: 'throttled' }],
  ['Throttled', { kind: 'throttled' }],
  ['ThrottledException', { kind: 'throttled' }],
  ['TooManyRequests', { kind: 'throttled' }],
  ['RequestLimitExceeded', { kind: 'throttled' }],
  ['RequestThrottled', { kind: 'throttled' }],
  ['LimitExceeded', { kind: 'throttled' }],
  ['SlowDown', { kind: 'throttled' }],
  ['Validation', { kind: 'config' }],
  ['UnrecognizedClient', { kind: 'unauthenticated' }],
  ['InvalidClientTokenId', { kind: 'unauthenticated' }],
  ['InvalidSignature', { kind: 'unauthenticated' }],
  ['SignatureDoesNotMatch', { kind: 'unauthenticated' }],
  ['IncompleteSignature', { kind: 'unauthenticated' }],
  ['MissingAuthenticationToken', { kind: 'unauthenticated' }],
  ['RequestExpired', { kind: 'unauthenticated' }],
  ['RequestTimeTooSkewed', { kind: 'unauthenticated' }],
  ['ServiceUnavailable', { kind: 'unavailable' }],
  ['InternalFailure', { kind: 'unavailable' }],
  ['InternalServer', { kind: 'unavailable' }],
  ['Internal', { kind: 'unavailable' }],
  ['RequestTimeout', { kind: 'unavailable' }],
])

const HTTP_FAILURES: Readonly<Record<HttpFailure, ErrorKind>> = {
  'refused-address': 'config',
  unreachable: 'unavailable',
  tls: 'unavailable',
  timeout: 'timeout',
  aborted: 'timeout',
  'too-large': 'too-large',
  malformed: 'malformed',
}

function meaningOf(awsCode: string, message: string): Meaning | undefined {
  const bare = awsCode.endsWith('Exception') ? awsCode.slice(0, -9) : awsCode
  const short = bare.endsWith('Error') ? bare.slice(0, -5) : bare
  const meaning = MEANINGS.get(bare) ?? MEANINGS.get(short)
  // Secrets Manager has no code of its own for a deleted secret.
  if (short === 'InvalidRequest' && message.includes('marked for deletion')) return fatal('gone')
  return meaning
}

/** Longest part of AWS's text that is passed on. */
const MESSAGE_LIMIT = 300

/**
 * AWS's text without what varies from call to call (times, ids) or must not be shown (tokens), on one
 * line and cut to a bounded length.
 */
export function stableText(text: string): string {
  const cut = text.length > 4 * MESSAGE_LIMIT ? text.slice(0, 4 * MESSAGE_LIMIT) : text
  const words = cut.split(/[\s\p{Cc}]+/u).filter((word) => word !== '')
  const shown = words.map((word) => {
    if (word.startsWith('eyJ') || word.length > 200) return '[…]'
    if (/\d{4}-\d\d-\d\dT|\d{8}T\d{6}Z/.test(word)) return '[time]'
    if (/^\W?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\W?$/.test(word)) return '[id]'
    return /^\W?1\d{9}\W?$/.test(word) ? '[time]' : word
  })
  const line = shown.join(' ')
  return line.length > MESSAGE_LIMIT ? `${line.slice(0, MESSAGE_LIMIT)}…` : line
}

/** A refusal that a service put in words: from an SDK error, a batch's error list or a parsed reply. */
export function refusal(
  awsCode: string,
  message: string,
  at: {
    readonly status?: number | undefined
    readonly requestId?: string | undefined
    readonly auth?: boolean
  } = {},
): AwsFailure {
  const byStatus: ErrorKind =
    at.status === 429 ? 'throttled' : (at.status ?? 0) >= 500 ? 'unavailable' : 'internal'
  const { kind, final = false } = meaningOf(awsCode, message) ?? { kind: byStatus }
  const text = stableText(message)
  const safeCode = /^[\w.:-]{1,100}$/.test(awsCode) ? awsCode : 'UnknownError'
  return new AwsFailure({
    kind,
    final,
    awsCode: safeCode,
    message: text === '' ? safeCode : `${safeCode}: ${text}`,
    requestId: at.requestId,
    ...(at.auth && kind !== 'throttled' ? { code: 'AWS_AUTH' } : {}),
  })
}

interface SdkError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string }
  readonly $fault?: 'client' | 'server'
}

/**
 * What an SDK call threw, classified. The text of anything but a service's own refusal is ours:
 * a parser's message may quote the reply.
 * @param auth the call was for credentials.
 */
export function failureOf(error: unknown, auth = false): AwsFailure {
  if (error instanceof AwsFailure) return error
  const code = auth ? { code: 'AWS_AUTH' } : {}
  if (error instanceof HttpError)
    return new AwsFailure({
      kind: HTTP_FAILURES[error.failure],
      awsCode: error.failure,
      message: error.message,
      ...code,
    })
  if (!(error instanceof Error))
    return new AwsFailure({ kind: 'internal', awsCode: 'internal', message: 'unknown failure', ...code })
  if (error.name === 'AbortError')
    return new AwsFailure({
      kind: 'timeout',
      awsCode: 'aborted',
      message: "no answer within the mount's time",
      ...code,
    })
  const { $metadata: metadata, $fault: fault, name, message } = error as SdkError
  const status = metadata?.httpStatusCode
  if (fault !== undefined && name !== 'SyntaxError')
    return refusal(name, message, { status, requestId: metadata?.requestId, auth })
  if (status !== undefined)
    return new AwsFailure({
      kind: status === 429 ? 'throttled' : status >= 500 ? 'unavailable' : 'malformed',
      awsCode: `HTTP ${status}`,
      message: `the reply (HTTP ${status}) is not in AWS's format`,
      requestId: metadata?.requestId,
      ...code,
    })
  return new AwsFailure({
    kind: 'malformed',
    awsCode: 'malformed',
    message: `the call failed (${/^\w{1,60}$/.test(name) ? name : 'Error'}) without a usable reply`,
    ...code,
  })
}

/** A failure and the region it happened in. */
export interface RegionFailure {
  readonly region: string
  readonly failure: AwsFailure
}

/** One error that quotes every region tried; the first region decides kind and code. */
export function backendError(failures: readonly RegionFailure[]): BackendError {
  const first = failures[0]?.failure
  return new BackendError({
    kind: first?.kind ?? 'internal',
    code: first?.code ?? 'AWS_FETCH',
    message: failures.map(({ region, failure }) => `region ${region}: ${failure.message}`).join('; '),
    remedy: remedyFor(first?.code ?? 'AWS_FETCH', first?.kind ?? 'internal'),
    // No region may have refused less than the object itself.
    indirect: failures.some(({ failure }) => failure.code === 'AWS_AUTH' || failure.kind !== first?.kind),
  })
}
