/** Owns what all verbs of `keyferry secret` share: audit line, output, readable errors, exit codes (sops B2). */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { BackendError } from '../../providers/adapter.ts'
import { openAuditFile } from '../../providers/sops/store/audit-file.ts'
import { WriteError, type WriteErrorKind } from '../../providers/sops/write/error.ts'

/** Options that every verb has. */
export interface CommonOptions {
  readonly root: string
  readonly json: boolean
  readonly auditFile?: string
}

/** What a verb has done, for people and for machines. Never a value. */
export interface VerbResult {
  readonly lines: readonly string[]
  readonly json: unknown
  /** Ciphertext version after the verb, for the audit line. */
  readonly version?: string
  /** Something the verb was asked to look for is wrong: exit code 5, and the lines say what. */
  readonly unsound?: boolean
}

const EXIT_CODES: Readonly<Record<WriteErrorKind, number>> = {
  failed: 1,
  usage: 2,
  'not-found': 3,
  conflict: 4,
  integrity: 5,
  permission: 6,
}

/** Errors of the operating system that are not simply failures. */
const SYSTEM_KINDS: ReadonlyMap<string, WriteErrorKind> = new Map([
  ['EACCES', 'permission'],
  ['EPERM', 'permission'],
  ['EROFS', 'permission'],
  ['ENOENT', 'not-found'],
])

const READER_KINDS: ReadonlyMap<string, WriteErrorKind> = new Map([
  ['denied', 'permission'],
  ['malformed', 'integrity'],
  ['too-large', 'integrity'],
  ['config', 'integrity'],
  ['not-found', 'not-found'],
])

/** Any failure as one of ours. */
export function asWriteError(error: unknown): WriteError {
  if (error instanceof WriteError) return error
  if (error instanceof BackendError) {
    return new WriteError(
      READER_KINDS.get(error.kind) ?? 'failed',
      `${error.code}: ${error.message}`,
      error.remedy,
    )
  }
  const { code, syscall, path } = error as NodeJS.ErrnoException
  if (code !== undefined && syscall !== undefined) {
    const where = path === undefined ? '' : ` ${path}`
    return new WriteError(SYSTEM_KINDS.get(code) ?? 'failed', `${syscall}${where} failed: ${code}`)
  }
  // The message of a foreign error may quote its input.
  const name = error instanceof Error ? error.name : typeof error
  return new WriteError(
    'failed',
    `unexpected ${name}`,
    'Please report this, with the command but without any value.',
  )
}

/** The audit file: as named, else in the store, else none (sealing without a store). */
function auditPath({ auditFile, root }: CommonOptions): string | undefined {
  if (auditFile !== undefined) return auditFile
  return existsSync(root) ? join(root, '.audit.jsonl') : undefined
}

/** What was typed as a name may be anything, a value by mistake included: only names are recorded. */
function recordable(name: string): string {
  return /^[a-z0-9-]{1,63}(?:\/[A-Za-z0-9._,/-]{1,4000})?$/.test(name) ? name : ''
}

function report(verb: string, error: WriteError, json: boolean): void {
  if (json) {
    const { kind, message, remedy } = error
    process.stdout.write(`${JSON.stringify({ error: { kind, message, remedy } })}\n`)
  }
  process.stderr.write(`keyferry secret ${verb}: ${error.message}\n`)
  if (error.remedy !== undefined) process.stderr.write(`  ${error.remedy}\n`)
}

/**
 * Runs one verb: opens the audit file, does the work, records the outcome, prints and sets the exit
 * code. What cannot be recorded is not done.
 * @param name `NAMESPACE/NAME`, or empty
 */
export async function runVerb(
  verb: string,
  name: string,
  options: CommonOptions,
  work: () => Promise<VerbResult>,
): Promise<void> {
  const record = async (outcome: string, version: string): Promise<void> => {
    const path = auditPath(options)
    if (path === undefined) return
    const audit = await openAuditFile(path)
    try {
      await audit.append({ time: new Date(), verb, name: recordable(name), version, outcome })
    } finally {
      await audit.close()
    }
  }
  try {
    // Opened once before any effect, so that a verb that could not be recorded is refused.
    const path = auditPath(options)
    if (path !== undefined) await (await openAuditFile(path)).close()
    const result = await work().catch(async (error: unknown) => {
      const failure = asWriteError(error)
      await record(failure.kind, '')
      throw failure
    })
    await record(result.unsound === true ? 'integrity' : 'ok', result.version ?? '')
    process.stdout.write(options.json ? `${JSON.stringify(result.json)}\n` : `${result.lines.join('\n')}\n`)
    if (result.unsound === true) process.exitCode = EXIT_CODES.integrity
  } catch (error) {
    const failure = asWriteError(error)
    report(verb, failure, options.json)
    process.exitCode = EXIT_CODES[failure.kind]
  }
}
