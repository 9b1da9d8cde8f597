/** Owns reading a file whatever its mode, as the driver, being root, can. */
import * as fs from 'node:fs'
import { errnoOf, FileError } from './go-text.ts'

/**
 * The contents of a file of our own. A mode that keeps even its unprivileged owner out is lifted for the
 * moment of reading. Throws FileError as Go words it (`read …: is a directory`).
 */
export function readAsRoot(path: string): Buffer {
  try {
    return fs.readFileSync(path)
  } catch (error) {
    const code = errnoOf(error)
    if (code !== 'EACCES') throw new FileError(code === 'EISDIR' ? 'read' : 'open', path, code)
  }
  try {
    const mode = fs.statSync(path).mode & 0o7777
    fs.chmodSync(path, 0o400)
    try {
      return fs.readFileSync(path)
    } finally {
      fs.chmodSync(path, mode)
    }
  } catch (error) {
    throw new FileError('open', path, errnoOf(error))
  }
}
