/** Owns documents in files: the operator's roots and what may be read below them (sops A2). */
import { lstat, readdir, realpath, stat } from 'node:fs/promises'
import { dirname, join, sep } from 'node:path'
import { indirectly, quoted, sopsError } from './errors.ts'
import { withinLimit, type Limits } from './limits.ts'
import { readRegularFile, type FileFault } from './regular-file.ts'

/** A directory that the operator opened for documents. */
export interface Root {
  readonly path: string
  /** The first segment of a path must be the pod's namespace. */
  readonly namespaced: boolean
}

const SEGMENT = /^[A-Za-z0-9._-]{1,128}$/
const MAX_PATH = 1024
/** Files that one directory source may have. */
const MAX_FILES = 256

/** A checked relative path. */
export interface FilePath {
  readonly segments: readonly string[]
  /** It ended in `/`: every regular file in it is meant. */
  readonly isDirectory: boolean
}

/** Parses `sopsFile`; undefined when it breaks a rule of A2. */
export function parseFilePath(text: string): FilePath | undefined {
  const isDirectory = text.endsWith('/')
  const segments = (isDirectory ? text.slice(0, -1) : text).split('/')
  const isClean = segments.every((segment) => SEGMENT.test(segment) && segment !== '.' && segment !== '..')
  return isClean && text.length <= MAX_PATH ? { segments, isDirectory } : undefined
}

/** A document found. */
export interface FoundFile {
  /** Relative path as the user would name it. */
  readonly name: string
  readonly bytes: Buffer
}

const SET_UP = 'Let the operator check backends.sops.roots.'

/** Refuses a root that somebody else could replace: no ancestor may be writable by everyone, sticky ones apart. */
async function refuseWritable(root: string): Promise<void> {
  for (let path = root; ; path = dirname(path)) {
    const { mode } = await stat(path)
    if ((mode & 0o002) !== 0 && (mode & 0o1000) === 0) {
      throw indirectly(
        sopsError(
          'IDENTITY_NOT_ALLOWED',
          'a directory above the SOPS documents is writable by everyone',
          SET_UP,
        ),
      )
    }
    if (path === dirname(path)) return
  }
}

/**
 * The directory that stands for a root: its real path, or that of its `..data` when a kubelet
 * projects it, so that one mount sees one generation of files. Undefined when there is none.
 */
async function realRoot(root: Root): Promise<string | undefined> {
  try {
    const real = await realpath(root.path)
    const projected = join(real, '..data')
    const link = await lstat(projected).catch(() => undefined)
    if (link?.isSymbolicLink() !== true) return real
    const target = await realpath(projected)
    return dirname(target) === real ? target : undefined
  } catch {
    return undefined
  }
}

/** Whether a root has anything in it. One that has not may be a disk that is not mounted: no document was deleted. */
async function isFilled(root: Root): Promise<boolean> {
  const base = await realRoot(root)
  return base !== undefined && (await readdir(base).catch(() => [])).length > 0
}

/** Whether a real path is `base` or below it. */
function isBelow(path: string, base: string): boolean {
  return path === base || path.startsWith(base.endsWith(sep) ? base : base + sep)
}

/** Real path of the directory that holds the file, if it lies where it must. */
async function realParent(base: string, root: Root, path: FilePath): Promise<string | undefined> {
  const above = path.isDirectory ? path.segments : path.segments.slice(0, -1)
  const parent = await realpath(join(base, ...above)).catch(() => undefined)
  const fence = root.namespaced ? join(base, path.segments[0] ?? '') : base
  return parent !== undefined && isBelow(parent, fence) ? parent : undefined
}

async function readFileIn(parent: string, name: string, limits: Limits): Promise<Buffer | FileFault> {
  const bytes = await readRegularFile(join(parent, name), limits.fileBytes)
  if ('fault' in bytes && bytes.fault === 'too-large') withinLimit(limits, 'fileBytes', limits.fileBytes + 1)
  return bytes
}

/** Regular files of a directory, sorted bytewise; names with a leading point are not documents. */
async function filesIn(parent: string): Promise<readonly string[]> {
  const entries = await readdir(parent, { withFileTypes: true }).catch(() => [])
  return entries
    .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
    .map((entry) => entry.name)
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}

async function readIn(
  root: Root,
  text: string,
  path: FilePath,
  limits: Limits,
): Promise<readonly FoundFile[]> {
  const base = await realRoot(root)
  if (base === undefined) return []
  await refuseWritable(base)
  const parent = await realParent(base, root, path)
  if (parent === undefined) return []
  const names = path.isDirectory ? await filesIn(parent) : path.segments.slice(-1)
  if (names.length > MAX_FILES) {
    throw sopsError('LIMIT_EXCEEDED', `the directory ${quoted(text)} has more than ${MAX_FILES} documents`)
  }
  const found: FoundFile[] = []
  for (const name of names) {
    const bytes = await readFileIn(parent, name, limits)
    if (!('fault' in bytes)) found.push({ name: path.isDirectory ? text + name : text, bytes })
    else if (bytes.fault === 'refused') {
      throw sopsError('INVALID_PARAMETER', `sopsFile ${quoted(text)} is refused: ${bytes.why}`)
    }
  }
  return found
}

/**
 * The documents that `sopsFile` names, from the first root that has any.
 * @param namespace of the pod, as kubelet gives it
 * @throws BackendError `INVALID_PARAMETER`, `NOT_BOUND`, `OBJECT_NOT_FOUND` or `LIMIT_EXCEEDED`
 */
export async function readSopsFile(
  roots: readonly Root[],
  text: string,
  namespace: string,
  limits: Limits,
): Promise<readonly FoundFile[]> {
  const path = parseFilePath(text)
  if (path === undefined) {
    throw sopsError('INVALID_PARAMETER', `sopsFile ${quoted(text)} is no clean relative path`)
  }
  if (roots.length === 0) {
    throw sopsError('INVALID_PARAMETER', 'sopsFile needs a root, and the operator configured none', SET_UP)
  }
  const usable = roots.filter(
    (root) => !root.namespaced || (namespace !== '' && path.segments[0] === namespace),
  )
  if (usable.length === 0) {
    throw sopsError(
      'NOT_BOUND',
      'this document is not for this service account',
      'Below a namespaced root the first segment of sopsFile is the namespace of the pod.',
    )
  }
  for (const root of usable) {
    const found = await readIn(root, text, path, limits)
    if (found.length > 0) return found
  }
  const absent = sopsError(
    'OBJECT_NOT_FOUND',
    `no document ${quoted(text)}`,
    'Check sopsFile, and whether the file is on this node.',
  )
  throw (await Promise.all(usable.map(isFilled))).every(Boolean) ? absent : indirectly(absent)
}
