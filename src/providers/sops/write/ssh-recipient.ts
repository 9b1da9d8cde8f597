/**
 * Owns wrapping an age file key to an OpenSSH public key (sops A10). Only public values are handled
 * here besides the file key; the arithmetic on them need not be constant-time.
 */
import {
  constants,
  createCipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  publicEncrypt,
} from 'node:crypto'
import { Stanza, type Recipient } from 'age-encryption'
import { strictBase64 } from '../encodings.ts'
import { WriteError } from './error.ts'

const ED25519_LABEL = 'age-encryption.org/v1/ssh-ed25519'
const RSA_LABEL = 'age-encryption.org/v1/ssh-rsa'
/** Shortest RSA modulus that age accepts, in bytes. */
const MIN_MODULUS_BYTES = 256

const P = 2n ** 255n - 19n

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n
  for (let b = base % P, e = exponent; e > 0n; e >>= 1n, b = (b * b) % P) {
    if ((e & 1n) === 1n) result = (result * b) % P
  }
  return result
}

/** The Curve25519 form of an Ed25519 public key: u = (1 + y) / (1 - y). Undefined for no valid y. */
function montgomery(ed25519: Buffer): Buffer | undefined {
  const littleEndian = Buffer.from(ed25519)
  littleEndian[31] = (littleEndian[31] ?? 0) & 0x7f
  const y = BigInt(`0x${Buffer.from(littleEndian.toReversed()).toString('hex')}`)
  if (y >= P || y <= 1n) return undefined
  const u = ((1n + y) * power(1n - y + P, P - 2n)) % P
  return Buffer.from(Buffer.from(u.toString(16).padStart(64, '0'), 'hex').toReversed())
}

function x25519Public(raw: Buffer) {
  return createPublicKey({
    key: { kty: 'OKP', crv: 'X25519', x: raw.toString('base64url') },
    format: 'jwk',
  })
}

/** A private key from its 32 bytes, by the fixed prefix of its PKCS#8 form. */
function x25519Private(raw: Buffer) {
  const der = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), raw])
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
}

function unpadded(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replaceAll('=', '')
}

function keyTag(wire: Buffer): string {
  return unpadded(createHash('sha256').update(wire).digest().subarray(0, 4))
}

function ed25519Recipient(wire: Buffer, key: Buffer): Recipient | undefined {
  const theirs = key.length === 32 ? montgomery(key) : undefined
  if (theirs === undefined) return undefined
  const tweak = x25519Private(Buffer.from(hkdfSync('sha256', Buffer.alloc(0), wire, ED25519_LABEL, 32)))
  return {
    wrapFileKey: (fileKey) => {
      const own = generateKeyPairSync('x25519')
      const share = Buffer.from(own.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url')
      const inner = diffieHellman({ privateKey: own.privateKey, publicKey: x25519Public(theirs) })
      const secret = diffieHellman({ privateKey: tweak, publicKey: x25519Public(inner) })
      const key = hkdfSync('sha256', secret, Buffer.concat([share, theirs]), ED25519_LABEL, 32)
      const cipher = createCipheriv('chacha20-poly1305', Buffer.from(key), Buffer.alloc(12), {
        authTagLength: 16,
      })
      const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()])
      return [new Stanza(['ssh-ed25519', keyTag(wire), unpadded(share)], body)]
    },
  }
}

/** A big-endian integer without the zero byte that SSH puts before a set top bit. */
function unsigned(mpint: Buffer): Buffer {
  return mpint[0] === 0 ? mpint.subarray(1) : mpint
}

function rsaRecipient(wire: Buffer, exponent: Buffer, modulus: Buffer): Recipient | undefined {
  const n = unsigned(modulus)
  if (n.length < MIN_MODULUS_BYTES || n.length > 2048) return undefined
  const key = createPublicKey({
    key: { kty: 'RSA', n: n.toString('base64url'), e: unsigned(exponent).toString('base64url') },
    format: 'jwk',
  })
  return {
    wrapFileKey: (fileKey) => {
      const body = publicEncrypt(
        {
          key,
          padding: constants.RSA_PKCS1_OAEP_PADDING,
          oaepHash: 'sha256',
          oaepLabel: Buffer.from(RSA_LABEL),
        },
        fileKey,
      )
      return [new Stanza(['ssh-rsa', keyTag(wire)], body)]
    },
  }
}

/** The length-prefixed fields of an SSH key, or undefined when they do not fill it exactly. */
function wireFields(wire: Buffer): readonly Buffer[] | undefined {
  const fields: Buffer[] = []
  let at = 0
  while (at < wire.length) {
    if (at + 4 > wire.length) return undefined
    const length = wire.readUInt32BE(at)
    if (at + 4 + length > wire.length) return undefined
    fields.push(wire.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return fields
}

/**
 * A recipient for `ssh-ed25519 AAAA… comment` or `ssh-rsa AAAA… comment`.
 * @throws WriteError `usage` when the key is malformed or weak.
 */
export function sshRecipient(publicKey: string): Recipient {
  const [type = '', base64 = ''] = publicKey.split(' ')
  const wire = strictBase64(base64)
  const [name, first, second, ...rest] = wire === undefined ? [] : (wireFields(wire) ?? [])
  if (wire !== undefined && name?.toString('latin1') === type && first !== undefined && rest.length === 0) {
    const recipient =
      type === 'ssh-ed25519' && second === undefined
        ? ed25519Recipient(wire, first)
        : type === 'ssh-rsa' && second !== undefined
          ? rsaRecipient(wire, first, second)
          : undefined
    if (recipient !== undefined) return recipient
  }
  throw new WriteError(
    'usage',
    `the ${type} recipient is no valid public key`,
    'Give the one line of its .pub file. RSA keys need 2048 bits or more.',
  )
}
