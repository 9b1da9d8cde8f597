/** Owns keys as PEM: private keys re-encoded canonically, and public keys from the parts of a JSON Web Key. */
import { createPrivateKey, createPublicKey } from 'node:crypto'
import type { JsonWebKey } from 'node:crypto'
import { pemText } from './pem.ts'

/** The key is of a kind that cannot be written. */
export class KeyError extends Error {
  override readonly name = 'KeyError'
}

/**
 * `PRIVATE KEY` text of a PKCS#8 structure: without attributes, and for elliptic curves always with
 * the public point, whatever the input had.
 * @throws KeyError
 */
export function privateKeyPem(pkcs8: Buffer): string {
  try {
    const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' })
    return pemText({ label: 'PRIVATE KEY', bytes: canonicalPkcs8(key) })
  } catch {
    // OpenSSL's own words could quote the input.
    throw new KeyError('found unknown private key type in PKCS#8 wrapping')
  }
}

/** By way of a JSON Web Key, which always has the public parts; curves that have none are written as they are. */
function canonicalPkcs8(key: ReturnType<typeof createPrivateKey>): Buffer {
  const direct = (): Buffer => key.export({ type: 'pkcs8', format: 'der' })
  if (!['rsa', 'ec'].includes(key.asymmetricKeyType ?? '')) return direct()
  try {
    const jwk = key.export({ format: 'jwk' })
    return createPrivateKey({ key: jwk, format: 'jwk' }).export({ type: 'pkcs8', format: 'der' })
  } catch {
    return direct()
  }
}

/** Public parts of a key as Key Vault gives them, base64url. */
export interface PublicJwk {
  readonly kty: string
  readonly n?: string | undefined
  readonly e?: string | undefined
  readonly crv?: string | undefined
  readonly x?: string | undefined
  readonly y?: string | undefined
}

const CURVES: ReadonlyMap<string, string> = new Map([
  ['P-256', 'P-256'],
  ['P-384', 'P-384'],
  ['P-521', 'P-521'],
  ['P-256K', 'secp256k1'],
  ['secp256k1', 'secp256k1'],
])

/**
 * `PUBLIC KEY` text (SubjectPublicKeyInfo) of an RSA or EC key, also of one that lives in an HSM.
 * @throws KeyError for other kinds, unknown curves and impossible numbers.
 */
export function publicKeyPem(jwk: PublicJwk): string {
  const key = webKey(jwk)
  try {
    if (key.kty === 'RSA' && !(key.n && key.e)) throw new Error('no modulus or no exponent')
    return pemText({
      label: 'PUBLIC KEY',
      bytes: createPublicKey({ key, format: 'jwk' }).export({ type: 'spki', format: 'der' }),
    })
  } catch {
    throw new KeyError('its numbers are not a public key')
  }
}

function webKey({ kty, n, e, crv, x, y }: PublicJwk): JsonWebKey {
  if (kty === 'RSA' || kty === 'RSA-HSM') return { kty: 'RSA', n: n ?? '', e: e ?? '' }
  if (kty !== 'EC' && kty !== 'EC-HSM') throw new KeyError(`key type '${shown(kty)}' currently not supported`)
  if (crv === undefined) throw new KeyError('the key has no curve')
  const curve = CURVES.get(crv)
  if (curve === undefined) throw new KeyError(`curve ${shown(crv)} is not supported`)
  return { kty: 'EC', crv: curve, x: x ?? '', y: y ?? '' }
}

const shown = (text: string): string => (/^[\w-]{1,20}$/.test(text) ? text : '?')
