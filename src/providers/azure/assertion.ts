/** Owns signing in as a service principal with a certificate: the JWT that proves possession of its key (azure section 7). */
import { constants, createHash, createPrivateKey, randomUUID, sign, X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { privateKeyPem } from '../../formats/key-pem.ts'
import { pemBlocks } from '../../formats/pem.ts'
import { openPkcs12, Pkcs12Error } from '../../formats/pkcs12.ts'
import type { SecretBytes } from '../../telemetry/secret-bytes.ts'
import { azureError } from './failures.ts'

/** A certificate and the key that belongs to it. */
export interface ClientCertificate {
  readonly key: KeyObject
  /** DER, the leaf. */
  readonly certificate: Buffer
}

function unusable(reason: string): Error {
  return azureError({
    kind: 'config',
    code: 'AZURE_IDENTITY',
    message: `clientcertificate of the nodePublishSecretRef Secret ${reason}`,
    remedy:
      'Store PEM with an RSA key and its certificate, or a PKCS#12 file, in clientcertificate; a password goes into clientcertificatepassword.',
  })
}

/**
 * The certificate in a node-publish Secret: PEM, or base64 of a PKCS#12 file.
 * @throws BackendError `AZURE_IDENTITY`
 */
export async function clientCertificate(
  content: SecretBytes,
  password: SecretBytes | undefined,
): Promise<ClientCertificate> {
  const text = content.reveal().toString('latin1')
  const { keys, certificates } = text.includes('-----BEGIN ')
    ? fromPem(text, password)
    : await fromPfx(text, password)
  const [key] = keys
  if (key === undefined) throw unusable('holds no private key')
  if (key.asymmetricKeyType !== 'rsa') throw unusable('holds a key that is not RSA')
  const certificate = certificates.find((der) => belongs(der, key))
  if (certificate === undefined) throw unusable('holds no certificate for its key')
  return { key, certificate }
}

interface Found {
  readonly keys: readonly KeyObject[]
  readonly certificates: readonly Buffer[]
}

function fromPem(text: string, password: SecretBytes | undefined): Found {
  const blocks = pemBlocks(text)
  try {
    const hasKey = blocks.some(({ label }) => label.endsWith('PRIVATE KEY'))
    const passphrase = password?.reveal().toString()
    const key = hasKey
      ? [createPrivateKey({ key: text, ...(passphrase === undefined ? {} : { passphrase }) })]
      : []
    return {
      keys: key,
      certificates: blocks.filter(({ label }) => label === 'CERTIFICATE').map(({ bytes }) => bytes),
    }
  } catch {
    throw unusable('has a private key that cannot be read')
  }
}

async function fromPfx(text: string, password: SecretBytes | undefined): Promise<Found> {
  const bytes = Buffer.from(text, 'base64')
  try {
    const { keys, certificates } = await openPkcs12(
      bytes,
      password === undefined ? {} : { password: password.reveal().toString() },
    )
    return { keys: keys.map((pkcs8) => createPrivateKey(privateKeyPem(pkcs8))), certificates }
  } catch (error) {
    throw unusable(error instanceof Pkcs12Error ? `cannot be opened: ${error.message}` : 'cannot be read')
  }
}

function belongs(der: Buffer, key: KeyObject): boolean {
  try {
    return new X509Certificate(der).checkPrivateKey(key)
  } catch {
    return false
  }
}

const LIFE_SECONDS = 300

/**
 * The signed assertion, good for five minutes.
 * @param audience The token endpoint.
 */
export function clientAssertion(
  { key, certificate }: ClientCertificate,
  clientId: string,
  audience: string,
  now: Date,
): string {
  // AD FS knows only the older signature.
  const isAdfs = audience.endsWith('/adfs/oauth2/token')
  const seconds = Math.floor(now.getTime() / 1000)
  const header = {
    alg: isAdfs ? 'RS256' : 'PS256',
    typ: 'JWT',
    'x5t#S256': createHash('sha256').update(certificate).digest('base64url'),
    // SHA-1 is what AD FS looks certificates up by.
    ...(isAdfs ? { x5t: createHash('sha1').update(certificate).digest('base64url') } : {}),
    x5c: [certificate.toString('base64')],
  }
  const claims = {
    aud: audience,
    iss: clientId,
    sub: clientId,
    jti: randomUUID(),
    nbf: seconds - 5,
    exp: seconds + LIFE_SECONDS,
  }
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${part(header)}.${part(claims)}`
  const signature = sign(
    'sha256',
    Buffer.from(signed),
    isAdfs
      ? { key, padding: constants.RSA_PKCS1_PADDING }
      : { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 },
  )
  return `${signed}.${signature.toString('base64url')}`
}
