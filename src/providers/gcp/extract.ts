/**
 * Owns the step from a payload to a file's bytes: a top-level key of JSON or YAML as Google's provider takes
 * it, JMESPath, base64 (gcp.md section 7). No error quotes the payload.
 */
import { decodeGoYaml, goAny, goMap } from '../../formats/go-yaml.ts'
import type { GoDecoder } from '../../formats/go-yaml.ts'
import { compileJmesPath, JmesPathError } from '../../formats/jmespath.ts'
import type { JmesPath } from '../../formats/jmespath.ts'
import { JsonError, parseJson } from '../../formats/json-parse.ts'
import { formatGoJson } from '../../formats/json.ts'
import type { JsonValue } from '../../formats/json.ts'
import { resolveScalar } from '../../formats/yaml-scalars.ts'
import { SelectError } from '../adapter.ts'
import type { ErrorKind, Select } from '../adapter.ts'

const refusal = (kind: ErrorKind, code: string, message: string, remedy: string): SelectError =>
  new SelectError({ kind, code, message, remedy })

const clipped = (text: string): string => text.slice(0, 100)

const notFound = (key: string, format: string): SelectError =>
  refusal(
    'not-found',
    'GCP_KEY_NOT_FOUND',
    `key '${clipped(key)}' not found in ${format}`,
    'Check the key: case counts, and only top-level keys are looked at.',
  )

const unsupported = (key: string): SelectError =>
  refusal(
    'malformed',
    'GCP_KEY_TYPE',
    `unsupported value type for key '${clipped(key)}'`,
    'Store the value as a string, or set stringify: true on the entry.',
  )

function unreadable(format: 'JSON' | 'YAML', place: string): SelectError {
  return refusal(
    'malformed',
    'GCP_UNMARSHAL',
    `failed to unmarshal ${format}${place}`,
    `Store a ${format} object, or leave extract${format}Key out.`,
  )
}

/** How a value that is no string is treated: refused as Google's provider does, or written as JSON. */
export interface ExtractOptions {
  readonly stringify: boolean
}

/** A top-level key of a JSON object. */
export function jsonKey(key: string, { stringify }: ExtractOptions): Select {
  return (bytes) => {
    const document = jsonDocument(bytes)
    if (document !== null && !(document instanceof Map)) throw unreadable('JSON', ': it is not an object')
    const value = document === null ? undefined : (document.get(key) as JsonValue | undefined)
    if (value === undefined) throw notFound(key, 'JSON')
    if (typeof value !== 'string' && !stringify) throw unsupported(key)
    return textOf(value)
  }
}

function jsonDocument(bytes: Uint8Array): JsonValue {
  try {
    return parseJson(bytes, { float64: true })
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw unreadable('JSON', ` at offset ${error.offset}`)
  }
}

/** A string's own bytes, anything else as compact JSON. */
export function textOf(value: JsonValue): Buffer {
  return Buffer.from(typeof value === 'string' ? value : formatGoJson(value))
}

/** Stands for a YAML value that is no string. */
const NO_STRING = Symbol('no string')
type StringBytes = Buffer | typeof NO_STRING

/**
 * A YAML value where a string is wanted: what yaml.v3 makes a Go string of when it decodes into `any`.
 * Lists and mappings are walked, so that a duplicate key inside them is found.
 */
const stringBytes: GoDecoder<StringBytes> = {
  type: 'string',
  takesNull: true,
  zero: () => NO_STRING,
  decode(node, decoding) {
    if (node.kind === 'list') {
      for (const item of node.items) stringBytes.decode(item, decoding)
      return NO_STRING
    }
    if (node.kind === 'map') {
      goMap(stringBytes).decode(node, decoding)
      return NO_STRING
    }
    const resolved = resolveScalar(node, decoding.flavour)
    if (resolved.type === 'binary') return resolved.bytes
    return resolved.type === 'str' || resolved.type === 'merge' ? Buffer.from(node.text) : NO_STRING
  },
}

/** A top-level key of a YAML mapping. */
export function yamlKey(key: string, { stringify }: ExtractOptions): Select {
  return (bytes) => {
    const found = yamlMapping(bytes, stringBytes).get(key)
    if (found === undefined) throw notFound(key, 'YAML')
    if (found !== NO_STRING) return found
    if (!stringify) throw unsupported(key)
    return textOf(yamlMapping(bytes, goAny).get(key) ?? null)
  }
}

function yamlMapping<T>(bytes: Uint8Array, element: GoDecoder<T>): ReadonlyMap<string, T> {
  const { value, problems } = decodeGoYaml(bytes, 'yaml3', goMap(element))
  const [first] = problems
  // Only the line: Go's own words would quote the payload.
  if (first !== undefined) throw unreadable('YAML', first.line === undefined ? '' : ` in line ${first.line}`)
  return value
}

/**
 * Every top-level key of a document with its text, for `extractAll`: JSON, or a YAML mapping.
 * @throws SelectError when the document is neither, or has no key.
 */
export function topLevel(bytes: Uint8Array): ReadonlyMap<string, Buffer> {
  const document = documentOf(bytes)
  if (!(document instanceof Map) || document.size === 0)
    throw refusal(
      'malformed',
      'GCP_UNMARSHAL',
      'the payload is not a JSON or YAML object with keys',
      'Use extractAll on an object only.',
    )
  return new Map(
    [...(document as ReadonlyMap<string, JsonValue>)].map(([key, value]) => [key, textOf(value)]),
  )
}

function documentOf(bytes: Uint8Array): JsonValue {
  try {
    return parseJson(bytes, { float64: true })
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    return yamlMapping(bytes, goAny)
  }
}

/**
 * Compiles a JMESPath over a JSON payload.
 * @returns the selection, or what is wrong with the expression
 */
export function jmesPath(path: string, { stringify }: ExtractOptions): Select | string {
  let compiled: JmesPath
  try {
    compiled = compileJmesPath(path)
  } catch (error) {
    if (error instanceof JmesPathError) return error.message
    throw error
  }
  return (bytes) => {
    const document = jsonDocument(bytes)
    let found: JsonValue
    try {
      found = compiled.search(document)
    } catch (error) {
      if (!(error instanceof JmesPathError)) throw error
      throw refusal(
        'malformed',
        'GCP_JMESPATH',
        `the path '${clipped(path)}' does not fit the payload`,
        'Check the arguments of its functions.',
      )
    }
    if (found === null) throw notFound(path, 'JSON')
    if (typeof found !== 'string' && !stringify) throw unsupported(path)
    return textOf(found)
  }
}

/** Standard base64 with padding; line breaks are skipped. */
export const base64Decoded: Select = (bytes) => {
  const text = Buffer.from(bytes)
    .toString('latin1')
    .replaceAll(/[\r\n]/g, '')
  const decoded = Buffer.from(text, 'base64')
  if (decoded.toString('base64') === text) return decoded
  throw refusal(
    'malformed',
    'GCP_BAD_BASE64',
    'the value is not base64',
    'Remove decodeBase64, or store the value in standard base64.',
  )
}

/** One selection after the other; absent ones are skipped; `undefined` when there is none. */
export function chained(...steps: readonly (Select | undefined)[]): Select | undefined {
  const present = steps.filter((step) => step !== undefined)
  if (present.length === 0) return undefined
  return (bytes) => present.reduce<Uint8Array>((now, step) => step(now), bytes)
}
