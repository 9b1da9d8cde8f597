/** Owns one call to a Google API: headers, JSON both ways, metrics, and what a refusal means (gcp.md sections 6 and 15). */
import { HttpError } from '../../net/http.ts'
import type { HttpFailure, HttpRequest, HttpResponse } from '../../net/http.ts'
import { BackendError } from '../adapter.ts'
import type { ErrorKind } from '../adapter.ts'
import type { GcpEnvironment } from './settings.ts'

/** Label `kind` of the vendor's own metrics, and of the calls that it does not measure. */
export type CallKind =
  | 'secretmanager_access_secret_version_requests'
  | 'parametermanager_render_parameter_version_requests'
  | 'gcp_iam_get_id_bind_token_requests'
  | 'iamcredentials_generate_access_token_requests'
  | 'oauth2_token_requests'
  | 'metadata_requests'
  | 'cloudkms_decrypt_requests'

export interface GoogleCall extends Pick<HttpRequest, 'url' | 'signal' | 'turn'> {
  readonly kind: CallKind
  /** Default GET. */
  readonly method?: 'GET' | 'POST'
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON, unless it is a text. */
  readonly body?: object | string
  /** Default: the environment's destination for Google's APIs. */
  readonly to?: GcpEnvironment['to']
  readonly timeoutMs?: number
}

/** A reply of any status. @throws BackendError when there is none */
export async function send(environment: GcpEnvironment, call: GoogleCall): Promise<HttpResponse> {
  const { http, meter } = environment.context
  const began = performance.now()
  const measured = (status: string): void => {
    const labels = { kind: call.kind, status }
    meter.count('outbound_rpc_count', labels)
    meter.time('outbound_rpc_latency', (performance.now() - began) / 1000, labels)
  }
  try {
    const reply = await http.send({
      method: call.method ?? 'GET',
      url: call.url,
      headers: {
        accept: 'application/json',
        'user-agent': environment.userAgent,
        ...(typeof call.body === 'object' && { 'content-type': 'application/json' }),
        ...call.headers,
      },
      ...(call.body !== undefined && {
        body: typeof call.body === 'string' ? call.body : JSON.stringify(call.body),
      }),
      to: call.to ?? environment.to,
      signal: call.signal,
      timeoutMs: call.timeoutMs ?? environment.requestTimeoutMs,
      ...(call.turn !== undefined && { turn: call.turn }),
    })
    measured(statusLabel(reply, call.kind))
    return reply
  } catch (error) {
    if (!(error instanceof HttpError)) throw error
    measured(error.failure === 'timeout' || error.failure === 'aborted' ? 'DeadlineExceeded' : 'Unavailable')
    throw new BackendError({
      kind: KIND_OF_HTTP[error.failure],
      code: 'GCP_UNREACHABLE',
      message: error.message,
      indirect: true,
      remedy:
        'Check that the node reaches this host; set proxy or endpoint for the backend if it must go another way.',
    })
  }
}

const KIND_OF_HTTP: Readonly<Record<HttpFailure, ErrorKind>> = {
  'refused-address': 'denied',
  unreachable: 'unavailable',
  tls: 'unavailable',
  timeout: 'timeout',
  aborted: 'timeout',
  'too-large': 'too-large',
  malformed: 'malformed',
}

/** The exchange is labelled with its HTTP status, an API call with its gRPC code, as the vendor does. */
function statusLabel(reply: HttpResponse, kind: CallKind): string {
  if (reply.status === 200) return 'ok'
  if (kind === 'gcp_iam_get_id_bind_token_requests') return String(reply.status)
  const words = errorOf(reply).status.toLowerCase().split('_')
  return words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('')
}

/** The members of a JSON reply; `undefined` when it is no JSON object. */
export function membersOf(reply: HttpResponse): ReadonlyMap<string, unknown> | undefined {
  try {
    return members(JSON.parse(reply.body.toString()))
  } catch {
    return undefined
  }
}

/** An object's own members, so that no name reaches a prototype. */
export function members(value: unknown): ReadonlyMap<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? new Map(Object.entries(value))
    : undefined
}

/** A text, or `''`. */
export function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** What Google says is wrong. */
export interface GoogleError {
  /** A gRPC code's name. */
  readonly status: string
  /** Google's words, or ours when the body is not Google's; safe to show. */
  readonly message: string
}

const STATUS_OF_HTTP: ReadonlyMap<number, string> = new Map([
  [400, 'INVALID_ARGUMENT'],
  [401, 'UNAUTHENTICATED'],
  [403, 'PERMISSION_DENIED'],
  [404, 'NOT_FOUND'],
  [409, 'ABORTED'],
  [429, 'RESOURCE_EXHAUSTED'],
  [499, 'CANCELLED'],
  [500, 'INTERNAL'],
  [502, 'UNAVAILABLE'],
  [503, 'UNAVAILABLE'],
  [504, 'DEADLINE_EXCEEDED'],
])

const KIND_OF_STATUS: ReadonlyMap<string, ErrorKind> = new Map([
  ['UNAUTHENTICATED', 'unauthenticated'],
  ['PERMISSION_DENIED', 'denied'],
  ['NOT_FOUND', 'not-found'],
  ['RESOURCE_EXHAUSTED', 'throttled'],
  ['ABORTED', 'unavailable'],
  ['CANCELLED', 'unavailable'],
  ['INTERNAL', 'unavailable'],
  ['UNKNOWN', 'unavailable'],
  ['UNAVAILABLE', 'unavailable'],
  ['DEADLINE_EXCEEDED', 'timeout'],
  ['DATA_LOSS', 'malformed'],
  ['INVALID_ARGUMENT', 'config'],
  ['FAILED_PRECONDITION', 'config'],
  ['OUT_OF_RANGE', 'config'],
  ['UNIMPLEMENTED', 'config'],
  ['ALREADY_EXISTS', 'config'],
])

/** Reads a reply that is not 200. A body that is not Google's is never echoed. */
export function errorOf(reply: HttpResponse): GoogleError {
  const error = members(membersOf(reply)?.get('error'))
  const named = text(error?.get('status'))
  const status = KIND_OF_STATUS.has(named) ? named : (STATUS_OF_HTTP.get(reply.status) ?? 'UNKNOWN')
  const words = printable(text(error?.get('message')))
  return { status, message: words === '' ? `HTTP ${reply.status} without an error of Google's` : words }
}

/** Foreign words for an error text: one line, bounded. */
export function printable(foreign: string): string {
  return foreign
    .replaceAll(/\p{C}+/gu, ' ')
    .trim()
    .slice(0, 240)
}

/** A disabled or destroyed version was withdrawn; any other failed precondition is somebody's mistake. */
function kindOf({ status, message }: GoogleError): ErrorKind {
  if (status === 'FAILED_PRECONDITION' && /\b(?:DISABLED|DESTROYED)\b/.test(message)) return 'gone'
  return KIND_OF_STATUS.get(status) ?? 'unavailable'
}

/** The failure of a reply that is not 200. */
export function refusal(
  reply: HttpResponse,
  remedies: Partial<Record<ErrorKind, string>> = {},
): BackendError {
  const error = errorOf(reply)
  const kind = kindOf(error)
  return new BackendError({
    kind,
    code: `GCP_${error.status}`,
    message: `${error.status}: ${error.message}`,
    remedy: remedies[kind] ?? REMEDIES[kind],
    retryAfterMs: retryAfterMs(reply),
    indirect: !isGoogles(reply) || (kind === 'denied' && isOfProject(reply)),
  })
}

/** A proxy in between that answers 403 or 404 says nothing about the object. */
function isGoogles(reply: HttpResponse): boolean {
  return KIND_OF_STATUS.has(text(members(membersOf(reply)?.get('error'))?.get('status')))
}

/**
 * A service that is switched off, a bill that is not paid or a perimeter say nothing about the object either.
 * Google gives a reason with most denials, of which one is about permissions.
 */
function isOfProject(reply: HttpResponse): boolean {
  const details = members(membersOf(reply)?.get('error'))?.get('details')
  if (!Array.isArray(details)) return false
  const reasons = details.slice(0, 20).map((detail) => text(members(detail)?.get('reason')))
  return reasons.some((reason) => reason !== '' && reason !== 'IAM_PERMISSION_DENIED')
}

const REMEDIES: Partial<Record<ErrorKind, string>> = {
  gone: 'Enable the version, or name another one; latest is the newest version whatever its state.',
  'not-found': 'Check project, name and version; a regional resource needs locations/REGION in its name.',
  throttled: 'Raise the quota of the project, or let pods share: fewer service accounts mean fewer calls.',
}

function retryAfterMs(reply: HttpResponse): number | undefined {
  const seconds = reply.headers['retry-after'] ?? ''
  return /^\d{1,5}$/.test(seconds) ? Number(seconds) * 1000 : undefined
}
