/** Owns the audit record: one JSON line per object of a mount, who got what and how it ended (T27). */

/** Where a value came from. */
export type Provenance = 'backend' | 'cache' | 'stale' | 'none'

export interface AuditRecord {
  readonly namespace: string
  readonly serviceAccount: string
  readonly pod: string
  readonly podUid: string
  /** SecretProviderClass; absent where the driver does not say. */
  readonly secretProviderClass: string | undefined
  readonly provider: string
  readonly backend: string
  /** Name of the store in the configuration, where one was used. */
  readonly store: string | undefined
  /** Whose credentials were used. */
  readonly identity: 'pod' | 'node'
  readonly object: string
  /** Files written for the object. */
  readonly files: readonly string[]
  /** Version reported to the driver; absent on failure. */
  readonly version: string | undefined
  /** What policy allowed but wants seen: `node-identity`, `spc-address`. */
  readonly marks: readonly string[]
  readonly outcome: 'delivered' | 'omitted' | 'revoked' | 'failed'
  /** Error kind and code of a failure, or of the denial for which a file was taken away. */
  readonly kind: string | undefined
  readonly code: string | undefined
  readonly from: Provenance
  /** Milliseconds from the mount's start to the object's end. */
  readonly latencyMs: number
}

/** Takes audit records; must not throw. */
export type Audit = (record: AuditRecord) => void

/** Writes each record as a JSON line that begins with `{"audit":"object","time":…`. */
export function auditTo(write: (line: string) => void, now: () => Date = () => new Date()): Audit {
  return (record) => write(`${JSON.stringify({ audit: 'object', time: now().toISOString(), ...record })}\n`)
}

/**
 * Gathers the lines of one turn, e.g. those of all objects of a mount, into one write: on a pipe each
 * write is a system call that everything waits for. They are written before anything else happens.
 */
export function together(write: (lines: string) => void): (line: string) => void {
  let lines = ''
  return (line) => {
    if (lines === '') {
      queueMicrotask(() => {
        const all = lines
        lines = ''
        write(all)
      })
    }
    lines += line
  }
}

/** Keeps no trace: for tests and the command line. */
export const silentAudit: Audit = () => {}
