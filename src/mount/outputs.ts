/**
 * Owns the rules for what a volume may contain: paths, modes, collisions. Ours accept a subset of the
 * driver's (driver.md section 3), so that nothing we answer can fail while it is being written.
 */
import type { Gathered, Output, Plan, Problem } from '../providers/adapter.ts'

const MAX_PATH_BYTES = 4096
const MAX_SEGMENT_BYTES = 255

/**
 * Why `path` cannot be a file in a volume, or `undefined` when it can.
 * Rules: relative; at most 4096 bytes; segments of 1 to 255 bytes, none `.` or `..`; the first does
 * not begin with `..`; no control character; valid Unicode.
 */
export function pathFault(path: string): string | undefined {
  if (path === '') return 'is empty'
  if (!path.isWellFormed()) return 'is not valid Unicode'
  if (/\p{Cc}/u.test(path)) return 'contains a control character'
  if (path.startsWith('/')) return 'is absolute; paths are relative to the volume'
  if (path.startsWith('..')) return "begins with '..'"
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) return `is longer than ${MAX_PATH_BYTES} bytes`
  for (const segment of path.split('/')) {
    if (segment === '') return "has an empty segment ('//' or a trailing '/')"
    if (segment === '.' || segment === '..') return `has a '${segment}' segment`
    if (Buffer.byteLength(segment) > MAX_SEGMENT_BYTES)
      return `has a segment longer than ${MAX_SEGMENT_BYTES} bytes`
  }
  return undefined
}

/** True for a mode whose effect is what it says: permission bits only. */
export function isFileMode(mode: number): boolean {
  return Number.isInteger(mode) && mode >= 0 && mode <= 0o777
}

/**
 * The problem of two files that cannot be in one volume: the same path twice, or a file that another
 * needs as its directory (the driver's write would fail half-way).
 */
export function collisions(files: readonly { readonly path: string; readonly object: string }[]): Problem[] {
  const byPath = new Map<string, string>()
  const problems: Problem[] = []
  for (const { path, object } of files) {
    const other = byPath.get(path)
    if (other !== undefined) {
      problems.push({
        code: 'DUPLICATE_PATH',
        message: `objects "${other}" and "${object}" both want the file "${path}"`,
        remedy: 'Give one of them another file name',
      })
    }
    byPath.set(path, object)
  }
  // Only a directory as long as some file's path can be one: cutting out all would take time in the square of the length.
  const lengths = new Set(files.map(({ path }) => path.length))
  for (const { path, object } of files) {
    for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) {
      if (!lengths.has(at)) continue
      const other = byPath.get(path.slice(0, at))
      if (other !== undefined) {
        problems.push({
          code: 'PATH_CONFLICT',
          message: `object "${other}" is the file "${path.slice(0, at)}", which object "${object}" needs as a directory`,
          remedy: 'Give one of them another path',
        })
      }
    }
  }
  return problems
}

/** What an output is fetched from: one object, or as many as it gathers. */
export function objectsOf(output: Output): readonly Gathered[] {
  return output.kind === 'gather' ? output.sources : [output]
}

/** Every fault that a plan's outputs show before anything is fetched. Limits are the configuration's. */
export function planProblems(plan: Plan, limits: { readonly maxOutputs: number }): Problem[] {
  const problems: Problem[] = []
  if (plan.outputs.length === 0) {
    problems.push({
      code: 'NO_OBJECTS',
      message: 'the SecretProviderClass names no object',
      remedy: 'List at least one',
    })
  }
  if (plan.outputs.length > limits.maxOutputs) {
    problems.push({
      code: 'TOO_MANY_OBJECTS',
      message: `the SecretProviderClass names ${plan.outputs.length} objects; the limit is ${limits.maxOutputs}`,
      remedy: 'Split it, or raise limits.objects in the configuration',
    })
  }
  for (const output of plan.outputs) problems.push(...outputProblems(output))
  if (plan.duplicates !== 'last-wins') {
    const files = plan.outputs.filter((output) => output.kind !== 'expand')
    problems.push(...collisions(files.filter(({ path }) => pathFault(path) === undefined)))
  }
  return problems
}

function outputProblems(output: Output): Problem[] {
  const problems: Problem[] = []
  const path = output.kind === 'expand' ? output.into : output.path
  const fault = output.kind === 'expand' && path === '' ? undefined : pathFault(path)
  if (fault !== undefined) {
    problems.push({
      code: 'INVALID_PATH',
      message: `object "${output.object}": file path "${path}" ${fault}`,
      remedy: 'Name the file with a clean relative path',
    })
  }
  if (!isFileMode(output.mode)) {
    problems.push({
      code: 'INVALID_MODE',
      message: `object "${output.object}": file mode ${output.mode} is outside 0 to 0777`,
      remedy: 'Use an octal mode such as "0400"',
    })
  }
  return problems
}
