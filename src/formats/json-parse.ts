/** Owns reading JSON as strictly and as leniently as Go's `encoding/json`, with caps and without prototypes. */
import { isUtf8 } from 'node:buffer'
import { JsonNumber } from './json.ts'
import type { JsonValue } from './json.ts'

export interface JsonLimits {
  /** Longest text in bytes of UTF-8. Default 4 MiB. */
  readonly maxBytes?: number
  /** Deepest nesting. Default 500 (Go: 10 000). */
  readonly maxDepth?: number
  /** Most values, keys not counted; bounds the time that reading takes. Default 50 000 (about 50 ms). */
  readonly maxValues?: number
  /** Refuse numbers beyond float64, as Go does unless it keeps numbers as text. Default false. */
  readonly float64?: boolean
}

/** The text is not JSON that we accept. The message gives an offset in characters, never any content. */
export class JsonError extends Error {
  override readonly name = 'JsonError'
  readonly offset: number

  constructor(reason: string, offset: number) {
    super(`${reason} at offset ${offset}`)
    this.offset = offset
  }
}

/**
 * Reads one JSON value. Bytes that are not UTF-8 become U+FFFD one by one, lone surrogate escapes too;
 * of duplicate keys the last wins; a byte-order mark and trailing text are refused.
 * @throws JsonError
 */
export function parseJson(source: string | Uint8Array, limits: JsonLimits = {}): JsonValue {
  const maxBytes = limits.maxBytes ?? 4 * 1024 * 1024
  const size = typeof source === 'string' ? source.length : source.byteLength
  const text = size > maxBytes ? '' : typeof source === 'string' ? source : decodeLikeGo(source)
  if (size > maxBytes || (typeof source === 'string' && Buffer.byteLength(text) > maxBytes)) {
    throw new JsonError(`more than ${maxBytes} bytes of JSON`, maxBytes)
  }
  return new Reader(text, limits).document()
}

/** UTF-8 where each byte that fits nowhere becomes one U+FFFD; Node makes one of several. */
export function decodeLikeGo(source: Uint8Array): string {
  const bytes = Buffer.from(source.buffer, source.byteOffset, source.byteLength)
  if (isUtf8(bytes)) return bytes.toString('utf8')
  const parts: string[] = []
  let start = 0
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes, at)
    if (length === 0) {
      parts.push(bytes.toString('utf8', start, at), '\uFFFD')
      start = at + 1
    }
    at += Math.max(length, 1)
  }
  parts.push(bytes.toString('utf8', start))
  return parts.join('')
}

/** Length of the valid UTF-8 sequence at `at`, or 0. */
function sequenceLength(bytes: Buffer, at: number): number {
  const first = bytes[at] ?? 0
  const length =
    first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0
  return length > 0 && isUtf8(bytes.subarray(at, at + length)) ? length : 0
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
}

/** A recursive-descent reader over one text; one use. */
class Reader {
  readonly #text: string
  readonly #maxDepth: number
  readonly #float64: boolean
  #left: number
  #at = 0

  constructor(text: string, limits: JsonLimits) {
    this.#text = text
    this.#maxDepth = limits.maxDepth ?? 500
    this.#left = limits.maxValues ?? 50_000
    this.#float64 = limits.float64 ?? false
  }

  document(): JsonValue {
    const value = this.#value(0)
    this.#space()
    if (this.#at < this.#text.length) throw this.#error('text after the JSON value')
    return value
  }

  #error(reason: string): JsonError {
    return new JsonError(reason, this.#at)
  }

  #space(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at)
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return
      this.#at += 1
    }
  }

  #value(depth: number): JsonValue {
    if (--this.#left < 0) throw this.#error('too many JSON values')
    this.#space()
    const first = this.#text.charAt(this.#at)
    if (first === '"') return this.#string()
    if (first === '{' || first === '[') {
      if (depth >= this.#maxDepth) throw this.#error('JSON nested too deeply')
      this.#at += 1
      return first === '{' ? this.#object(depth + 1) : this.#array(depth + 1)
    }
    if (first === '-' || (first >= '0' && first <= '9')) return this.#number()
    if (this.#word('true')) return true
    if (this.#word('false')) return false
    if (this.#word('null')) return null
    throw this.#error(first === '' ? 'unexpected end of JSON' : 'not a JSON value')
  }

  #word(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false
    this.#at += word.length
    return true
  }

  #next(expected: string): boolean {
    this.#space()
    if (this.#text.charAt(this.#at) !== expected) return false
    this.#at += 1
    return true
  }

  #object(depth: number): JsonValue {
    const entries = new Map<string, JsonValue>()
    if (this.#next('}')) return entries
    for (;;) {
      this.#space()
      if (this.#text.charCodeAt(this.#at) !== QUOTE) throw this.#error('expected a key')
      const key = this.#string()
      if (!this.#next(':')) throw this.#error('expected ":"')
      entries.set(key, this.#value(depth))
      if (this.#next('}')) return entries
      if (!this.#next(',')) throw this.#error('expected "," or "}"')
    }
  }

  #array(depth: number): JsonValue {
    const items: JsonValue[] = []
    if (this.#next(']')) return items
    for (;;) {
      items.push(this.#value(depth))
      if (this.#next(']')) return items
      if (!this.#next(',')) throw this.#error('expected "," or "]"')
    }
  }

  #number(): JsonValue {
    NUMBER.lastIndex = this.#at
    const [literal] = NUMBER.exec(this.#text) ?? []
    if (literal === undefined) throw this.#error('not a JSON number')
    if (this.#float64 && !Number.isFinite(Number(literal))) throw this.#error('a number beyond float64')
    this.#at += literal.length
    return new JsonNumber(literal)
  }

  #string(): string {
    const text = this.#text
    let result = ''
    let start = ++this.#at
    for (;;) {
      const code = text.charCodeAt(this.#at)
      if (Number.isNaN(code)) throw this.#error('unexpected end of JSON')
      if (code < 0x20) throw this.#error('a control character in a string')
      if (code === QUOTE) break
      if (code === BACKSLASH) {
        result += text.slice(start, this.#at) + this.#escape()
        start = this.#at
      } else this.#at += 1
    }
    result += text.slice(start, this.#at)
    this.#at += 1
    return result.toWellFormed()
  }

  #escape(): string {
    const letter = this.#text.charAt(this.#at + 1)
    if (letter === 'u') {
      const digits = this.#text.slice(this.#at + 2, this.#at + 6)
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw this.#error('a broken \\u escape')
      this.#at += 6
      return String.fromCharCode(Number.parseInt(digits, 16))
    }
    const plain = Object.hasOwn(SIMPLE_ESCAPES, letter) ? SIMPLE_ESCAPES[letter] : undefined
    if (plain === undefined) throw this.#error('an unknown escape')
    this.#at += 2
    return plain
  }
}
