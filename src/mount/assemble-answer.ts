/** Owns the last step: files of all outputs → one complete answer with unique ids, or one failure. */
import type { Plan } from '../providers/adapter.ts'
import type { Logger } from '../telemetry/log.ts'
import type { MountAnswer } from './answer.ts'
import { MountFailure } from './errors.ts'
import { collisions } from './outputs.ts'
import type { Rendered, RenderedFile } from './render.ts'
import { failuresOf, revokedFile } from './revocation.ts'

/**
 * The complete answer, or one failure: a partial file set would delete files (driver.md section 8.6).
 * @param mayBeEmpty the volume was published before, and may end up without files
 */
export function assembleAnswer(
  plan: Plan,
  rendered: readonly Rendered[],
  log: Logger,
  mayBeEmpty = false,
): MountAnswer | MountFailure {
  const [first, ...rest] = failuresOf(rendered)
  if (first) return new MountFailure([first, ...rest])
  const named = rendered.flatMap((one, index) =>
    'files' in one
      ? one.files.map((file) => ({ ...file, object: plan.outputs[index]?.object ?? '', index }))
      : [],
  )
  const files = plan.duplicates === 'last-wins' ? lastWins(named, revokedPaths(plan, rendered), log) : named
  const problems = collisions(files)
  if (problems.length > 0) return MountFailure.ofProblems(problems)
  if (files.length === 0) {
    if (mayBeEmpty) return answerOf([revokedFile()], named)
    return MountFailure.of(
      'not-found',
      'NO_FILES',
      'none of the objects exists, and a volume cannot be empty',
      'Create one of the optional objects, or add one that always exists',
    )
  }
  return answerOf(files, named)
}

/** @param made every file there is, answered or not */
function answerOf(files: readonly RenderedFile[], made: readonly RenderedFile[]): MountAnswer {
  return {
    files: files.map(({ path, mode, contents }) => ({ path, mode, contents })),
    versions: versionsOf(files),
    release: () => {
      for (const { contents } of made) letGo(contents)
    },
  }
}

/** Overwrites a file's bytes and gives their memory back at once: each file has a buffer of its own. */
function letGo(contents: Buffer): void {
  if (!(contents.buffer instanceof ArrayBuffer) || contents.buffer.detached) return
  contents.fill(0)
  contents.buffer.transfer(0)
}

/** Paths of outputs that were taken away, with the place of the output in the plan. */
function revokedPaths(plan: Plan, rendered: readonly Rendered[]): ReadonlyMap<string, number> {
  return new Map(
    plan.outputs.flatMap((output, index) => {
      const one = rendered[index]
      const isRevoked = one !== undefined && 'files' in one && one.revoked !== undefined
      return isRevoked && output.kind !== 'expand' ? [[output.path, index] as const] : []
    }),
  )
}

/** An object that lost its file name to one that is revoked does not get it back: the file held the other. */
function lastWins<F extends RenderedFile & { readonly object: string; readonly index: number }>(
  files: readonly F[],
  revoked: ReadonlyMap<string, number>,
  log: Logger,
): F[] {
  const byPath = new Map<string, F>()
  for (const file of files) {
    if (file.index < (revoked.get(file.path) ?? -1)) continue
    const other = byPath.get(file.path)
    if (other)
      log.warn('two objects have one file name; the later one wins', {
        objects: [other.object, file.object],
      })
    byPath.set(file.path, file)
  }
  return [...byPath.values()]
}

/** Ids are unique: files that share one id are told apart by a version made of all of theirs. */
function versionsOf(files: readonly RenderedFile[]): { id: string; version: string }[] {
  const byId = new Map<string, string>()
  for (const { id, version } of files) {
    const other = byId.get(id)
    byId.set(id, other === undefined || other === version ? version : `${other},${version}`)
  }
  return [...byId].map(([id, version]) => ({ id, version }))
}

/** Overwrites files that will not be answered. */
export function wipeFiles(rendered: readonly Rendered[]): void {
  for (const one of rendered) if ('files' in one) for (const file of one.files) letGo(file.contents)
}
