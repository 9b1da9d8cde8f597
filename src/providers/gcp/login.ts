/** Owns what every way to credentials has in common: an access token, how long it is used, how it fails. */
import type { SecretBytes } from '../../telemetry/secret-bytes.ts'
import { BackendError } from '../adapter.ts'
import type { AdapterErrorOptions, ErrorKind, OpenedSession } from '../adapter.ts'

/** An access token of Google's. */
export interface GcpSession {
  readonly token: SecretBytes
  /** As an IAM binding names it, e.g. `serviceAccount:app@p.iam.gserviceaccount.com`; for remedies. */
  readonly member: string
}

/** A session that can be opened: `host.session(key, open)`. */
export interface Login {
  readonly key: readonly string[]
  readonly open: () => Promise<OpenedSession<GcpSession>>
}

/** The only scope asked for. */
export const SCOPE = 'https://www.googleapis.com/auth/cloud-platform'

/** A token is given up five minutes before it ends; the host's cache keeps the last of them. */
const MARGIN_MS = 4 * 60_000

/** A session of a token that ends at `expiresAt`. A short-lived one is used for half its life. */
export function opened(
  token: SecretBytes,
  member: string,
  expiresAt: Date,
  now: Date,
): OpenedSession<GcpSession> {
  const life = expiresAt.getTime() - now.getTime()
  return {
    session: { token, member },
    expiresAt: new Date(expiresAt.getTime() - Math.min(MARGIN_MS, Math.max(life / 2, 0))),
  }
}

const PREFIX = 'unable to obtain auth for mount: '

/** A failure to get credentials: PERMISSION_DENIED, as with Google's provider. */
export function authFailure(
  code: string,
  message: string,
  remedy?: string,
  more: Partial<AdapterErrorOptions> = {},
): BackendError {
  return new BackendError({
    kind: 'denied',
    code,
    message: PREFIX + message,
    remedy,
    indirect: true,
    ...more,
  })
}

const KEPT: ReadonlySet<ErrorKind> = new Set([
  'throttled',
  'unavailable',
  'timeout',
  'malformed',
  'too-large',
])

/**
 * What a step towards credentials ran into. A missing service account is no missing secret, so that an
 * optional object is not left out for it: all that does not pass by itself is `denied`.
 */
export function failedStep(step: string, error: unknown, remedy?: string): unknown {
  if (!(error instanceof BackendError)) return error
  const message = error.message.startsWith(PREFIX) ? error.message.slice(PREFIX.length) : error.message
  return authFailure(error.code, `${step}: ${message}`, remedy ?? error.remedy, {
    kind: KEPT.has(error.kind) ? error.kind : 'denied',
    retryAfterMs: error.retryAfterMs,
  })
}
