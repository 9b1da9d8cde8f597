/** Owns how a user names a value of a document, and putting values into a new tree. */
import type { Entry, MapTree, Tree } from '../tree.ts'
import type { Format } from '../stores/store.ts'
import { WriteError } from './error.ts'

/**
 * `password` is a top-level key; `/db/password` is a JSON Pointer (`~1` for `/`, `~0` for `~`). In INI
 * a plain key stands in the section `DEFAULT`.
 * @throws WriteError `usage` for an empty key, or more levels than the format has.
 */
export function parseKeyPath(key: string, format: Format): readonly string[] {
  const pointer = key
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
  const path = key.startsWith('/') ? pointer : format === 'ini' ? ['DEFAULT', key] : [key]
  if (path.length === 0 || path.some((step) => step === '')) {
    throw new WriteError('usage', `${JSON.stringify(key)} names no key`, 'Write KEY, or /SECTION/KEY.')
  }
  const depth = format === 'ini' ? 2 : format === 'yaml' || format === 'json' ? 64 : 1
  if (path.length > depth || (format === 'ini' && path.length < 2)) {
    throw new WriteError('usage', `${JSON.stringify(key)} does not fit the levels of a ${format} document`)
  }
  return path
}

/**
 * A copy of `map` with `value` at `path`; missing mappings are added at the end.
 * @throws WriteError `usage` when the path leads through something that is no mapping.
 */
export function withValue(map: MapTree, path: readonly string[], value: Tree): MapTree {
  const [key = '', ...rest] = path
  const at = map.entries.findIndex((entry) => entry.key === key)
  const current = map.entries[at]?.value
  const next = rest.length === 0 ? value : nested(current, rest, value, key)
  const entry: Entry = { key, value: next }
  return { type: 'map', entries: at === -1 ? [...map.entries, entry] : map.entries.with(at, entry) }
}

function nested(current: Tree | undefined, rest: readonly string[], value: Tree, key: string): MapTree {
  if (current !== undefined && current.type !== 'map') {
    throw new WriteError('usage', `"${key}" is no mapping, so nothing can be put below it`)
  }
  return withValue(current ?? { type: 'map', entries: [] }, rest, value)
}
