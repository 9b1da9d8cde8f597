/** Owns replacing a file whole: a reader sees the old bytes or the new ones, never a part (sops B4). */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

const { O_CREAT, O_EXCL, O_WRONLY, O_NOFOLLOW, O_RDONLY, O_DIRECTORY } = constants

/** Flushes a directory's entries to the disk. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, O_RDONLY | O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export interface ReplaceOptions {
  /**
   * Directory for the temporary file, on the same file system. Not the directory of the file itself:
   * `sopsFile: payments/` mounts every regular file of one (sops A1), a dead writer's leftovers too.
   */
  readonly staging: string
  /** Permission bits of the file; default 0600. */
  readonly mode?: number
}

/**
 * Writes `bytes` to `path`. When it fails, `path` is as it was and no temporary file remains; when the
 * process dies, a file in `staging` may remain.
 */
export async function replaceFile(path: string, bytes: Uint8Array, options: ReplaceOptions): Promise<void> {
  const temporary = join(options.staging, `${basename(path)}.${randomBytes(8).toString('hex')}.tmp`)
  const handle = await open(temporary, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, options.mode ?? 0o600)
  try {
    try {
      await handle.writeFile(bytes)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
  await syncDirectory(dirname(path))
}

/**
 * Creates `path` with `bytes`; fails with EEXIST when there is any file of that name, a dangling
 * symbolic link included.
 */
export async function createFile(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  const handle = await open(path, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, mode)
  try {
    await handle.writeFile(bytes)
    await handle.sync()
  } catch (error) {
    await unlink(path).catch(() => {})
    throw error
  } finally {
    await handle.close()
  }
  await syncDirectory(dirname(path))
}
