/** Owns the audit file of the command line: one JSON line a verb, never a value (sops B2). */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { WriteError } from '../write/error.ts'

export interface AuditLine {
  readonly time: Date
  readonly verb: string
  /** `NAMESPACE/NAME`, or empty for verbs about the whole store. */
  readonly name: string
  /** Ciphertext version after the verb, or empty. */
  readonly version: string
  /** `ok`, or the kind of the failure. */
  readonly outcome: string
}

/** Appends lines; opened before the verb has any effect, so that what cannot be recorded is not done. */
export interface AuditFile {
  append(line: AuditLine): Promise<void>
  close(): Promise<void>
}

/** @throws WriteError `permission` when the file cannot be opened for appending. */
export async function openAuditFile(path: string): Promise<AuditFile> {
  const { O_APPEND, O_CREAT, O_WRONLY, O_NOFOLLOW } = constants
  const handle = await open(path, O_APPEND | O_CREAT | O_WRONLY | O_NOFOLLOW, 0o600).catch(
    (error: unknown) => {
      const { code = 'an error' } = error as NodeJS.ErrnoException
      throw new WriteError(
        'permission',
        `the audit file ${path} cannot be opened (${code})`,
        'Run as the owner of the store, or name another file with --audit-file.',
      )
    },
  )
  return {
    append: async ({ time, verb, name, version, outcome }) => {
      const uid = process.getuid?.() ?? -1
      // One write of one short line: O_APPEND keeps lines of several processes apart.
      await handle.appendFile(
        `${JSON.stringify({ time: time.toISOString(), uid, verb, name, version, outcome })}\n`,
      )
    },
    close: () => handle.close(),
  }
}
