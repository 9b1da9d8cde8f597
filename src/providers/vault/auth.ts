/** Owns logging in with a service-account token, and the token's renewal and end (vault section 7). */
import { formatGoJson, JsonNumber, type JsonValue } from '../../formats/json.ts'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import { send, type Api, type Connection } from './connection.ts'
import { failed } from './failure.ts'
import { isJsonObject, parseEnvelope, ReplyError, type Envelope } from './response.ts'

/** A Vault token and what the server said about it. */
export interface VaultToken {
  readonly token: SecretBytes
  /** Seconds from now; 0: never ends. */
  readonly ttl: number
  readonly renewable: boolean
  /** How often it may be used; 0: without limit. */
  readonly uses: number
  /** `service` tokens can be revoked, `batch` tokens cannot. */
  readonly type: string
}

/**
 * Logs in below `auth/<mount>/login`; Kubernetes and JWT auth share it.
 * @throws BackendError
 */
export async function login(
  api: Api,
  connection: Connection,
  credentials: { readonly role: string; readonly jwt: SecretBytes; readonly turn: string },
  signal: AbortSignal,
): Promise<VaultToken> {
  const jwt = credentials.jwt.reveal().toString()
  const reply = await send(
    api,
    connection,
    {
      method: 'POST',
      path: `/v1/auth/${loginMount(connection.authMount)}/login`,
      body: `{"jwt":${formatGoJson(jwt)},"role":${formatGoJson(credentials.role)}}`,
      purpose: 'login',
      turn: credentials.turn,
      secrets: [jwt],
    },
    signal,
  )
  return tokenOf(parsed(reply.body, 'failed to login'), 'failed to login')
}

/** Each segment escaped; a mount may be nested, e.g. `team/jwt`. */
function loginMount(mount: string): string {
  const segments = mount.split('/').filter((segment) => segment !== '')
  return segments
    .map((segment) => (segment === '.' || segment === '..' ? '%2E' : encodeURIComponent(segment)))
    .join('/')
}

/** Asks for `increment` more seconds. @returns seconds granted. @throws BackendError */
export async function renewToken(
  api: Api,
  connection: Connection,
  token: SecretBytes,
  increment: number,
  signal: AbortSignal,
): Promise<number> {
  const reply = await send(
    api,
    connection,
    {
      method: 'POST',
      path: '/v1/auth/token/renew-self',
      body: `{"increment":${increment}}`,
      token: token.reveal().toString(),
      purpose: 'read',
    },
    signal,
  )
  const { auth } = parsed(reply.body, 'failed to renew the token')
  return number(auth?.get('lease_duration'))
}

/** Ends a token and every lease it issued, in one call that the default policy permits. @throws BackendError */
export async function revokeToken(
  api: Api,
  connection: Connection,
  token: SecretBytes,
  signal: AbortSignal,
): Promise<void> {
  await send(
    api,
    connection,
    { method: 'POST', path: '/v1/auth/token/revoke-self', token: token.reveal().toString(), purpose: 'read' },
    signal,
  )
}

/** @returns seconds granted. @throws BackendError */
export async function renewLease(
  api: Api,
  connection: Connection,
  token: SecretBytes,
  lease: { readonly id: string; readonly increment: number },
  signal: AbortSignal,
): Promise<number> {
  const reply = await send(
    api,
    connection,
    {
      method: 'PUT',
      path: '/v1/sys/leases/renew',
      body: `{"increment":${lease.increment},"lease_id":${formatGoJson(lease.id)}}`,
      token: token.reveal().toString(),
      purpose: 'read',
    },
    signal,
  )
  return parsed(reply.body, 'failed to renew the lease').leaseDuration
}

/** Ends one lease; needs a policy that the default one does not give. @throws BackendError */
export async function revokeLease(
  api: Api,
  connection: Connection,
  token: SecretBytes,
  id: string,
  signal: AbortSignal,
): Promise<void> {
  await send(
    api,
    connection,
    {
      method: 'PUT',
      path: '/v1/sys/leases/revoke',
      body: `{"lease_id":${formatGoJson(id)}}`,
      token: token.reveal().toString(),
      purpose: 'read',
    },
    signal,
  )
}

function parsed(body: Uint8Array, what: string): Envelope {
  try {
    return parseEnvelope(body)
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error
    throw failed({ kind: 'malformed', code: 'VAULT_REPLY_MALFORMED', message: `${what}: ${error.message}` })
  }
}

function tokenOf(envelope: Envelope, what: string): VaultToken {
  const { auth } = envelope
  const token = auth?.get('client_token')
  if (auth === undefined || typeof token !== 'string' || token === '' || !/^[\x21-\x7e]+$/.test(token)) {
    const needsMfa = isJsonObject(auth?.get('mfa_requirement'))
    const why = needsMfa ? 'the role demands MFA, which a pod cannot do' : 'the reply holds no token'
    throw failed({
      kind: needsMfa ? 'config' : 'malformed',
      code: 'VAULT_LOGIN_WITHOUT_TOKEN',
      message: `${what}: ${envelope.wrapInfo ? 'the reply is wrapped' : why}`,
      remedy: 'Check the auth mount and the role, and proxies that answer in its place',
    })
  }
  return {
    token: SecretBytes.copyOf(token),
    ttl: number(auth.get('lease_duration')),
    renewable: auth.get('renewable') === true,
    uses: number(auth.get('num_uses')),
    type: text(auth.get('token_type')) || 'service',
  }
}

function number(value: JsonValue | undefined): number {
  const read = value instanceof JsonNumber ? Number(value.text) : 0
  return Number.isFinite(read) && read > 0 ? Math.floor(read) : 0
}

function text(value: JsonValue | undefined): string {
  return typeof value === 'string' ? value : ''
}
