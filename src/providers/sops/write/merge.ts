/** Owns changing some values of an existing document; all else keeps its bytes (sops A20, `put --merge`). */
import { isScalar, text, type MapTree, type Scalar, type Tree } from '../tree.ts'
import { canonicalBytes } from '../canonical.ts'
import type { KeyRing } from '../keys/data-key.ts'
import { macToken } from '../mac.ts'
import { closeDocument, digestOf, openDocument } from '../open.ts'
import { aadOf, encryptToken } from '../token.ts'
import { bindingPath, checkSubject } from './binding.ts'
import { editDocument } from './edit.ts'
import type { LeafEdit } from './edit/edits.ts'
import type { Format } from '../stores/store.ts'
import { selectionOf, type Selection } from './encryption-rule.ts'
import { WriteError } from './error.ts'
import { parseKeyPath, withValue } from './key-path.ts'
import type { NamedValue } from './new-document.ts'
import { lastModifiedText } from './seal.ts'

export interface MergeRequest {
  readonly document: Buffer
  readonly format: Format
  /** New values; other keys stay. */
  readonly values: readonly NamedValue[]
  /** New list of service accounts that may mount it; empty to leave it as it is. */
  readonly subjects: readonly string[]
  readonly ring: KeyRing
  readonly now: Date
}

interface Change {
  readonly path: readonly string[]
  readonly value: Extract<Scalar, { type: 'str' }>
}

function changesOf({ values, subjects, format }: MergeRequest): readonly Change[] {
  for (const subject of subjects) checkSubject(subject)
  const binding = bindingPath(format)
  const named = values.map(({ key, bytes }): Change => {
    const path = format === 'binary' ? ['data'] : parseKeyPath(key, format)
    if (path.join('/') === binding.join('/')) {
      throw new WriteError('usage', `the key "${key}" holds the binding`, 'Change it with --bind.')
    }
    return { path, value: { type: 'str', bytes } }
  })
  if (subjects.length === 0) return named
  if (format === 'binary') throw new WriteError('usage', 'a binary document cannot carry a binding')
  return [...named, { path: binding, value: text(subjects.join(',')) }]
}

function leafEdit(change: Change, isEncrypted: Selection, dataKey: Buffer): LeafEdit {
  const { path, value } = change
  if (!isEncrypted(path) || value.bytes.length === 0) return change
  return { path, value: text(encryptToken(value, dataKey, aadOf(path))) }
}

/** Path and canonical bytes of every leaf, sorted: what a document says, whatever the order. */
function content(tree: Tree, path: string): readonly string[] {
  if (isScalar(tree)) return [`${path} ${tree.type} ${canonicalBytes(tree).toString('base64')}`]
  if (tree.type === 'list') return tree.items.flatMap((item, index) => content(item, `${path}/${index}`))
  return tree.entries.flatMap(({ key, value }) => content(value, `${path}/${JSON.stringify(key)}`))
}

function isSame(a: readonly MapTree[], b: readonly MapTree[]): boolean {
  const all = (branches: readonly MapTree[]): string =>
    branches
      .flatMap((branch, index) => content(branch, String(index)))
      .sort()
      .join('\n')
  return all(a) === all(b)
}

/** The first document after the changes, as the reader must see it. */
function expected(branches: readonly MapTree[], changes: readonly Change[]): readonly MapTree[] {
  const [first = { type: 'map', entries: [] }, ...more] = branches
  return [changes.reduce<MapTree>((map, { path, value }) => withValue(map, path, value), first), ...more]
}

/**
 * The document with the values changed, a new MAC and a new `lastmodified`. It was opened again
 * before it is returned: what our reader would refuse never reaches the disk.
 * @throws WriteError, or BackendError when the document does not open
 */
export async function mergeIntoDocument(request: MergeRequest): Promise<Buffer> {
  const { document, format, ring, now } = request
  const changes = changesOf(request)
  const opened = await openDocument(format, document, ring)
  try {
    const isEncrypted = selectionOf(opened.metadata.rule)
    const leaves = changes.map((change) => leafEdit(change, isEncrypted, opened.dataKey))
    const lastModified = lastModifiedText(now)
    const withLeaves = await editDocument(format, document, { leaves, metadata: new Map(), age: undefined })
    const digest = await digestOf(format, withLeaves, opened.dataKey)
    const mac = macToken(digest, opened.dataKey, lastModified)
    const metadata = new Map([
      ['lastmodified', lastModified],
      ['mac', mac],
    ] as const)
    const result = await editDocument(format, withLeaves, { leaves: [], metadata, age: undefined })
    const again = await openDocument(format, result, ring)
    const isRight = isSame(again.branches, expected(opened.branches, changes))
    closeDocument(again)
    if (!isRight) {
      throw new WriteError(
        'usage',
        'the document is written in a way that cannot be edited in place',
        'Edit it with the stock sops tool, or write it anew with `put`.',
      )
    }
    return result
  } finally {
    closeDocument(opened)
  }
}
