/**
 * Owns AWS Signature Version 4 for POST requests without a query string, as AWS documents it. For KMS,
 * whose SDK client is not among the dependencies. The tests' fake verifies it with code of its own, which also verifies what the SDK signs.
 */
import { createHmac, hash } from 'node:crypto'
import type { AwsCredentials } from './sdk.ts'

export interface SigningRequest {
  /** Absolute; the path is signed as it is, so it must hold nothing that needs encoding. */
  readonly url: URL
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly region: string
  readonly service: string
}

const digest = (text: string): string => hash('sha256', text)
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest()

/** Headers of a signed POST: those given, and the signature's own. */
export function signedHeaders(
  request: SigningRequest,
  credentials: AwsCredentials,
  now: Date,
): Record<string, string> {
  const stamp = now.toISOString().replaceAll(/[-:]|\.\d{3}/g, '')
  const date = stamp.slice(0, 8)
  const headers: Record<string, string> = {
    ...request.headers,
    'x-amz-date': stamp,
    ...(credentials.sessionToken === undefined ? {} : { 'x-amz-security-token': credentials.sessionToken }),
  }
  const signed = new Map([...Object.entries(headers), ['host', request.url.host] as const])
  const names = [...signed.keys()].sort()
  const canonical = [
    'POST',
    request.url.pathname,
    '',
    ...names.map((name) => `${name}:${signed.get(name)?.trim()}`),
    '',
    names.join(';'),
    digest(request.body),
  ].join('\n')
  const scope = [date, request.region, request.service, 'aws4_request'].join('/')
  const toSign = ['AWS4-HMAC-SHA256', stamp, scope, digest(canonical)].join('\n')
  const signature = hmac(signingKey(credentials, scope), toSign).toString('hex')
  headers['authorization'] =
    `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`
  return headers
}

/** Signing keys of a day: they cost four rounds of HMAC. They live as long as the credentials. */
const signingKeys = new WeakMap<AwsCredentials, Map<string, Buffer>>()

function signingKey(credentials: AwsCredentials, scope: string): Buffer {
  const keys = signingKeys.get(credentials) ?? new Map<string, Buffer>()
  signingKeys.set(credentials, keys)
  const known = keys.get(scope)
  if (known !== undefined) return known
  const key = scope
    .split('/')
    .reduce<Buffer>((key, step) => hmac(key, step), Buffer.from(`AWS4${credentials.secretAccessKey}`))
  keys.set(scope, key)
  return key
}
