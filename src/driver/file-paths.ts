/** Owns which file paths of a response the driver accepts, with its texts (driver.md section 3). */
import { posix } from 'node:path'
import { goQuote } from './go-text.ts'

const MAX_PATH_BYTES = 4096
const MAX_NAME_BYTES = 255

/** Why the driver refuses `path`, in its words; undefined if it accepts it. `\` is an ordinary character. */
export function pathProblem(path: string): string | undefined {
  if (path === '') return 'invalid path: must not be empty: ""'
  if (path.startsWith('/')) return `invalid path: must be relative path: ${path}`
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    return `invalid path: must be less than or equal to ${MAX_PATH_BYTES} characters`
  }
  const names = path.split('/')
  for (const name of names) {
    if (name === '..') return `invalid path: must not contain '..': ${path}`
    if (Buffer.byteLength(name) > MAX_NAME_BYTES) {
      return `invalid path: filenames must be less than or equal to ${MAX_NAME_BYTES} characters`
    }
  }
  if (names[0]?.startsWith('..')) return `invalid path: must not start with '..': ${path}`
  if (cleanPath(path) !== path) return `invalid filepath: ${goQuote(path)}`
  return undefined
}

/** The shortest lexical equivalent, without a trailing slash. */
function cleanPath(path: string): string {
  const normal = posix.normalize(path)
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal
}

/** The part of a path before its first slash: what becomes a link in the volume's root. */
export function firstComponent(path: string): string {
  const slash = path.indexOf('/')
  return slash === -1 ? path : path.slice(0, slash)
}
