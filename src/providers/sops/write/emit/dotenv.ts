/** Owns dotenv as SOPS writes it: verbatim lines, the metadata as `sops_` entries at the end (sops A4, A20). */
import { flatten } from '../../flatten.ts'
import type { MapTree, Tree } from '../../tree.ts'
import { WriteError } from '../error.ts'
import { flatText, utf8Text } from './text.ts'

const PREFIX = 'sops_'

function line(key: string, value: string): string {
  return `${key}=${value.replaceAll('\n', '\\n')}\n`
}

/** @throws WriteError for a key that would be read as something else. */
export function checkDotenvKey(key: string): void {
  const fault =
    key.includes('=') || key.includes('\n')
      ? 'holds "=" or a line feed'
      : key.startsWith('#')
        ? 'begins with "#"'
        : key.startsWith(PREFIX)
          ? `begins with "${PREFIX}"`
          : undefined
  if (fault !== undefined) {
    throw new WriteError('usage', `key "${key}" ${fault}, which dotenv cannot express`, 'Use --format yaml.')
  }
}

/** `KEY=value` with its line feed; `value` is a token, or text in clear. */
export function dotenvLine(key: string, value: Tree): string {
  checkDotenvKey(key)
  if (value.type !== 'str') {
    throw new WriteError('usage', `"${key}" is no text, and dotenv holds text only`, 'Use --format yaml.')
  }
  const text = utf8Text(value.bytes, [key])
  if (text.includes('\\n')) {
    throw new WriteError(
      'usage',
      `"${key}" stands in clear and holds a backslash before "n", which dotenv reads as a line feed`,
      'Rename the key so that the rule encrypts it, or use --format yaml.',
    )
  }
  return line(key, text)
}

/** A whole file. `metadata` is the nested `sops` mapping. */
export function emitDotenv(document: MapTree, metadata: MapTree): Buffer {
  const data = document.entries.map(({ key, value }) => dotenvLine(key, value))
  const meta = flatten(metadata).map(({ name, value }) => line(`${PREFIX}${name}`, flatText(value, name)))
  return Buffer.from([...data, ...meta].join(''))
}
