/** Owns turning the content of an identity file into private keys (sops A10, B6). */
import { webcrypto } from 'node:crypto'
import { identityToRecipient } from 'age-encryption'
import { decodeAgeSecretKey } from './bech32.ts'
import type { PrivateIdentity } from './held.ts'
import { parsePgpIdentities } from './pgp.ts'
import { parseSshIdentity } from './ssh.ts'

const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex')
const X25519_PREFIX = Buffer.from('AGE-SECRET-KEY-1')
const HYBRID_PREFIX = Buffer.from('AGE-SECRET-KEY-PQ-1')
const LINE_FEED = 0x0a

/** Imports a scalar so that no code, ours included, can get it out again. */
async function x25519Identity(scalar: Buffer): Promise<PrivateIdentity> {
  const pkcs8 = Buffer.concat([X25519_PKCS8, scalar])
  try {
    const key = await webcrypto.subtle.importKey('pkcs8', pkcs8, { name: 'X25519' }, false, ['deriveBits'])
    return { kind: 'age', recipient: await identityToRecipient(key), identity: key }
  } finally {
    pkcs8.fill(0)
    scalar.fill(0)
  }
}

/** Parts of a buffer between line feeds, without a trailing carriage return or blanks; views, no copies. */
function linesOf(bytes: Buffer): readonly Buffer[] {
  const lines: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const found = bytes.indexOf(LINE_FEED, at)
    const end = found === -1 ? bytes.length : found
    let last = end
    while (last > at && (bytes[last - 1] ?? 0) <= 0x20) last -= 1
    lines.push(bytes.subarray(at, last))
    at = end + 1
  }
  return lines
}

async function ageIdentities(bytes: Buffer): Promise<readonly PrivateIdentity[]> {
  const found: PrivateIdentity[] = []
  for (const [index, line] of linesOf(bytes).entries()) {
    if (line.length === 0 || line[0] === 0x23) continue
    const fault = `line ${index + 1} is no age identity`
    if (line.subarray(0, HYBRID_PREFIX.length).equals(HYBRID_PREFIX)) {
      // The library takes hybrid keys as text only, so these stay in the heap until they are collected.
      const identity = line.toString('latin1')
      const recipient = await identityToRecipient(identity).catch(() => {
        throw new RangeError(fault)
      })
      found.push({ kind: 'age', recipient, identity })
      continue
    }
    const isX25519 = line.subarray(0, X25519_PREFIX.length).equals(X25519_PREFIX)
    const scalar = isX25519 ? decodeAgeSecretKey(line) : undefined
    if (scalar === undefined) throw new RangeError(fault)
    found.push(await x25519Identity(scalar))
  }
  if (found.length === 0) throw new RangeError('it holds no identity')
  return found
}

/**
 * The private keys in an identity file: age identities one a line with `#` comments, or one OpenSSH
 * private key without passphrase, or armored PGP secret keys. The caller wipes `bytes`.
 * @throws RangeError with a phrase that holds no key material
 */
export async function parseIdentities(
  bytes: Buffer,
  passphrase?: string,
): Promise<readonly PrivateIdentity[]> {
  if (bytes.includes('-----BEGIN PGP PRIVATE KEY BLOCK-----')) {
    const keys = await parsePgpIdentities(bytes.toString('latin1'), passphrase)
    return keys.map((key) => ({ kind: 'pgp', key }))
  }
  if (bytes.includes('-----BEGIN OPENSSH PRIVATE KEY-----')) {
    return [{ kind: 'age', ...parseSshIdentity(bytes.toString('latin1')) }]
  }
  return ageIdentities(bytes)
}
