/** Owns the fake's identity side: a cluster that signs service-account tokens, and an Entra ID that verifies what it is shown. */
import { constants, generateKeyPairSync, randomUUID, sign, verify, X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const parsed = (text: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(text, 'base64url').toString()) as Record<string, unknown>

export interface TokenWish {
  readonly namespace?: string
  readonly serviceAccount?: string
  readonly audience: string
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
    const claims = {
      iss: this.issuer,
      sub: `system:serviceaccount:${wish.namespace ?? 'ns1'}:${wish.serviceAccount ?? 'web'}`,
      aud: [wish.audience],
      exp,
    }
    const body = `${part({ alg: 'ES256', typ: 'JWT', kid: 'k1' })}.${part(claims)}`
    const signature = sign('sha256', Buffer.from(body), {
      key: this.#keys.privateKey,
      dsaEncoding: 'ieee-p1363',
    })
    return {
      token: `${body}.${signature.toString('base64url')}`,
      expirationTimestamp: new Date(exp * 1000).toISOString().replace(/\.\d+Z$/, 'Z'),
    }
  }
}

/** An application or managed identity. */
export interface App {
  readonly clientId: string
  readonly secret?: string
  readonly federated?: readonly {
    readonly issuer: string
    readonly subject: string
    readonly audience: string
  }[]
  /** PEM of a registered certificate. */
  readonly certificate?: string
}

/** What a token that was issued says. */
export interface Issued {
  readonly tenant: string
  readonly resource: string
  readonly principal: string
  /** Seconds since 1970. */
  readonly exp: number
}

/** A token request as it came. */
export interface TokenCall {
  readonly host: string
  readonly path: string
  /** Name asked for in TLS. */
  readonly sni: string
  readonly form: Readonly<Record<string, string>>
}

export interface Reply {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body: unknown
}

const refusal = (error: string, number: number): Reply => ({
  status: error === 'invalid_client' ? 401 : 400,
  body: {
    error,
    error_description: `AADSTS${number}: something. Trace ID: ${randomUUID()} Timestamp: ${new Date().toISOString()}`,
    error_codes: [number],
    correlation_id: randomUUID(),
  },
})

export class FakeEntra {
  /** Every name of a tenant → its id. */
  readonly tenants = new Map<string, string>([['t1', 't1']])
  readonly apps = new Map<string, App>()
  readonly clusters = new Map<string, FakeCluster>()
  readonly issued = new Map<string, Issued>()
  readonly calls: TokenCall[] = []
  readonly #seen = new Set<string>()
  lifetimeSeconds = 3600

  /** A token for a principal; resource without a trailing slash. */
  issue(principal: string, tenant: string, resource: string): { token: string; expiresOn: number } {
    const exp = Math.floor(Date.now() / 1000) + this.lifetimeSeconds
    const token = `${part({ alg: 'none' })}.${part({ aud: resource, exp, jti: randomUUID() })}.x`
    this.issued.set(token, { tenant, resource, principal, exp })
    return { token, expiresOn: exp }
  }

  /** `POST /<tenant>/oauth2/v2.0/token` and AD FS's. */
  token(call: TokenCall): Reply {
    this.calls.push(call)
    const { form } = call
    const name = /^\/([^/]+)\/oauth2\/(?:v2\.0\/)?token$/.exec(call.path)?.[1] ?? ''
    const tenant = this.tenants.get(name.toLowerCase())
    if (tenant === undefined) return refusal('invalid_request', 90002)
    if (form['grant_type'] !== 'client_credentials') return refusal('unsupported_grant_type', 70003)
    const app = this.apps.get(form['client_id'] ?? '')
    if (app === undefined) return refusal('unauthorized_client', 700016)
    const resource = /^(https:\/\/[^ ]+)\/\.default(?: |$)/.exec(form['scope'] ?? '')?.[1]
    if (resource === undefined) return refusal('invalid_scope', 70011)
    const fault = this.#proofFault(app, call)
    if (fault !== undefined) return fault
    const { token } = this.issue(app.clientId, tenant, resource)
    return {
      status: 200,
      body: { token_type: 'Bearer', expires_in: this.lifetimeSeconds, access_token: token },
    }
  }

  #proofFault(app: App, call: TokenCall): Reply | undefined {
    const { form } = call
    if (form['client_secret'] !== undefined) {
      return app.secret === form['client_secret'] ? undefined : refusal('invalid_client', 7000215)
    }
    if (form['client_assertion_type'] !== 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer') {
      return refusal('invalid_client', 7000216)
    }
    const assertion = form['client_assertion'] ?? ''
    const header = parsed(assertion.split('.')[0] ?? '')
    return header['x5t#S256'] === undefined
      ? this.#federatedFault(app, assertion)
      : this.#certificateFault(app, assertion, call)
  }

  #federatedFault(app: App, assertion: string): Reply | undefined {
    const [head = '', body = '', signature = ''] = assertion.split('.')
    const claims = parsed(body)
    const cluster = this.clusters.get(String(claims['iss']))
    if (cluster === undefined) return refusal('invalid_client', 700211)
    const key = { key: cluster.publicKey, dsaEncoding: 'ieee-p1363' as const }
    if (!verify('sha256', Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url'))) {
      return refusal('invalid_client', 50027)
    }
    if (Number(claims['exp']) < Date.now() / 1000) return refusal('invalid_client', 700024)
    const fits = (app.federated ?? []).some(
      ({ issuer, subject, audience }) =>
        issuer === claims['iss'] &&
        subject === claims['sub'] &&
        (claims['aud'] as string[]).includes(audience),
    )
    return fits ? undefined : refusal('invalid_client', 700213)
  }

  #certificateFault(app: App, assertion: string, call: TokenCall): Reply | undefined {
    const [head = '', body = '', signature = ''] = assertion.split('.')
    const [header, claims] = [parsed(head), parsed(body)]
    if (app.certificate === undefined) return refusal('invalid_client', 700027)
    const certificate = new X509Certificate(app.certificate)
    const isAdfs = call.path.startsWith('/adfs/')
    const thumbprint = Buffer.from(certificate.fingerprint256.replaceAll(':', ''), 'hex').toString(
      'base64url',
    )
    const padding = isAdfs ? constants.RSA_PKCS1_PADDING : constants.RSA_PKCS1_PSS_PADDING
    const key = { key: certificate.publicKey, padding, ...(isAdfs ? {} : { saltLength: 32 }) }
    const now = Date.now() / 1000
    const [exp, nbf, jti] = [Number(claims['exp']), Number(claims['nbf']), String(claims['jti'])]
    const sound =
      header['alg'] === (isAdfs ? 'RS256' : 'PS256') &&
      header['x5t#S256'] === thumbprint &&
      claims['aud'] === `https://${call.host}${call.path}` &&
      claims['iss'] === app.clientId &&
      claims['sub'] === app.clientId &&
      nbf <= now &&
      exp > now &&
      exp - nbf <= 600 &&
      !this.#seen.has(jti) &&
      verify('sha256', Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url'))
    this.#seen.add(jti)
    return sound ? undefined : refusal('invalid_client', 700027)
  }
}
