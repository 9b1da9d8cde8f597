/** Owns the key derivations of PKCS#12: RFC 7292 appendix B, and PBKDF2 (RFC 8018). Neither blocks the event loop. */
import { hash as digestOf, pbkdf2 } from 'node:crypto'
import { promisify } from 'node:util'
import { setImmediate as nextTurn } from 'node:timers/promises'

export type DigestName = 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512'

/** What the derived bytes are for. */
export const PURPOSE = { key: 1, iv: 2, mac: 3 } as const

interface Sizes {
  /** Output of the digest, bytes. */
  readonly out: number
  /** Its input block, bytes. */
  readonly block: number
}

const SIZES: Readonly<Record<DigestName, Sizes>> = {
  sha1: { out: 20, block: 64 },
  sha224: { out: 28, block: 64 },
  sha256: { out: 32, block: 64 },
  sha384: { out: 48, block: 128 },
  sha512: { out: 64, block: 128 },
}

export interface Derivation {
  readonly digest: DigestName
  readonly salt: Uint8Array
  readonly iterations: number
}

/** Longest the event loop is kept, milliseconds. */
const TURN_MS = 5

/** How many hashes {@link pkcs12Kdf} computes for one derivation of `length` bytes. */
export function kdfCost({ digest, iterations }: Derivation, length: number): number {
  return iterations * Math.ceil(length / SIZES[digest].out)
}

/** A password as the RFC 7292 derivation wants it: UTF-16 big endian with two zero bytes behind. */
export function bmpPassword(password: string): Buffer {
  return Buffer.from(`${password}\0`, 'utf16le').swap16()
}

/**
 * RFC 7292 appendix B.2.
 * @param password as {@link bmpPassword} makes it, or no bytes at all.
 */
export async function pkcs12Kdf(
  derivation: Derivation,
  password: Uint8Array,
  purpose: number,
  length: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const { digest, iterations } = derivation
  const { out, block } = SIZES[digest]
  const diversifier = Buffer.alloc(block, purpose)
  const input = Buffer.concat([repeated(derivation.salt, block), repeated(password, block)])
  const parts: Buffer[] = []
  let started = performance.now()
  for (let made = 0; made < length; made += out) {
    let hash = digestOf(digest, Buffer.concat([diversifier, input]), 'buffer')
    for (let i = 1; i < iterations; i += 1) {
      hash = digestOf(digest, hash, 'buffer')
      if (i % 256 === 0 && performance.now() - started > TURN_MS) {
        await nextTurn()
        signal?.throwIfAborted()
        started = performance.now()
      }
    }
    parts.push(hash)
    addToBlocks(input, repeated(hash, block).subarray(0, block), block)
  }
  return Buffer.concat(parts).subarray(0, length)
}

/** `bytes` again and again up to a whole number of blocks; nothing stays nothing. */
function repeated(bytes: Uint8Array, block: number): Buffer {
  const size = Math.ceil(bytes.length / block) * block
  const result = Buffer.alloc(size)
  for (let at = 0; at < size; at += bytes.length)
    result.set(bytes.subarray(0, Math.min(bytes.length, size - at)), at)
  return result
}

/** Each block of `input` becomes (block + addend + 1) modulo 2^(8·block). */
function addToBlocks(input: Buffer, addend: Buffer, block: number): void {
  for (let start = 0; start < input.length; start += block) {
    let carry = 1
    for (let i = block - 1; i >= 0; i -= 1) {
      const sum = (input[start + i] ?? 0) + (addend[i] ?? 0) + carry
      input[start + i] = sum & 0xff
      carry = sum >> 8
    }
  }
}

const pbkdf2Async = promisify(pbkdf2)

/** PBKDF2 on a thread of Node's pool. */
export function pbkdf2Key(derivation: Derivation, password: Uint8Array, length: number): Promise<Buffer> {
  return pbkdf2Async(password, derivation.salt, derivation.iterations, length, derivation.digest)
}
