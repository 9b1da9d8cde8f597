/** Owns the comparable picture of a mounted volume: every entry, its mode, its link or its content. */
import { lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

/** One entry: `dir 0755`, `link -> TARGET` or `file 0644 HEX`. */
export type TreeEntry = string

export interface VolumeTree {
  /** Path below the volume's root → entry. The name of the timestamp folder is replaced by `..ts`. */
  readonly entries: Readonly<Record<string, TreeEntry>>
  /** Moves exactly when the writer wrote. */
  readonly rootMtimeNs: bigint
  /** Path → when the entry itself, not what it points at, was last changed; the root is the empty path. */
  readonly mtimesNs: Readonly<Record<string, bigint>>
  /** File path → its text, of all files a pod would see by their user-visible names. */
  readonly files: Readonly<Record<string, string>>
}

/** Reads the whole volume below a folder. */
export function readVolumeTree(root: string): VolumeTree {
  const entries: Record<string, TreeEntry> = Object.create(null)
  const files: Record<string, string> = Object.create(null)
  const mtimesNs: Record<string, bigint> = Object.create(null)
  const walk = (folder: string, prefix: string) => {
    for (const name of readdirSync(folder).sort()) {
      const path = join(folder, name)
      const shown = prefix + withoutTimestamp(name)
      const stat = lstatSync(path)
      mtimesNs[shown] = lstatSync(path, { bigint: true }).mtimeNs
      if (stat.isSymbolicLink()) {
        entries[shown] = `link -> ${withoutTimestamp(readlinkSync(path))}`
      } else if (stat.isDirectory()) {
        entries[shown] = `dir ${octal(stat.mode)}`
        walk(path, `${shown}/`)
      } else {
        const content = readFileSync(path)
        entries[shown] = `file ${octal(stat.mode)} ${content.toString('hex')}`
        if (shown.startsWith('..ts/')) files[shown.slice('..ts/'.length)] = content.toString('utf8')
      }
    }
  }
  walk(root, '')
  const rootMtimeNs = lstatSync(root, { bigint: true }).mtimeNs
  mtimesNs[''] = rootMtimeNs
  return { entries, files, rootMtimeNs, mtimesNs }
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0')
}

function withoutTimestamp(name: string): string {
  return /^\.\.\d{4}_/.test(name) ? '..ts' : name
}
