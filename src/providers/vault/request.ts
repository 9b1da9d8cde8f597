/** Owns how `secretPath`, query, method and arguments become a request (vault section 3). Pure. */
import type { VaultRef } from './store.ts'

/** A request cannot be made from what the SPC says. The message names the fault, not the object. */
export class RequestError extends Error {
  override readonly name = 'RequestError'
}

const METHODS: ReadonlySet<string> = new Set(['GET', 'PUT', 'POST', 'PATCH', 'DELETE', 'LIST'])

/**
 * The method of an object: upper-cased, because servers refuse `put`; empty is GET.
 * @throws RequestError for anything but the API's methods.
 */
export function requestMethod(method: string): VaultRef['method'] {
  const upper = method === '' ? 'GET' : method.toUpperCase()
  if (!METHODS.has(upper)) throw new RequestError(`method "${method}" is none of ${[...METHODS].join(', ')}`)
  return upper as VaultRef['method']
}

/**
 * Path and query below the address: `/v1/` prefixed once, cleaned, escaped; query keys sorted.
 * @throws RequestError when the query cannot be parsed or `..` climbs out of the API.
 */
export function requestPath(secretPath: string): string {
  const mark = secretPath.indexOf('?')
  const rawPath = mark < 0 ? secretPath : secretPath.slice(0, mark)
  const path = cleanPath(prefixed(rawPath))
  if (path !== '/v1' && !path.startsWith('/v1/')) {
    throw new RequestError(`secretPath "${secretPath}" leads out of /v1 with ".."`)
  }
  const query = mark < 0 ? '' : requestQuery(secretPath, secretPath.slice(mark + 1))
  return escapePath(path) + (query === '' ? '' : `?${query}`)
}

function prefixed(path: string): string {
  const bare = path.startsWith('/') ? path.slice(1) : path
  return bare.startsWith('v1/') ? `/${bare}` : `/v1/${bare}`
}

/** Lexical cleaning as Go's `path.Clean`: no `//`, no `.`, no `..`, no trailing slash. */
export function cleanPath(path: string): string {
  const kept: string[] = []
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part === '..') kept.pop()
    else kept.push(part)
  }
  return `/${kept.join('/')}`
}

const UNRESERVED = /[A-Za-z0-9\-_.~]/
const UNESCAPED_IN_PATH = /[A-Za-z0-9\-_.~$&+,/:;=@]/

/** The path as unescaped text: a space becomes `%20`, `%2F` becomes `%252F`. */
export function escapePath(path: string): string {
  return escapeBytes(path, UNESCAPED_IN_PATH, '%20')
}

function escapeBytes(text: string, plain: RegExp, space: string): string {
  let out = ''
  for (const byte of Buffer.from(text)) {
    const char = String.fromCharCode(byte)
    if (plain.test(char)) out += char
    else if (char === ' ') out += space
    else out += `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return out
}

function requestQuery(secretPath: string, raw: string): string {
  const values = new Map<string, string[]>()
  for (const pair of raw.split('&')) {
    if (pair === '') continue
    const key = unescapeQuery(pair.split('=', 1)[0] ?? '')
    const value = unescapeQuery(pair.includes('=') ? pair.slice(pair.indexOf('=') + 1) : '')
    if (pair.includes(';') || key === undefined || value === undefined) {
      throw new RequestError(`failed to parse query parameters from secretPath "${secretPath}"`)
    }
    const name = key.toString('latin1')
    values.set(name, [...(values.get(name) ?? []), value.toString('latin1')])
  }
  const keys = [...values.keys()].sort((a, b) => (a < b ? -1 : 1))
  return keys
    .flatMap((key) => (values.get(key) ?? []).map((value) => `${escapeQuery(key)}=${escapeQuery(value)}`))
    .join('&')
}

/** Bytes of a query part as latin1 text, so that bytes that are not UTF-8 survive. */
function escapeQuery(latin1: string): string {
  let out = ''
  for (const char of latin1) {
    if (UNRESERVED.test(char)) out += char
    else if (char === ' ') out += '+'
    else out += `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`
  }
  return out
}

/** The bytes of one part of a query; undefined for a bad escape. */
function unescapeQuery(part: string): Buffer | undefined {
  const source = Buffer.from(part)
  const out: number[] = []
  for (let i = 0; i < source.length; i++) {
    const byte = source[i] ?? 0
    if (byte === 0x2b) out.push(0x20)
    else if (byte !== 0x25) out.push(byte)
    else {
      const hex = source.toString('latin1', i + 1, i + 3)
      if (!/^[0-9a-fA-F]{2}$/.test(hex)) return undefined
      out.push(Number.parseInt(hex, 16))
      i += 2
    }
  }
  return Buffer.from(out)
}

/** Path segments that issue a new credential at each read, whatever the mount is called. */
const ISSUING_SEGMENTS: ReadonlySet<string> = new Set([
  'creds',
  'sts',
  'issue',
  'sign',
  'token',
  'key',
  'login',
])

/**
 * Whether a request can be expected to issue something that belongs to one pod: every write, and reads
 * of credential endpoints. KV paths with such a word in them only lose sharing between pods.
 */
export function issuesForOnePod(ref: Pick<VaultRef, 'method' | 'path'>): boolean {
  if (ref.method !== 'GET' && ref.method !== 'LIST') return true
  const segments = (ref.path.split('?', 1)[0] ?? '').split('/').slice(3)
  if (segments[0] === 'data' || segments[0] === 'metadata') return false
  return segments.some((segment) => ISSUING_SEGMENTS.has(segment))
}

/** Equal requests have equal keys: one fetch, one lease. */
export function refKey(ref: VaultRef): string {
  return JSON.stringify([ref.method, ref.path, ref.body ?? null, ref.shape, ref.pod ?? null])
}

/**
 * What the server is asked for, for policy: the path below `/v1/` without its query, unescaped, behind the
 * namespace that the store names, e.g. `team-a/secret/data/app`.
 */
export function keyOf(namespace: string | undefined, { path }: Pick<VaultRef, 'path'>): string {
  const bare = unescaped((path.split('?', 1)[0] ?? '').replace(/^\/v1\//, ''))
  return namespace === undefined ? bare : cleanPath(`${namespace}/${bare}`).slice(1)
}

function unescaped(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}
