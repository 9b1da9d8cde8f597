/** Owns the step from a fetched value to the wanted bytes: property, JMESPath, decoding, encoding. Pure. */
import { isUtf8 } from 'node:buffer'
import { compileJmesPath, JmesPathError, type JmesPath } from '../../formats/jmespath.ts'
import { JsonError, parseJson, type JsonLimits } from '../../formats/json-parse.ts'
import type { JsonValue } from '../../formats/json.ts'
import { SelectError, type Select } from '../adapter.ts'
import { textOf } from './documents.ts'

export const DECODINGS = ['none', 'base64', 'base64url', 'hex'] as const
export const ENCODINGS = ['utf-8', 'base64', 'base64url', 'hex'] as const

/** What a file takes of a value, in this order. */
export interface Selection {
  readonly property?: string | undefined
  readonly jmesPath?: string | undefined
  readonly decode?: (typeof DECODINGS)[number] | undefined
  readonly encoding?: (typeof ENCODINGS)[number] | undefined
}

/** Whether the value has to be a document. */
export function needsDocument({ property, jmesPath }: Selection): boolean {
  return property !== undefined || jmesPath !== undefined
}

/**
 * The steps of a selection as one; undefined for none, which leaves the bytes as they are.
 * @throws JmesPathError when the path cannot be compiled.
 */
export function selectOf(selection: Selection): Select | undefined {
  const steps = [finder(selection), decoder(selection), encoder(selection)].filter(
    (step) => step !== undefined,
  )
  if (steps.length === 0) return undefined
  return (bytes) => steps.reduce<Uint8Array>((now, step) => step(now), bytes)
}

function finder({ property, jmesPath }: Selection): Select | undefined {
  if (property !== undefined)
    return (bytes) => {
      const found = propertyOf(documentOf(bytes), property)
      if (found === undefined) throw missing(`property "${property.slice(0, 100)}"`, property)
      return Buffer.from(textOf(found))
    }
  if (jmesPath === undefined) return undefined
  const compiled = compileJmesPath(jmesPath)
  return (bytes) => {
    const found = searched(compiled, documentOf(bytes), jmesPath)
    if (found === null) throw missing(`jmesPath "${jmesPath.slice(0, 100)}"`, '')
    return Buffer.from(textOf(found))
  }
}

/** @throws SelectError when the bytes are no JSON. */
export function documentOf(bytes: Uint8Array, limits?: JsonLimits): JsonValue {
  try {
    return parseJson(bytes, limits)
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw new SelectError({
      kind: 'malformed',
      code: 'KEYFERRY_NOT_JSON',
      message: `the value is not JSON: ${error.message}`,
      remedy: 'Remove property, jmesPath, expand or format, or store a JSON document',
    })
  }
}

/**
 * A member as users of External Secrets Operator name it: the literal key if there is one, else names and
 * list positions separated by points, `\.` for a point in a name.
 */
function propertyOf(document: JsonValue, property: string): JsonValue | undefined {
  const literal = memberOf(document, property)
  if (literal !== undefined) return literal
  let at: JsonValue | undefined = document
  for (const name of namesOf(property)) {
    at = memberOf(at, name)
    if (at === undefined) return undefined
  }
  return at
}

function memberOf(value: JsonValue, name: string): JsonValue | undefined {
  if (value instanceof Map) return (value as ReadonlyMap<string, JsonValue>).get(name)
  if (!Array.isArray(value) || !/^(?:0|[1-9]\d{0,8})$/.test(name)) return undefined
  return (value as readonly JsonValue[])[Number(name)]
}

function namesOf(property: string): string[] {
  const names: string[] = []
  let name = ''
  for (let at = 0; at < property.length; at += 1) {
    const char = property.charAt(at)
    if (char === '.') {
      names.push(name)
      name = ''
    } else if (char === '\\' && at + 1 < property.length) {
      at += 1
      name += property.charAt(at)
    } else name += char
  }
  return [...names, name]
}

function searched(compiled: JmesPath, document: JsonValue, jmesPath: string): JsonValue {
  try {
    return compiled.search(document)
  } catch (error) {
    if (!(error instanceof JmesPathError)) throw error
    throw new SelectError({
      kind: 'malformed',
      code: 'KEYFERRY_JMES_PATH',
      message: `jmesPath "${jmesPath.slice(0, 100)}" does not fit the value: ${error.message}`,
      remedy: 'Check the arguments of its functions against the value',
    })
  }
}

function missing(what: string, property: string): SelectError {
  return new SelectError({
    kind: 'not-found',
    code: 'KEYFERRY_NO_PROPERTY',
    message: `the value has no ${what}`,
    remedy: /[*?#@|]/.test(property)
      ? 'A property names members and list positions only; use jmesPath for queries'
      : 'Check the name against the keys of the value',
  })
}

/** Characters of each encoding; padding may be left out of base64url only. */
const ALPHABETS = {
  base64: { characters: /^[A-Za-z0-9+/]*={0,2}$/, unit: 4 },
  base64url: { characters: /^[A-Za-z0-9_-]*={0,2}$/, unit: 1 },
  hex: { characters: /^[0-9A-Fa-f]*$/, unit: 2 },
} as const

function decoder({ decode = 'none' }: Selection): Select | undefined {
  if (decode === 'none') return undefined
  const { characters, unit } = ALPHABETS[decode]
  return (bytes) => {
    // Tools wrap long lines and end the last one.
    const text = Buffer.from(bytes)
      .toString('latin1')
      .replaceAll(/[\r\n]/g, '')
    const decoded = Buffer.from(text, decode)
    const significant = text.replaceAll('=', '')
    const back = decoded.toString(decode).replaceAll('=', '')
    const whole = decode === 'hex' ? back === significant.toLowerCase() : back === significant
    if (!characters.test(text) || text.length % unit !== 0 || !whole)
      throw new SelectError({
        kind: 'malformed',
        code: 'KEYFERRY_DECODE',
        message: `the value is not ${decode}`,
        remedy: 'Remove decode, or correct the value',
      })
    return decoded
  }
}

function encoder({ encoding }: Selection): Select | undefined {
  if (encoding === undefined) return undefined
  if (encoding !== 'utf-8') return (bytes) => Buffer.from(Buffer.from(bytes).toString(encoding))
  return (bytes) => {
    if (isUtf8(bytes)) return bytes
    throw new SelectError({
      kind: 'malformed',
      code: 'KEYFERRY_ENCODING',
      message: 'the value is not UTF-8 text',
      remedy: 'Remove encoding to write the bytes as they are, or write them as base64',
    })
  }
}
