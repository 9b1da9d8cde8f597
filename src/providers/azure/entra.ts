/** Owns the call to the token endpoint of Entra ID or AD FS (azure section 7, wire formats). */
import type { Destination } from '../../net/http.ts'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Host } from '../adapter.ts'
import { badAnswer, entraRefusal, field, jsonOf, retryAfterOf, unanswered } from './failures.ts'

/** A token and when it ends. */
export interface AccessToken {
  readonly token: SecretBytes
  readonly expiresAt: Date
}

/** How a client proves who it is. */
export type Proof =
  | { readonly kind: 'secret'; readonly secret: string }
  | { readonly kind: 'assertion'; readonly assertion: string }

export interface TokenRequest {
  readonly clientId: string
  readonly proof: Proof
  /** What the token is for, e.g. `https://vault.azure.net`. */
  readonly resource: string
}

/** Where a token request goes. */
export interface TokenRoute {
  readonly url: string
  readonly to: Destination
  /** Further headers: the token proxy wants the authority as Host. */
  readonly headers?: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

/** The token endpoint of a tenant. AD FS, whose tenant is `adfs`, has one without a version. */
export function tokenEndpoint(authority: string, tenant: string): string {
  if (tenant.toLowerCase() !== 'adfs') return `${authority}${tenant}/oauth2/v2.0/token`
  const base = authority.toLowerCase().endsWith('/adfs/') ? authority.slice(0, -'adfs/'.length) : authority
  return `${base}adfs/oauth2/token`
}

const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/**
 * A token by the client-credentials grant.
 * @throws BackendError
 */
export async function requestToken(
  request: TokenRequest,
  route: TokenRoute,
  host: Host,
): Promise<AccessToken> {
  const { clientId, proof, resource } = request
  const form = new URLSearchParams({
    client_id: clientId,
    grant_type: 'client_credentials',
    scope: `${resource}/.default`,
    ...(proof.kind === 'secret'
      ? { client_secret: proof.secret }
      : { client_assertion_type: ASSERTION_TYPE, client_assertion: proof.assertion }),
  })
  try {
    const reply = await host.http.send({
      method: 'POST',
      url: route.url,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        accept: 'application/json',
        ...route.headers,
      },
      body: form.toString(),
      to: route.to,
      signal: host.signal,
      timeoutMs: route.timeoutMs,
      maxBytes: 64 * 1024,
    })
    if (reply.status !== 200) throw entraRefusal(reply, retryAfterOf(reply, host.now()))
    const token = accessToken(jsonOf(reply.body), host.now())
    reply.body.fill(0)
    if (token === undefined) throw badAnswer('the answer of Entra ID holds no access token')
    return token
  } catch (error) {
    throw unanswered(error)
  }
}

/** No token is believed to live longer, milliseconds. */
const LONGEST_LIFE_MS = 24 * 3_600_000

/**
 * The token in a parsed answer: `expires_in` in seconds, or `expires_on` in seconds since 1970, each as
 * number or text. Undefined when there is none that a header could carry.
 */
export function accessToken(answer: unknown, now: Date): AccessToken | undefined {
  const token = field(answer, 'access_token')
  const until = seconds(field(answer, 'expires_on'))
  const left = seconds(field(answer, 'expires_in'))
  const life =
    left === undefined ? (until === undefined ? undefined : until * 1000 - now.getTime()) : left * 1000
  if (typeof token !== 'string' || !/^[\x21-\x7e]{1,65536}$/.test(token) || life === undefined)
    return undefined
  return {
    token: SecretBytes.copyOf(token),
    expiresAt: new Date(now.getTime() + Math.min(life, LONGEST_LIFE_MS)),
  }
}

function seconds(value: unknown): number | undefined {
  if (typeof value === 'number' && Number.isFinite(value)) return value
  return typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : undefined
}
