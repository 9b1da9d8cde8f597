/**
 * Owns how a reply's body becomes a secret and how a secret becomes file bytes (vault sections 4.1
 * and 5). Pure; messages never quote the body.
 */
import { JsonError, parseJson } from '../../formats/json-parse.ts'
import { formatGoJson, JsonNumber, type JsonValue } from '../../formats/json.ts'
import type { Flavour } from './store.ts'

export type JsonObject = ReadonlyMap<string, JsonValue>

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map
}

/** The members of a reply that the API defines, with the values that stand for "absent". */
export interface Envelope {
  readonly requestId: string
  readonly leaseId: string
  /** Seconds. */
  readonly leaseDuration: number
  readonly renewable: boolean
  readonly data: JsonObject | undefined
  readonly warnings: readonly string[] | undefined
  readonly auth: JsonObject | undefined
  readonly wrapInfo: JsonObject | undefined
  readonly mountType: string
}

/** The body is not what the API sends. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError'
}

type Member = { readonly [K in keyof Envelope]: Envelope[K] }
type Decode = (value: JsonValue, name: string) => unknown

const text: Decode = (value, name) => {
  if (typeof value !== 'string') throw new ReplyError(`member ${name} is not a string`)
  return value
}
const integer: Decode = (value, name) => {
  const number = value instanceof JsonNumber && /^-?[0-9]+$/.test(value.text) ? Number(value.text) : undefined
  if (number === undefined || !Number.isSafeInteger(number))
    throw new ReplyError(`member ${name} is not an integer`)
  return number
}
const boolean: Decode = (value, name) => {
  if (typeof value !== 'boolean') throw new ReplyError(`member ${name} is not a boolean`)
  return value
}
const object: Decode = (value, name) => {
  if (!isJsonObject(value)) throw new ReplyError(`member ${name} is not an object`)
  return value
}
const texts: Decode = (value, name) => {
  if (!Array.isArray(value)) throw new ReplyError(`member ${name} is not a list`)
  return value.map((item: JsonValue) => (item === null ? '' : text(item, name)))
}

/** Wire name → field and decoder. Go matches the names without regard to case. */
const MEMBERS = new Map<string, { readonly field: keyof Envelope; readonly decode: Decode }>([
  ['request_id', { field: 'requestId', decode: text }],
  ['lease_id', { field: 'leaseId', decode: text }],
  ['lease_duration', { field: 'leaseDuration', decode: integer }],
  ['renewable', { field: 'renewable', decode: boolean }],
  ['data', { field: 'data', decode: object }],
  ['warnings', { field: 'warnings', decode: texts }],
  ['auth', { field: 'auth', decode: object }],
  ['wrap_info', { field: 'wrapInfo', decode: object }],
  ['mount_type', { field: 'mountType', decode: text }],
])

const EMPTY: Envelope = {
  requestId: '',
  leaseId: '',
  leaseDuration: 0,
  renewable: false,
  data: undefined,
  warnings: undefined,
  auth: undefined,
  wrapInfo: undefined,
  mountType: '',
}

/**
 * The envelope of a reply. A body with none of the API's members is taken as `data` whole, e.g.
 * `sys/health`.
 * @throws ReplyError when it is empty, not JSON, of the wrong types, or only says `errors`.
 */
export function parseEnvelope(body: Uint8Array): Envelope {
  const root = parseBody(body)
  const found: Record<string, unknown> = {}
  for (const [name, value] of root) {
    const member = MEMBERS.get(name.toLowerCase())
    if (member !== undefined && value !== null) found[member.field] = member.decode(value, name)
  }
  const envelope: Envelope = { ...EMPTY, ...(found as Partial<Member>) }
  if (!isZero(envelope)) return envelope
  if (root.has('errors'))
    throw new ReplyError(`the reply says ${errorTexts(root).join('; ') || 'errors'} and nothing else`)
  return { ...EMPTY, data: root }
}

function parseBody(body: Uint8Array): JsonObject {
  if (body.every((byte) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)))
    throw new ReplyError('the reply is empty')
  let root: JsonValue
  try {
    root = parseJson(body)
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw new ReplyError(`the reply is not JSON that we take (${error.message})`)
  }
  if (!isJsonObject(root)) throw new ReplyError('the reply is not a JSON object')
  return root
}

function isZero(envelope: Envelope): boolean {
  return (Object.keys(EMPTY) as (keyof Envelope)[]).every((field) => envelope[field] === EMPTY[field])
}

/** Strings under `errors` of a reply, as the server wrote them, without control characters. */
export function errorTexts(root: JsonObject): readonly string[] {
  const errors = root.get('errors')
  return Array.isArray(errors) ? errors.filter((e): e is string => typeof e === 'string').map(printable) : []
}

/** What a failed reply tells. Never throws: proxies answer with pages of HTML. */
export interface Failure {
  readonly errors: readonly string[]
  readonly warnings: readonly string[]
  /** Of a deleted or destroyed KV v2 version. */
  readonly version?: string
  readonly deletionTime?: string
  readonly destroyed?: boolean
}

export function parseFailure(body: Uint8Array): Failure {
  let root: JsonObject
  try {
    root = parseBody(body)
  } catch {
    return { errors: [], warnings: [] }
  }
  const warnings = root.get('warnings')
  const data = root.get('data')
  const metadata = isJsonObject(data) ? data.get('metadata') : undefined
  const facts = isJsonObject(metadata) ? metadata : new Map<string, JsonValue>()
  const version = facts.get('version')
  const deletionTime = facts.get('deletion_time')
  return {
    errors: errorTexts(root),
    warnings: Array.isArray(warnings)
      ? warnings.filter((w): w is string => typeof w === 'string').map(printable)
      : [],
    ...(version instanceof JsonNumber && { version: version.text }),
    ...(typeof deletionTime === 'string' && deletionTime !== '' && { deletionTime: printable(deletionTime) }),
    ...(facts.get('destroyed') === true && { destroyed: true }),
  }
}

/** Whether a failed reply is one of Vault's: a JSON object with `errors`, or with the data of a deleted version. */
export function isVaults(body: Uint8Array): boolean {
  try {
    const root = parseBody(body)
    return Array.isArray(root.get('errors')) || isJsonObject(root.get('data'))
  } catch {
    return false
  }
}

const MAX_TEXT = 300

/** A server's text on one line, of bounded length: it goes into events and logs. */
export function printable(text: string): string {
  const flat = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim()
  return flat.length > MAX_TEXT ? `${flat.slice(0, MAX_TEXT)}…` : flat
}

/**
 * The envelope as Go writes it: its own member order, no trailing newline. HashiCorp's provider keeps
 * `mount_type`, OpenBao's drops it (section 5.2).
 */
export function envelopeText(envelope: Envelope, flavour: Flavour): string {
  const members: [string, string][] = [
    ['request_id', formatGoJson(envelope.requestId)],
    ['lease_id', formatGoJson(envelope.leaseId)],
    ['lease_duration', String(envelope.leaseDuration)],
    ['renewable', String(envelope.renewable)],
    ['data', formatGoJson(envelope.data ?? null)],
    ['warnings', formatGoJson(envelope.warnings ?? null)],
  ]
  if (envelope.auth !== undefined) members.push(['auth', formatGoJson(envelope.auth)])
  if (envelope.wrapInfo !== undefined) members.push(['wrap_info', formatGoJson(envelope.wrapInfo)])
  if (envelope.mountType !== '' && flavour === 'vault')
    members.push(['mount_type', formatGoJson(envelope.mountType)])
  return `{${members.map(([name, json]) => `"${name}":${json}`).join(',')}}`
}

/** The object in which a key is looked up: the inner data where `data.data` is an object (KV v2 by shape). */
export function secretData(data: JsonObject): JsonObject {
  const inner = data.get('data')
  return isJsonObject(inner) ? inner : data
}

/** File text of one value: a string as it is, anything else as JSON. */
export function valueText(value: JsonValue): string {
  return typeof value === 'string' ? value : formatGoJson(value)
}
