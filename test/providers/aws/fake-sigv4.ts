/** Owns the check of AWS Signature Version 4 as a service makes it, written from AWS's public description. */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

/** A request as it arrived. */
export interface SignedRequest {
  readonly method: string
  /** Path and query as sent. */
  readonly url: string
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** What the fake knows about an access key it issued. */
export interface IssuedKey {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken: string
  readonly roleArn: string
  readonly sessionName: string
  readonly expiresAt: number
}

/** A refusal in the service's own words. */
export class SignatureRefusal extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

export interface VerifiedSignature {
  readonly key: IssuedKey
  readonly region: string
  readonly service: string
}

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex')
const hmac = (key: string | Buffer, data: string): Buffer => createHmac('sha256', key).update(data).digest()

function part(authorization: string, name: string): string {
  const start = authorization.indexOf(`${name}=`)
  if (start < 0) throw new SignatureRefusal('IncompleteSignature', `Authorization header requires ${name}.`)
  const rest = authorization.slice(start + name.length + 1)
  const end = rest.indexOf(',')
  return (end < 0 ? rest : rest.slice(0, end)).trim()
}

/** RFC 3986 encoding of a path that arrived encoded once: every service but S3 encodes it again. */
function encodedAgain(path: string): string {
  return path
    .split('/')
    .map((segment) =>
      encodeURIComponent(segment).replace(
        /[!'()*]/g,
        (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
      ),
    )
    .join('/')
}

/**
 * Checks signature, scope, clock and session token.
 * @param now the service's clock, milliseconds since 1970.
 * @throws SignatureRefusal with the code that the service would answer.
 */
export function verifySignature(
  request: SignedRequest,
  keys: ReadonlyMap<string, IssuedKey>,
  now: number,
): VerifiedSignature {
  const authorization = request.headers['authorization']
  if (authorization === undefined)
    throw new SignatureRefusal('MissingAuthenticationToken', 'Request is missing Authentication Token')
  if (!authorization.startsWith('AWS4-HMAC-SHA256 '))
    throw new SignatureRefusal('IncompleteSignature', 'Unsupported algorithm.')
  const credential = part(authorization, 'Credential').split('/')
  const [accessKeyId = '', date = '', region = '', service = '', terminator = ''] = credential
  if (credential.length !== 5 || terminator !== 'aws4_request')
    throw new SignatureRefusal('IncompleteSignature', 'Credential must have five parts.')
  const key = keys.get(accessKeyId)
  if (key === undefined)
    throw new SignatureRefusal(
      'UnrecognizedClientException',
      'The security token included in the request is invalid.',
    )
  if (request.headers['x-amz-security-token'] !== key.sessionToken)
    throw new SignatureRefusal(
      'UnrecognizedClientException',
      'The security token included in the request is invalid.',
    )

  const stamp = request.headers['x-amz-date'] ?? ''
  const signed = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(stamp)
  if (signed === null || !stamp.startsWith(date))
    throw new SignatureRefusal('IncompleteSignature', 'Date in Credential scope does not match.')
  const [, y, mo, d, h, mi, s] = signed.map(Number)
  const signedAt = Date.UTC(y ?? 0, (mo ?? 1) - 1, d, h, mi, s)
  const skew = signedAt - now
  if (Math.abs(skew) > 5 * 60_000) {
    const text = skew < 0 ? 'Signature expired' : 'Signature not yet current'
    throw new SignatureRefusal(
      'InvalidSignatureException',
      `${text}: ${stamp} is too far from the server's time`,
    )
  }

  const names = part(authorization, 'SignedHeaders').split(';')
  for (const required of ['host', 'x-amz-date', 'x-amz-security-token', 'x-amz-target'])
    if (!names.includes(required) && request.headers[required] !== undefined)
      throw new SignatureRefusal('InvalidSignatureException', `Header ${required} is not signed.`)
  const [path = '/', query = ''] = request.url.split('?')
  const canonical = [
    request.method,
    encodedAgain(path),
    query.split('&').filter(Boolean).sort().join('&'),
    ...names.map((name) => `${name}:${(request.headers[name] ?? '').trim().replaceAll(/ +/g, ' ')}`),
    '',
    names.join(';'),
    sha256(request.body),
  ].join('\n')
  const scope = [date, region, service, 'aws4_request'].join('/')
  const toSign = ['AWS4-HMAC-SHA256', stamp, scope, sha256(canonical)].join('\n')
  const signingKey = hmac(
    hmac(hmac(hmac(`AWS4${key.secretAccessKey}`, date), region), service),
    'aws4_request',
  )
  const expected = hmac(signingKey, toSign)
  const given = Buffer.from(part(authorization, 'Signature'), 'hex')
  if (given.length !== expected.length || !timingSafeEqual(given, expected))
    throw new SignatureRefusal(
      'InvalidSignatureException',
      'The request signature we calculated does not match the signature you provided.',
    )
  if (key.expiresAt <= now)
    throw new SignatureRefusal(
      'ExpiredTokenException',
      'The security token included in the request is expired',
    )
  return { key, region, service }
}
