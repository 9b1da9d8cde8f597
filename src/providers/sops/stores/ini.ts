/** Owns the INI store, as the library behind stock SOPS reads it (sops A4). */
import { resultOf } from '../../../formats/steps.ts'
import { sopsError } from '../errors.ts'
import { unflatten } from '../flatten.ts'
import { DEFAULT_LIMITS, type Limits } from '../limits.ts'
import type { Pace } from '../pace.ts'
import { text, type Entry, type MapTree } from '../tree.ts'
import { checkKey, documentText, formatInvalid, nodeCounter, type ParsedDocument } from './store.ts'

const DEFAULT_SECTION = 'DEFAULT'
const METADATA_SECTION = 'sops'
const BOM = '\ufeff'

/** White space as Go's `unicode.IsSpace` has it: with U+0085, without U+FEFF. */
function isSpace(char: string | undefined): boolean {
  return char !== undefined && char !== BOM && (char === '\u0085' || char.trim() === '')
}

function trimStart(line: string): string {
  let start = 0
  while (start < line.length && isSpace(line[start])) start += 1
  return line.slice(start)
}

function trim(line: string): string {
  let end = line.length
  while (end > 0 && isSpace(line[end - 1])) end -= 1
  return trimStart(line.slice(0, end))
}

/** Position of the first of two characters, or -1. */
function firstOf(line: string, a: string, b: string): number {
  const i = line.indexOf(a)
  const j = line.indexOf(b)
  return i === -1 || (j !== -1 && j < i) ? j : i
}

/** Lines of a text, each with its line feed, so that the end of the input can be told. */
interface Lines {
  next(): string | undefined
  /** Number of the line last given, from 1. */
  readonly number: number
}

function linesOf(source: string): Lines {
  let at = 0
  let number = 0
  return {
    next() {
      if (at >= source.length) return undefined
      const end = source.indexOf('\n', at)
      const line = source.slice(at, end === -1 ? source.length : end + 1)
      at += line.length
      number += 1
      return line
    },
    get number() {
      return number
    },
  }
}

/** The key of an entry and what follows its delimiter. */
function splitEntry(line: string, number: number): { readonly key: string; readonly rest: string } {
  const fail = (what: string): never => formatInvalid('ini', what, { line: number })
  const quote = line.startsWith('"""') && line.length > 6 ? '"""' : ['"', '`'].find((q) => line.startsWith(q))
  if (quote === undefined) {
    const end = firstOf(line, '=', ':')
    if (end === -1) fail('a line is neither section, comment nor entry')
    return { key: trim(line.slice(0, end)), rest: line.slice(end + 1) }
  }
  const close = line.indexOf(quote, quote.length)
  if (close === -1) fail('a quoted key has no end')
  const after = line.slice(close + quote.length)
  const delimiter = firstOf(after, '=', ':')
  if (delimiter === -1) fail('a quoted key has no value')
  return { key: trim(line.slice(quote.length, close)), rest: after.slice(delimiter + 1) }
}

/** A value that opens with a quote which may span lines. */
function quotedValue(opened: string, quote: string, lines: Lines): string {
  const body = opened.slice(quote.length)
  const close = body.lastIndexOf(quote)
  if (close !== -1) return body.slice(0, close)
  const start = lines.number
  let value = body
  for (;;) {
    const line = lines.next()
    if (line === undefined) return formatInvalid('ini', 'a quoted value has no end', { line: start })
    const end = line.lastIndexOf(quote)
    if (end !== -1 && !line.slice(end).endsWith('\\')) return value + line.slice(0, end)
    value += line
  }
}

/** A value that ends in a backslash goes on in the next line. */
function continuedValue(first: string, lines: Lines): string {
  const parts = [first]
  for (;;) {
    const next = trim(lines.next() ?? '')
    const continues = next.endsWith('\\')
    parts.push(continues ? next.slice(0, -1) : next)
    if (!continues) return parts.join('')
  }
}

/** `'…'` or `"…"` whose quote occurs nowhere else inside. */
function isSurrounded(value: string, quote: string): boolean {
  return value.length >= 2 && value.startsWith(quote) && value.indexOf(quote, 1) === value.length - 1
}

function readValue(rest: string, lines: Lines): string {
  const opened = trimStart(rest)
  // A `"""` that ends the input is plain text: longer than three only with a line feed.
  if (opened.startsWith('"""') && opened.length > 3) return quotedValue(opened, '"""', lines)
  if (opened.startsWith('`')) return quotedValue(opened, '`', lines)
  const whole = trim(opened)
  if (whole.endsWith('\\')) return continuedValue(whole.slice(0, -1), lines)
  const comment = firstOf(whole, '#', ';')
  const value = comment === -1 ? whole : trim(whole.slice(0, comment))
  return isSurrounded(value, '"') || isSurrounded(value, "'") ? value.slice(1, -1) : value
}

interface Section {
  readonly name: string
  /** A repeated key keeps its first position and takes the last value. */
  readonly entries: Map<string, string>
}

function* readSections(source: string, limits: Limits): Generator<undefined, readonly Section[]> {
  const count = nodeCounter(limits)
  const lines = linesOf(source)
  const open = (name: string): Section => {
    checkKey(name, limits)
    count()
    return { name, entries: new Map() }
  }
  let current = open(DEFAULT_SECTION)
  const sections = [current]
  for (let raw = lines.next(); raw !== undefined; raw = lines.next()) {
    yield
    const line = trimStart(raw)
    if (line === '' || line.startsWith(';') || line.startsWith('#')) continue
    if (line.startsWith('[')) {
      const close = line.lastIndexOf(']')
      if (close < 2) formatInvalid('ini', 'a section has no name or no end', { line: lines.number })
      current = open(line.slice(1, close))
      sections.push(current)
      continue
    }
    const { key, rest } = splitEntry(line, lines.number)
    if (key === '' || key === '-') formatInvalid('ini', 'a key is empty or "-"', { line: lines.number })
    checkKey(key, limits)
    count()
    current.entries.set(key, readValue(rest, lines))
  }
  return sections
}

function branchOf(section: Section): MapTree {
  return {
    type: 'map',
    entries: Array.from(section.entries, ([key, value]): Entry => ({ key, value: text(value) })),
  }
}

function* documentOf(source: string, limits: Limits): Generator<undefined, ParsedDocument> {
  const sections = yield* readSections(source, limits)
  const blocks = sections.filter((section) => section.name === METADATA_SECTION)
  const [block] = blocks
  if (block === undefined) {
    throw sopsError('METADATA_NOT_FOUND', 'the document has no section [sops], so it is not encrypted')
  }
  if (blocks.length > 1) throw sopsError('METADATA_INVALID', 'the section [sops] stands twice')
  const entries = sections
    .filter((section) => section.name !== METADATA_SECTION)
    .map((section): Entry => ({ key: section.name, value: branchOf(section) }))
  const metadata = yield* unflatten(
    Array.from(block.entries, ([name, value]) => ({ name, value: text(value.replaceAll('\\n', '\n')) })),
  )
  return { branches: [{ type: 'map', entries }], metadata }
}

/** Reads an INI document: sections are the top-level keys, `DEFAULT` first. */
export async function readIni(bytes: Uint8Array, limits: Limits, pace: Pace): Promise<ParsedDocument> {
  const source = documentText('ini', bytes)
  return pace.run(documentOf(source.startsWith(BOM) ? source.slice(1) : source, limits))
}

/** Whether a text is read as exactly one entry with this key and value, for writers of INI. */
export function readsBackAs(source: string, key: string, value: string): boolean {
  try {
    const sections = resultOf(readSections(source, DEFAULT_LIMITS))
    const entries = sections[0]?.entries
    return sections.length === 1 && entries?.size === 1 && entries.get(key) === value
  } catch {
    return false
  }
}
