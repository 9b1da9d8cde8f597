/** Owns the dotenv store: verbatim keys and values, one a line (sops A4). */
import { quoted, sopsError } from '../errors.ts'
import { unflatten, type FlatEntry } from '../flatten.ts'
import type { Limits } from '../limits.ts'
import type { Pace } from '../pace.ts'
import { text, type Entry } from '../tree.ts'
import { checkKey, documentText, formatInvalid, nodeCounter, type ParsedDocument } from './store.ts'

const METADATA_PREFIX = 'sops_'

function* documentOf(source: string, limits: Limits): Generator<undefined, ParsedDocument> {
  const count = nodeCounter(limits)
  count()
  const entries: Entry[] = []
  const metadata: FlatEntry[] = []
  const seen = new Set<string>()
  for (const [index, line] of source.split('\n').entries()) {
    if (line === '' || line.startsWith('#')) continue
    yield
    const equals = line.indexOf('=')
    if (equals === -1) formatInvalid('dotenv', 'a line has no "="', { line: index + 1 })
    const key = line.slice(0, equals)
    // The only escape: backslash and n, wherever they stand.
    const value = text(line.slice(equals + 1).replaceAll('\\n', '\n'))
    checkKey(key, limits)
    count()
    if (key.startsWith(METADATA_PREFIX)) {
      metadata.push({ name: key.slice(METADATA_PREFIX.length), value })
      continue
    }
    if (seen.has(key)) formatInvalid('dotenv', `the key ${quoted(key)} stands twice`, { line: index + 1 })
    seen.add(key)
    entries.push({ key, value })
  }
  if (metadata.length === 0) {
    throw sopsError('METADATA_NOT_FOUND', 'the document has no sops_ entries, so it is not encrypted')
  }
  return { branches: [{ type: 'map', entries }], metadata: yield* unflatten(metadata) }
}

/** Reads a dotenv document. Comments are dropped unread. */
export async function readDotenv(bytes: Uint8Array, limits: Limits, pace: Pace): Promise<ParsedDocument> {
  return pace.run(documentOf(documentText('dotenv', bytes), limits))
}
