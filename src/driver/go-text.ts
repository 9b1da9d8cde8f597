/** Owns the few ways in which Go prints things that a pod's owner ends up reading: quoted strings, JSON maps, file errors. */

/** Compares as Go does: by UTF-8 bytes, not by UTF-16 units. */
export function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

const JSON_ESCAPES: Readonly<Record<string, string>> = {
  '<': '\\u003c',
  '>': '\\u003e',
  '&': '\\u0026',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
}

/** A JSON string as Go's `encoding/json` writes it by default, HTML escapes included. */
export function goJsonString(text: string): string {
  return JSON.stringify(text.toWellFormed()).replace(/[<>&\u2028\u2029]/g, (c) => JSON_ESCAPES[c] ?? c)
}

/** A `map[string]string` as Go marshals it: keys sorted bytewise, no white space (driver.md section 1.1). */
export function goJsonMap(map: ReadonlyMap<string, string>): string {
  const keys = [...map.keys()].sort(compareBytes)
  return `{${keys.map((key) => `${goJsonString(key)}:${goJsonString(map.get(key) ?? '')}`).join(',')}}`
}

const QUOTE_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
}

/** A string as Go's `%q` prints it. */
export function goQuote(text: string): string {
  let quoted = ''
  for (const char of text.toWellFormed()) {
    const point = char.codePointAt(0) ?? 0
    if (QUOTE_ESCAPES[char] !== undefined) quoted += QUOTE_ESCAPES[char]
    else if (/^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u.test(char)) quoted += char
    else if (point < 0x80) quoted += `\\x${point.toString(16).padStart(2, '0')}`
    else if (point < 0x10000) quoted += `\\u${point.toString(16).padStart(4, '0')}`
    else quoted += `\\U${point.toString(16).padStart(8, '0')}`
  }
  return `"${quoted}"`
}

const ERRNO_TEXTS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EBUSY: 'device or resource busy',
  EEXIST: 'file exists',
  EINVAL: 'invalid argument',
  EISDIR: 'is a directory',
  ELOOP: 'too many levels of symbolic links',
  ENAMETOOLONG: 'file name too long',
  ENOENT: 'no such file or directory',
  ENOSPC: 'no space left on device',
  ENOTDIR: 'not a directory',
  ENOTEMPTY: 'directory not empty',
  EPERM: 'operation not permitted',
  EROFS: 'read-only file system',
  ERR_INVALID_ARG_VALUE: 'invalid argument', // Node refuses a NUL byte before the kernel can
}

/** The error code of a failed `node:fs` call (`ENOENT`), or an empty string for any other error. */
export function errnoOf(error: unknown): string {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : ''
}

/** What Linux calls an error code, in Go's lower case. */
export function errnoText(code: string): string {
  return ERRNO_TEXTS[code] ?? code
}

/** A failed file operation with the text Go gives it: `open /dir/a: is a directory`. */
export class FileError extends Error {
  readonly code: string
  constructor(operation: string, path: string, code: string) {
    super(`${operation} ${path}: ${errnoText(code)}`)
    this.name = 'FileError'
    this.code = code
  }
}
