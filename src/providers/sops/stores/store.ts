/** Owns what every store (file format) of SOPS gives: branches and the metadata block (sops A3, A4). */
import { quoted, sopsError } from '../errors.ts'
import { withinLimit, type Limits } from '../limits.ts'
import type { Pace } from '../pace.ts'
import { strictUtf8 } from '../encodings.ts'
import { entryOf, type MapTree } from '../tree.ts'

/** The words of `sopsFormat`. */
export const FORMATS = ['yaml', 'json', 'binary', 'dotenv', 'ini'] as const
export type Format = (typeof FORMATS)[number]

/** A document as its store reads it: still encrypted, metadata apart. */
export interface ParsedDocument {
  /** One a YAML document, else one. Never with the metadata block. */
  readonly branches: readonly MapTree[]
  /** The `sops` mapping; unflattened for INI and dotenv. */
  readonly metadata: MapTree
}

/** Reads one format. */
export type Store = (
  bytes: Uint8Array,
  limits: Limits,
  pace: Pace,
) => Promise<ParsedDocument> | ParsedDocument

/** Position in a text, both from 1. */
export function positionAt(text: string, offset: number): { readonly line: number; readonly column: number } {
  const before = text.slice(0, offset)
  const lineStart = before.lastIndexOf('\n') + 1
  let line = 1
  for (let i = before.indexOf('\n'); i !== -1; i = before.indexOf('\n', i + 1)) line += 1
  return { line, column: offset - lineStart + 1 }
}

/** An error for a document that is not what its format demands. The text of the document is never quoted. */
export function formatInvalid(format: Format, what: string, at?: { line: number; column?: number }): never {
  const where =
    at === undefined ? '' : ` (line ${at.line}${at.column === undefined ? '' : `, column ${at.column}`})`
  throw sopsError('FORMAT_INVALID', `the document is no valid SOPS ${format}: ${what}${where}`)
}

/** Text of a document. @throws BackendError `FORMAT_INVALID` when it is not UTF-8 */
export function documentText(format: Format, bytes: Uint8Array): string {
  return strictUtf8(bytes) ?? formatInvalid(format, 'it is not UTF-8')
}

/** @throws BackendError `LIMIT_EXCEEDED` for a key that is too long */
export function checkKey(key: string, limits: Limits): void {
  // A character is at most three bytes of UTF-8 for each unit, so short keys need no count.
  if (key.length * 3 > limits.keyBytes) withinLimit(limits, 'keyBytes', Buffer.byteLength(key))
}

/** Counts nodes against the limit while a document is read. */
export function nodeCounter(limits: Limits): (count?: number) => void {
  let nodes = 0
  return (count = 1) => {
    nodes += count
    if (nodes > limits.nodes) withinLimit(limits, 'nodes', nodes)
  }
}

/**
 * Takes the `sops` mapping out of the branches: the first branch's counts, all are removed (A5).
 * @throws BackendError `METADATA_NOT_FOUND` or `METADATA_INVALID`
 */
export function splitMetadata(branches: readonly MapTree[]): ParsedDocument {
  const [first] = branches
  const metadata = first === undefined ? undefined : entryOf(first, 'sops')
  if (metadata === undefined) {
    throw sopsError(
      'METADATA_NOT_FOUND',
      'the document has no sops metadata, so it is not encrypted',
      'Encrypt it with `sops encrypt` or `keyferry secret seal`.',
    )
  }
  if (metadata.type !== 'map') throw sopsError('METADATA_INVALID', 'the key "sops" is no mapping')
  return {
    branches: branches.map((branch) => ({
      type: 'map',
      entries: branch.entries.filter((entry) => entry.key !== 'sops'),
    })),
    metadata,
  }
}

/** The error for a key that stands twice in one mapping. */
export function duplicateKey(format: Format, key: string, isTop: boolean): never {
  if (isTop && key === 'sops') throw sopsError('METADATA_INVALID', 'the key "sops" stands twice')
  return formatInvalid(format, `the key ${quoted(key)} stands twice in one mapping`)
}
