/** Owns the text of the parameters `files` and `stores`: its shape, and where each fault stands in it. */
import * as v from 'valibot'
import { nearMiss } from '../../formats/near-miss.ts'
import type { Steps } from '../../formats/steps.ts'
import { YamlError, yamlSteps, type YamlNode, type YamlPair } from '../../formats/yaml-nodes.ts'
import { resolveScalar } from '../../formats/yaml-scalars.ts'
import type { Problem } from '../adapter.ts'
import { FORMATS } from './documents.ts'
import { DECODINGS, ENCODINGS } from './select.ts'
import { ESCAPES } from './template-filters.ts'

const Text = v.pipe(v.string('is not a text'), v.minLength(1, 'is empty'))
const word = <const W extends readonly string[]>(words: W) =>
  v.picklist(words, `is none of ${words.join(', ')}`)
const Yes = v.pipe(
  word(['true', 'false']),
  v.transform((text) => text === 'true'),
)
/** Octal permission bits, with or without quotes. */
const Mode = v.pipe(
  v.string('is not an octal mode'),
  v.regex(/^0?[0-7]{3}$/, 'is not an octal mode such as "0400"'),
  v.transform((text) => Number.parseInt(text, 8)),
)

const found = {
  store: Text,
  version: v.optional(Text),
  property: v.optional(Text),
  jmesPath: v.optional(Text),
}
const taken = { ...found, decode: v.optional(word(DECODINGS)), encoding: v.optional(word(ENCODINGS)) }
const optional = v.optional(Yes, 'false')
const mode = v.optional(Mode)
/** A text around the values, in place of a format. */
const templated = { template: v.optional(Text), escape: v.optional(word(ESCAPES)) }

/** One object as one file. */
const FileEntry = v.strictObject({
  path: Text,
  key: Text,
  ...taken,
  format: v.optional(word(FORMATS), 'raw'),
  ...templated,
  mode,
  optional,
})

/** One of the members of a gathered file. */
const MemberEntry = v.strictObject({ name: Text, key: Text, ...taken, optional })

/** Many objects as one file. */
const GatherEntry = v.strictObject({
  path: Text,
  format: v.optional(word(['json', 'yaml', 'dotenv', 'properties'])),
  ...templated,
  refs: v.pipe(v.array(MemberEntry, 'is not a list'), v.minLength(1, 'is empty')),
  mode,
})

/** One document as many files. */
const ExpandEntry = v.strictObject({
  ...found,
  expand: v.strictObject({
    key: Text,
    into: v.optional(v.string('is not a text'), ''),
    select: v.optional(v.pipe(v.array(Text, 'is not a list'), v.minLength(1, 'is empty'))),
    rename: v.optional(v.record(Text, Text, 'is not a mapping')),
  }),
  mode,
  optional,
})

/** Lazy, so that a fault speaks of the kind of entry that was meant. */
const Entry = v.lazy((input): typeof FileEntry | typeof GatherEntry | typeof ExpandEntry =>
  has(input, 'expand') ? ExpandEntry : has(input, 'refs') ? GatherEntry : FileEntry,
)
export const Files = v.pipe(v.array(Entry, 'is not a list of files'), v.minLength(1, 'is empty'))

/** Every field of an entry, to tell a misspelt one from one of another kind of entry. */
const FIELDS: ReadonlySet<string> = new Set(
  [FileEntry, GatherEntry, MemberEntry, ExpandEntry, ExpandEntry.entries.expand].flatMap(({ entries }) =>
    Object.keys(entries),
  ),
)

export type FileEntry = v.InferOutput<typeof FileEntry>
export type MemberEntry = v.InferOutput<typeof MemberEntry>
export type GatherEntry = v.InferOutput<typeof GatherEntry>
export type ExpandEntry = v.InferOutput<typeof ExpandEntry>

/** A store that an SPC defines. Its settings are the backend's to check. */
const InlineStore = v.strictObject({
  backend: Text,
  settings: v.optional(v.unknown(), {}),
  identity: v.optional(v.literal('pod', 'can only be pod in a SecretProviderClass'), 'pod'),
})
export const InlineStores = v.record(v.string(), InlineStore)

export type Path = readonly (string | number)[]

/** What was read of a parameter, and how to tell of a fault in it. */
export interface Reading<T> {
  /** Undefined where nothing can be used. */
  readonly value: T | undefined
  readonly problems: readonly Problem[]
  /** A problem of the value at `path`, with its line. */
  readonly problemAt: (path: Path, problem: Fault) => Problem
  /** A problem inside of the text at `path`, at this line and column of it (both from 1). */
  readonly problemInside: (path: Path, place: Place, problem: Fault) => Problem
}

/** A problem without its place. */
export type Fault = Pick<Problem, 'code' | 'message' | 'remedy' | 'kind'>

interface Place {
  readonly line: number
  readonly column: number
}

type AnyEntry = FileEntry | GatherEntry | ExpandEntry

/**
 * Reads `files`. Every scalar is text: `mode: 0400` is octal and `version: 3` needs no quotes. An entry with a
 * problem is `undefined`; the others can be looked at, so that all faults are told at once.
 */
export function readFiles(text: string): Steps<Reading<readonly (AnyEntry | undefined)[]>> {
  return read('files', text, Files, (node) => node.text, soundEntries)
}

function soundEntries(data: unknown): readonly (AnyEntry | undefined)[] | undefined {
  if (!Array.isArray(data)) return undefined
  return data.map((one: unknown) => {
    const result = v.safeParse(Entry, one)
    return result.success ? result.output : undefined
  })
}

type StoresByName = Readonly<Record<string, v.InferOutput<typeof InlineStore> | undefined>>

/**
 * Reads `stores`. Scalars are what YAML 1.2 says, since settings have numbers and booleans. A store with a problem
 * is `undefined`.
 */
export function readStores(text: string): Steps<Reading<StoresByName>> {
  const scalarOf = (node: Scalar): unknown => {
    const scalar = resolveScalar(node, 'yaml3')
    if (scalar.type === 'null') return null
    if (scalar.type === 'int') return Number(scalar.value)
    return 'value' in scalar ? scalar.value : node.text
  }
  return read('stores', text, InlineStores, scalarOf, soundStores)
}

function soundStores(data: unknown): StoresByName | undefined {
  if (typeof data !== 'object' || data === null) return undefined
  return Object.fromEntries(
    Object.entries(data).map(([name, one]: [string, unknown]) => {
      const result = v.safeParse(InlineStore, one)
      return [name, result.success ? result.output : undefined]
    }),
  )
}

type Scalar = Extract<YamlNode, { kind: 'scalar' }>

function* read<S extends v.GenericSchema, T = v.InferOutput<S>>(
  parameter: 'files' | 'stores',
  text: string,
  schema: S,
  scalarOf: (node: Scalar) => unknown,
  /** What can be used of data that have a fault. */
  soundOf: (data: unknown) => T | undefined = () => undefined,
): Steps<Reading<v.InferOutput<S> | T>> {
  const code = parameter === 'files' ? 'KEYFERRY_FILES' : 'KEYFERRY_STORES'
  let root: YamlNode | undefined
  const problems: Problem[] = []
  const problemAt: Reading<unknown>['problemAt'] = (path, problem) => {
    const { line, column } = placeOf(root, path)
    return { ...problem, message: `${nameOf(parameter, path)} ${problem.message}`, parameter, line, column }
  }
  let lines: readonly string[] | undefined
  const problemInside: Reading<unknown>['problemInside'] = (path, place, problem) => {
    const message = `line ${place.line}: ${problem.message}`
    return {
      ...problemAt(path, { ...problem, message }),
      ...placeInside((lines ??= text.split(/\r?\n/)), nodeAt(root, path), place),
    }
  }
  const fault: Complaint = (error, key) => {
    const place = key ?? error
    problems.push({
      code,
      message: `${parameter}: ${error.message.replace(/^yaml: (?:line \d+: )?/, '')}`,
      ...('remedy' in error && { remedy: error.remedy }),
      parameter,
      ...(place.line !== undefined && { line: place.line }),
      ...(place.column !== undefined && { column: place.column }),
    })
  }
  try {
    root = yield* yamlSteps(text)
  } catch (error) {
    if (!(error instanceof YamlError)) throw error
    fault(error)
  }
  yield
  const value = root && plain(root, scalarOf, fault)
  yield
  if (problems.length > 0) return { value: undefined, problems, problemAt, problemInside }
  const result = v.safeParse(schema, value)
  if (result.success) return { value: result.output, problems, problemAt, problemInside }
  for (const issue of result.issues) {
    yield
    const path = (issue.path ?? []).map((item) =>
      typeof item.key === 'number' ? item.key : String(item.key),
    )
    problems.push(problemAt(path, { code, ...reasonOf(issue) }))
  }
  yield
  return { value: soundOf(value), problems, problemAt, problemInside }
}

function reasonOf(issue: v.BaseIssue<unknown>): Omit<Fault, 'code'> {
  if (issue.type !== 'strict_object') return { message: issue.message }
  if (issue.expected === 'never') return unknownKey(String(issue.path?.at(-1)?.key))
  const isMissing = issue.input === undefined || issue.expected !== 'Object'
  return { message: isMissing ? 'is missing' : 'is not a mapping' }
}

function unknownKey(name: string): Omit<Fault, 'code'> {
  if (FIELDS.has(name)) return { message: 'is not a key of this kind of entry' }
  const message = 'is not a known key'
  const meant = nearMiss(name, FIELDS)
  return meant === undefined ? { message } : { message, remedy: `Is "${meant}" meant?` }
}

/** `files[2].key`. Names are the author's, so they are cut. */
function nameOf(parameter: string, path: Path): string {
  return path.reduce<string>(
    (name, step) => (typeof step === 'number' ? `${name}[${step}]` : `${name}.${step.slice(0, 100)}`),
    parameter,
  )
}

/** Where the value at `path` stands, or the closest of what it stands in. */
function placeOf(root: YamlNode | undefined, path: Path): Place {
  let node = root
  let place: Place = root ?? { line: 1, column: 1 }
  for (const step of path) {
    const pair = pairOf(node, step)
    node = childOf(node, step)
    place = pair?.key ?? node ?? place
  }
  return { line: place.line, column: place.column }
}

function nodeAt(root: YamlNode | undefined, path: Path): YamlNode | undefined {
  return path.reduce(childOf, root)
}

function childOf(node: YamlNode | undefined, step: string | number): YamlNode | undefined {
  if (node?.kind === 'list' && typeof step === 'number') return node.items[step]
  return pairOf(node, step)?.value
}

function pairOf(node: YamlNode | undefined, step: string | number): YamlPair | undefined {
  if (node?.kind !== 'map') return undefined
  return node.pairs.find(({ key }) => key.kind === 'scalar' && key.text === step)
}

/**
 * Where a line and column of a scalar's text stand in the YAML that it was read from. Exact where the line is
 * written there as it is: in a `|` block, or on one line. Else nothing, since escapes and folding move what follows.
 */
function placeInside(
  lines: readonly string[],
  node: YamlNode | undefined,
  { line, column }: Place,
): Partial<Place> {
  if (node?.kind !== 'scalar') return {}
  const wanted = node.text.split('\n')[line - 1] ?? ''
  if (line === 1) {
    const found = wanted === '' ? -1 : (lines[node.line - 1] ?? '').indexOf(wanted, node.column - 1)
    if (found !== -1) return { line: node.line, column: found + column }
  }
  // A block's text begins on the line behind its `|`.
  const isBlock = lines[node.line - 1]?.charAt(node.column - 1) === '|'
  const written = lines[node.line + line - 1]
  if (!isBlock || written === undefined || !written.endsWith(wanted)) return {}
  return { line: node.line + line, column: written.length - wanted.length + column }
}

/** Tells of a fault of the text, or of a key in it. */
type Complaint = (
  error: YamlError | { message: string; remedy?: string; line?: number; column?: number },
  key?: YamlNode,
) => void

/** The usual reason for a mapping as a key: `template: {{ name }}`. */
const BRACES = 'A text that begins with { needs quotes, or a block (|)'

/** Nodes as plain data without prototypes; double keys are told. */
function plain(root: YamlNode, scalarOf: (node: Scalar) => unknown, fault: Complaint): unknown {
  const dataOf = (node: YamlNode): unknown => {
    if (node.kind === 'scalar') return scalarOf(node)
    if (node.kind === 'list') return node.items.map(dataOf)
    const data = Object.create(null) as Record<string, unknown>
    for (const { key, value } of node.pairs) {
      if (key.kind !== 'scalar') fault({ message: 'a key is not a text', remedy: BRACES }, key)
      else if (UNSPEAKABLE.has(key.text)) fault({ message: `"${key.text}" cannot be a key here` }, key)
      else if (Object.hasOwn(data, key.text))
        fault({ message: `the key "${key.text.slice(0, 100)}" is there twice` }, key)
      else data[key.text] = dataOf(value)
    }
    return data
  }
  return dataOf(root)
}

/** Names that validation would pass over (threat model T16). */
const UNSPEAKABLE: ReadonlySet<string> = new Set(['__proto__', 'prototype', 'constructor'])

function has(input: unknown, key: string): boolean {
  return typeof input === 'object' && input !== null && Object.hasOwn(input, key)
}
