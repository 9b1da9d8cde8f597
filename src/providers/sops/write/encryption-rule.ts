/** Owns which values of a new document are encrypted, and the rules that our documents may record (sops A8). */
import type { Rule } from '../metadata.ts'
import { selectorOf } from '../rules.ts'
import { WriteError } from './error.ts'

/** How to encrypt one document. */
export interface Encryption {
  /** age recipients; at least one. */
  readonly recipients: readonly string[]
  readonly rule: Rule
  readonly macOnlyEncrypted: boolean
}

/** Whether the value at a path of mapping keys is encrypted. */
export type Selection = (path: readonly string[]) => boolean

/**
 * Any segment of the path may match.
 * @throws WriteError for the two comment rules: what is put in from outside has no comments to go by.
 * @throws BackendError `RULE_INVALID`
 */
export function selectionOf(rule: Rule): Selection {
  const selector = selectorOf(rule)
  if (selector.by === 'path') {
    return (path) => path.some((key) => selector.matches(key)) === selector.matchedIsEncrypted
  }
  throw new WriteError(
    'usage',
    `the document follows "${rule.kind}", by which comments decide what is encrypted`,
    'Edit such documents with the stock sops tool.',
  )
}
