/**
 * Owns calls to one vault in one mount's name: token, restraint, one repeat after a 401, refusals as
 * errors. The token goes to the vault's own origin and nowhere else (threat model T11).
 */
import { limiter } from '../../net/limiter.ts'
import type { HttpResponse } from '../../net/http.ts'
import type { Host } from '../adapter.ts'
import type { Credentials, Purpose } from './credentials.ts'
import { azureError, badAnswer, retryAfterOf, unanswered, vaultRefusal } from './failures.ts'
import type { AzureEnvironment } from './settings.ts'
import { type VaultPace } from './throttle.ts'

/** Fetches of one mount at a time. */
const PER_MOUNT = 32
const MAX_BYTES = 2 * 1024 * 1024

export interface VaultCall {
  readonly method: 'GET' | 'POST'
  /** Absolute, or a path below the vault's origin; with its query. */
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  /** JSON text. */
  readonly body?: string
}

export interface VaultCalls {
  /** `https://<vault>.<suffix>` */
  readonly origin: string
  /** Gets a token, so that a failure is one of all objects. @throws BackendError */
  signIn(): Promise<void>
  /** An answer with status 200. @throws BackendError */
  send(call: VaultCall): Promise<HttpResponse>
}

/** What all mounts share about a vault. */
export interface VaultContext {
  readonly environment: AzureEnvironment
  readonly credentials: Credentials
  readonly pace: VaultPace
  /** Resources that vaults asked tokens for, where it was not what the cloud says: by host. */
  readonly resources: Map<string, string>
}

export function vaultCalls(origin: string, wanted: Purpose, host: Host, context: VaultContext): VaultCalls {
  const { environment, credentials, pace, resources } = context
  const { hostname } = new URL(origin)
  const [vault = hostname] = hostname.split('.')
  const slot = limiter(PER_MOUNT)
  const purpose = (): Purpose => ({ ...wanted, resource: resources.get(hostname) ?? wanted.resource })

  async function exchange(call: VaultCall, url: string, token: string): Promise<HttpResponse> {
    try {
      return await host.http.send({
        method: call.method,
        url,
        headers: {
          accept: 'application/json',
          ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...call.headers,
          authorization: `Bearer ${token}`,
        },
        ...(call.body === undefined ? {} : { body: call.body }),
        to: environment.to(hostname),
        signal: host.signal,
        timeoutMs: environment.requestTimeoutMs,
        maxBytes: MAX_BYTES,
      })
    } catch (error) {
      throw unanswered(error)
    }
  }

  /** After a 401: a new token, once, for the resource that the vault names. */
  async function again(
    call: VaultCall,
    url: string,
    used: string,
    refused: HttpResponse,
  ): Promise<HttpResponse> {
    const asked = challengedResource(refused.headers['www-authenticate'] ?? '', hostname)
    if (asked !== undefined && asked !== purpose().resource) {
      if (resources.size >= 1000) resources.clear()
      resources.set(hostname, asked)
    } else if ((await credentials.token(purpose(), host)) === used) await credentials.drop(purpose(), host)
    return exchange(call, url, await credentials.token(purpose(), host))
  }

  async function sent(call: VaultCall): Promise<HttpResponse> {
    const url = new URL(call.url, origin)
    if (url.origin !== origin) throw badAnswer(`vault ${vault} names another host to go on with`)
    requireNoPause(pace.pausedFor(host.now()), vault)
    const token = await credentials.token(purpose(), host)
    const first = await exchange(call, url.href, token)
    const reply = first.status === 401 ? await again(call, url.href, token, first) : first
    if (reply.status === 200) {
      pace.answered()
      return reply
    }
    const asked = retryAfterOf(reply, host.now())
    const refusal = vaultRefusal(
      vault,
      reply,
      reply.status === 429 ? pace.throttled(host.now(), asked) : asked,
    )
    host.log.warn('Key Vault refused a call', {
      vault,
      status: reply.status,
      code: refusal.code,
      requestId: /^[\w-]{1,64}$/.exec(reply.headers['x-ms-request-id'] ?? '')?.[0],
    })
    throw refusal
  }

  return {
    origin,
    signIn: async () => void (await credentials.token(purpose(), host)),
    send: (call) => slot(() => pace.slot(() => sent(call), host.pod.namespace)),
  }
}

function requireNoPause(pauseMs: number, vault: string): void {
  if (pauseMs === 0) return
  throw azureError({
    kind: 'throttled',
    code: 'AZURE_THROTTLED',
    message: `vault ${vault} answered HTTP 429 Throttled`,
    remedy:
      'The vault limits the rate of calls; kubelet tries again by itself. Raise cache.freshFor if it lasts.',
    retryAfterMs: pauseMs,
  })
}

/**
 * The resource in a challenge, if a token for it may be shown to this host: the host must lie under
 * the resource's name, or another vault could collect tokens.
 */
export function challengedResource(challenge: string, hostname: string): string | undefined {
  if (!/^Bearer /i.test(challenge) || challenge.length > 4096) return undefined
  const parameters = new Map<string, string>()
  for (const part of challenge.slice('Bearer '.length).split(',')) {
    const at = part.indexOf('=')
    if (at > 0)
      parameters.set(
        part.slice(0, at).trim().toLowerCase(),
        part
          .slice(at + 1)
          .trim()
          .replace(/^"|"$/g, ''),
      )
  }
  const named = parameters.get('resource') ?? parameters.get('scope')?.replace(/\/\.default$/, '')
  const resource = named?.replace(/\/$/, '')
  if (resource === undefined || !URL.canParse(resource)) return undefined
  const url = new URL(resource)
  const isOurs = url.protocol === 'https:' && url.username === '' && hostname.endsWith(`.${url.hostname}`)
  return isOurs ? resource : undefined
}
