/**
 * Owns AWS Signature Version 4 for the one call whose SDK client is not among the dependencies: KMS
 * Decrypt. Query strings and paths other than `/` are not needed and not supported.
 */
import { createHash, createHmac } from 'node:crypto'
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

const hash = (text: string): string => createHash('sha256').update(text).digest('hex')
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
    hash(request.body),
  ].join('\n')
  const scope = [date, request.region, request.service, 'aws4_request'].join('/')
  const toSign = ['AWS4-HMAC-SHA256', stamp, scope, hash(canonical)].join('\n')
  const steps = [date, request.region, request.service, 'aws4_request']
  const key = steps.reduce<string | Buffer>(
    (key, step) => hmac(key, step),
    `AWS4${credentials.secretAccessKey}`,
  )
  const signature = hmac(key, toSign).toString('hex')
  headers['authorization'] =
    `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`
  return headers
}
