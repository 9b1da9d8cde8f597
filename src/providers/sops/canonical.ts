/** Owns the types of encrypted values: parsing their plaintext and the bytes that enter the MAC (sops A7). */
import { canonicalTime } from './time.ts'
import type { Scalar } from './tree.ts'

/** The `type:` words of a token (A7). */
export const TOKEN_TYPES = ['str', 'bytes', 'int', 'float', 'bool', 'time', 'comment'] as const
export type TokenType = (typeof TOKEN_TYPES)[number]

const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n

/** `[+-]?digits` as an int64. Undefined when it is no such text or out of range. */
export function parseInt64(text: string): bigint | undefined {
  if (!/^[+-]?\d+$/.test(text)) return undefined
  const negative = text.startsWith('-')
  let start = negative || text.startsWith('+') ? 1 : 0
  while (start < text.length - 1 && text[start] === '0') start += 1
  // Nineteen digits reach past int64; converting more would only cost time.
  if (text.length - start > 19) return undefined
  const value = BigInt(text.slice(start)) * (negative ? -1n : 1n)
  return value >= INT64_MIN && value <= INT64_MAX ? value : undefined
}

const SPECIAL_FLOATS: ReadonlyMap<string, number> = new Map([
  ['nan', Number.NaN],
  ...['inf', 'infinity'].flatMap((word): [string, number][] => [
    [word, Infinity],
    [`+${word}`, Infinity],
    [`-${word}`, -Infinity],
  ]),
])

/** The decimal form of a float (A7), finite. Undefined when it is no such text or overflows. */
export function parseDecimalFloat(text: string): number | undefined {
  if (!/^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/.test(text)) return undefined
  const value = Number(text)
  return Number.isFinite(value) ? value : undefined
}

const TRUE_WORDS = new Set(['1', 't', 'T', 'TRUE', 'true', 'True'])
const FALSE_WORDS = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False'])

/** A word of A7's `bool` row. */
export function parseBoolWord(text: string): boolean | undefined {
  if (TRUE_WORDS.has(text)) return true
  return FALSE_WORDS.has(text) ? false : undefined
}

/**
 * A decrypted plaintext as its `type:` word says, or undefined when the plaintext does not have that
 * form. A `comment` is text. The bytes are kept, not copied.
 */
export function scalarFromPlaintext(type: TokenType, bytes: Buffer): Scalar | undefined {
  if (type === 'str' || type === 'bytes' || type === 'comment') return { type: 'str', bytes }
  const text = bytes.toString('latin1')
  if (type === 'int') {
    const value = parseInt64(text)
    return value === undefined ? undefined : { type, value }
  }
  if (type === 'float') {
    const value = SPECIAL_FLOATS.get(text.toLowerCase()) ?? parseDecimalFloat(text)
    return value === undefined ? undefined : { type, value }
  }
  if (type === 'bool') {
    const value = parseBoolWord(text)
    return value === undefined ? undefined : { type, value }
  }
  const canonical = canonicalTime(text)
  return canonical === undefined ? undefined : { type, text: canonical }
}

/** Shortest digits that round-trip, positional, never an exponent: `1e-7` is `0.0000001` (A7). */
export function canonicalFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN'
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf'
  if (Object.is(value, -0)) return '-0'
  const shortest = String(value)
  const e = shortest.indexOf('e')
  if (e === -1) return shortest
  const exponent = Number(shortest.slice(e + 1))
  const sign = shortest.startsWith('-') ? '-' : ''
  const [whole = '', fraction = ''] = shortest.slice(sign.length, e).split('.')
  const digits = whole + fraction
  // V8 uses an exponent from 1e21 up and below 1e-6, so the point is always outside the digits.
  return exponent > 0
    ? `${sign}${digits}${'0'.repeat(exponent - fraction.length)}`
    : `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`
}

/** Text of a scalar that is not `str`, as it enters the MAC and as SOPS encrypts it; null is empty. */
export function canonicalText(scalar: Exclude<Scalar, { type: 'str' }>): string {
  if (scalar.type === 'int') return scalar.value.toString()
  if (scalar.type === 'float') return canonicalFloat(scalar.value)
  if (scalar.type === 'bool') return scalar.value ? 'True' : 'False'
  return scalar.type === 'time' ? scalar.text : ''
}

/** The bytes that enter the MAC (A7). For text they are the scalar's own, not a copy. */
export function canonicalBytes(scalar: Scalar): Buffer {
  return scalar.type === 'str' ? scalar.bytes : Buffer.from(canonicalText(scalar))
}
