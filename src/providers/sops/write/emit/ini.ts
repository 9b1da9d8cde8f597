/** Owns INI as sops A20 wants it written: plain names, values that no reader trims, cuts or unquotes. */
import { flatten } from '../../flatten.ts'
import type { Entry, MapTree, Tree } from '../../tree.ts'
import { WriteError } from '../error.ts'
import { flatText, utf8Text } from './text.ts'

const NAME = /^[A-Za-z0-9_.-]+$/
/** The section that always exists, comes first and has no header of its own (sops A4). */
const DEFAULT = 'DEFAULT'

function checkName(kind: 'section' | 'key', name: string): void {
  if (!NAME.test(name) || name === '-' || (kind === 'section' && name === 'sops')) {
    throw new WriteError(
      'usage',
      `INI ${kind} "${name}" cannot be written`,
      'Names hold letters, digits, "_", "." and "-"; "sops" and "-" are taken. Or use --format yaml.',
    )
  }
}

/** Whether a value written without quotes reads back unchanged: printable, not trimmed, cut or unquoted. */
function survivesPlain(text: string): boolean {
  if (text.trim() !== text || text.includes('\u0085')) return false
  if (/[\n\r;#\0]/.test(text) || text.endsWith('\\')) return false
  return !/^["'`]/.test(text)
}

/** `key = value` with its line feed; `value` is a token, or text in clear. */
export function iniLine(section: string, key: string, value: Tree): string {
  checkName('key', key)
  if (value.type !== 'str') {
    throw new WriteError(
      'usage',
      `"${section}/${key}" is no text, and INI holds text only`,
      'Use --format yaml.',
    )
  }
  const text = utf8Text(value.bytes, [section, key])
  if (!survivesPlain(text)) {
    throw new WriteError(
      'usage',
      `"${section}/${key}" stands in clear and holds blanks, quotes or comment signs that INI would change`,
      'Let the rule encrypt it, or use --format yaml.',
    )
  }
  return `${key} = ${text}\n`
}

/** A metadata entry; line feeds as `\\n`, which every release but 3.13.0 and 3.13.1 reads (sops A5). */
export function iniMetadataLine(name: string, text: string): string {
  return `${name} = ${text.replaceAll('\n', '\\n')}\n`
}

function sectionText({ key: section, value }: Entry, isFirst: boolean): string {
  checkName('section', section)
  if (value.type !== 'map') {
    throw new WriteError(
      'usage',
      `"${section}" is no section: INI needs two levels, section and key`,
      'Use --format yaml.',
    )
  }
  const lines = value.entries.map((entry) => iniLine(section, entry.key, entry.value)).join('')
  // A `[DEFAULT]` header would open a second DEFAULT section behind the one that always exists.
  return isFirst && section === DEFAULT ? lines : `[${section}]\n${lines}`
}

/** A whole file. `metadata` is the nested `sops` mapping. */
export function emitIni(document: MapTree, metadata: MapTree): Buffer {
  const sections = document.entries.map((entry, index) => sectionText(entry, index === 0))
  const meta = flatten(metadata).map(({ name, value }) => iniMetadataLine(name, flatText(value, name)))
  return Buffer.from(`${sections.map((text) => `${text}\n`).join('')}[sops]\n${meta.join('')}`)
}
