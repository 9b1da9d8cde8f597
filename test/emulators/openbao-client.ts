/** Owns what the OpenBao suites share: an administrator's calls, signed JWTs, a reviewer, an SPC. */
import { createSign, generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Admin {
  /** Sends JSON with the root token. @throws Error with the server's text unless the status is 2xx. */
  call(method: string, path: string, body?: unknown, namespace?: string): Promise<Record<string, unknown>>
  /** The status alone, with any token. */
  status(method: string, path: string, token: string, body?: unknown): Promise<number>
}

export function admin(address: string, rootToken: string): Admin {
  const send = (
    method: string,
    path: string,
    token: string,
    body: unknown,
    namespace?: string,
  ): Promise<Response> =>
    fetch(`${address}/v1/${path}`, {
      method,
      headers: { 'x-vault-token': token, ...(namespace !== undefined && { 'x-vault-namespace': namespace }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
  return {
    async call(method, path, body, namespace) {
      const response = await send(method, path, rootToken, body, namespace)
      const text = await response.text()
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
      return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
    },
    async status(method, path, token, body) {
      const response = await send(method, path, token, body)
      await response.arrayBuffer()
      return response.status
    },
  }
}

export interface Issuer {
  /** PEM of the public key. */
  readonly publicKey: string
  /** A service-account token as the API server would sign it. */
  token(claims?: Readonly<Record<string, unknown>>): string
}

export function issuer(): Issuer {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  return {
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    token(claims = {}) {
      const now = Math.floor(Date.now() / 1000)
      const payload = {
        iss: 'test',
        sub: 'system:serviceaccount:shop:web',
        aud: 'openbao',
        iat: now,
        nbf: now,
        exp: now + 3600,
        ...claims,
      }
      const text = `${part({ alg: 'RS256', typ: 'JWT' })}.${part(payload)}`
      return `${text}.${createSign('RSA-SHA256').update(text).sign(privateKey, 'base64url')}`
    },
  }
}

export interface Reviewer {
  readonly address: string
  /** Bodies of the TokenReviews that came in. */
  readonly reviews: unknown[]
  close(): Promise<void>
}

/** Stands in for the API server's TokenReview: every token belongs to the service account shop/web. */
export async function startReviewer(): Promise<Reviewer> {
  const reviews: unknown[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const review = JSON.parse(Buffer.concat(chunks).toString()) as {
        spec: { audiences?: readonly string[] }
      }
      reviews.push(review)
      response.writeHead(201, { 'content-type': 'application/json' })
      response.end(
        JSON.stringify({
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenReview',
          spec: review.spec,
          status: {
            authenticated: true,
            // The audience that this API server would accept by default, unless the review names some.
            audiences: review.spec.audiences ?? ['openbao'],
            user: {
              username: 'system:serviceaccount:shop:web',
              uid: 'sa-uid',
              groups: ['system:serviceaccounts', 'system:serviceaccounts:shop'],
            },
          },
        }),
      )
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    reviews,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Lets pods of shop/web read what the suites put there. */
export const POLICY = `
path "secret/*" { capabilities = ["read", "list"] }
path "kv/*" { capabilities = ["read"] }
path "pki/issue/*" { capabilities = ["update"] }
path "transit/*" { capabilities = ["update"] }
path "database/creds/*" { capabilities = ["read"] }
`

/** JWT auth with a static key and the role `web`. */
export async function enableJwtAuth(
  root: Admin,
  publicKey: string,
  role: Readonly<Record<string, unknown>> = {},
  namespace?: string,
): Promise<void> {
  await root.call('PUT', 'sys/policies/acl/web', { policy: POLICY }, namespace)
  await root.call('POST', 'sys/auth/jwt', { type: 'jwt' }, namespace)
  await root.call('POST', 'auth/jwt/config', { jwt_validation_pubkeys: [publicKey] }, namespace)
  await root.call(
    'POST',
    'auth/jwt/role/web',
    {
      role_type: 'jwt',
      user_claim: 'sub',
      bound_audiences: ['openbao'],
      bound_subject: 'system:serviceaccount:shop:web',
      token_policies: ['web'],
      token_ttl: '1h',
      ...role,
    },
    namespace,
  )
}
