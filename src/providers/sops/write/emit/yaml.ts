/**
 * Owns YAML as sops A20 wants it written: keys and texts double-quoted in ASCII, no folding, no alias,
 * tag or directive, so that go-yaml of any SOPS release types every scalar as we do.
 */
import type { MapTree, Scalar, Tree } from '../../tree.ts'
import { WriteError } from '../error.ts'
import { floatLexeme, pathName, utf8Text, type KeyPath } from './text.ts'

/** Longest quoted key that every YAML reader takes as an implicit key (their limit is 1024). */
const MAX_QUOTED_KEY = 1000

const SHORT_ESCAPES = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
])

function escaped(character: string): string {
  const short = SHORT_ESCAPES.get(character)
  if (short !== undefined) return short
  const code = character.codePointAt(0) ?? 0
  if (code >= 0x20 && code <= 0x7e) return character
  const hex = code.toString(16)
  if (code <= 0xff) return `\\x${hex.padStart(2, '0')}`
  if (code <= 0xffff) return `\\u${hex.padStart(4, '0')}`
  return `\\U${hex.padStart(8, '0')}`
}

/** A double-quoted YAML scalar in printable ASCII on one line. */
export function yamlQuoted(text: string): string {
  return `"${Array.from(text, escaped).join('')}"`
}

/**
 * A mapping key with its colon.
 * @throws WriteError when it is too long to be an implicit key or holds half a surrogate pair.
 */
export function yamlKey(key: string, path: KeyPath): string {
  const quoted = yamlQuoted(key)
  if (quoted.length > MAX_QUOTED_KEY) {
    throw new WriteError('usage', `a key under ${pathName(path)} is longer than ${MAX_QUOTED_KEY} characters`)
  }
  if (!key.isWellFormed()) {
    throw new WriteError('usage', `a key under ${pathName(path)} holds half a surrogate pair`)
  }
  return `${quoted}:`
}

function floatText(value: number, path: KeyPath): string {
  if (Number.isNaN(value)) return '.nan'
  if (!Number.isFinite(value)) return value > 0 ? '.inf' : '-.inf'
  return floatLexeme(value, path)
}

/** One scalar, in a spelling that reads back as the same type. */
export function yamlScalar(scalar: Scalar, path: KeyPath): string {
  switch (scalar.type) {
    case 'str':
      return yamlQuoted(utf8Text(scalar.bytes, path))
    case 'int':
      return scalar.value.toString()
    case 'float':
      return floatText(scalar.value, path)
    case 'bool':
      return scalar.value ? 'true' : 'false'
    case 'time':
      return scalar.text
    default:
      return 'null'
  }
}

/** Text of a node that fits on its parent's line, or undefined for a mapping or list with content. */
function inlineText(tree: Tree, path: KeyPath): string | undefined {
  if (tree.type === 'map') return tree.entries.length === 0 ? '{}' : undefined
  if (tree.type === 'list') return tree.items.length === 0 ? '[]' : undefined
  return yamlScalar(tree, path)
}

/** Lines of a mapping or list with content, without the indentation of its parent. */
function blockLines(tree: Tree, path: KeyPath): readonly string[] {
  if (tree.type === 'map') {
    return tree.entries.flatMap(({ key, value }) => {
      const head = yamlKey(key, path)
      const inner = [...path, key]
      const inline = inlineText(value, inner)
      if (inline !== undefined) return [`${head} ${inline}`]
      return [head, ...blockLines(value, inner).map((line) => `    ${line}`)]
    })
  }
  if (tree.type === 'list') {
    return tree.items.flatMap((item, index) => {
      const inner = [...path, `[${index}]`]
      const lines = [inlineText(item, inner) ?? blockLines(item, inner)].flat()
      return lines.map((line, at) => (at === 0 ? `- ${line}` : `  ${line}`))
    })
  }
  return [yamlScalar(tree, path)]
}

/** Block lines of `"key": value`, to be put into a mapping that exists (sops A20, `put --merge`). */
export function yamlEntryLines(key: string, value: Tree): readonly string[] {
  return blockLines({ type: 'map', entries: [{ key, value }] }, [])
}

/** A whole file; one YAML document per tree. The first carries the `sops` mapping. */
export function emitYaml(documents: readonly MapTree[]): Buffer {
  const texts = documents.map((document) => {
    const lines = document.entries.length === 0 ? ['{}'] : blockLines(document, [])
    return `${lines.join('\n')}\n`
  })
  return Buffer.from(texts.join('---\n'))
}
