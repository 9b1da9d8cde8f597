/** Owns the filters of templates: what each makes of a value, and what that may cost. Pure. */
import type { JsonValue } from '../../formats/json.ts'
import { SelectError } from '../adapter.ts'
import { dotenvOf, escapedText, jsonOf, propertyText, textOf, yamlOf } from './documents.ts'

/** The words of `escape`: filters that make a value fit for one kind of file. */
export const ESCAPES = ['json', 'yaml', 'dotenv', 'properties', 'shell', 'url', 'xml'] as const
export type Escape = (typeof ESCAPES)[number]

/** Bytes that are no text: only the filters that encode bytes take them. */
export class Binary {
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  encoded(encoding: 'base64' | 'base64url'): string {
    return Buffer.from(this.#bytes).toString(encoding)
  }
}

/** What an expression of a template can be. `undefined` is what is missing and may be. */
export type TemplateValue = JsonValue | number | Binary | undefined

/** Takes work off the budget of a rendering, counted in characters. @throws SelectError when it is used up */
export type Spend = (characters: number) => void

export interface TemplateFilter {
  /** How many arguments it takes. */
  readonly args: 0 | 1
  /** It makes text that is fit for its place: what stands behind it is written as it is, whatever `escape` says. */
  readonly final?: true
  /** @throws SelectError when the value cannot be written so */
  readonly apply: (value: TemplateValue, arg: TemplateValue, spend: Spend) => TemplateValue
}

/** What a character costs that is looked at one by one. */
export const CHARACTER = 8

/** What is written for a value: text as it is, nothing for null, the rest as JSON. @throws SelectError */
export function writtenText(value: TemplateValue, spend: Spend): string {
  if (typeof value === 'string') {
    spend(value.length)
    return value
  }
  if (value === undefined || value === null) return ''
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (value instanceof Binary)
    throw unfit('the value is not UTF-8 text', 'Write it with the filter base64 or base64url')
  const text = textOf(value)
  spend(CHARACTER * text.length)
  return text
}

/** A filter whose result is written as it is. */
function escaping(make: (text: string) => string): TemplateFilter {
  return {
    args: 0,
    final: true,
    apply: (value, _, spend) => {
      const text = writtenText(value, spend)
      spend(CHARACTER * text.length)
      return make(text)
    },
  }
}

/** A filter that keeps a JSON value what it is. */
function valued(make: (value: JsonValue) => string): TemplateFilter {
  return {
    args: 0,
    final: true,
    apply: (value, _, spend) => {
      if (typeof value === 'number' || typeof value === 'boolean') return String(value)
      const given = value === undefined || value === null ? null : value
      if (given instanceof Binary) return writtenText(given, spend)
      if (typeof given === 'string') spend(CHARACTER * given.length)
      const text = make(given)
      if (typeof given !== 'string') spend(CHARACTER * text.length)
      return text
    },
  }
}

function encoding(name: 'base64' | 'base64url'): TemplateFilter {
  return {
    args: 0,
    final: true,
    apply: (value, _, spend) =>
      value instanceof Binary ? value.encoded(name) : Buffer.from(writtenText(value, spend)).toString(name),
  }
}

function worded(make: (text: string, arg: string) => string, args: 0 | 1): TemplateFilter {
  return {
    args,
    apply: (value, arg, spend) => make(writtenText(value, spend), writtenText(arg, spend)),
  }
}

/** Every filter there is; none of Liquid's own is kept. */
export const FILTERS: ReadonlyMap<string, TemplateFilter> = new Map<string, TemplateFilter>([
  ['json', valued(jsonOf)],
  ['yaml', valued(yamlOf)],
  ['dotenv', escaping((text) => dotenvOf(text, 'the value'))],
  ['properties', escaping((text) => propertyText(text, false))],
  ['shell', escaping(shellWord)],
  ['url', escaping(urlPart)],
  ['xml', escaping(xmlText)],
  ['base64', encoding('base64')],
  ['base64url', encoding('base64url')],
  ['raw', { args: 0, final: true, apply: (value) => value }],
  [
    'default',
    {
      args: 1,
      apply: (value, arg) =>
        value === undefined || value === null || value === false || value === '' ? arg : value,
    },
  ],
  ['append', worded((text, more) => text + more, 1)],
  ['prepend', worded((text, more) => more + text, 1)],
  ['upcase', worded((text) => text.toUpperCase(), 0)],
  ['downcase', worded((text) => text.toLowerCase(), 0)],
  ['strip', worded((text) => text.trim(), 0)],
  [
    'join',
    {
      args: 1,
      apply: (value, arg, spend) => {
        if (!Array.isArray(value)) throw unfit('the value is not a list', 'Use join with a list of JSON')
        const between = writtenText(arg, spend)
        const members = value as readonly JsonValue[]
        spend((4 + between.length) * members.length)
        return members.map((member) => writtenText(member, spend)).join(between)
      },
    },
  ],
])

/** One word of a POSIX shell. */
function shellWord(text: string): string {
  if (text.includes('\0')) throw unfit('the value has a NUL, which no shell word can hold', 'Use base64')
  return `'${escapedText(text, (code) => (code === 0x27 ? String.raw`'\''` : undefined))}'`
}

/** RFC 3986: all but unreserved characters as percent-encoded UTF-8. */
function urlPart(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replaceAll(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

const ENTITIES: ReadonlyMap<number, string> = new Map([
  [0x26, '&amp;'],
  [0x3c, '&lt;'],
  [0x3e, '&gt;'],
  [0x22, '&quot;'],
  [0x27, '&apos;'],
  // Readers make blanks of these inside attributes, and line feeds of a carriage return.
  [0x09, '&#9;'],
  [0x0a, '&#10;'],
  [0x0d, '&#13;'],
])

/** Text of an element or of an attribute in quotes. */
function xmlText(text: string): string {
  if (/[^\t\n\r\x20-\uFFFD]/.test(text) || !text.isWellFormed())
    throw unfit('the value has a character that XML cannot hold', 'Use base64')
  return escapedText(text, (code) => (code <= 0x3e ? ENTITIES.get(code) : undefined))
}

function unfit(message: string, remedy: string): SelectError {
  return new SelectError({ kind: 'malformed', code: 'KEYFERRY_TEMPLATE_VALUE', message, remedy })
}
