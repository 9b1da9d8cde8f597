/** Owns the dialect `sops`: parameters of a SecretProviderClass into a plan (sops A1). Pure. */
import type { Steps } from '../../formats/steps.ts'
import {
  ON_REVOKED,
  PlanError,
  type Dialect,
  type Output,
  type Plan,
  type PlanRequest,
  type Problem,
  type Source,
} from '../adapter.ts'
import { nearMiss } from '../../formats/near-miss.ts'
import { strictBase64 } from './encodings.ts'
import { quoted } from './errors.ts'
import { parseObjects, type ObjectEntry } from './objects.ts'
import {
  EXPANSIONS,
  expansionOf,
  formatOfFile,
  KEY_IDENTITIES,
  wholeName,
  type DocumentSource,
  type Expansion,
  type SopsRef,
  type Take,
} from './ref.ts'
import { parseFilePath } from './source.ts'
import { FORMATS, type Format } from './stores/store.ts'

/** Kind of the backend that serves this dialect. */
export const BACKEND_KIND = 'sops'

const SOURCES = ['sopsDocument', 'sopsDocumentBase64', 'sopsFile'] as const
const PARAMETERS: readonly string[] = [
  ...SOURCES,
  'sopsFormat',
  'objects',
  'expand',
  'keyIdentity',
  'allowCleartext',
  'onRevoked',
]
const BOOLEANS = ['true', 'false'] as const

/** Reads parameters and remembers what is wrong with them. */
interface Reading {
  readonly parameters: ReadonlyMap<string, string>
  readonly problems: Problem[]
}

function report({ problems }: Reading, parameter: string, message: string, remedy?: string): undefined {
  problems.push({
    code: 'INVALID_PARAMETER',
    message: `${parameter}: ${message}`,
    parameter,
    ...(remedy === undefined ? {} : { remedy }),
  })
  return undefined
}

/** One of some words, or undefined when absent. */
function word<T extends string>(reading: Reading, parameter: string, words: readonly T[]): T | undefined {
  const text = reading.parameters.get(parameter)
  if (text === undefined || text === '') return undefined
  const found = words.find((known) => known === text)
  return found ?? report(reading, parameter, `${quoted(text)} is none of ${words.join(', ')}`)
}

function sourceOf(reading: Reading): DocumentSource | undefined {
  const { parameters } = reading
  const given = SOURCES.filter((name) => (parameters.get(name) ?? '') !== '')
  const [name] = given
  if (name === undefined || given.length > 1) {
    const what = name === undefined ? 'none is given' : `${given.join(' and ')} are given`
    return report(reading, 'sopsDocument', `exactly one of ${SOURCES.join(', ')} is needed; ${what}`)
  }
  const text = parameters.get(name) ?? ''
  if (name === 'sopsDocument') return { text }
  if (name === 'sopsFile') {
    const message = 'it must be a clean relative path: segments of A-Z a-z 0-9 . _ - and no ..'
    return parseFilePath(text) === undefined ? report(reading, name, message) : { file: text }
  }
  // A folded or block scalar brings line feeds with it.
  const base64 = text.replaceAll('\r', '').replaceAll('\n', '')
  return strictBase64(base64) === undefined
    ? report(reading, name, 'it is no standard base64 with padding')
    : { base64 }
}

/** What all outputs of a mount share. */
interface Common {
  readonly request: PlanRequest
  readonly source: DocumentSource
  readonly format: Format | undefined
  readonly asSource: (take: Take) => Source
}

function objectOutput(entry: ObjectEntry, common: Common): Output {
  const { path, format, document, encoding } = entry
  const isWhole = path === undefined && format === 'raw'
  const take: Take = isWhole
    ? { what: 'whole' }
    : { what: 'value', path: path ?? '', document, format, encoding }
  return {
    kind: 'file',
    path: entry.objectName,
    object: entry.objectName,
    mode: entry.mode ?? common.request.defaultMode,
    optional: entry.optional,
    source: common.asSource(take),
  }
}

function expandOutput(expansion: Expansion | undefined, common: Common): Output {
  const { source, request } = common
  return {
    kind: 'expand',
    into: '',
    object: 'file' in source ? source.file : 'sopsDocument',
    mode: request.defaultMode,
    source: common.asSource({ what: 'expand', ...(expansion === undefined ? {} : { expansion }) }),
  }
}

/** Outputs without `objects`: what `expand` says, or the format's default. */
function expandedOutputs(
  reading: Reading,
  expansion: Expansion | undefined,
  common: Common,
): readonly Output[] {
  const { source, format, request } = common
  if ('file' in source && source.file.endsWith('/')) return [expandOutput(expansion, common)]
  const known = format ?? ('file' in source ? formatOfFile(source.file) : undefined)
  // Without a format there is a problem already.
  if (known === undefined) return []
  if ((expansion ?? expansionOf(known)) === 'topLevel') return [expandOutput('topLevel', common)]
  if (!('file' in source)) {
    report(
      reading,
      'objects',
      'a whole document inside the SPC needs a file name',
      'Give one entry with an objectName and no path.',
    )
    return []
  }
  const name = wholeName(source.file)
  return [
    {
      kind: 'file',
      path: name,
      object: name,
      mode: request.defaultMode,
      source: common.asSource({ what: 'whole' }),
    },
  ]
}

/** Most names that are compared: a SecretProviderClass can carry tens of thousands (threat model T17). */
const MAX_COMPARED = 100

/** Unknown parameters may be anybody's and are ignored, but one that looks like ours is told. */
function misspelt(parameters: ReadonlyMap<string, string>): readonly string[] {
  const names = Array.from(parameters.keys()).slice(0, MAX_COMPARED)
  return names.flatMap((name) => {
    if (PARAMETERS.includes(name) || name.includes('/')) return []
    const meant = nearMiss(name, PARAMETERS)
    return meant === undefined
      ? []
      : [`parameter ${quoted(name)} is unknown and ignored; is "${meant}" meant?`]
  })
}

function* planSteps(request: PlanRequest): Steps<Plan> {
  const { parameters, pod } = request
  const reading: Reading = { parameters, problems: [] }
  const warnings = [...misspelt(parameters)]
  const source = sourceOf(reading)
  const format = word(reading, 'sopsFormat', FORMATS)
  const expansion = word(reading, 'expand', EXPANSIONS)
  const keyIdentity = word(reading, 'keyIdentity', KEY_IDENTITIES) ?? 'offline'
  const onRevoked = word(reading, 'onRevoked', ON_REVOKED)
  const allowCleartext = word(reading, 'allowCleartext', BOOLEANS) === 'true'
  const isInline = source !== undefined && !('file' in source)
  if (isInline && (parameters.get('sopsFormat') ?? '') === '') {
    report(reading, 'sopsFormat', `it is required with a document inside the SPC: ${FORMATS.join(', ')}`)
  }
  const objectsText = parameters.get('objects')
  const entries = objectsText === undefined ? undefined : yield* parseObjects(objectsText, reading.problems)
  let outputs: readonly Output[] = []
  if (source !== undefined) {
    const base: Omit<SopsRef, 'take'> = {
      source,
      ...(format === undefined ? {} : { format }),
      keyIdentity,
      allowCleartext,
      ...(keyIdentity === 'provider' ? { caller: `${pod.namespace}/${pod.serviceAccount}` } : {}),
    }
    const asSource = (take: Take): Source => ({
      backend: BACKEND_KIND,
      store: {},
      identity: keyIdentity === 'provider' ? 'node' : 'pod',
      ref: { ...base, take } satisfies SopsRef,
    })
    const common: Common = { request, source, format, asSource }
    if (entries === undefined) outputs = expandedOutputs(reading, expansion, common)
    else outputs = entries.map((entry) => objectOutput(entry, common))
    if (entries !== undefined && 'file' in source && source.file.endsWith('/')) {
      report(reading, 'objects', 'it cannot be used with a directory; name one file in sopsFile')
    }
  }
  if (entries !== undefined && expansion !== undefined) {
    warnings.push('parameter "expand" has no effect beside objects')
  }
  if (reading.problems.length > 0) throw new PlanError(reading.problems)
  return {
    outputs,
    ...(onRevoked !== undefined && { onRevoked }),
    ...(warnings.length === 0 ? {} : { warnings }),
  }
}

/** The parameter language of `provider: sops`. */
export const sopsDialect: Dialect = {
  name: 'sops',
  needs: {},
  parameters: PARAMETERS,
  plan: planSteps,
}
