/** Owns listings of a volume: everything in it, and the files a pod finds there. */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { compareBytes } from './go-text.ts'
import { readAsRoot } from './read-as-root.ts'

/** One entry of a volume. */
export interface TreeEntry {
  /** Relative to the volume; `.` for its root. */
  readonly path: string
  readonly kind: 'file' | 'directory' | 'link'
  /** Octal, four digits: `0644`. Links have none of their own. */
  readonly mode: string
  /** Bytes of a file; 0 for the rest. */
  readonly size: number
  /** Where a link points. */
  readonly link?: string
}

/** A file as the pod sees it, through the links. */
export interface VisibleFile {
  readonly mode: number
  readonly contents: Buffer
}

/** Everything below `dir`, links not followed, sorted bytewise; empty if there is no such directory. */
export function tree(dir: string): readonly TreeEntry[] {
  if (!fs.existsSync(dir)) return []
  const entries: TreeEntry[] = []
  const visit = (path: string): void => {
    const stat = fs.lstatSync(join(dir, path))
    const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0')
    if (stat.isSymbolicLink()) {
      entries.push({ path, kind: 'link', mode: '0777', size: 0, link: fs.readlinkSync(join(dir, path)) })
    } else if (stat.isDirectory()) {
      entries.push({ path, kind: 'directory', mode, size: 0 })
      for (const name of fs.readdirSync(join(dir, path))) visit(path === '.' ? name : `${path}/${name}`)
    } else {
      entries.push({ path, kind: 'file', mode, size: stat.size })
    }
  }
  visit('.')
  return entries.sort((a, b) => compareBytes(a.path, b.path))
}

/** The files below `dir` by their path in the pod, through the root links; names in `..` are the writer's own. */
export function visibleFiles(dir: string): ReadonlyMap<string, VisibleFile> {
  const files = new Map<string, VisibleFile>()
  const visit = (path: string): void => {
    const full = join(dir, path)
    const stat = fs.statSync(full)
    if (stat.isDirectory()) for (const name of fs.readdirSync(full)) visit(`${path}/${name}`)
    else files.set(path, { mode: stat.mode & 0o7777, contents: readAsRoot(full) })
  }
  if (!fs.existsSync(dir)) return files
  for (const name of fs.readdirSync(dir)) if (!name.startsWith('..')) visit(name)
  return new Map([...files].sort(([a], [b]) => compareBytes(a, b)))
}
