/** Owns the parameter `objects`: a small YAML list, read strictly (sops A12). */
import { isAlias, isMap, isScalar, isSeq, type Document, type Node, type Pair } from 'yaml'
import { BackendError, type Problem } from '../adapter.ts'
import { quoted } from './errors.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { parsePath } from './pointer.ts'
import { ENCODINGS, OUTPUT_FORMATS, type Encoding, type OutputFormat } from './ref.ts'
import { positionAt } from './stores/store.ts'
import { YamlFault, yamlDocuments } from './stores/yaml-documents.ts'

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

const MAX_BYTES = 256 * 1024
/** Blank ones count: the dialect reads the list in one go, and the library takes its time for each. */
const MAX_LINES = 10_000
/** A thousand entries with every field. */
const MAX_NODES = 8000
const PARAMETER = 'objects'
const FIELDS = ['objectName', 'path', 'document', 'encoding', 'format', 'filePermission', 'optional']

/** Collects problems and knows where in the text a node stands. */
interface Reading {
  readonly source: string
  readonly problems: Problem[]
  readonly document: Document.Parsed
  aliases: number
}

/** Nobody reads more of them, and finding the place of each takes a pass over the text. */
const MAX_PROBLEMS = 50

function report(reading: Reading, node: Node | null | undefined, message: string): undefined {
  if (reading.problems.length >= MAX_PROBLEMS) return undefined
  const offset = node?.range?.[0]
  const at = offset === undefined ? {} : positionAt(reading.source, offset)
  reading.problems.push({ code: 'INVALID_PARAMETER', message, parameter: PARAMETER, ...at })
  return undefined
}

function resolved(reading: Reading, node: unknown): Node | null {
  if (!isAlias(node)) return (node as Node | null | undefined) ?? null
  reading.aliases += 1
  return reading.aliases > DEFAULT_LIMITS.aliases ? null : (node.resolve(reading.document) ?? null)
}

function fieldsOf(reading: Reading, pairs: readonly Pair[], label: string): ReadonlyMap<string, Node | null> {
  const fields = new Map<string, Node | null>()
  for (const pair of pairs) {
    const key = pair.key as Node | null
    const name = isScalar(key) ? (key.source ?? '') : ''
    if (!FIELDS.includes(name))
      report(reading, key, `${label}: unknown field ${quoted(name)}; known are ${FIELDS.join(', ')}`)
    else if (fields.has(name)) report(reading, key, `${label}: field "${name}" stands twice`)
    else fields.set(name, resolved(reading, pair.value))
  }
  return fields
}

/** Reads one field as text and parses it; `fallback` when it is absent. */
function field<T>(
  reading: Reading,
  fields: ReadonlyMap<string, Node | null>,
  label: string,
  name: string,
  fallback: T,
  parse: (text: string) => T | undefined,
  expected: string,
): T {
  const node = fields.get(name)
  if (node === undefined) return fallback
  const value = isScalar(node) ? parse(node.source ?? '') : undefined
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

function entryOf(reading: Reading, item: unknown, index: number): ObjectEntry | undefined {
  const node = resolved(reading, item)
  if (!isMap(node)) return report(reading, node, `objects[${index}] must be a mapping`)
  const nameNode: unknown = node.items.find(
    (pair) => isScalar(pair.key) && pair.key.source === 'objectName',
  )?.value
  const name = isScalar(nameNode) ? (nameNode.source ?? '') : ''
  const label = `objects[${index}]${name === '' ? '' : ` ${quoted(name)}`}`
  const fields = fieldsOf(reading, node.items, label)
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

function parsed(text: string): Document.Parsed | undefined {
  let found: Document.Parsed | undefined
  for (const document of yamlDocuments(text, { ...DEFAULT_LIMITS, nodes: MAX_NODES, documents: 1, depth: 8 }))
    found ??= document
  return found
}

function hasMoreLines(text: string): boolean {
  let lines = 0
  for (let at = text.indexOf('\n'); at !== -1 && lines <= MAX_LINES; at = text.indexOf('\n', at + 1))
    lines += 1
  return lines > MAX_LINES
}

/** The entries of `objects`; every fault is added to `problems`. */
export function parseObjects(text: string, problems: Problem[]): readonly ObjectEntry[] {
  const fail = (message: string, at?: { line: number; column: number }): readonly ObjectEntry[] => {
    problems.push({ code: 'INVALID_PARAMETER', message: `objects: ${message}`, parameter: PARAMETER, ...at })
    return []
  }
  if (Buffer.byteLength(text) > MAX_BYTES) return fail(`it is larger than ${MAX_BYTES} bytes`)
  if (hasMoreLines(text)) return fail(`it has more than ${MAX_LINES} lines`)
  let document: Document.Parsed | undefined
  try {
    document = parsed(text)
  } catch (error) {
    if (error instanceof YamlFault) return fail(`it is no YAML: ${error.message}`, error.at)
    if (error instanceof BackendError) return fail(error.message)
    throw error
  }
  const list = document?.contents
  if (document === undefined || !isSeq(list)) return fail('it must be a YAML list')
  if (list.items.length === 0) return fail('it is empty')
  const reading: Reading = { source: text, problems, document, aliases: 0 }
  const entries = list.items.flatMap((item, index) => entryOf(reading, item, index) ?? [])
  if (reading.aliases > DEFAULT_LIMITS.aliases) return fail('it has too many aliases')
  return entries
}
