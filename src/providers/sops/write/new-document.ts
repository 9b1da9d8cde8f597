/** Owns building and sealing a new document from the values a user gave (sops B2 `put`, `seal`). */
import type { MapTree, Tree } from '../tree.ts'
import { withBinding } from './binding.ts'
import type { Format } from '../stores/store.ts'
import { selectionOf, type Encryption } from './encryption-rule.ts'
import { WriteError } from './error.ts'
import { parseKeyPath, withValue } from './key-path.ts'
import { seal } from './seal.ts'

/** A value and the name the user gave it (see {@link parseKeyPath}). The bytes are used, not copied. */
export interface NamedValue {
  readonly key: string
  readonly bytes: Buffer
}

export interface NewDocument {
  readonly format: Format
  readonly values: readonly NamedValue[]
  /** Who may mount it, `namespace/serviceaccount`; empty for a document without a binding. */
  readonly subjects: readonly string[]
  readonly encryption: Encryption
  readonly now: Date
}

function binaryDocument(values: readonly NamedValue[]): MapTree {
  const [only, ...more] = values
  if (only === undefined || more.length > 0) {
    throw new WriteError(
      'usage',
      'a binary document holds exactly one value',
      'Use --format yaml for several.',
    )
  }
  return { type: 'map', entries: [{ key: 'data', value: { type: 'str', bytes: only.bytes } }] }
}

function keyedDocument(values: readonly NamedValue[], format: Format): MapTree {
  let document: MapTree = { type: 'map', entries: [] }
  for (const { key, bytes } of values) {
    const value: Tree = { type: 'str', bytes }
    document = withValue(document, parseKeyPath(key, format), value)
  }
  return document
}

/** Seals a new document. @throws WriteError `usage` */
export async function sealNewDocument(request: NewDocument): Promise<Buffer> {
  const { format, values, subjects, encryption, now } = request
  const plain = format === 'binary' ? binaryDocument(values) : keyedDocument(values, format)
  const document =
    subjects.length === 0 ? plain : withBinding(plain, format, subjects, selectionOf(encryption.rule))
  return seal({ format, documents: [document], encryption, now })
}
