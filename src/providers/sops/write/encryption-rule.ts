/** Owns which values of a new document are encrypted, and the rules that our documents may record (sops A8). */
import { RE2JS } from 're2js'
import type { Rule } from '../metadata.ts'
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

function compiled(pattern: string): RE2JS {
  try {
    return RE2JS.compile(pattern)
  } catch {
    throw new WriteError('usage', 'the encryption rule does not compile as RE2', 'Correct it in .sops.yaml.')
  }
}

/**
 * Any segment of the path may match.
 * @throws WriteError for a rule that does not compile, and for the two comment rules: what is put in
 * from outside has no comments to go by.
 */
export function selectionOf({ kind, text }: Rule): Selection {
  switch (kind) {
    case 'unencrypted_suffix':
      return (path) => !path.some((key) => key.endsWith(text))
    case 'encrypted_suffix':
      return (path) => path.some((key) => key.endsWith(text))
    case 'unencrypted_regex': {
      const pattern = compiled(text)
      return (path) => !path.some((key) => pattern.matcher(key).find())
    }
    case 'encrypted_regex': {
      const pattern = compiled(text)
      return (path) => path.some((key) => pattern.matcher(key).find())
    }
    default:
      throw new WriteError(
        'usage',
        `the document follows "${kind}", by which comments decide what is encrypted`,
        'Edit such documents with the stock sops tool.',
      )
  }
}
