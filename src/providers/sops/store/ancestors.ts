/** Owns the check that nobody but root and the caller can replace a directory of the store (sops B4, T10). */
import { lstatSync, realpathSync, type Stats } from 'node:fs'
import { dirname } from 'node:path'
import { WriteError } from '../write/error.ts'

const WRITABLE_BY_OTHERS = 0o022
const STICKY = 0o1000

function fault(stats: Stats, uid: number): string | undefined {
  if (!stats.isDirectory()) return 'is no directory'
  if (stats.uid !== 0 && stats.uid !== uid) return `is owned by uid ${stats.uid}`
  // In a sticky directory (like /tmp) others may add entries but not replace ours.
  if ((stats.mode & WRITABLE_BY_OTHERS) !== 0 && (stats.mode & STICKY) === 0) return 'is writable by others'
  return undefined
}

/**
 * Checks `directory` and everything above it, symbolic links resolved.
 * @returns the real path.
 * @throws WriteError `permission` naming the first directory that another user could tamper with,
 * `not-found` when there is none of that name.
 */
export function safeDirectory(directory: string, uid: number = process.getuid?.() ?? 0): string {
  let real: string
  try {
    real = realpathSync(directory)
  } catch {
    throw new WriteError(
      'not-found',
      `there is no directory ${directory}`,
      'Run `keyferry secret init` first.',
    )
  }
  for (let path = real; ; path = dirname(path)) {
    const wrong = fault(lstatSync(path), uid)
    if (wrong !== undefined) {
      throw new WriteError(
        'permission',
        `${path} ${wrong}, so another user could replace the store`,
        `Give ${path} to root or yourself and run \`chmod go-w\` on it.`,
      )
    }
    if (dirname(path) === path) return real
  }
}
