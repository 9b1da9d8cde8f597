/** Owns the JSON store: a tokenizer that keeps order, sees duplicates and keeps numbers exact (sops A4). */
import { parseInt64 } from '../canonical.ts'
import { withinLimit, type Limits } from '../limits.ts'
import type { Pace } from '../pace.ts'
import { text, type Entry, type MapTree, type Scalar, type Tree } from '../tree.ts'
import {
  checkKey,
  documentText,
  duplicateKey,
  formatInvalid,
  nodeCounter,
  positionAt,
  splitMetadata,
  type Format,
  type ParsedDocument,
} from './store.ts'

const WHITE = new Set([' ', '\t', '\n', '\r'])
const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
])
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const HEX4 = /[0-9a-fA-F]{4}/y
const PLAIN_RUN = /[^"\\\u0000-\u001f]*/y
const WORDS: ReadonlyMap<string, Scalar> = new Map<string, Scalar>([
  ['true', { type: 'bool', value: true }],
  ['false', { type: 'bool', value: false }],
  ['null', { type: 'null' }],
])

/**
 * Parses one JSON object into pairs.
 * @param format word for messages: `json` or `binary`
 */
export function* parseJsonObject(
  source: string,
  limits: Limits,
  format: Format,
): Generator<undefined, MapTree> {
  const count = nodeCounter(limits)
  let at = 0

  const fail = (what: string): never => formatInvalid(format, what, positionAt(source, at))
  const skipWhite = (): void => {
    while (WHITE.has(source[at] ?? '')) at += 1
  }
  const match = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at
    const found = pattern.exec(source)?.[0]
    if (found !== undefined) at += found.length
    return found
  }
  const expect = (char: string): void => {
    skipWhite()
    if (source[at] !== char) fail(at < source.length ? `"${char}" expected` : 'it is cut short')
    at += 1
  }

  const parseText = (): string => {
    expect('"')
    let out = ''
    for (;;) {
      out += match(PLAIN_RUN) ?? ''
      const char = source[at]
      if (char === '"') {
        at += 1
        // A lone surrogate escape is U+FFFD.
        return out.toWellFormed()
      }
      if (char !== '\\') fail(char === undefined ? 'it is cut short' : 'a control character stands in a text')
      at += 1
      const letter = source[at] ?? ''
      at += 1
      out +=
        letter === 'u'
          ? String.fromCharCode(
              Number.parseInt(match(HEX4) ?? fail('\\u without four hexadecimal digits'), 16),
            )
          : (ESCAPES.get(letter) ?? fail('unknown escape'))
    }
  }

  const parseNumber = (): Scalar => {
    const lexeme = match(NUMBER) ?? fail('a value expected')
    const int = parseInt64(lexeme)
    if (int !== undefined) return { type: 'int', value: int }
    const value = Number(lexeme)
    return Number.isFinite(value) ? { type: 'float', value } : fail('a number is too large')
  }

  function* parseMap(depth: number): Generator<undefined, MapTree> {
    withinLimit(limits, 'depth', depth)
    count()
    expect('{')
    const entries: Entry[] = []
    const seen = new Set<string>()
    skipWhite()
    if (source[at] === '}') {
      at += 1
      return { type: 'map', entries }
    }
    for (;;) {
      const key = parseText()
      checkKey(key, limits)
      if (seen.has(key)) duplicateKey(format, key, depth === 0)
      seen.add(key)
      expect(':')
      entries.push({ key, value: yield* parseValue(depth + 1) })
      yield
      skipWhite()
      if (source[at] !== ',') break
      at += 1
    }
    expect('}')
    return { type: 'map', entries }
  }

  function* parseList(depth: number): Generator<undefined, Tree> {
    withinLimit(limits, 'depth', depth)
    count()
    expect('[')
    const items: Tree[] = []
    skipWhite()
    if (source[at] === ']') {
      at += 1
      return { type: 'list', items }
    }
    for (;;) {
      items.push(yield* parseValue(depth + 1))
      yield
      skipWhite()
      if (source[at] !== ',') break
      at += 1
    }
    expect(']')
    return { type: 'list', items }
  }

  function* parseValue(depth: number): Generator<undefined, Tree> {
    skipWhite()
    const char = source[at]
    if (char === undefined) fail('it is cut short')
    if (char === '{') return yield* parseMap(depth)
    if (char === '[') return yield* parseList(depth)
    count()
    if (char === '"') return text(parseText())
    for (const [word, scalar] of WORDS) {
      if (source.startsWith(word, at)) {
        at += word.length
        return scalar
      }
    }
    return parseNumber()
  }

  skipWhite()
  if (source[at] !== '{') fail('the top level is no object')
  const map = yield* parseMap(0)
  skipWhite()
  if (at < source.length) fail('text follows the object')
  return map
}

/** Reads a JSON document. */
export async function readJson(bytes: Uint8Array, limits: Limits, pace: Pace): Promise<ParsedDocument> {
  const source = documentText('json', bytes)
  return splitMetadata([await pace.run(parseJsonObject(source, limits, 'json'))])
}

/** Reads a binary document: JSON whose only key beside `sops` is `data`, a text. */
export async function readBinary(bytes: Uint8Array, limits: Limits, pace: Pace): Promise<ParsedDocument> {
  const source = documentText('binary', bytes)
  const parsed = splitMetadata([await pace.run(parseJsonObject(source, limits, 'binary'))])
  const entries = parsed.branches[0]?.entries ?? []
  const [data] = entries
  if (entries.length !== 1 || data?.key !== 'data' || data.value.type !== 'str') {
    formatInvalid('binary', 'beside "sops" it must have the one key "data", a text')
  }
  return parsed
}
