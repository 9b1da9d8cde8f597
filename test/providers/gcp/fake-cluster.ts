/** Owns a cluster for tests: it signs service-account tokens, verifies them, and knows service accounts. */
import { generateKeyPairSync, randomUUID, sign, verify } from 'node:crypto'

export interface PodOfToken {
  readonly namespace: string
  readonly serviceAccount: string
  readonly podName: string
  readonly podUid: string
}

export interface TokenClaims {
  readonly aud: readonly string[]
  readonly exp: number
  readonly sub: string
  readonly 'kubernetes.io': { readonly pod: { readonly name: string; readonly uid: string } }
}

const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

export class FakeCluster {
  readonly issuer = `https://cluster.invalid/${randomUUID()}`
  /** Annotations by `namespace/name`. */
  readonly accounts = new Map<string, Record<string, string>>()
  readonly #keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })

  token(pod: PodOfToken, audiences: readonly string[], seconds = 3600): string {
    const now = Math.floor(Date.now() / 1000)
    const claims = {
      iss: this.issuer,
      aud: audiences,
      exp: now + seconds,
      iat: now,
      jti: randomUUID(),
      sub: `system:serviceaccount:${pod.namespace}:${pod.serviceAccount}`,
      'kubernetes.io': {
        namespace: pod.namespace,
        serviceaccount: { name: pod.serviceAccount, uid: `uid-of-${pod.namespace}-${pod.serviceAccount}` },
        pod: { name: pod.podName, uid: pod.podUid },
      },
    }
    const signed = `${encoded({ alg: 'ES256', kid: 'k' })}.${encoded(claims)}`
    const signature = sign('sha256', Buffer.from(signed), {
      key: this.#keys.privateKey,
      dsaEncoding: 'ieee-p1363',
    })
    return `${signed}.${signature.toString('base64url')}`
  }

  /** The claims of a token that this cluster signed and that has not ended; else why not. */
  check(token: string): TokenClaims | string {
    const [head = '', body = '', signature = ''] = token.split('.')
    const good = verify(
      'sha256',
      Buffer.from(`${head}.${body}`),
      { key: this.#keys.publicKey, dsaEncoding: 'ieee-p1363' },
      Buffer.from(signature, 'base64url'),
    )
    if (!good) return 'The subject token is not signed by the cluster.'
    const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as TokenClaims
    return claims.exp * 1000 > Date.now() ? claims : 'The subject token has expired.'
  }
}
