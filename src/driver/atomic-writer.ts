/** Owns how files get into a volume: the driver's atomic writer, step for step (driver.md section 3.1). */
import * as fs from 'node:fs'
import { posix } from 'node:path'
import { firstComponent, pathProblem } from './file-paths.ts'
import { errnoOf, errnoText, FileError } from './go-text.ts'
import { readAsRoot } from './read-as-root.ts'

/** One file of a payload. */
export interface PayloadFile {
  /** As on the wire: an int32 read as Go's `os.FileMode`, so only the low 9 bits are permissions. */
  readonly mode: number
  readonly contents: Uint8Array
}

/** A payload the driver would refuse or fail to write; the message is the driver's. */
export class WriteError extends Error {
  override name = 'WriteError'
}

const DATA_LINK = '..data'
const NEW_DATA_LINK = '..data_tmp'

/**
 * Writes the complete file set of a volume into `targetDir`, as the driver of both profiles does.
 * Returns `unchanged` if nothing was touched, `written` otherwise. Paths are compared and created in the
 * order of the map (the driver's own order is random, which matters for colliding paths only).
 *
 * `shownDir` is the directory's name in error texts, if this process reaches it under another one.
 *
 * Throws WriteError with the driver's text. What the failed step left behind stays, as it does there.
 */
export function writePayload(
  targetDir: string,
  files: ReadonlyMap<string, PayloadFile>,
  shownDir: string = targetDir,
): 'written' | 'unchanged' {
  for (const path of files.keys()) {
    const problem = pathProblem(path)
    if (problem !== undefined) throw new WriteError(problem)
  }
  try {
    try {
      removeForeignFiles(targetDir, files.keys())
    } catch (error) {
      throw new WriteError(`cleanup failure: ${shown(error, targetDir, shownDir)}`)
    }
    return project(targetDir, files)
  } catch (error) {
    if (error instanceof WriteError) throw error
    throw new WriteError(shown(error, targetDir, shownDir), { cause: error })
  }
}

/** Step 0: a root entry that is no link was not made by this writer and is in its way. */
function removeForeignFiles(targetDir: string, paths: Iterable<string>): void {
  for (const path of paths) {
    const name = firstComponent(path)
    const entry = posix.join(targetDir, name)
    const stat = absentAs(undefined, () => attempt('lstat', entry, () => fs.lstatSync(entry)))
    if (stat === undefined || stat.isSymbolicLink()) continue
    if (name === '.') {
      // Everything inside goes, then the mount point itself turns out to be in use.
      for (const child of fs.readdirSync(entry)) remove(posix.join(entry, child))
      throw new FileError('unlinkat', entry, 'EBUSY')
    }
    remove(entry)
  }
}

function project(targetDir: string, files: ReadonlyMap<string, PayloadFile>): 'written' | 'unchanged' {
  const dataLink = posix.join(targetDir, DATA_LINK)
  const oldName = absentAs(undefined, () => attempt('readlink', dataLink, () => fs.readlinkSync(dataLink)))
  let vanished: readonly string[] = []
  if (oldName !== undefined) {
    const oldDir = posix.join(targetDir, oldName)
    vanished = vanishedPaths(oldDir, files)
    if (!differs(oldDir, files) && vanished.length === 0) return 'unchanged'
  }

  const newDir = makeTimestampDir(targetDir)
  writeFiles(newDir, files)
  linkRootNames(targetDir, files.keys())
  switchData(targetDir, newDir)
  unlinkRootNames(targetDir, vanished)
  if (oldName !== undefined) remove(posix.join(targetDir, oldName))
  return 'written'
}

/** Paths of the old version, files and directories, that the new one neither has nor passes through. */
function vanishedPaths(oldDir: string, files: ReadonlyMap<string, PayloadFile>): readonly string[] {
  const kept = new Set<string>()
  for (const path of files.keys()) {
    for (let part = path; part !== '.'; part = posix.dirname(part)) kept.add(part)
  }
  return walk(oldDir, '').filter((path) => !kept.has(path))
}

function walk(root: string, below: string): string[] {
  const found: string[] = []
  const entries = absentAs([], () => fs.readdirSync(posix.join(root, below), { withFileTypes: true }))
  for (const entry of entries) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`
    found.push(path)
    if (entry.isDirectory()) found.push(...walk(root, path))
  }
  return found
}

/** Contents only: a changed mode alone is never noticed. A file that became a directory, or the reverse, throws. */
function differs(oldDir: string, files: ReadonlyMap<string, PayloadFile>): boolean {
  for (const [path, file] of files) {
    const old = posix.join(oldDir, path)
    try {
      fs.lstatSync(old)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return true
    }
    if (!readAsRoot(old).equals(file.contents)) return true
  }
  return false
}

/** `..2026_01_31_12_00_00.123456789`, UTC, mode 0755 whatever the umask. */
function makeTimestampDir(targetDir: string): string {
  const stamp = new Date().toISOString().slice(0, 19).replace(/[-T:]/g, '_')
  for (let tries = 0; ; tries++) {
    const digits = String(Math.floor(Math.random() * 2 ** 32))
    const dir = posix.join(targetDir, `..${stamp}.${digits}`)
    try {
      attempt('mkdir', dir, () => fs.mkdirSync(dir, 0o700))
    } catch (error) {
      if (errnoOf(error) === 'EEXIST' && tries < 10_000) continue
      throw error
    }
    attempt('chmod', dir, () => fs.chmodSync(dir, 0o755))
    return dir
  }
}

function writeFiles(dir: string, files: ReadonlyMap<string, PayloadFile>): void {
  for (const [path, file] of files) {
    const full = posix.join(dir, path)
    const mode = permissionBits(file.mode)
    makeParents(dir, posix.dirname(path))
    attempt('open', full, () => fs.writeFileSync(full, file.contents, { mode }))
    attempt('chmod', full, () => fs.chmodSync(full, mode))
  }
}

function makeParents(dir: string, parent: string): void {
  if (parent === '.') return
  let made = dir
  const names = parent.split('/')
  for (const [index, name] of names.entries()) {
    made = posix.join(made, name)
    const stat = absentAs(undefined, () => attempt('mkdir', made, () => fs.statSync(made)))
    if (stat === undefined) attempt('mkdir', made, () => fs.mkdirSync(made, 0o777))
    else if (!stat.isDirectory()) {
      // Go hands the innermost name to the kernel with its slash, and looks at the outer ones itself.
      if (index === names.length - 1) throw new FileError('mkdir', `${made}/`, 'EEXIST')
      throw new FileError('mkdir', made, 'ENOTDIR')
    }
  }
}

/** The bits of Go's `os.FileMode` that reach the file system: 20 sticky, 22 setgid, 23 setuid, low 9 permissions. */
function permissionBits(mode: number): number {
  const special =
    ((mode >> 20) & 1 ? 0o1000 : 0) | ((mode >> 22) & 1 ? 0o2000 : 0) | ((mode >> 23) & 1 ? 0o4000 : 0)
  return special | (mode & 0o777)
}

function linkRootNames(targetDir: string, paths: Iterable<string>): void {
  for (const path of paths) {
    const name = firstComponent(path)
    const link = posix.join(targetDir, name)
    if (absentAs(undefined, () => fs.lstatSync(link)) !== undefined) continue
    const to = posix.join(DATA_LINK, name)
    attempt(`symlink ${to}`, link, () => fs.symlinkSync(to, link))
  }
}

/** The atomic moment. A `..data_tmp` left by a crash makes every later write fail here. */
function switchData(targetDir: string, newDir: string): void {
  const name = posix.basename(newDir)
  const temporary = posix.join(targetDir, NEW_DATA_LINK)
  const data = posix.join(targetDir, DATA_LINK)
  try {
    attempt(`symlink ${name}`, temporary, () => fs.symlinkSync(name, temporary))
  } catch (error) {
    remove(newDir)
    throw error
  }
  try {
    attempt(`rename ${temporary}`, data, () => fs.renameSync(temporary, data))
  } catch (error) {
    fs.rmSync(temporary, { force: true })
    remove(newDir)
    throw error
  }
}

function unlinkRootNames(targetDir: string, vanished: readonly string[]): void {
  let failure: unknown
  for (const name of vanished.filter((path) => !path.includes('/'))) {
    const link = posix.join(targetDir, name)
    try {
      attempt('remove', link, () => fs.unlinkSync(link))
    } catch (error) {
      failure = error // the others are still removed
    }
  }
  if (failure !== undefined) throw failure
}

function remove(path: string): void {
  attempt('unlinkat', path, () => fs.rmSync(path, { recursive: true, force: true }))
}

/** Runs a file operation; its failure gets Go's text. */
function attempt<T>(operation: string, path: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw error instanceof FileError ? error : new FileError(operation, path, errnoOf(error))
  }
}

function absentAs<T>(value: T, run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return value
    throw error
  }
}

function shown(error: unknown, targetDir: string, shownDir: string): string {
  const text = error instanceof FileError ? error.message : errnoText(errnoOf(error)) || String(error)
  return targetDir === shownDir ? text : text.replaceAll(targetDir, shownDir)
}
