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
  dotenv: (members) => lines(members, (key, value) => `${variable(key)}=${dotenvOf(key, textOf(value))}`),
  properties: (members) =>
    lines(members, (key, value) => `${propertyText(key, true)}=${propertyText(textOf(value), false)}`),
}

function lines(members: Members, line: (key: string, value: JsonValue) => string): string {
  return Array.from(members, ([key, value]) => `${line(key, value)}\n`).join('')
}

/** JSON is YAML, but for characters that YAML wants escaped. */
function yamlOf(value: JsonValue): string {
  return jsonOf(value).replaceAll(/[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g, unicodeEscape)
}

function unicodeEscape(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`
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
 */
function dotenvOf(name: string, text: string): string {
  if (/^[A-Za-z0-9_./:@%+,-]*$/.test(text)) return text
  const readable = !/[\0\r]/.test(text)
  if (readable && !text.includes("'")) return `'${text}'`
  if (readable && !/["\\$`!\n]/.test(text)) return `"${text}"`
  throw unfit(
    `the value of "${name}" has characters that readers of dotenv files do not agree on`,
    'Use format: json, or encoding: base64',
  )
}

/** Escapes of `java.util.Properties`; everything beyond ASCII as `\uXXXX`, which all its readers take. */
function propertyText(text: string, isKey: boolean): string {
  const special: Readonly<Record<string, string>> = {
    '\\': '\\\\',
    '\n': '\\n',
    '\r': '\\r',
    '\t': '\\t',
    '\f': '\\f',
  }
  const escaped = text.replaceAll(
    /[\\\n\r\t\f]|[^\x20-\x7e]/g,
    (char) =>
      special[char] ?? Array.from({ length: char.length }, (_, i) => unicodeEscape(char.charAt(i))).join(''),
  )
  return isKey ? escaped.replaceAll(/[ :=#!]/g, '\\$&') : escaped.replace(/^ /, '\\ ')
}

function unfit(message: string, remedy: string): SelectError {
  return new SelectError({ kind: 'malformed', code: 'KEYFERRY_FORMAT', message, remedy })
}
