/**
 * Owns what becomes of a running pod's files whose objects were denied (sops B5, threat model T25). Pure.
 *
 * The driver hides a failed republish and keeps the old files, so a failure never takes anything away. A success
 * without a file does: the driver's writer removes what is no longer answered.
 */
import type { ErrorKind, OnRevoked } from '../providers/adapter.ts'
import type { AnswerFile } from './answer.ts'
import type { ObjectFailure } from './errors.ts'
import type { Rendered } from './render.ts'

/**
 * The kinds with which a store says that the pod shall not have the object (any more).
 * Not `unauthenticated`: what was refused is the pod's own token, and a clock that is off or an issuer whose keys
 * cannot be read does that, too. Not `config`: a slip of the pen in a class or on the node must not empty pods
 * that run. Everything else may pass by itself, or says nothing about the object.
 */
const DENIALS: ReadonlySet<ErrorKind> = new Set<ErrorKind>(['denied', 'not-found', 'gone'])

/** Whether the failure is final for its object, rather than one on the way to it. */
export function isDenial({
  kind,
  indirect,
  withdrawn,
}: Pick<ObjectFailure, 'kind' | 'indirect' | 'withdrawn'>): boolean {
  return withdrawn === true || (DENIALS.has(kind) && indirect !== true)
}

/** What decides whether a mount may take files away. */
export interface Standing {
  /** The volume was published before: its pod has, or had, the files. A first mount fails with the true error. */
  readonly republish: boolean
  readonly onRevoked: OnRevoked
}

/** Whether denied objects may be left out of the answer. */
export function mayRemove({ republish, onRevoked }: Standing): boolean {
  return republish && onRevoked === 'remove'
}

/**
 * The outputs, with those that were denied emptied where they may be removed. Any other failure keeps
 * everything as it is: the mount fails then, and the next republish removes what is still denied.
 */
export function withoutRevoked(rendered: readonly Rendered[], standing: Standing): readonly Rendered[] {
  if (!mayRemove(standing) || !failuresOf(rendered).every(isDenial)) return rendered
  return rendered.map((one) => ('failures' in one ? { files: [], from: 'none', revoked: one.failures } : one))
}

/** Failures of all outputs. */
export function failuresOf(rendered: readonly Rendered[]): readonly ObjectFailure[] {
  return rendered.flatMap((one) => ('failures' in one ? one.failures : []))
}

/** Denials of a republish whose files stay, because that is wanted or because something else failed, too. */
export function keptDenials(
  failures: readonly ObjectFailure[],
  republish: boolean,
): readonly ObjectFailure[] {
  return republish ? failures.filter(isDenial) : []
}

/** Id and path of the file that stands for a volume without files: of an empty list the driver takes no notice. */
export const REVOKED_FILE = '.revoked'

/** That file: empty, for everybody to see. Its content never changes, nor does its version. */
export function revokedFile(): AnswerFile & { readonly id: string; readonly version: string } {
  return { path: REVOKED_FILE, mode: 0o444, contents: Buffer.alloc(0), id: REVOKED_FILE, version: '1' }
}
