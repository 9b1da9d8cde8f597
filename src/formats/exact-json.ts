/**
 * Owns reading JSON with every number kept as text, as Go's `json.Number` does: `JSON.parse` would turn
 * 12345678901234567890 into …7000 and `1.0` into 1. `json.ts` writes the same values.
 */
import { JsonNumber, type JsonValue } from './json.ts'

export type JsonObject = ReadonlyMap<string, JsonValue>

/** Deepest nesting accepted. Go stops at 10 000; nobody's secret needs 500. */
export const MAX_JSON_DEPTH = 500

/** The text is not JSON. The message gives a position, never the text. */
export class JsonSyntaxError extends Error {
  override readonly name = 'JsonSyntaxError'
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map
}

/**
 * The first JSON value of `text`. Anything after it is ignored, as a streaming decoder does; of
 * duplicate keys the last wins; lone surrogates become U+FFFD.
 * @throws JsonSyntaxError
 */
export function parseExactJson(text: string): JsonValue {
  return new Reader(text).value(0)
}

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
}
const LITERALS = new Map<string, null | boolean>([
  ['t', true],
  ['f', false],
  ['n', null],
])
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
/** What a string may hold without an escape; the class is matched in one pass, without backtracking. */
const PLAIN = /[^"\\\u0000-\u001f]*/y
const HEX4 = /[0-9a-fA-F]{4}/y

/** Reads one value from the front; a class only because the position is shared by its few methods. */
class Reader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  value(depth: number): JsonValue {
    if (depth > MAX_JSON_DEPTH) throw this.#wrong(`nested deeper than ${MAX_JSON_DEPTH}`)
    this.#space()
    const first = this.#text[this.#at]
    if (first === undefined) throw this.#wrong('unexpected end')
    if (first === '{') return this.#object(depth)
    if (first === '[') return this.#array(depth)
    if (first === '"') return this.#string()
    if (LITERALS.has(first)) return this.#literal(first)
    return this.#number()
  }

  #wrong(what: string): JsonSyntaxError {
    return new JsonSyntaxError(`${what} at offset ${this.#at}`)
  }

  #space(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at)
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return
      this.#at++
    }
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    if (found !== undefined) this.#at += found.length
    return found
  }

  /** Skips white space and returns the next character, consumed. */
  #next(): string | undefined {
    this.#space()
    return this.#text[this.#at++]
  }

  #object(depth: number): JsonObject {
    const object = new Map<string, JsonValue>()
    this.#at++
    if (this.#peekIs('}')) return object
    for (;;) {
      this.#space()
      if (this.#text[this.#at] !== '"') throw this.#wrong('expected a member name')
      const key = this.#string()
      if (this.#next() !== ':') throw this.#wrong('expected ":"')
      object.set(key, this.value(depth + 1))
      const after = this.#next()
      if (after === '}') return object
      if (after !== ',') throw this.#wrong('expected "," or "}"')
    }
  }

  #array(depth: number): readonly JsonValue[] {
    const array: JsonValue[] = []
    this.#at++
    if (this.#peekIs(']')) return array
    for (;;) {
      array.push(this.value(depth + 1))
      const after = this.#next()
      if (after === ']') return array
      if (after !== ',') throw this.#wrong('expected "," or "]"')
    }
  }

  #peekIs(end: string): boolean {
    this.#space()
    if (this.#text[this.#at] !== end) return false
    this.#at++
    return true
  }

  #literal(first: string): null | boolean {
    const value = LITERALS.get(first) ?? null
    const word = String(value)
    if (!this.#text.startsWith(word, this.#at)) throw this.#wrong('unknown literal')
    this.#at += word.length
    return value
  }

  #number(): JsonNumber {
    const text = this.#match(NUMBER)
    if (text === undefined) throw this.#wrong('unexpected character')
    return new JsonNumber(text)
  }

  #string(): string {
    this.#at++
    let out = this.#match(PLAIN) ?? ''
    for (;;) {
      const stop = this.#text[this.#at++]
      if (stop === '"') return out.isWellFormed() ? out : out.toWellFormed()
      if (stop !== '\\') throw this.#wrong('unterminated string')
      out += this.#escape() + (this.#match(PLAIN) ?? '')
    }
  }

  #escape(): string {
    const letter = this.#text[this.#at++]
    if (letter === 'u') {
      const digits = this.#match(HEX4)
      if (digits === undefined) throw this.#wrong('broken \\u escape')
      return String.fromCharCode(Number.parseInt(digits, 16))
    }
    const plain = letter === undefined || !Object.hasOwn(ESCAPES, letter) ? undefined : ESCAPES[letter]
    if (plain === undefined) throw this.#wrong('unknown escape')
    return plain
  }
}
