/** Owns what becomes of a fetched object: secrets of certificates to PEM, keys and certificates to PEM (azure section 9). */
import { chainOf, ChainError } from '../../formats/certificate-chain.ts'
import { decodeGoBase64, decodeGoHex, EncodingError } from '../../formats/go-encodings.ts'
import { KeyError, privateKeyPem, publicKeyPem, type PublicJwk } from '../../formats/key-pem.ts'
import { pemBlocks, pemText } from '../../formats/pem.ts'
import { openPkcs12, Pkcs12Error } from '../../formats/pkcs12.ts'
import type { Host } from '../adapter.ts'
import { badValue } from './failures.ts'
import type { FetchedSecret } from './secrets-sdk.ts'
import type { VaultFiles, VaultRef } from './store.ts'

/**
 * The text of a secret's file, before `objectEncoding`.
 * @throws BackendError `AZURE_BAD_VALUE`
 */
export async function secretText(
  { value, kid, contentType }: FetchedSecret,
  ref: VaultRef,
  host: Host,
): Promise<string> {
  if (!kid || contentType === 'application/x-pem-file') return value
  if (contentType !== 'application/x-pkcs12') {
    const shown = /^[\w.+/-]{0,80}$/.test(contentType ?? '') ? (contentType ?? '') : '?'
    throw badValue(`failed to get certificate. unknown content type '${shown}'`)
  }
  return ref.pfx ? value : pemOfPfx(value, ref, host)
}

/** All private keys, then all certificates, each as a block of its own. */
async function pemOfPfx(value: string, ref: VaultRef, host: Host): Promise<string> {
  try {
    const pfx = decodeGoBase64(value)
    const { keys, certificates } = await openPkcs12(pfx, { signal: host.signal })
    pfx.fill(0)
    const chain = ref.bagOrder ? { certificates, complete: true } : chainOf(certificates)
    if (!chain.complete) {
      host.log.warn('certificates do not form one chain, so they stay in the order of the PKCS#12 file', {
        object: ref.name,
        certificates: certificates.length,
      })
    }
    const text =
      keys.map(privateKeyPem).join('') +
      chain.certificates.map((der) => pemText({ label: 'CERTIFICATE', bytes: der })).join('')
    for (const key of keys) key.fill(0)
    return text
  } catch (error) {
    const known = [EncodingError, Pkcs12Error, ChainError, KeyError].some((type) => error instanceof type)
    throw known && error instanceof Error ? badValue(error.message) : error
  }
}

/** `PUBLIC KEY` of a key object. @throws BackendError `AZURE_BAD_VALUE` */
export function keyText(jwk: PublicJwk): string {
  try {
    return publicKeyPem(jwk)
  } catch (error) {
    if (error instanceof KeyError) throw badValue(`failed to get key. ${error.message}`)
    throw error
  }
}

export const certificateText = (der: Uint8Array): string => pemText({ label: 'CERTIFICATE', bytes: der })

/** Certificates of a PEM text, or all its other blocks, each written anew. */
export function pemPart(text: string, part: 'certificates' | 'keys'): string {
  return pemBlocks(text)
    .filter(({ label }) => (label === 'CERTIFICATE') === (part === 'certificates'))
    .map(pemText)
    .join('')
}

/** The bytes of a text in an encoding. @throws EncodingError */
export function decoded(text: string, encoding: VaultFiles['encoding']): Buffer {
  if (encoding === 'base64') return decodeGoBase64(text)
  return encoding === 'hex' ? decodeGoHex(text) : Buffer.from(text)
}
