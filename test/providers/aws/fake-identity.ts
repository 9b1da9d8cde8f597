/** Owns the fake's identity side: a cluster that signs service-account tokens, STS and the Pod Identity agent. */
import { createSign, createVerify, generateKeyPairSync, randomBytes } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { IssuedKey } from './fake-sigv4.ts'

const base64url = (data: string | Buffer): string => Buffer.from(data).toString('base64url')

export interface TokenClaims {
  readonly iss: string
  readonly sub: string
  readonly aud: readonly string[]
  /** Seconds since 1970. */
  readonly exp: number
  readonly 'kubernetes.io'?: { readonly pod?: { readonly uid?: string; readonly name?: string } }
}

export interface TokenWish {
  readonly namespace: string
  readonly serviceAccount: string
  readonly audience: string
  readonly podUid?: string
  /** Default 3600; negative for a token that has expired. */
  readonly lifetimeSeconds?: number
}

/** A cluster's token issuer: signs projected tokens as kubelet hands them over. */
export class FakeCluster {
  readonly issuer: string
  readonly #keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })

  constructor(issuer = 'https://oidc.cluster.test/id/C1') {
    this.issuer = issuer
  }

  get publicKey(): KeyObject {
    return this.#keys.publicKey
  }

  token(wish: TokenWish): { token: string; expirationTimestamp: string } {
    const exp = Math.floor(Date.now() / 1000) + (wish.lifetimeSeconds ?? 3600)
    const claims: TokenClaims = {
      iss: this.issuer,
      sub: `system:serviceaccount:${wish.namespace}:${wish.serviceAccount}`,
      aud: [wish.audience],
      exp,
      'kubernetes.io': { pod: { uid: wish.podUid ?? 'pod-uid' } },
    }
    const head = base64url(JSON.stringify({ alg: 'ES256', typ: 'JWT', kid: 'k1' }))
    const body = `${head}.${base64url(JSON.stringify(claims))}`
    const key = { key: this.#keys.privateKey, dsaEncoding: 'ieee-p1363' as const }
    const signature = createSign('SHA256').update(body).sign(key)
    return {
      token: `${body}.${base64url(signature)}`,
      expirationTimestamp: new Date(exp * 1000).toISOString().replace(/\.\d+Z$/, 'Z'),
    }
  }
}

/** What a web-identity role's trust policy says. */
export interface TrustPolicy {
  readonly issuer: string
  readonly audience: string
  readonly subjects: readonly string[]
}

export interface FakeRole {
  readonly arn: string
  /** Absent: the role cannot be assumed with a web identity. */
  readonly trust?: TrustPolicy
  /** Roles whose credentials may call AssumeRole for this one. */
  readonly trustedRoles?: readonly string[]
  readonly externalId?: string
  /** Whether the role's policy allows an action on a secret, parameter or key. Default: everything. */
  readonly allows?: (action: string, resource: string) => boolean
}

/** A refusal in the service's own words. */
export class IdentityRefusal extends Error {
  readonly code: string
  readonly status: number
  constructor(code: string, message: string, status = 400) {
    super(message)
    this.code = code
    this.status = status
  }
}

/** Verifies tokens and roles, and issues keys. */
export class FakeIdentity {
  readonly clusters = new Map<string, FakeCluster>()
  readonly roles = new Map<string, FakeRole>()
  /** `namespace/serviceAccount` → role ARN: EKS Pod Identity associations. */
  readonly associations = new Map<string, string>()
  readonly keys = new Map<string, IssuedKey>()
  /** Lifetime of issued credentials, seconds. */
  credentialSeconds = 3600

  verifyToken(token: string, audience: string, now: number): TokenClaims {
    const [head = '', payload = '', signature = ''] = token.split('.')
    let claims: TokenClaims
    try {
      claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as TokenClaims
    } catch {
      throw new IdentityRefusal('InvalidIdentityToken', 'The ID Token provided is not a valid JWT.')
    }
    const cluster = this.clusters.get(claims.iss)
    if (cluster === undefined)
      throw new IdentityRefusal('InvalidIdentityToken', 'No OpenIDConnect provider found in your account')
    const key = { key: cluster.publicKey, dsaEncoding: 'ieee-p1363' as const }
    const good = createVerify('SHA256')
      .update(`${head}.${payload}`)
      .verify(key, Buffer.from(signature, 'base64url'))
    if (!good)
      throw new IdentityRefusal('InvalidIdentityToken', 'The web identity token signature is invalid')
    if (!claims.aud.includes(audience))
      throw new IdentityRefusal('InvalidIdentityToken', 'Incorrect token audience')
    if (claims.exp * 1000 <= now)
      throw new IdentityRefusal(
        'ExpiredTokenException',
        `Token expired: current date/time ${Math.floor(now / 1000)} must be before the expiration date/time ${claims.exp}`,
      )
    return claims
  }

  issue(roleArn: string, sessionName: string, now: number, seconds = this.credentialSeconds): IssuedKey {
    const key: IssuedKey = {
      accessKeyId: `ASIA${randomBytes(8).toString('hex').toUpperCase()}`,
      secretAccessKey: randomBytes(30).toString('base64'),
      sessionToken: `IQoJ${randomBytes(120).toString('base64')}`,
      roleArn,
      sessionName,
      expiresAt: now + seconds * 1000,
    }
    this.keys.set(key.accessKeyId, key)
    return key
  }

  /** STS AssumeRoleWithWebIdentity. */
  assumeWithWebIdentity(form: URLSearchParams, now: number): IssuedKey {
    const arn = form.get('RoleArn') ?? ''
    const sessionName = form.get('RoleSessionName') ?? ''
    if (!/^[\w+=,.@-]{2,64}$/.test(sessionName))
      throw new IdentityRefusal('ValidationError', "Value at 'roleSessionName' failed to satisfy constraint")
    const role = this.roles.get(arn)
    const claims = this.verifyToken(
      form.get('WebIdentityToken') ?? '',
      role?.trust?.audience ?? 'sts.amazonaws.com',
      now,
    )
    const denied = new IdentityRefusal(
      'AccessDenied',
      'Not authorized to perform sts:AssumeRoleWithWebIdentity',
      403,
    )
    if (role?.trust === undefined || role.trust.issuer !== claims.iss) throw denied
    if (!role.trust.subjects.includes(claims.sub)) throw denied
    return this.issue(arn, sessionName, now)
  }

  /** STS AssumeRole, called with `caller`'s credentials. */
  assumeRole(form: URLSearchParams, caller: IssuedKey, now: number): IssuedKey {
    const arn = form.get('RoleArn') ?? ''
    const role = this.roles.get(arn)
    if (
      !role?.trustedRoles?.includes(caller.roleArn) ||
      role.externalId !== (form.get('ExternalId') ?? undefined)
    )
      throw new IdentityRefusal(
        'AccessDenied',
        `User: ${caller.roleArn} is not authorized to perform: sts:AssumeRole on resource: ${arn}`,
        403,
      )
    const seconds = Number(form.get('DurationSeconds') ?? 3600)
    return this.issue(arn, form.get('RoleSessionName') ?? '', now, seconds)
  }

  /** The Pod Identity agent: the raw token is the Authorization header. */
  podIdentity(authorization: string | undefined, now: number): IssuedKey {
    if (authorization === undefined)
      throw new IdentityRefusal('InvalidRequest', 'Service account token cannot be empty')
    let claims: TokenClaims
    try {
      claims = this.verifyToken(authorization, 'pods.eks.amazonaws.com', now)
    } catch {
      throw new IdentityRefusal(
        'AccessDeniedException',
        'Unauthorized Exception! EKS does not have permissions',
        403,
      )
    }
    const [, , namespace, serviceAccount] = claims.sub.split(':')
    const arn = this.associations.get(`${namespace}/${serviceAccount}`)
    if (arn === undefined)
      throw new IdentityRefusal('ResourceNotFoundException', 'No pod identity association found', 404)
    return this.issue(arn, `eks-${claims['kubernetes.io']?.pod?.uid ?? ''}`, now)
  }
}
