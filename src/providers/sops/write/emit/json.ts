/** Owns JSON as SOPS writes it: tab-indented, document order, numbers that keep their type (sops A12, A20). */
import type { MapTree, Scalar, Tree } from '../../tree.ts'
import { WriteError } from '../error.ts'
import { floatLexeme, pathName, utf8Text, type KeyPath } from './text.ts'

const SHORT_ESCAPES = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\b', '\\b'],
  ['\f', '\\f'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
])
const ALSO_ESCAPED = new Set(['<', '>', '&', '\u2028', '\u2029'])

function escaped(character: string): string {
  const short = SHORT_ESCAPES.get(character)
  if (short !== undefined) return short
  const code = character.codePointAt(0) ?? 0
  if (code >= 0x20 && !ALSO_ESCAPED.has(character)) return character
  return `\\u${code.toString(16).padStart(4, '0')}`
}

/** A JSON string with the escapes of Go's encoder. */
export function jsonString(text: string, path: KeyPath): string {
  if (!text.isWellFormed()) {
    throw new WriteError('usage', `${pathName(path)} holds half a surrogate pair`)
  }
  return `"${Array.from(text, escaped).join('')}"`
}

function scalarText(scalar: Scalar, path: KeyPath): string {
  switch (scalar.type) {
    case 'str':
      return jsonString(utf8Text(scalar.bytes, path), path)
    case 'int':
      return scalar.value.toString()
    case 'float':
      if (!Number.isFinite(scalar.value)) {
        throw new WriteError('usage', `${pathName(path)} is not a finite number, which JSON cannot express`)
      }
      return floatLexeme(scalar.value, path)
    case 'bool':
      return scalar.value ? 'true' : 'false'
    case 'time':
      return jsonString(scalar.text, path)
    default:
      return 'null'
  }
}

function treeText(tree: Tree, path: KeyPath, pad: string): string {
  const inner = `${pad}\t`
  if (tree.type === 'map') {
    if (tree.entries.length === 0) return '{}'
    const lines = tree.entries.map(({ key, value }) => {
      const below = [...path, key]
      return `${inner}${jsonString(key, path)}: ${treeText(value, below, inner)}`
    })
    return `{\n${lines.join(',\n')}\n${pad}}`
  }
  if (tree.type === 'list') {
    if (tree.items.length === 0) return '[]'
    const lines = tree.items.map((item, index) => inner + treeText(item, [...path, `[${index}]`], inner))
    return `[\n${lines.join(',\n')}\n${pad}]`
  }
  return scalarText(tree, path)
}

/** A whole file. Also the form of `binary` documents, whose only keys are `data` and `sops`. */
export function emitJson(document: MapTree): Buffer {
  return Buffer.from(`${treeText(document, [], '')}\n`)
}
