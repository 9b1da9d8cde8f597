/** Owns the step from a fetched value to a file's bytes: a JMESPath field, base64 (aws.md section 6). */
import { compileJmesPath, JmesPathError } from '../../formats/jmespath.ts'
import type { JmesPath } from '../../formats/jmespath.ts'
import { JsonError, parseJson } from '../../formats/json-parse.ts'
import { JsonNumber } from '../../formats/json.ts'
import type { JsonValue } from '../../formats/json.ts'
import { SelectError } from '../adapter.ts'
import type { ErrorKind, Select } from '../adapter.ts'

/** Standard base64 with padding; line breaks are skipped. @throws SelectError `AWS_BAD_ENCODING` */
export const base64Decoded: Select = (bytes) => {
  const text = Buffer.from(bytes)
    .toString('latin1')
    .replaceAll(/[\r\n]/g, '')
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0)
    throw new SelectError({
      kind: 'malformed',
      code: 'AWS_BAD_ENCODING',
      message: 'the value is not base64',
      remedy: 'Remove objectEncoding, or store the value in standard base64.',
    })
  return Buffer.from(text, 'base64')
}

/** One selection after the other; absent ones are skipped. */
export function chained(...steps: readonly (Select | undefined)[]): Select {
  return (bytes) => steps.reduce<Uint8Array>((now, step) => (step === undefined ? now : step(now)), bytes)
}

/** A jmesPath entry that cannot be compiled. */
export interface JmesFault {
  readonly code: 'AWS_JMES_SYNTAX'
  readonly message: string
  readonly remedy: string
}

/** What an entry of `jmesPath` says. */
export interface JmesEntry {
  readonly path: string
  readonly objectAlias: string
}

/**
 * Compiles an entry, so that a syntax error costs no call to AWS. The selection reads the value as JSON
 * and gives the field's text: a string's own, and unless `strict` a number's digits or a boolean's word.
 */
export function jmesSelect(entry: JmesEntry, options: { readonly strict: boolean }): Select | JmesFault {
  let compiled: JmesPath
  try {
    compiled = compileJmesPath(entry.path)
  } catch (error) {
    if (!(error instanceof JmesPathError)) throw error
    return {
      code: 'AWS_JMES_SYNTAX',
      message: `Invalid JMES Path: ${error.message}`,
      remedy: syntaxRemedy(entry.path),
    }
  }
  const refuse = (code: string, kind: ErrorKind, what: string, remedy: string): SelectError =>
    new SelectError({
      kind,
      code,
      message: `jmesPath "${entry.path.slice(0, 100)}" (${entry.objectAlias.slice(0, 100)}): ${what}`,
      remedy,
    })
  return (bytes) => {
    const found = searched(compiled, documentOf(bytes, refuse), refuse)
    if (found === null)
      throw refuse(
        'AWS_JMES_MISSING',
        'not-found',
        'does not point to a valid object',
        'Check the path against the keys of the value.',
      )
    const text = textOf(found, options.strict)
    if (text === undefined)
      throw refuse(
        'AWS_JMES_TYPE',
        'malformed',
        options.strict ? 'Only string is allowed' : 'Only string, number or boolean is allowed',
        'Point to a single text, or wrap the path in to_string( ).',
      )
    return Buffer.from(text)
  }
}

type Refuse = (code: string, kind: ErrorKind, what: string, remedy: string) => SelectError

function documentOf(bytes: Uint8Array, refuse: Refuse): JsonValue {
  try {
    return parseJson(bytes, { float64: true })
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw refuse(
      'AWS_JMES_JSON',
      'malformed',
      `Invalid JSON used with jmesPath: ${error.message}`,
      'Use jmesPath only on values that are JSON.',
    )
  }
}

function searched(compiled: JmesPath, document: JsonValue, refuse: Refuse): JsonValue {
  try {
    return compiled.search(document)
  } catch (error) {
    if (!(error instanceof JmesPathError)) throw error
    throw refuse(
      'AWS_JMES_SYNTAX',
      'config',
      `Invalid JMES Path: ${error.message}`,
      'Check the arguments of the functions in the path against the value.',
    )
  }
}

function textOf(found: JsonValue, strict: boolean): string | undefined {
  if (typeof found === 'string') return found
  if (strict) return undefined
  if (found instanceof JsonNumber) return found.text
  return typeof found === 'boolean' ? String(found) : undefined
}

/** The commonest mistake is a key with a hyphen. */
function syntaxRemedy(path: string): string {
  return /^[\w-]{1,60}$/.test(path)
    ? `A key with a hyphen needs quotes inside quotes: path: '"${path}"'.`
    : 'See jmespath.org for the grammar; keys with other characters than letters, digits and _ need double quotes.'
}
