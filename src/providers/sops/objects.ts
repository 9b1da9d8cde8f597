/** Owns the parameter `objects`: a small YAML list, read strictly (sops A12). */
import type { Steps } from '../../formats/steps.ts'
import { yamlSteps, YamlError, type YamlNode, type YamlPair } from '../../formats/yaml-nodes.ts'
import type { Problem } from '../adapter.ts'
import { quoted } from './errors.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { parsePath } from './pointer.ts'
import { ENCODINGS, OUTPUT_FORMATS, type Encoding, type OutputFormat } from './ref.ts'

/** One entry of `objects`. */
export interface ObjectEntry {
  readonly objectName: string
  /** Absent: the whole document. */
  readonly path?: string
  readonly document: number
  readonly encoding: Encoding
  readonly format: OutputFormat
  readonly mode?: number
  readonly optional: boolean
}

/** The dialect reads the list in one go: what this lets through holds the process for 40 ms at most (T17). */
const MAX_TOKENS = 24_000
const LIMITS = { maxBytes: 256 * 1024, maxDepth: 8, maxTokens: MAX_TOKENS }
const PARAMETER = 'objects'
const FIELDS = ['objectName', 'path', 'document', 'encoding', 'format', 'filePermission', 'optional']

/** Collects problems, and counts aliases: an alias is the very node that it stands for. */
interface Reading {
  readonly problems: Problem[]
  readonly seen: Set<YamlNode>
  aliases: number
}

/** Nobody reads more of them. */
const MAX_PROBLEMS = 50

function report(reading: Reading, { line, column }: YamlNode, message: string): undefined {
  if (reading.problems.length < MAX_PROBLEMS)
    reading.problems.push({ code: 'INVALID_PARAMETER', message, parameter: PARAMETER, line, column })
  return undefined
}

function met(reading: Reading, node: YamlNode): YamlNode {
  if (reading.seen.has(node)) reading.aliases += 1
  reading.seen.add(node)
  return node
}

const textOf = (node: YamlNode): string => (node.kind === 'scalar' ? node.text : '')

function fieldsOf(
  reading: Reading,
  pairs: readonly YamlPair[],
  label: string,
): ReadonlyMap<string, YamlNode> {
  const fields = new Map<string, YamlNode>()
  for (const { key, value } of pairs) {
    const name = textOf(key)
    if (!FIELDS.includes(name))
      report(reading, key, `${label}: unknown field ${quoted(name)}; known are ${FIELDS.join(', ')}`)
    else if (fields.has(name)) report(reading, key, `${label}: field "${name}" stands twice`)
    else fields.set(name, met(reading, value))
  }
  return fields
}

/** Reads one field as text and parses it; `fallback` when it is absent. */
function field<T>(
  reading: Reading,
  fields: ReadonlyMap<string, YamlNode>,
  label: string,
  name: string,
  fallback: T,
  parse: (text: string) => T | undefined,
  expected: string,
): T {
  const node = fields.get(name)
  if (node === undefined) return fallback
  const value = node.kind === 'scalar' ? parse(node.text) : undefined
  if (value === undefined) report(reading, node, `${label}: ${name} must be ${expected}`)
  return value ?? fallback
}

const oneOf =
  <T extends string>(words: readonly T[]) =>
  (text: string): T | undefined =>
    words.find((word) => word === text)

const whole = (text: string): number | undefined => (/^\d{1,4}$/.test(text) ? Number(text) : undefined)

/** An octal mode up to 0777, with or without a leading 0 or 0o. */
function mode(text: string): number | undefined {
  const digits = /^(?:0o?)?([0-7]{1,3})$/.exec(text)?.[1]
  return digits === undefined ? undefined : Number.parseInt(digits, 8)
}

const flags = new Map([
  ['true', true],
  ['false', false],
])

function entryOf(reading: Reading, item: YamlNode, index: number): ObjectEntry | undefined {
  const node = met(reading, item)
  if (node.kind !== 'map') return report(reading, node, `objects[${index}] must be a mapping`)
  const named = node.pairs.find(({ key }) => textOf(key) === 'objectName')
  const name = named === undefined ? '' : textOf(named.value)
  const label = `objects[${index}]${name === '' ? '' : ` ${quoted(name)}`}`
  const fields = fieldsOf(reading, node.pairs, label)
  if (name === '') report(reading, node, `${label}: objectName is required`)
  const at = field<string | undefined>(
    reading,
    fields,
    label,
    'path',
    undefined,
    (text) => (parsePath(text) === undefined ? undefined : text),
    'a JSON Pointer such as /db/password, or brackets such as ["db"]["password"]',
  )
  const entry: ObjectEntry = {
    objectName: name,
    ...(at === undefined ? {} : { path: at }),
    document: field(reading, fields, label, 'document', 0, whole, 'the index of a YAML document, from 0'),
    encoding: field(reading, fields, label, 'encoding', 'utf-8', oneOf(ENCODINGS), ENCODINGS.join(', ')),
    format: field(reading, fields, label, 'format', 'raw', oneOf(OUTPUT_FORMATS), OUTPUT_FORMATS.join(', ')),
    optional: field(reading, fields, label, 'optional', false, (text) => flags.get(text), 'true or false'),
    ...(fields.has('filePermission')
      ? { mode: field(reading, fields, label, 'filePermission', 0, mode, 'an octal mode such as "0400"') }
      : {}),
  }
  if (entry.encoding !== 'utf-8' && (entry.format !== 'raw' || at === undefined)) {
    report(reading, node, `${label}: encoding applies to format raw with a path only`)
  }
  if (entry.document !== 0 && at === undefined) report(reading, node, `${label}: document needs a path`)
  return entry
}

/** Whether a second document begins: such a line can be nothing else. */
function hasMoreDocuments(text: string): boolean {
  const begins = [...text.matchAll(/^---(?=\s|$)/gm)]
  const first = begins[0]?.index ?? 0
  const hasContent = /^[^#\s]/m.test(text.slice(0, first))
  return begins.length > (hasContent ? 0 : 1)
}

/** The entries of `objects`; every fault is added to `problems`. */
export function* parseObjects(text: string, problems: Problem[]): Steps<readonly ObjectEntry[]> {
  const fail = (message: string, at?: { line: number; column: number }): readonly ObjectEntry[] => {
    problems.push({ code: 'INVALID_PARAMETER', message: `objects: ${message}`, parameter: PARAMETER, ...at })
    return []
  }
  let list: YamlNode | undefined
  try {
    list = yield* yamlSteps(text, LIMITS)
  } catch (error) {
    if (!(error instanceof YamlError)) throw error
    const { line, column } = error
    const message = error.message.replace(/^yaml: (?:line \d+: )?/, '')
    return fail(`it is no YAML that can be read: ${message}`, line && column ? { line, column } : undefined)
  }
  if (list?.kind !== 'list') return fail('it must be a YAML list')
  if (list.items.length === 0) return fail('it is empty')
  if (hasMoreDocuments(text)) return fail('it has more than one YAML document')
  const reading: Reading = { problems, seen: new Set(), aliases: 0 }
  const entries: ObjectEntry[] = []
  for (const [index, item] of list.items.entries()) {
    const entry = entryOf(reading, item, index)
    if (entry) entries.push(entry)
    yield
  }
  if (reading.aliases > DEFAULT_LIMITS.aliases)
    return fail(`it has more than ${DEFAULT_LIMITS.aliases} aliases`)
  return entries
}
