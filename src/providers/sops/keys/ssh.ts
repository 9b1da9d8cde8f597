/** Owns SSH keys as age identities: the OpenSSH private key format and the two age stanzas (sops A10). */
import {
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  privateDecrypt,
  type KeyObject,
} from 'node:crypto'
import type { Identity as AgeIdentity, Stanza } from 'age-encryption'

const MAGIC = Buffer.from('openssh-key-v1\0')
const ED25519_LABEL = Buffer.from('age-encryption.org/v1/ssh-ed25519')
const RSA_LABEL = Buffer.from('age-encryption.org/v1/ssh-rsa')
const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex')
const X25519_SPKI = Buffer.from('302a300506032b656e032100', 'hex')
/** An age file key, and the same with its Poly1305 tag. */
const FILE_KEY_BYTES = 16
const WRAPPED_BYTES = FILE_KEY_BYTES + 16

/** An SSH key as the age library takes it. */
export interface SshIdentity {
  /** Type and key of the public key, without comment: `ssh-ed25519 AAAA…`. */
  readonly recipient: string
  readonly identity: AgeIdentity
}

/** Reads length-prefixed fields of the SSH wire format. */
function reader(bytes: Buffer): { u32(): number; field(): Buffer; rest(): Buffer } {
  let at = 0
  const u32 = (): number => {
    if (at + 4 > bytes.length) throw new RangeError('the SSH key is cut short')
    at += 4
    return bytes.readUInt32BE(at - 4)
  }
  return {
    u32,
    field() {
      const length = u32()
      if (at + length > bytes.length) throw new RangeError('the SSH key is cut short')
      at += length
      return bytes.subarray(at - length, at)
    },
    rest: () => bytes.subarray(at),
  }
}

function x25519Private(scalar: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([X25519_PKCS8, scalar]), format: 'der', type: 'pkcs8' })
}

function x25519(scalar: KeyObject, point: Uint8Array): Buffer {
  const publicKey = createPublicKey({ key: Buffer.concat([X25519_SPKI, point]), format: 'der', type: 'spki' })
  return diffieHellman({ privateKey: scalar, publicKey })
}

function rawPublic(scalar: KeyObject): Buffer {
  const der = createPublicKey(scalar).export({ format: 'der', type: 'spki' })
  return der.subarray(X25519_SPKI.length)
}

/** First 4 bytes of SHA-256 of the public key, as a stanza names its recipient. */
function hintOf(wirePublicKey: Buffer): string {
  return createHash('sha256')
    .update(wirePublicKey)
    .digest()
    .subarray(0, 4)
    .toString('base64')
    .replaceAll('=', '')
}

/** Tries each stanza of a type whose hint fits; the first that opens wins. */
function identityOf(
  type: string,
  hint: string,
  open: (stanza: Stanza) => Uint8Array | undefined,
): AgeIdentity {
  return {
    unwrapFileKey(stanzas) {
      for (const stanza of stanzas) {
        if (stanza.args[0] !== type || stanza.args[1] !== hint) continue
        const fileKey = open(stanza)
        if (fileKey !== undefined && fileKey.length === FILE_KEY_BYTES) return Uint8Array.from(fileKey)
      }
      return null
    },
  }
}

function ed25519Identity(seed: Buffer, wirePublicKey: Buffer): AgeIdentity {
  const secret = x25519Private(createHash('sha512').update(seed).digest().subarray(0, 32))
  const ownPoint = rawPublic(secret)
  const tweak = x25519Private(
    Buffer.from(hkdfSync('sha256', Buffer.alloc(0), wirePublicKey, ED25519_LABEL, 32)),
  )
  return identityOf('ssh-ed25519', hintOf(wirePublicKey), (stanza) => {
    const point = Buffer.from(stanza.args[2] ?? '', 'base64')
    const isCanonical = point.toString('base64').replaceAll('=', '') === stanza.args[2]
    if (stanza.args.length !== 3 || point.length !== 32 || !isCanonical) return undefined
    if (stanza.body.length !== WRAPPED_BYTES) return undefined
    try {
      const shared = x25519(tweak, x25519(secret, point))
      const key = Buffer.from(hkdfSync('sha256', shared, Buffer.concat([point, ownPoint]), ED25519_LABEL, 32))
      const decipher = createDecipheriv('chacha20-poly1305', key, Buffer.alloc(12), { authTagLength: 16 })
      decipher.setAuthTag(stanza.body.subarray(FILE_KEY_BYTES))
      return Buffer.concat([decipher.update(stanza.body.subarray(0, FILE_KEY_BYTES)), decipher.final()])
    } catch {
      return undefined
    }
  })
}

function rsaIdentity(key: KeyObject, wirePublicKey: Buffer): AgeIdentity {
  return identityOf('ssh-rsa', hintOf(wirePublicKey), (stanza) => {
    if (stanza.args.length !== 2) return undefined
    try {
      return privateDecrypt({ key, oaepHash: 'sha256', oaepLabel: RSA_LABEL }, stanza.body)
    } catch {
      return undefined
    }
  })
}

function bigEndian(value: bigint): string {
  const hex = value.toString(16)
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex').toString('base64url')
}

function rsaKey(fields: readonly Buffer[]): KeyObject {
  const [n, e, d, iqmp, p, q] = fields.map((field) => BigInt(`0x${field.toString('hex') || '0'}`)) as [
    bigint,
    bigint,
    bigint,
    bigint,
    bigint,
    bigint,
  ]
  if (p <= 1n || q <= 1n) throw new RangeError('the SSH key has no primes')
  const [N, E, D, QI, P, Q, DP, DQ] = [n, e, d, iqmp, p, q, d % (p - 1n), d % (q - 1n)].map(bigEndian) as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ]
  return createPrivateKey({
    key: { kty: 'RSA', n: N, e: E, d: D, p: P, q: Q, dp: DP, dq: DQ, qi: QI },
    format: 'jwk',
  })
}

/**
 * An OpenSSH private key without passphrase, Ed25519 or RSA.
 * @param armored the `-----BEGIN OPENSSH PRIVATE KEY-----` block
 * @throws RangeError with a phrase that holds no key material
 */
export function parseSshIdentity(armored: string): SshIdentity {
  const body =
    /^-----BEGIN OPENSSH PRIVATE KEY-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END OPENSSH PRIVATE KEY-----\s*$/.exec(
      armored,
    )?.[1]
  if (body === undefined) throw new RangeError('it is no OpenSSH private key')
  const bytes = Buffer.from(body, 'base64')
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw new RangeError('it is no OpenSSH private key')
  const outer = reader(bytes.subarray(MAGIC.length))
  const cipher = outer.field().toString('latin1')
  outer.field()
  outer.field()
  if (cipher !== 'none') throw new RangeError('the SSH key has a passphrase')
  if (outer.u32() !== 1) throw new RangeError('it does not hold exactly one SSH key')
  const wirePublicKey = Buffer.from(outer.field())
  const inner = reader(outer.field())
  if (inner.u32() !== inner.u32()) throw new RangeError('the SSH key is damaged')
  const type = inner.field().toString('latin1')
  const recipient = `${type} ${wirePublicKey.toString('base64')}`
  if (type === 'ssh-ed25519') {
    inner.field()
    const pair = inner.field()
    if (pair.length !== 64) throw new RangeError('the SSH key is damaged')
    const identity = ed25519Identity(pair.subarray(0, 32), wirePublicKey)
    bytes.fill(0)
    return { recipient, identity }
  }
  if (type === 'ssh-rsa') {
    const key = rsaKey(Array.from({ length: 6 }, () => inner.field()))
    bytes.fill(0)
    return { recipient, identity: rsaIdentity(key, wirePublicKey) }
  }
  throw new RangeError('only ssh-ed25519 and ssh-rsa keys work with age')
}
