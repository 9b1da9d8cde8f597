/** Owns the identities of the fake Google: token exchange, impersonation, keys of service accounts, bindings. */
import { randomUUID, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { FakeCluster } from './fake-cluster.ts'
import type { Call } from './fake-google.ts'
import { apiError, oauthError, ok } from './fake-reply.ts'
import type { Reply } from './fake-reply.ts'

export const SCOPE = 'https://www.googleapis.com/auth/cloud-platform'

interface Issued {
  readonly member: string
  readonly expiresAt: number
}

export class FakeIdentity {
  readonly #cluster: FakeCluster
  /** Workload identity pools that trust the cluster: `acme-prod.svc.id.goog`, `//iam.googleapis.com/…`. */
  readonly pools = new Set<string>()
  /** Google service accounts and the members that may create tokens for them. */
  readonly serviceAccounts = new Map<string, Set<string>>()
  /** Public keys of service accounts, by e-mail. */
  readonly keys = new Map<string, KeyObject>()
  /** Refresh tokens and whose they are. */
  readonly refreshTokens = new Map<string, string>()
  /** Resource → members that may use it. */
  readonly bindings = new Map<string, Set<string>>()
  /** Life of issued tokens in seconds. */
  lifetime = 3600
  readonly #issued = new Map<string, Issued>()

  constructor(cluster: FakeCluster) {
    this.#cluster = cluster
  }

  grant(resource: string, member: string): void {
    this.bindings.set(resource, (this.bindings.get(resource) ?? new Set()).add(member))
  }

  /** A token for a member, as if it had been obtained. */
  issue(member: string): string {
    const token = `ya29.${randomUUID()}`
    this.#issued.set(token, { member, expiresAt: Date.now() + this.lifetime * 1000 })
    return token
  }

  /** Tokens are no longer accepted, although they have not ended. */
  revokeAll(): void {
    this.#issued.clear()
  }

  /** The member that a call's bearer token belongs to, or the error. */
  member(call: Call): string | Reply {
    const token = /^Bearer (.+)$/.exec(String(call.headers['authorization'] ?? ''))?.[1] ?? ''
    const issued = this.#issued.get(token)
    if (issued !== undefined && issued.expiresAt > Date.now()) return issued.member
    return apiError(
      401,
      'UNAUTHENTICATED',
      'Request had invalid authentication credentials. Expected OAuth 2 access token.',
      'ACCESS_TOKEN_EXPIRED',
    )
  }

  exchange(call: Call, path: string): Reply {
    const isSts = path === '/v1/token'
    const loopback = call.host.startsWith('127.')
    const host = isSts ? 'sts.googleapis.com' : 'securetoken.googleapis.com'
    if (!loopback && call.host !== host) return apiError(404, 'NOT_FOUND', 'no such route on this host')
    const fields = fieldsOf(call, isSts)
    if (fields === undefined)
      return oauthError('invalid_request', 'The body is not what this endpoint takes.')
    const types = 'urn:ietf:params:oauth:token-type:'
    const expected = {
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token_type: `${types}jwt`,
      requested_token_type: `${types}access_token`,
      scope: SCOPE,
    }
    for (const [name, value] of Object.entries(expected))
      if (fields.get(name) !== value) return oauthError('invalid_request', `${name} is wrong.`)
    const audience = fields.get('audience') ?? ''
    const pool = audience.startsWith('identitynamespace:') ? (audience.split(':')[1] ?? '') : audience
    if (!this.pools.has(pool)) return oauthError('invalid_target', 'The pool does not exist.')
    const claims = this.#cluster.check(fields.get('subject_token') ?? '')
    if (typeof claims === 'string') return oauthError('invalid_grant', claims)
    if (!claims.aud.some((aud) => aud === pool || aud === audience || aud === `https:${audience}`))
      return oauthError('invalid_grant', 'The audience in ID Token does not match the expected audience.')
    const [, , namespace, account] = claims.sub.split(':')
    const member = pool.startsWith('//')
      ? `principal:${pool}/subject/${claims.sub}`
      : `serviceAccount:${pool}[${namespace}/${account}]`
    return ok({
      access_token: this.issue(member),
      issued_token_type: `${types}access_token`,
      token_type: 'Bearer',
      expires_in: this.lifetime,
    })
  }

  impersonate(call: Call, path: string): Reply {
    const member = this.member(call)
    if (typeof member !== 'string') return member
    const email = decodeURIComponent(/serviceAccounts\/([^/]+):generateAccessToken$/.exec(path)?.[1] ?? '')
    const body = JSON.parse(call.body) as { scope?: string[]; delegates?: string[] }
    if (body.scope?.join() !== SCOPE) return apiError(400, 'INVALID_ARGUMENT', 'scope is wrong')
    const prefix = 'projects/-/serviceAccounts/'
    const delegates = body.delegates ?? []
    if (!delegates.every((one) => one.startsWith(prefix)))
      return apiError(400, 'INVALID_ARGUMENT', 'delegates are wrong')
    let caller = member
    for (const account of [...delegates.map((one) => one.slice(prefix.length)), email]) {
      if (!this.serviceAccounts.get(account)?.has(caller))
        return apiError(
          403,
          'PERMISSION_DENIED',
          "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
          'IAM_PERMISSION_DENIED',
        )
      caller = `serviceAccount:${account}`
    }
    return ok({
      accessToken: this.issue(`serviceAccount:${email}`),
      expireTime: new Date(Date.now() + this.lifetime * 1000).toISOString(),
    })
  }

  oauth(call: Call): Reply {
    const fields = new URLSearchParams(call.body)
    const grant = fields.get('grant_type')
    const member =
      grant === 'refresh_token'
        ? this.#ofRefreshToken(fields)
        : this.#ofAssertion(fields.get('assertion') ?? '')
    if (member === undefined) return oauthError('invalid_grant', 'Invalid JWT Signature.')
    return ok({ access_token: this.issue(member), expires_in: this.lifetime, token_type: 'Bearer' })
  }

  #ofRefreshToken(fields: URLSearchParams): string | undefined {
    return this.refreshTokens.get(fields.get('refresh_token') ?? '')
  }

  #ofAssertion(assertion: string): string | undefined {
    const [head = '', body = '', signature = ''] = assertion.split('.')
    try {
      const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as Record<string, unknown>
      const email = String(claims['iss'])
      const key = this.keys.get(email)
      const timely =
        Number(claims['exp']) * 1000 > Date.now() && Number(claims['exp']) - Number(claims['iat']) <= 3600
      if (key === undefined || !timely || claims['aud'] !== 'https://oauth2.googleapis.com/token')
        return undefined
      const good = verify('sha256', Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url'))
      return good && claims['scope'] === SCOPE ? `serviceAccount:${email}` : undefined
    } catch {
      return undefined
    }
  }
}

/** STS takes a form too; the GKE endpoint takes JSON only. */
function fieldsOf(call: Call, isSts: boolean): Map<string, string> | undefined {
  const type = String(call.headers['content-type'] ?? '')
  if (type.startsWith('application/json')) return new Map(Object.entries(JSON.parse(call.body) as object))
  return isSts ? new Map(new URLSearchParams(call.body)) : undefined
}
