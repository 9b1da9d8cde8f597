/** Owns how documents are taken apart, put together and written in another format. Pure. */
import { globMatcher } from '../../formats/glob.ts'
import type { JsonValue } from '../../formats/json.ts'
import { SelectError, type ExpandOutput, type GatherOutput, type Select } from '../adapter.ts'
import { memberText, textOf, writeDocument, type DocumentFormat, type Members } from './documents.ts'
import { documentOf } from './select.ts'
import type { CompiledTemplate } from './template-engine.ts'

/** The members of a document. @throws SelectError when the bytes are no JSON object. */
function membersOf(bytes: Uint8Array): Members {
  const document = documentOf(bytes)
  if (document instanceof Map) return document as ReadonlyMap<string, JsonValue>
  throw new SelectError({
    kind: 'malformed',
    code: 'KEYFERRY_NOT_JSON',
    message: 'the value is JSON, but no object with members',
    remedy: 'Choose an object in it with property or jmesPath',
  })
}

/** One document, written in another format. */
export function rewritten(format: DocumentFormat, select: Select | undefined): Select {
  return (bytes) => writeDocument(format, membersOf(select ? select(bytes) : bytes))
}

/**
 * Several values as the members of one document; those that are absent are left out.
 * @param maxBytes most that a file may have: no format makes values shorter
 */
export function membersCombined(
  format: DocumentFormat,
  names: readonly string[],
  maxBytes: number,
): GatherOutput['combine'] {
  return (values) => {
    const size = values.reduce((sum, value) => sum + (value?.length ?? 0), 0)
    if (size > maxBytes)
      throw new SelectError({
        kind: 'too-large',
        code: 'FILE_TOO_LARGE',
        message: `the file has more than ${maxBytes} bytes`,
        remedy: 'Raise limits.fileBytes in the configuration, or split the file',
      })
    const members = new Map<string, string>()
    for (const [index, name] of names.entries()) {
      const bytes = values[index]
      if (bytes) members.set(name, memberText(name, bytes))
    }
    return writeDocument(format, members)
  }
}

/** Several values in the text of a template; those that are absent are missing there, too. */
export function templateRendered(
  template: CompiledTemplate,
  names: readonly string[],
): GatherOutput['combine'] {
  return (values) => {
    const byName = new Map<string, Uint8Array>()
    for (const [index, name] of names.entries()) {
      const bytes = values[index]
      if (bytes) byName.set(name, bytes)
    }
    return template.render(byName)
  }
}

export interface Split {
  /** The part of the value that is taken apart. */
  readonly within: Select | undefined
  /** Names or patterns of the members to take; all of them by default. */
  readonly only: readonly string[] | undefined
  /** Member → file name. */
  readonly rename: ReadonlyMap<string, string>
}

/** Most steps of comparing the members of one value with patterns: some ten milliseconds of them (T17). */
const MAX_MATCHING = 400_000

/** Most files that one value may become. */
const MAX_PARTS = 2000

function tooMany(message: string, remedy: string): SelectError {
  return new SelectError({ kind: 'too-large', code: 'KEYFERRY_SELECT', message, remedy })
}

/** The members of one document as files. A name that is asked for and is not there is an error. */
export function partsSplit({ within, only, rename }: Split): NonNullable<ExpandOutput['split']> {
  const names = new Set((only ?? []).filter((name) => !name.includes('*')))
  const patterns = (only ?? [])
    .filter((name) => name.includes('*'))
    .map((pattern) => globMatcher(pattern, '/'))
  const named = [...names, ...rename.keys()]
  return (bytes) => {
    const members = membersOf(within ? within(bytes) : bytes)
    const missing = named.find((name) => !members.has(name))
    if (missing !== undefined)
      throw new SelectError({
        kind: 'not-found',
        code: 'KEYFERRY_NO_PROPERTY',
        message: `the value has no property "${missing.slice(0, 100)}"`,
        remedy: 'Check select and rename against the keys of the value',
      })
    let left = MAX_MATCHING
    const spend = (steps: number): void => {
      left -= steps
      if (left < 0)
        throw tooMany(
          'the value has too many members for so many patterns of select',
          'Name members without *, or use fewer and shorter patterns',
        )
    }
    const wanted = Array.from(members).filter(
      ([name]) => only === undefined || names.has(name) || patterns.some((matches) => matches(name, spend)),
    )
    if (wanted.length > MAX_PARTS)
      throw tooMany(
        `more than ${MAX_PARTS} members would be files`,
        'Choose fewer with select, or mount the document as one file',
      )
    return wanted.map(([name, value]) => ({
      name: rename.get(name) ?? name,
      bytes: Buffer.from(textOf(value)),
    }))
  }
}
