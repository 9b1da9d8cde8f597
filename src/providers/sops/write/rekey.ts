/** Owns re-encrypting the data key of a document to other recipients (sops B2 `rekey`). */
import type { KeyRing } from '../keys/data-key.ts'
import { closeDocument, digestOf, openDocument, readDocument } from '../open.ts'
import type { Metadata } from '../metadata.ts'
import { entryOf } from '../tree.ts'
import { cannotEdit } from './edit/edits.ts'
import { editDocument } from './edit.ts'
import type { Format } from '../stores/store.ts'
import { recipientId, wrapDataKey } from './recipients.ts'

/** The age recipients that a document is encrypted to, as recorded. */
export function ageRecipients(metadata: Metadata): readonly string[] {
  return metadata.groups.flat().flatMap((key) => (key.kind === 'age' ? [key.recipient] : []))
}

/** Whether two lists name the same keys, whatever their order. */
export function sameRecipients(a: readonly string[], b: readonly string[]): boolean {
  const ids = (list: readonly string[]): string => [...new Set(list.map(recipientId))].sort().join('\n')
  return ids(a) === ids(b)
}

/**
 * The document encrypted to `recipients`; the same bytes when it is already. Values, MAC and
 * `lastmodified` stay byte for byte (A20), other kinds of keys as well.
 * @throws WriteError for documents with several key groups; BackendError when it does not open
 */
export async function rekeyDocument(
  format: Format,
  document: Buffer,
  recipients: readonly string[],
  ring: KeyRing,
): Promise<Buffer> {
  const opened = await openDocument(format, document, ring)
  try {
    const { block } = await readDocument(format, document)
    if (entryOf(block, 'key_groups') !== undefined) throw cannotEdit('the document has key groups')
    if (sameRecipients(ageRecipients(opened.metadata), recipients)) return document
    const age = await wrapDataKey(opened.dataKey, recipients)
    const result = await editDocument(format, document, { leaves: [], metadata: new Map(), age })
    // Our own identity need not be among the new recipients: check with the data key we still have.
    if ((await digestOf(format, result, opened.dataKey)) !== opened.mac) {
      throw cannotEdit('the document is written in a way that cannot be edited in place')
    }
    return result
  } finally {
    closeDocument(opened)
  }
}
