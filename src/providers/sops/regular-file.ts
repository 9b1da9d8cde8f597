/** Owns opening a file without being led elsewhere: no symlink, hard link, FIFO, device or surprise size (sops A2, B6, T10). */
import { constants, type Stats } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'

/** Why a file was not read. `missing`: there is none. `refused`: it is not what it must be. `too-large`: over the bound. */
export type FileFault = { readonly fault: 'missing' | 'refused' | 'too-large'; readonly why: string }

const MISSING = new Set(['ENOENT', 'ENOTDIR'])

/** Reads at most `limit` bytes; undefined when there are more. */
async function readUpTo(handle: FileHandle, size: number, limit: number): Promise<Buffer | undefined> {
  // One byte more than the file has: a file that grows meanwhile shows.
  const bytes = Buffer.allocUnsafeSlow(Math.min(size, limit) + 1)
  let length = 0
  while (length < bytes.length) {
    const { bytesRead } = await handle.read(bytes, length, bytes.length - length, null)
    if (bytesRead === 0) return bytes.subarray(0, length)
    length += bytesRead
  }
  return undefined
}

/**
 * Reads a regular file with one link, checked on the descriptor.
 * @param limit most bytes
 * @param refuse further conditions: a phrase why the file is refused
 */
export async function readRegularFile(
  path: string,
  limit: number,
  refuse: (stats: Stats) => string | undefined = () => undefined,
): Promise<Buffer | FileFault> {
  let handle: FileHandle
  try {
    // Non-blocking, so that a FIFO without a writer is told by its type instead of waited for.
    handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (MISSING.has(code)) return { fault: 'missing', why: 'there is no such file' }
    return {
      fault: 'refused',
      why: code === 'ELOOP' ? 'it is a symbolic link' : `it cannot be opened (${code})`,
    }
  }
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) return { fault: 'refused', why: 'it is no regular file' }
    if (stats.nlink !== 1) return { fault: 'refused', why: 'it has more than one hard link' }
    const why = refuse(stats)
    if (why !== undefined) return { fault: 'refused', why }
    if (stats.size > limit) return { fault: 'too-large', why: `it is larger than ${limit} bytes` }
    const bytes = await readUpTo(handle, stats.size, limit)
    return bytes ?? { fault: 'refused', why: 'it changed while it was read' }
  } catch (error) {
    return {
      fault: 'refused',
      why: `it cannot be read (${(error as NodeJS.ErrnoException).code ?? 'error'})`,
    }
  } finally {
    await handle.close()
  }
}
