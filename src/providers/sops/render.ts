/** Owns the bytes of files: leaves, compact JSON, dotenv lines, whole documents (sops A12). */
import { canonicalFloat, canonicalText } from './canonical.ts'
import { strictUtf8 } from './encodings.ts'
import { quoted, sopsError } from './errors.ts'
import { readsBackAs } from './stores/ini.ts'
import type { Format } from './stores/store.ts'
import { isScalar, type MapTree, type Scalar, type Tree } from './tree.ts'

function cannot(what: string): never {
  throw sopsError('FORMAT_INVALID', what, 'Take the value by its path with format raw.')
}

/** Text of a scalar that is not `str`, for readers rather than for the MAC: booleans in lower case. */
function plainText(scalar: Exclude<Scalar, { type: 'str' }>): string {
  return scalar.type === 'bool' ? String(scalar.value) : canonicalText(scalar)
}

/** A leaf as it is, no newline added; null is empty. A copy. */
export function rawBytes(tree: Tree): Buffer {
  if (!isScalar(tree)) return cannot('a mapping or list cannot be written raw; use format json')
  return tree.type === 'str' ? Buffer.from(tree.bytes) : Buffer.from(plainText(tree))
}

function utf8(bytes: Buffer): string {
  return strictUtf8(bytes) ?? cannot('a value that is no UTF-8 text cannot be written in this format')
}

function jsonNumber(value: number): string {
  if (!Number.isFinite(value)) cannot('infinity and NaN cannot be written as JSON')
  return Object.is(value, -0) ? '-0' : String(value)
}

/** How texts and containers are written; scalars are common. */
interface JsonStyle {
  readonly text: (text: string) => string
  readonly newline: (depth: number) => string
  readonly colon: string
}

const COMPACT: JsonStyle = { text: JSON.stringify, newline: () => '', colon: ':' }

/** As stock prints: tabs, and `<`, `>`, `&`, U+2028 and U+2029 escaped. */
const STOCK: JsonStyle = {
  text: (text) =>
    JSON.stringify(text).replaceAll(
      /[<>&\u2028\u2029]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
    ),
  newline: (depth) => `\n${'\t'.repeat(depth)}`,
  colon: ': ',
}

function json(tree: Tree, style: JsonStyle, depth: number): string {
  if (tree.type === 'null') return 'null'
  if (tree.type === 'str') return style.text(utf8(tree.bytes))
  if (tree.type === 'time') return style.text(tree.text)
  if (tree.type === 'float') return jsonNumber(tree.value)
  if (tree.type === 'int' || tree.type === 'bool') return String(tree.value)
  const [open, close] = tree.type === 'map' ? '{}' : '[]'
  const parts =
    tree.type === 'map'
      ? tree.entries.map(
          ({ key, value }) => `${style.text(key)}${style.colon}${json(value, style, depth + 1)}`,
        )
      : tree.items.map((item) => json(item, style, depth + 1))
  if (parts.length === 0) return `${open}${close}`
  const inner = style.newline(depth + 1)
  return `${open}${inner}${parts.join(`,${inner}`)}${style.newline(depth)}${close}`
}

/** Compact JSON in document order; integers exact. */
export function jsonBytes(tree: Tree): Buffer {
  return Buffer.from(json(tree, COMPACT, 0))
}

/** `KEY=value` lines of a mapping of scalars, line feeds as backslash and n. */
export function dotenvBytes(tree: Tree): Buffer {
  if (tree.type !== 'map') return cannot('only a mapping can be written as dotenv')
  const lines = tree.entries.map(({ key, value }) => {
    if (!isScalar(value)) return cannot(`${quoted(key)} is no scalar and cannot be written as dotenv`)
    if (/[=\n]/.test(key)) return cannot(`${quoted(key)} cannot be a key of dotenv`)
    const text = value.type === 'str' ? utf8(value.bytes) : plainText(value)
    return `${key}=${text.replaceAll('\n', '\\n')}\n`
  })
  return Buffer.from(lines.join(''))
}

/** Escapes that YAML shares with JSON, and all it would fold or refuse. */
function yamlText(text: string): string {
  return JSON.stringify(text).replaceAll(
    /[\u007f-\u00a0\u2028\u2029\ufeff\ufffe\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function yamlFloat(value: number): string {
  if (Number.isNaN(value)) return '.nan'
  if (!Number.isFinite(value)) return value > 0 ? '.inf' : '-.inf'
  const text = canonicalFloat(value)
  return text.includes('.') ? text : `${text}.0`
}

function yamlScalar(scalar: Scalar): string {
  if (scalar.type === 'null') return 'null'
  if (scalar.type === 'float') return yamlFloat(scalar.value)
  if (scalar.type !== 'str') return plainText(scalar)
  const text = strictUtf8(scalar.bytes)
  return text === undefined ? `!!binary "${scalar.bytes.toString('base64')}"` : yamlText(text)
}

/** Block style with every text quoted; a value stands on its key's line or is indented below it. */
function yamlLines(tree: Tree, indent: string): string {
  if (isScalar(tree)) return ` ${yamlScalar(tree)}\n`
  const deeper = `${indent}  `
  if (tree.type === 'map') {
    if (tree.entries.length === 0) return ' {}\n'
    const lines = tree.entries.map(({ key, value }) => {
      const name =
        /^[a-zA-Z_][a-zA-Z0-9_.-]{2,}$/.test(key) && !YAML_WORDS.has(key.toLowerCase()) ? key : yamlText(key)
      return `${indent}${name}:${yamlLines(value, deeper)}`
    })
    return `\n${lines.join('')}`
  }
  if (tree.items.length === 0) return ' []\n'
  return `\n${tree.items.map((item) => `${indent}-${yamlLines(item, deeper)}`).join('')}`
}

/** Words that some YAML version would not read as text. */
const YAML_WORDS = new Set(['true', 'false', 'null', 'yes', 'off'])

function wholeYaml(branches: readonly MapTree[]): Buffer {
  return Buffer.from(branches.map((branch) => yamlLines(branch, '').trimStart()).join('---\n'))
}

/** The first spelling of an INI entry that our own reader gives back. */
function iniEntry(key: string, value: string): string {
  const spellings = [key, `"${key}"`, `\`${key}\``].flatMap((name) =>
    [value, `"${value}"`, `\`${value}\``, `"""${value}"""`].map((text) => `${name} = ${text}\n`),
  )
  return (
    spellings.find((line) => readsBackAs(line, key, value)) ??
    cannot(`the value of ${quoted(key)} cannot be written as INI`)
  )
}

function wholeIni(branch: MapTree): Buffer {
  const sections = branch.entries.map(({ key: section, value }) => {
    const entries = value.type === 'map' ? value.entries : []
    const lines = entries.map(({ key, value: leaf }) => iniEntry(key, utf8(rawBytes(leaf))))
    return lines.length === 0 && section === 'DEFAULT' ? '' : `[${section}]\n${lines.join('')}\n`
  })
  return Buffer.from(sections.join(''))
}

/** A whole decrypted document in its own format; JSON and binary byte for byte as stock prints them. */
export function wholeBytes(format: Format, branches: readonly MapTree[]): Buffer {
  const first = branches[0] ?? { type: 'map', entries: [] }
  if (format === 'yaml') return wholeYaml(branches)
  if (format === 'json') return Buffer.from(`${json(first, STOCK, 0)}\n`)
  if (format === 'dotenv') return dotenvBytes(first)
  if (format === 'ini') return wholeIni(first)
  return rawBytes(first.entries[0]?.value ?? { type: 'null' })
}

/** A file of {@link topLevelFiles}. */
export interface NamedBytes {
  readonly name: string
  readonly bytes: Buffer
}

const MAX_SEGMENT_BYTES = 255

function fileName(key: string): string {
  const isName =
    key !== '' &&
    Buffer.byteLength(key) <= MAX_SEGMENT_BYTES &&
    // eslint-disable-next-line no-control-regex -- control characters are what is looked for
    !/[/\u0000-\u001f\u007f]/.test(key) &&
    key !== '.' &&
    !key.startsWith('..')
  if (isName) return key
  throw sopsError(
    'INVALID_PARAMETER',
    `the key ${quoted(key)} is no valid file name`,
    'Name the files yourself with objects, or use expand: whole.',
  )
}

/** One file a top-level key, INI `<section>/<key>`; scalars raw, the rest compact JSON. */
export function topLevelFiles(format: Format, branch: MapTree): readonly NamedBytes[] {
  const named = (prefix: string, map: MapTree): readonly NamedBytes[] =>
    map.entries.map(({ key, value }) => ({
      name: prefix + fileName(key),
      bytes: isScalar(value) ? rawBytes(value) : jsonBytes(value),
    }))
  if (format !== 'ini') return named('', branch)
  return branch.entries.flatMap(({ key, value }) =>
    value.type === 'map' ? named(`${fileName(key)}/`, value) : [],
  )
}
