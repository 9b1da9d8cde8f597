/** Owns how members become one document: JSON, YAML, dotenv, Java properties. Pure. */
import { isUtf8 } from 'node:buffer'
import { JsonNumber, type JsonValue } from '../../formats/json.ts'
import { SelectError } from '../adapter.ts'

export const FORMATS = ['raw', 'json', 'yaml', 'dotenv', 'properties'] as const
export type DocumentFormat = Exclude<(typeof FORMATS)[number], 'raw'>

/** Members by name, in the order they are written. */
export type Members = ReadonlyMap<string, JsonValue>

/**
 * A document that every usual reader of its format reads back as these members.
 * @throws SelectError for what the format cannot hold.
 */
export function writeDocument(format: DocumentFormat, members: Members): Uint8Array {
  return Buffer.from(WRITERS[format](members))
}

/** The text of fetched bytes as a member. @throws SelectError when they are no text. */
export function memberText(name: string, bytes: Uint8Array): string {
  if (isUtf8(bytes)) return Buffer.from(bytes).toString()
  throw unfit(`the value of "${name}" is not UTF-8 text`, 'Give it encoding: base64')
}

/** What stands in a file for one value: text as it is, null as nothing, the rest as JSON. */
export function textOf(value: JsonValue): string {
  return typeof value === 'string' ? value : value === null ? '' : jsonOf(value)
}

/** Compact JSON in the value's own order; numbers as they were written. */
export function jsonOf(value: JsonValue): string {
  if (value instanceof JsonNumber) return value.text
  if (value instanceof Map) {
    const entries = [...(value as Members)].map(([key, item]) => `${JSON.stringify(key)}:${jsonOf(item)}`)
    return `{${entries.join(',')}}`
  }
  if (Array.isArray(value)) return `[${value.map(jsonOf).join(',')}]`
  return JSON.stringify(value)
}

const WRITERS: Readonly<Record<DocumentFormat, (members: Members) => string>> = {
  json: (members) => `${jsonOf(members)}\n`,
  yaml: (members) =>
    members.size === 0 ? '{}\n' : lines(members, (key, value) => `${yamlOf(key)}: ${yamlOf(value)}`),
  dotenv: (members) =>
    lines(members, (key, value) => `${variable(key)}=${dotenvOf(textOf(value), `the value of "${key}"`)}`),
  properties: (members) =>
    lines(members, (key, value) => `${propertyText(key, true)}=${propertyText(textOf(value), false)}`),
}

function lines(members: Members, line: (key: string, value: JsonValue) => string): string {
  return Array.from(members, ([key, value]) => `${line(key, value)}\n`).join('')
}

/** A value on one line: JSON is YAML, but for characters that YAML wants escaped. */
export function yamlOf(value: JsonValue): string {
  return escapedText(jsonOf(value), (code) => {
    const isPlain = code < 0x7f || (code > 0x9f && !UNSEEN.has(code))
    return isPlain ? undefined : unicodeEscape(code)
  })
}

/** Line and paragraph separator, byte-order mark, and two that are no characters. */
const UNSEEN: ReadonlySet<number> = new Set([0x2028, 0x2029, 0xfeff, 0xfffe, 0xffff])

/**
 * A text with some of its UTF-16 code units replaced. A loop, since a replacement by a function takes ten times
 * as long on a hostile value.
 */
export function escapedText(text: string, escapeOf: (code: number) => string | undefined): string {
  let done = ''
  let from = 0
  for (let at = 0; at < text.length; at += 1) {
    const escape = escapeOf(text.charCodeAt(at))
    if (escape === undefined) continue
    done += text.slice(from, at) + escape
    from = at + 1
  }
  return from === 0 ? text : done + text.slice(from)
}

const HEX: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

function unicodeEscape(code: number): string {
  return `\\u${HEX[code >> 8]}${HEX[code & 255]}`
}

function variable(name: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return name
  throw unfit(
    `"${name.slice(0, 100)}" is not a name of a variable`,
    'Use letters, digits and _, or another format',
  )
}

/**
 * A value that shells, Node and the dotenv libraries agree on: bare, in single quotes, or in double quotes
 * without anything that one of them would replace.
 * @param what what the text is called when it cannot be written
 * @throws SelectError
 */
export function dotenvOf(text: string, what: string): string {
  if (/^[A-Za-z0-9_./:@%+,-]*$/.test(text)) return text
  const readable = !/[\0\r]/.test(text)
  // Inside single quotes some libraries read \\\\ as one backslash, and one before the closing quote as its escape.
  if (readable && !/'|\\(?:\\|$)/.test(text)) return `'${text}'`
  if (readable && !/["\\$`!\n]/.test(text)) return `"${text}"`
  throw unfit(
    `${what} has characters that readers of dotenv files do not agree on`,
    'Use format: json, or encoding: base64',
  )
}

/** Escapes of `java.util.Properties`; everything beyond ASCII as `\uXXXX`, which all its readers take. */
export function propertyText(text: string, isKey: boolean): string {
  const escaped = escapedText(text, (code) =>
    code >= 0x20 && code <= 0x7e && code !== BACKSLASH
      ? undefined
      : (PROPERTY_ESCAPES.get(code) ?? unicodeEscape(code)),
  )
  return isKey ? escaped.replaceAll(/[ :=#!]/g, '\\$&') : escaped.replace(/^ /, '\\ ')
}

const BACKSLASH = 0x5c
const PROPERTY_ESCAPES: ReadonlyMap<number, string> = new Map([
  [BACKSLASH, '\\\\'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [0x09, '\\t'],
  [0x0c, '\\f'],
])

function unfit(message: string, remedy: string): SelectError {
  return new SelectError({ kind: 'malformed', code: 'KEYFERRY_FORMAT', message, remedy })
}
