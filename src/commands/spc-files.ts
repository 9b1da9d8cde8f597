/** Owns reading SecretProviderClasses from YAML files, with the checks that the API server and the driver would make. */
import { text as textOf } from 'node:stream/consumers'
import { readFile } from 'node:fs/promises'
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseAllDocuments } from 'yaml'
import type { Document, Pair, Scalar, YAMLMap } from 'yaml'
import { nearMiss } from '../formats/near-miss.ts'
import { resolveScalar } from '../formats/yaml-scalars.ts'
import { placeAt, placeInScalar, placeOf, type Place, type SourceText } from './spc-places.ts'
import { UsageError } from './usage.ts'

/** One SecretProviderClass as the driver would read it. */
export interface SpcFile {
  readonly file: string
  readonly name: string
  readonly namespace: string | undefined
  readonly provider: string
  readonly parameters: Readonly<Record<string, string>>
  /** Files that the driver is to copy into Secrets, with the place of each name. */
  readonly secretObjects: readonly { readonly objectName: string; readonly place: Place }[]
  readonly places: SpcPlaces
}

/** Where things stand in the file. */
export interface SpcPlaces {
  readonly provider: Place
  /** The key of a parameter; of `spec.parameters` for one that is not there. */
  readonly key: (parameter: string) => Place
  /** A position inside a parameter's text. */
  readonly inside: (parameter: string, at: Place) => Place
}

/** What the API server or the driver would not take, or would drop without a word. */
export interface SpcFault extends Place {
  readonly severity: 'fault' | 'warning'
  readonly code: 'SPC_YAML' | 'SPC_FIELD' | 'SPC_NO_PARAMETERS' | 'SPC_UNKNOWN_FIELD'
  readonly message: string
  readonly remedy?: string
  /** Name of the class, as far as it has one. */
  readonly secretProviderClass?: string
}

export interface SpcReading {
  /** How many classes there are, with those that could not be read. */
  readonly count: number
  readonly classes: readonly SpcFile[]
  readonly faults: readonly SpcFault[]
}

const API_GROUP = 'secrets-store.csi.x-k8s.io/'
export const SPEC_FIELDS = ['provider', 'parameters', 'secretObjects'] as const

/**
 * Every SecretProviderClass of a file, which may hold several YAML documents of any kind.
 * @throws UsageError with file, line and reason.
 */
export async function readSpcFile(file: string): Promise<SpcFile[]> {
  return parseSpcs(file, await readText(file))
}

/** A file's text. @throws UsageError */
export async function readText(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((error: unknown) => {
    throw new UsageError(
      `${file}: cannot be read (${error instanceof Error && 'code' in error ? String(error.code) : 'unknown'})`,
    )
  })
}

/** One file's text under the name that reports give it. */
export interface NamedText {
  readonly file: string
  readonly text: string
}

/** The name that means the standard input. */
export const STDIN = '-'

/** The text of each file, once, and of the standard input. @throws UsageError where one cannot be read */
export async function readTexts(files: readonly string[]): Promise<readonly NamedText[]> {
  const texts: NamedText[] = []
  for (const file of new Set(files))
    texts.push(
      file === STDIN
        ? { file: 'stdin', text: await textOf(process.stdin) }
        : { file, text: await readText(file) },
    )
  return texts
}

/** See {@link readSpcFile}. */
export function parseSpcs(file: string, text: string): SpcFile[] {
  const { classes, faults } = inspectSpcs(file, text)
  const first = faults.find(({ severity }) => severity === 'fault')
  if (first) {
    const remedy = first.remedy === undefined ? '' : `. ${first.remedy}.`
    throw new UsageError(`${file}:${first.line}:${first.column}: ${first.message}${remedy}`)
  }
  if (classes.length === 0)
    throw new UsageError(`${file}: has no SecretProviderClass (apiVersion ${API_GROUP}v1)`)
  return [...classes]
}

/** Every SecretProviderClass of a text that can be read, and all that is wrong with the others. */
export function inspectSpcs(file: string, text: string): SpcReading {
  const source: SourceText = { text, lines: new LineCounter() }
  const classes: SpcFile[] = []
  const faults: SpcFault[] = []
  let count = 0
  for (const document of parseAllDocuments(text, { lineCounter: source.lines, logLevel: 'error' })) {
    faults.push(...yamlFaults(source, document))
    if (document.errors.length > 0) continue
    for (const map of spcsOf(document)) {
      const reading: Reading = { file, source, document, faults: [] }
      const spc = readSpc(reading, map)
      const name: unknown = map.getIn(['metadata', 'name'])
      faults.push(
        ...reading.faults.map((fault) =>
          typeof name === 'string' ? { ...fault, secretProviderClass: name } : fault,
        ),
      )
      if (spc) classes.push(spc)
      count += 1
    }
  }
  return { count, classes, faults }
}

/** One fault of YAML makes more of its own: most lines that are told of a document. */
const MAX_YAML_FAULTS = 5

function yamlFaults(source: SourceText, { errors }: Document): SpcFault[] {
  const byLine = new Map(
    errors.toReversed().map((error) => [placeAt(source, error.pos[0]).line, error] as const),
  )
  return [...byLine.values()]
    .toReversed()
    .slice(0, MAX_YAML_FAULTS)
    .map((error) => yamlFault(source, error))
}

function yamlFault(source: SourceText, error: { message: string; pos: readonly [number, number] }): SpcFault {
  const [what = ''] = error.message.split('\n')
  const place = what.lastIndexOf(' at line ')
  return {
    ...placeAt(source, error.pos[0]),
    severity: 'fault',
    code: 'SPC_YAML',
    message: `this is not YAML: ${place === -1 ? what : what.slice(0, place)}`,
    ...(source.text.includes('{{') && {
      remedy: 'If it is a Helm template, check what Helm renders: helm template … | keyferry lint -',
    }),
  }
}

/** The classes of a document: itself, or the items of a list as kubectl prints it. */
function spcsOf({ contents }: Document): YAMLMap[] {
  if (!isMap(contents)) return []
  const items: unknown = contents.get('items')
  return [contents, ...(isSeq(items) ? items.items : [])].filter(isMap).filter((map) => {
    const version: unknown = map.get('apiVersion')
    return (
      map.get('kind') === 'SecretProviderClass' &&
      typeof version === 'string' &&
      version.startsWith(API_GROUP)
    )
  })
}

interface Reading {
  readonly file: string
  readonly source: SourceText
  readonly document: Document
  readonly faults: SpcFault[]
}

function report(reading: Reading, node: unknown, fault: Omit<SpcFault, 'severity' | keyof Place>): undefined {
  reading.faults.push({ severity: 'fault', ...placeOf(reading.source, node), ...fault })
  return undefined
}

/** A string as the API server would read it, which knows YAML 1.1: an unquoted `yes` is none. */
function stringOf(reading: Reading, given: unknown): { scalar: Scalar; value: string } | undefined {
  const scalar = isAlias(given) ? given.resolve(reading.document) : given
  if (!isScalar(scalar)) return undefined
  if (scalar.type !== 'PLAIN')
    return typeof scalar.value === 'string' ? { scalar, value: scalar.value } : undefined
  const resolved = resolveScalar(
    { kind: 'scalar', text: scalar.source ?? '', plain: true, tag: scalar.tag ?? '', line: 1, column: 1 },
    'sigs',
  )
  return 'text' in resolved ? { scalar, value: resolved.text } : undefined
}

function text(
  reading: Reading,
  map: YAMLMap,
  path: readonly string[],
  need: 'required' | 'optional',
): string | undefined {
  const node: unknown = map.getIn(path, true)
  if (node === undefined && need === 'optional') return undefined
  const found = stringOf(reading, node)?.value
  if (found !== undefined && found !== '') return found
  const remedy = node === undefined || found === '' ? `Set ${path.join('.')}` : 'Put it in quotes'
  return report(reading, node ?? map, {
    code: 'SPC_FIELD',
    message: `${path.join('.')} must be a string`,
    remedy,
  })
}

function readSpc(reading: Reading, map: YAMLMap): SpcFile | undefined {
  const name = text(reading, map, ['metadata', 'name'], 'required')
  const namespace = text(reading, map, ['metadata', 'namespace'], 'optional')
  const provider = text(reading, map, ['spec', 'provider'], 'required')
  unknownFields(reading, map.get('spec'))
  const found = parametersOf(reading, map)
  const secretObjects = secretObjectsOf(reading, map)
  if (reading.faults.some(({ severity }) => severity === 'fault')) return undefined
  if (name === undefined || provider === undefined || found === undefined) return undefined
  const { source } = reading
  const keyOf = (parameter: string): unknown => found.byName.get(parameter)?.key ?? found.parent
  return {
    file: reading.file,
    name,
    namespace,
    provider,
    parameters: Object.fromEntries(Array.from(found.byName, ([key, { value }]) => [key, value])),
    secretObjects,
    places: {
      provider: placeOf(source, map.getIn(['spec', 'provider'], true)),
      key: (parameter) => placeOf(source, keyOf(parameter)),
      inside: (parameter, at) => {
        const one = found.byName.get(parameter)
        return one ? placeInScalar(source, one.scalar, one.value, at) : placeOf(source, keyOf(parameter))
      },
    },
  }
}

/** The API server drops what the type does not know, so that a typo shows nowhere. */
function unknownFields(reading: Reading, spec: unknown): void {
  for (const { key } of isMap(spec) ? spec.items : []) {
    const field = isScalar(key) ? String(key.value) : ''
    if (SPEC_FIELDS.some((known) => known === field)) continue
    const meant = nearMiss(field, SPEC_FIELDS)
    reading.faults.push({
      ...placeOf(reading.source, key),
      severity: 'warning',
      code: 'SPC_UNKNOWN_FIELD',
      message: `spec.${field} is unknown: the API server drops it`,
      remedy: meant === undefined ? `Known are ${SPEC_FIELDS.join(', ')}` : `Write ${meant}`,
    })
  }
}

interface Parameter {
  readonly key: unknown
  readonly scalar: Scalar
  readonly value: string
}

interface Parameters {
  readonly byName: ReadonlyMap<string, Parameter>
  /** What stands for a parameter that is missing. */
  readonly parent: unknown
}

function parametersOf(reading: Reading, map: YAMLMap): Parameters | undefined {
  const pair = pairOf(map.get('spec'), 'parameters')
  const parameters = pair?.value
  if (!isMap(parameters) || parameters.items.length === 0) {
    return report(reading, pair?.key ?? pairOf(map, 'spec')?.key ?? map, {
      code: 'SPC_NO_PARAMETERS',
      message: 'spec.parameters must be a mapping that is not empty; the driver refuses a class without',
      remedy: 'Write the parameters of the provider below spec.parameters',
    })
  }
  const found = new Map<string, Parameter>()
  for (const { key, value } of parameters.items) {
    const name = isScalar(key) ? (key.source ?? String(key.value)) : ''
    const one = stringOf(reading, value)
    if (one) found.set(name, { key, ...one })
    else {
      report(reading, value ?? key, {
        code: 'SPC_FIELD',
        message: `spec.parameters.${name} must be a string`,
        remedy: 'Put it in quotes, or use a block scalar (|)',
      })
    }
  }
  return { byName: found, parent: pair?.key }
}

function pairOf(map: unknown, name: string): Pair | undefined {
  return isMap(map) ? map.items.find(({ key }) => isScalar(key) && key.value === name) : undefined
}

function secretObjectsOf(reading: Reading, map: YAMLMap): SpcFile['secretObjects'] {
  const objects: unknown = map.getIn(['spec', 'secretObjects'])
  if (!isSeq(objects)) return []
  return objects.items.filter(isMap).flatMap((object) => {
    const data: unknown = object.get('data')
    return (isSeq(data) ? data.items : []).filter(isMap).flatMap((entry) => {
      const node: unknown = entry.get('objectName', true)
      const objectName = stringOf(reading, node)?.value
      return objectName === undefined ? [] : [{ objectName, place: placeOf(reading.source, node) }]
    })
  })
}
