/**
 * Owns opening PKCS#12 files (PFX, RFC 7292): keys and certificates in bag order, every cipher users
 * meet (RC2, 3DES, AES), SHA-1 and SHA-2 MACs, bounded against hostile sizes and iteration counts.
 *
 * Ciphers and hashes are Node's; RC2, which OpenSSL 3 no longer has, is node-forge's and loaded when
 * such a file comes. Nothing here blocks the event loop for longer than a few milliseconds.
 */
import { createDecipheriv, createHmac, timingSafeEqual } from 'node:crypto'
import { child, context, DerError, octets, oid, parseDer, smallInteger, TAG, type DerNode } from './der.ts'
import {
  bmpPassword,
  kdfCost,
  pbkdf2Key,
  pkcs12Kdf,
  PURPOSE,
  type Derivation,
  type DigestName,
} from './pkcs12-kdf.ts'

/** The file cannot be opened. The message never quotes it. */
export class Pkcs12Error extends Error {
  override readonly name = 'Pkcs12Error'

  constructor(reason: string) {
    super(`pkcs12: ${reason}`)
  }
}

export interface Pkcs12 {
  /** Decrypted PKCS#8 structures, in bag order. Wipe them after use. */
  readonly keys: readonly Buffer[]
  /** DER of X.509 certificates, in bag order; copies, like the keys: the file may be wiped. */
  readonly certificates: readonly Buffer[]
}

export interface Pkcs12Options {
  /** Default: none, in either of the two ways in which files express it. */
  readonly password?: string
  readonly signal?: AbortSignal
}

const MAX_BYTES = 1024 * 1024
/** Hashes that all derivations of a file may cost together; about a second of one core. */
const MAX_HASHES = 1_000_000

const OID = {
  data: '1.2.840.113549.1.7.1',
  encryptedData: '1.2.840.113549.1.7.6',
  keyBag: '1.2.840.113549.1.12.10.1.1',
  shroudedKeyBag: '1.2.840.113549.1.12.10.1.2',
  certBag: '1.2.840.113549.1.12.10.1.3',
  safeContentsBag: '1.2.840.113549.1.12.10.1.6',
  x509: '1.2.840.113549.1.9.22.1',
  pbes2: '1.2.840.113549.1.5.13',
  pbkdf2: '1.2.840.113549.1.5.12',
} as const

const DIGESTS: ReadonlyMap<string, DigestName> = new Map<string, DigestName>([
  ['1.3.14.3.2.26', 'sha1'],
  ['2.16.840.1.101.3.4.2.4', 'sha224'],
  ['2.16.840.1.101.3.4.2.1', 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512'],
])

const PRFS: ReadonlyMap<string, DigestName> = new Map<string, DigestName>([
  ['1.2.840.113549.2.7', 'sha1'],
  ['1.2.840.113549.2.8', 'sha224'],
  ['1.2.840.113549.2.9', 'sha256'],
  ['1.2.840.113549.2.10', 'sha384'],
  ['1.2.840.113549.2.11', 'sha512'],
])

interface Cipher {
  readonly name: 'des-ede3-cbc' | 'rc2' | 'aes-128-cbc' | 'aes-192-cbc' | 'aes-256-cbc'
  /** Bytes of the key. */
  readonly key: number
}

/** Ciphers whose key and vector both come from the RFC 7292 derivation with SHA-1. */
const PKCS12_CIPHERS: ReadonlyMap<string, Cipher> = new Map<string, Cipher>([
  ['1.2.840.113549.1.12.1.3', { name: 'des-ede3-cbc', key: 24 }],
  ['1.2.840.113549.1.12.1.4', { name: 'des-ede3-cbc', key: 16 }],
  ['1.2.840.113549.1.12.1.5', { name: 'rc2', key: 16 }],
  ['1.2.840.113549.1.12.1.6', { name: 'rc2', key: 5 }],
])

const PBES2_CIPHERS: ReadonlyMap<string, Cipher> = new Map<string, Cipher>([
  ['1.2.840.113549.3.7', { name: 'des-ede3-cbc', key: 24 }],
  ['2.16.840.1.101.3.4.1.2', { name: 'aes-128-cbc', key: 16 }],
  ['2.16.840.1.101.3.4.1.22', { name: 'aes-192-cbc', key: 24 }],
  ['2.16.840.1.101.3.4.1.42', { name: 'aes-256-cbc', key: 32 }],
])

/**
 * What a PFX holds.
 * @throws Pkcs12Error when it is not one, is damaged, has another password, or asks for too much.
 */
export async function openPkcs12(pfx: Buffer, options: Pkcs12Options = {}): Promise<Pkcs12> {
  if (pfx.length > MAX_BYTES)
    throw new Pkcs12Error(`the file has ${pfx.length} bytes; the limit is ${MAX_BYTES}`)
  try {
    return await open(pfx, options)
  } catch (error) {
    if (error instanceof DerError) throw new Pkcs12Error(error.message)
    throw error
  }
}

/** What is known while a file is being opened. */
interface Opening {
  /** Candidates in the order in which they are tried; one after the MAC has agreed with it. */
  passwords: readonly Uint8Array[]
  readonly utf8: Uint8Array
  readonly signal: AbortSignal | undefined
  hashes: number
  readonly keys: Buffer[]
  readonly certificates: Buffer[]
}

async function open(pfx: Buffer, { password = '', signal }: Pkcs12Options): Promise<Pkcs12> {
  const root = parseDer(pfx)
  if (smallInteger(child(root, 0)) !== 3) throw new Pkcs12Error('only version 3 is supported')
  const opening: Opening = {
    // OpenSSL and Java write an empty password as a terminator, Windows as nothing.
    passwords: password === '' ? [bmpPassword(''), Buffer.alloc(0)] : [bmpPassword(password)],
    utf8: Buffer.from(password),
    signal,
    hashes: 0,
    keys: [],
    certificates: [],
  }
  const authSafe = child(root, 1)
  if (oid(child(authSafe, 0)) !== OID.data)
    throw new Pkcs12Error('only password-protected files are supported')
  const content = octets(child(child(authSafe, 1, context(0)), 0))
  const macData = root.children[2]
  if (macData !== undefined) opening.passwords = [await passwordOfMac(macData, content, opening)]
  for (const item of parseDer(content).children) await readItem(item, opening)
  return { keys: opening.keys, certificates: opening.certificates }
}

/** Counts hashes over the whole file, before they are computed. @throws Pkcs12Error above the limit. */
function spend(opening: Opening, hashes: number): void {
  opening.hashes += hashes
  if (hashes < 1 || opening.hashes > MAX_HASHES)
    throw new Pkcs12Error(`its key derivations ask for more than ${MAX_HASHES} iterations`)
}

function derived(
  opening: Opening,
  how: Derivation,
  password: Uint8Array,
  purpose: number,
  length: number,
): Promise<Buffer> {
  spend(opening, kdfCost(how, length))
  return pkcs12Kdf(how, password, purpose, length, opening.signal)
}

async function passwordOfMac(macData: DerNode, content: Buffer, opening: Opening): Promise<Uint8Array> {
  const info = child(macData, 0)
  const algorithm = oid(child(child(info, 0), 0))
  const digest = DIGESTS.get(algorithm)
  if (digest === undefined) throw new Pkcs12Error(`unknown digest algorithm: ${algorithm}`)
  const wanted = octets(child(info, 1, TAG.octetString))
  const count = macData.children[2]
  const salt = octets(child(macData, 1, TAG.octetString))
  for (const password of opening.passwords) {
    const how = { digest, salt, iterations: count === undefined ? 1 : smallInteger(count) }
    const key = await derived(opening, how, password, PURPOSE.mac, wanted.length)
    const made = createHmac(digest, key).update(content).digest()
    if (made.length === wanted.length && timingSafeEqual(made, wanted)) return password
  }
  throw new Pkcs12Error('decryption password incorrect')
}

/** One ContentInfo of the authenticated safe: bags in the clear, or encrypted together. */
async function readItem(item: DerNode, opening: Opening): Promise<void> {
  const type = oid(child(item, 0))
  const inner = child(child(item, 1, context(0)), 0)
  if (type === OID.data) return readBags(parseDer(octets(inner)), opening)
  if (type !== OID.encryptedData) throw new Pkcs12Error('only password-protected files are supported')
  const info = child(inner, 1)
  const clear = await decrypted(child(info, 1), octets(child(info, 2, context(0))), opening)
  return readBags(parseDer(clear), opening)
}

async function readBags(contents: DerNode, opening: Opening): Promise<void> {
  for (const bag of contents.children) {
    const type = oid(child(bag, 0))
    const value = child(child(bag, 1, context(0)), 0)
    if (type === OID.keyBag) opening.keys.push(Buffer.from(value.raw))
    else if (type === OID.shroudedKeyBag)
      opening.keys.push(await decrypted(child(value, 0), octets(child(value, 1, TAG.octetString)), opening))
    else if (type === OID.certBag) readCertificate(value, opening)
    else if (type === OID.safeContentsBag) await readBags(value, opening)
    else throw new Pkcs12Error(`don't know how to convert a safe bag of type ${type}`)
  }
}

function readCertificate(value: DerNode, opening: Opening): void {
  if (oid(child(value, 0)) !== OID.x509) throw new Pkcs12Error('only X.509 certificates are supported')
  opening.certificates.push(Buffer.from(octets(child(child(value, 1, context(0)), 0))))
}

async function decrypted(algorithm: DerNode, bytes: Buffer, opening: Opening): Promise<Buffer> {
  const name = oid(child(algorithm, 0))
  const parameters = child(algorithm, 1)
  if (name === OID.pbes2) return decryptedPbes2(parameters, bytes, opening)
  const cipher = PKCS12_CIPHERS.get(name)
  if (cipher === undefined) throw new Pkcs12Error(`algorithm ${name} is not supported`)
  const salt = octets(child(parameters, 0, TAG.octetString))
  for (const password of opening.passwords) {
    const how = { digest: 'sha1', salt, iterations: smallInteger(child(parameters, 1)) } as const
    const key = await derived(opening, how, password, PURPOSE.key, cipher.key)
    const iv = await derived(opening, how, password, PURPOSE.iv, 8)
    const clear = await deciphered(cipher, key, iv, bytes)
    if (clear !== undefined) return clear
  }
  throw new Pkcs12Error('decryption password incorrect')
}

async function decryptedPbes2(parameters: DerNode, bytes: Buffer, opening: Opening): Promise<Buffer> {
  const [kdf, scheme] = [child(parameters, 0), child(parameters, 1)]
  const kdfName = oid(child(kdf, 0))
  if (kdfName !== OID.pbkdf2) throw new Pkcs12Error(`algorithm ${kdfName} is not supported`)
  const settings = child(kdf, 1)
  const prfNode = settings.children.find((node) => node.tag === TAG.sequence)
  const prf = prfNode === undefined ? 'sha1' : PRFS.get(oid(child(prfNode, 0)))
  const name = oid(child(scheme, 0))
  const cipher = PBES2_CIPHERS.get(name)
  if (prf === undefined || cipher === undefined) throw new Pkcs12Error(`algorithm ${name} is not supported`)
  const salt = octets(child(settings, 0, TAG.octetString))
  const how = { digest: prf, salt, iterations: smallInteger(child(settings, 1)) } as const
  spend(opening, how.iterations)
  const key = await pbkdf2Key(how, opening.utf8, cipher.key)
  const clear = await deciphered(cipher, key, octets(child(scheme, 1, TAG.octetString)), bytes)
  if (clear === undefined) throw new Pkcs12Error('decryption password incorrect')
  return clear
}

/** The plaintext, or undefined when key and bytes do not belong together. */
async function deciphered(
  cipher: Cipher,
  key: Buffer,
  iv: Buffer,
  bytes: Buffer,
): Promise<Buffer | undefined> {
  try {
    if (cipher.name === 'rc2') return await decipheredRc2(key, iv, bytes)
    // Two-key 3DES uses the first key twice.
    const whole =
      cipher.name === 'des-ede3-cbc' && key.length === 16 ? Buffer.concat([key, key.subarray(0, 8)]) : key
    const decipher = createDecipheriv(cipher.name, whole, iv)
    const clear = Buffer.concat([decipher.update(bytes), decipher.final()])
    parseDer(clear)
    return clear
  } catch {
    return undefined
  }
}

async function decipheredRc2(key: Buffer, iv: Buffer, bytes: Buffer): Promise<Buffer | undefined> {
  const { default: forge } = await import('node-forge')
  const decipher = forge.rc2.createDecryptionCipher(
    forge.util.createBuffer(key.toString('latin1')),
    key.length * 8,
  )
  decipher.start(iv.toString('latin1'))
  decipher.update(forge.util.createBuffer(bytes.toString('latin1')))
  if (!decipher.finish()) return undefined
  const clear = Buffer.from(decipher.output.getBytes(), 'latin1')
  parseDer(clear)
  return clear
}
