/** Owns PGP entries: the optional `openpgp` package, loaded when an operator first configures a PGP key (sops A10). */
import type * as openpgpModule from 'openpgp'
import type { PrivateKey } from 'openpgp'
import type { HeldIdentity } from './held.ts'

export type HeldPgp = Extract<HeldIdentity, { kind: 'pgp' }>
type OpenPgp = typeof openpgpModule

let loading: Promise<OpenPgp> | undefined

/**
 * The package. LGPL, so it is no dependency of ours.
 * @throws RangeError telling how to install it
 */
async function openpgp(): Promise<OpenPgp> {
  loading ??= import('openpgp')
  try {
    return await loading
  } catch {
    loading = undefined
    throw new RangeError('PGP identities need the package openpgp: add openpgp@6 beside keyferry')
  }
}

/**
 * Reads armored secret keys, unlocking those with a passphrase.
 * @throws RangeError with a phrase that holds no key material
 */
export async function parsePgpIdentities(
  armored: string,
  passphrase?: string,
): Promise<readonly PrivateKey[]> {
  const pgp = await openpgp()
  const keys = await pgp.readPrivateKeys({ armoredKeys: armored }).catch(() => {
    throw new RangeError('it is no armored PGP secret key')
  })
  return Promise.all(
    keys.map(async (key) => {
      if (key.isDecrypted()) return key
      if (passphrase === undefined) {
        throw new RangeError('the PGP key has a passphrase: set backends.sops.pgp.passphraseFile')
      }
      return pgp.decryptKey({ privateKey: key, passphrase }).catch(() => {
        throw new RangeError('the PGP key does not open with the passphrase')
      })
    }),
  )
}

/** Decrypts an armored message. @returns the plaintext, or a phrase why not */
export async function unwrapPgp(enc: string, identities: readonly HeldPgp[]): Promise<Buffer | string> {
  if (identities.length === 0) return 'no PGP identity is held'
  const pgp = await openpgp()
  try {
    const message = await pgp.readMessage({ armoredMessage: enc })
    const { data } = await pgp.decrypt({
      message,
      decryptionKeys: identities.map((held) => held.key),
      format: 'binary',
    })
    const bytes = Buffer.from(data as Uint8Array)
    // Old GnuPG gives nothing, without an error, for packets it does not know.
    return bytes.length === 0 ? 'it holds nothing' : bytes
  } catch {
    return 'no held identity fits'
  }
}
