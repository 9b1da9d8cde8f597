/** Owns JSON as Go's `encoding/json` has it: exact numbers, prototype-free maps, byte-sorted keys, HTML escapes. */

/** A number as it was written; arithmetic is nobody's business here. */
export class JsonNumber {
  /** A JSON number literal, e.g. `1.0` or `12345678901234567890`. */
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** A JSON value whose objects are Maps, so that `__proto__` is a key like any other (threat model T16). */
export type JsonValue =
  | null
  | boolean
  | string
  | JsonNumber
  | readonly JsonValue[]
  | ReadonlyMap<string, JsonValue>

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
}

/** A string as Go writes it: also `<`, `>`, `&`, U+2028 and U+2029 are escaped; DEL and `/` are not. */
function quote(text: string): string {
  const escaped = text
    .toWellFormed()
    .replace(
      /["\\<>&\u0000-\u001f\u2028\u2029]/g,
      (c) => ESCAPES[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
  return `"${escaped}"`
}

/** Byte order of UTF-8, which is code point order: not what comparing JavaScript strings gives. */
export function compareUtf8(a: string, b: string): number {
  const shared = Math.min(a.length, b.length)
  let at = 0
  while (at < shared && a.charCodeAt(at) === b.charCodeAt(at)) at += 1
  // -1: the text has ended. Below the surrogates code units and bytes have one order.
  const left = at < a.length ? a.charCodeAt(at) : -1
  const right = at < b.length ? b.charCodeAt(at) : -1
  if (left < 0xd800 && right < 0xd800) return left - right
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

/** Compact JSON as Go marshals it: keys sorted by their bytes, HTML escapes, numbers as they were written. */
export function formatGoJson(value: JsonValue): string {
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'string') return quote(value)
  if (value instanceof JsonNumber) return value.text
  if (Array.isArray(value)) return `[${value.map(formatGoJson).join(',')}]`
  const entries = [...(value as ReadonlyMap<string, JsonValue>)].sort(([a], [b]) => compareUtf8(a, b))
  return `{${entries.map(([key, item]) => `${quote(key)}:${formatGoJson(item)}`).join(',')}}`
}
