/** Owns what may be changed in an existing document: leaves, metadata texts, the age recipients (sops A20). */
import type { Scalar } from '../../tree.ts'
import type { WrappedKey } from '../recipients.ts'
import { WriteError } from '../error.ts'

/** A leaf as it shall stand in the file: a token, or a value in clear. */
export interface LeafEdit {
  /** Mapping keys from the root of the first document. */
  readonly path: readonly string[]
  readonly value: Scalar
}

/** Everything else of the document stays byte for byte (JSON: value for value). */
export interface Edits {
  readonly leaves: readonly LeafEdit[]
  /** `mac` and `lastmodified`, where they change. */
  readonly metadata: ReadonlyMap<'mac' | 'lastmodified', string>
  /** Replaces the list `age`, where it changes. */
  readonly age: readonly WrappedKey[] | undefined
}

/** The error for a document written in a way that we do not edit. */
export function cannotEdit(what: string): WriteError {
  return new WriteError('usage', what, 'Edit this document with the stock sops tool.')
}
