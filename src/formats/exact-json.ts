/**
 * Owns JSON as Go's encoding/json reads it into `map[string]any` with numbers kept as text, and as it
 * writes it again (vault section 5.3): sorted keys, `<>&` escaped, every digit kept. `JSON.parse`
 * would turn 12345678901234567890 into …7000 and `1.0` into 1.
 */

/** A number in its source spelling, e.g. `1.0`, `-0`, `12345678901234567890`. */
export class JsonNumber {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

/** Any JSON value. Objects are Maps, so that a key such as `__proto__` is only data. */
export type ExactJson = null | boolean | string | JsonNumber | readonly ExactJson[] | JsonObject
export type JsonObject = ReadonlyMap<string, ExactJson>

/** Deepest nesting accepted. Go stops at 10 000; nobody's secret needs 500. */
export const MAX_JSON_DEPTH = 500

/** The text is not JSON. The message gives a position, never the text. */
export class JsonSyntaxError extends Error {
  override readonly name = 'JsonSyntaxError'
}

export function isJsonObject(value: ExactJson | undefined): value is JsonObject {
  return value instanceof Map
}

/**
 * The first JSON value of `text`. Anything after it is ignored, as a streaming decoder does; of
 * duplicate keys the last wins; lone surrogates become U+FFFD.
 * @throws JsonSyntaxError
 */
export function parseExactJson(text: string): ExactJson {
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

  value(depth: number): ExactJson {
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
    const object = new Map<string, ExactJson>()
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

  #array(depth: number): readonly ExactJson[] {
    const array: ExactJson[] = []
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

/** `value` as Go's `json.Marshal` writes it: keys sorted by UTF-8 bytes at every level, no spaces. */
export function goJson(value: ExactJson): string {
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'string') return goJsonString(value)
  if (value instanceof JsonNumber) return value.text
  if (isJsonObject(value)) {
    const keys = [...value.keys()].sort(byUtf8)
    return `{${keys.map((key) => `${goJsonString(key)}:${goJson(value.get(key) ?? null)}`).join(',')}}`
  }
  return `[${(value as readonly ExactJson[]).map(goJson).join(',')}]`
}

/** Order of UTF-8 bytes: unlike UTF-16 order it puts U+FFEE before U+1F600. */
export function byUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const left = a.charCodeAt(i)
    const right = b.charCodeAt(i)
    if (left === right) continue
    return isSurrogate(left) === isSurrogate(right) ? left - right : isSurrogate(left) ? 1 : -1
  }
  return a.length - b.length
}

function isSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdfff
}

const SHORT = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\b', '\\b'],
  ['\f', '\\f'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
])
const TO_ESCAPE = /["\\<>&\u0000-\u001f\u2028\u2029]/g

/** A string as Go writes it: HTML-safe, control characters escaped, everything else as it is. */
export function goJsonString(text: string): string {
  const escaped = text
    .toWellFormed()
    .replace(TO_ESCAPE, (c) => SHORT.get(c) ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
  return `"${escaped}"`
}
