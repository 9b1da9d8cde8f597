/** Owns the dialect `keyferry`: files of several named stores in one volume. Pure. */
import { JmesPathError } from '../../formats/jmespath.ts'
import { nearMiss } from '../../formats/near-miss.ts'
import {
  ON_REVOKED,
  PlanError,
  type Backend,
  type Dialect,
  type Gathered,
  type GatherOutput,
  type OnRevoked,
  type Output,
  type Plan,
  type PlanRequest,
  type PodFacts,
  type Problem,
  type Source,
} from '../adapter.ts'
import { inlineStores, type InlineRefusal } from './inline-stores.ts'
import { itemFor, isVersion, keyFault } from './kinds.ts'
import {
  readFiles,
  type ExpandEntry,
  type Fault,
  type FileEntry,
  type GatherEntry,
  type MemberEntry,
  type Path,
  type Reading,
} from './language.ts'
import { compiledTemplate, type TemplatePlanning } from './dialect-templates.ts'
import { membersCombined, partsSplit, rewritten, templateRendered } from './outputs.ts'
import { needsDocument, selectOf, type Selection } from './select.ts'
import type { TemplateCompiler } from './template-engine.ts'
import { visibleStores, type ConfiguredStore, type UsableStore } from './stores.ts'

export interface KeyferryOptions {
  /** `stores` of the configuration. */
  readonly stores: readonly ConfiguredStore[]
  /** Backends by kind that an SPC may define stores over; `deny` where policy does not permit that. */
  readonly inline: ReadonlyMap<string, Backend> | InlineRefusal
  /** Default: `tenant`. */
  readonly reader?: Reader
  /** Most bytes that a template may write. */
  readonly maxFileBytes: number
}

/**
 * Who is told what is wrong. A tenant must not learn about stores that it may not use; an operator, who has
 * the configuration at hand, is told when only a rule is missing.
 */
export type Reader = 'tenant' | 'operator'

/** Most objects that one SPC may name, members of gathered files counted one by one. */
const MAX_OBJECTS = 2000
const PARAMETERS = ['files', 'stores', 'onRevoked'] as const

/** Makes the dialect from the node's configuration. */
export function keyferryDialect(options: KeyferryOptions): Dialect {
  let compiler: TemplateCompiler | undefined
  return {
    name: 'keyferry',
    needs: {},
    parameters: PARAMETERS,
    async prepare({ parameters }) {
      if (compiler || !mayHaveTemplate(parameters.get('files') ?? '')) return
      // Imported here because most nodes never see a template, and the engine takes 9 MiB.
      const { createTemplateCompiler } = await import('./template-engine.ts')
      compiler ??= createTemplateCompiler()
    },
    plan: (request) => plan(request, options, compiler),
  }
}

/** Whether the text can have a key `template`, however YAML writes it. */
function mayHaveTemplate(text: string): boolean {
  return text.includes('template') || text.includes('\\')
}

function plan(request: PlanRequest, options: KeyferryOptions, compiler: TemplateCompiler | undefined): Plan {
  const { parameters, pod } = request
  const own = inlineStores(parameters.get('stores'), options.inline)
  const visible = visibleStores(options.stores, pod)
  const stores = new Map([...visible, ...own.stores])
  const problems: Problem[] = [...own.problems]
  for (const name of own.stores.keys()) {
    // A store that the pod may not see must not show by being in the way.
    if (visible.has(name))
      problems.push({
        code: 'KEYFERRY_STORES',
        message: `stores: "${name}" is a store of the operator`,
        remedy: 'Give your own another name',
        parameter: 'stores',
      })
  }
  const text = parameters.get('files') ?? ''
  if (text === '') {
    problems.push({
      code: 'KEYFERRY_FILES',
      message: 'the parameter files is missing',
      remedy: 'List at least one file: a path, a store and a key',
      parameter: 'files',
    })
    throw new PlanError(problems)
  }
  const reading = readFiles(text)
  const planning: Planning = {
    reading,
    stores,
    withheld: new Set(options.reader === 'operator' ? options.stores.map(({ name }) => name) : []),
    broken: own.broken,
    pod,
    problems,
    mode: request.defaultMode,
    objects: 0,
    templates: { compiler, maxBytes: options.maxFileBytes, characters: 0, tags: 0, faults: 0 },
    warnings: [],
  }
  problems.push(...reading.problems)
  const outputs = (reading.value ?? []).flatMap((entry, index) => outputOf(entry, [index], planning) ?? [])
  const onRevoked = revocationOf(parameters, problems)
  const warnings = [...misspelt(parameters), ...planning.warnings]
  const made: Plan = { outputs, ...(onRevoked && { onRevoked }), ...(warnings.length > 0 && { warnings }) }
  if (problems.length === 0) return made
  throw problems.every(isWithdrawal) ? new PlanError(problems, made) : new PlanError(problems)
}

/**
 * Whether a problem says that the pod may not use what it names, so that it may lose what it had of it.
 * A store without a rule for the pod counts: whether there is one must not show, here neither.
 */
function isWithdrawal({ kind, code }: Problem): boolean {
  return kind === 'denied' || code === 'KEYFERRY_UNKNOWN_STORE'
}

/** The parameter `onRevoked`; undefined when it is absent, or wrong, which is reported. */
function revocationOf(parameters: ReadonlyMap<string, string>, problems: Problem[]): OnRevoked | undefined {
  const text = parameters.get('onRevoked') ?? ''
  if (text === '') return undefined
  const found = ON_REVOKED.find((known) => known === text)
  if (found === undefined)
    problems.push({
      code: 'KEYFERRY_ON_REVOKED',
      message: `onRevoked: "${text.slice(0, 100)}" is none of ${ON_REVOKED.join(', ')}`,
      parameter: 'onRevoked',
    })
  return found
}

/** What planning one SPC knows and remembers. */
interface Planning {
  readonly reading: Pick<Reading<unknown>, 'problemAt' | 'problemInside'>
  readonly stores: ReadonlyMap<string, UsableStore>
  /** Stores that may be told of although no rule of theirs fits the pod. */
  readonly withheld: ReadonlySet<string>
  /** Stores of the SPC that cannot be used: a problem is reported already. */
  readonly broken: ReadonlySet<string>
  readonly pod: PodFacts
  readonly problems: Problem[]
  readonly mode: number
  objects: number
  readonly templates: TemplatePlanning
  readonly warnings: string[]
}

function report({ reading, problems }: Planning, path: Path, problem: Fault): undefined {
  problems.push(reading.problemAt(path, problem))
  return undefined
}

function outputOf(
  entry: FileEntry | GatherEntry | ExpandEntry,
  at: Path,
  planning: Planning,
): Output | undefined {
  if ('refs' in entry) return gatherOutput(entry, at, planning)
  return 'expand' in entry ? expandOutput(entry, at, planning) : fileOutput(entry, at, planning)
}

function fileOutput(entry: FileEntry, at: Path, planning: Planning): Output | undefined {
  if (entry.template !== undefined || entry.escape !== undefined)
    return madeOf(entry, [at], [{ ...entry, name: 'value' }], at, planning)
  const isDocument = needsDocument(entry) || entry.format !== 'raw'
  const source = sourceOf(entry, isDocument, at, at, planning)
  const selection = selectionOf(entry, at, planning)
  if (!source || !selection) return undefined
  const select = entry.format === 'raw' ? selection.select : rewritten(entry.format, selection.select)
  return {
    kind: 'file',
    path: entry.path,
    object: objectName(entry),
    mode: entry.mode ?? planning.mode,
    optional: entry.optional,
    source,
    ...(select && { select }),
  }
}

function gatherOutput(entry: GatherEntry, at: Path, planning: Planning): Output | undefined {
  const names = new Set<string>()
  for (const [index, { name }] of entry.refs.entries()) {
    if (names.has(name))
      report(planning, [...at, 'refs', index, 'name'], {
        code: 'KEYFERRY_FILES',
        message: 'is the name of another member',
      })
    names.add(name)
  }
  const places = entry.refs.map((_, index) => [...at, 'refs', index])
  return madeOf(entry, places, entry.refs, at, planning)
}

/** One file made of the members, each of which stands at its place. */
function madeOf(
  entry: FileEntry | GatherEntry,
  places: readonly Path[],
  members: readonly MemberEntry[],
  at: Path,
  planning: Planning,
): Output | undefined {
  const made = makerOf(
    entry,
    members.map(({ name }) => name),
    at,
    planning,
  )
  const sources = members.map((member, index) =>
    gatheredOf(member, made?.documents.has(member.name) ?? false, places[index] ?? at, planning),
  )
  const whole = sources.filter((source) => source !== undefined)
  const [first] = whole
  if (!made || !first || whole.length < sources.length) return undefined
  return {
    kind: 'gather',
    path: entry.path,
    object: entry.path,
    mode: entry.mode ?? planning.mode,
    source: first.source,
    sources: whole,
    combine: made.combine,
  }
}

interface Maker {
  readonly combine: GatherOutput['combine']
  /** Members that have to be JSON. */
  readonly documents: ReadonlySet<string>
}

/** How the members become the file's bytes: a document or a template. */
function makerOf(
  { path, format, template, escape }: FileEntry | GatherEntry,
  names: readonly string[],
  at: Path,
  planning: Planning,
): Maker | undefined {
  const fault = (key: string, message: string, remedy: string): undefined =>
    report(planning, [...at, key], { code: 'KEYFERRY_FILES', message, remedy })
  if (template === undefined) {
    if (escape !== undefined) return fault('escape', 'is for templates only', 'Add a template, or remove it')
    if (format !== undefined && format !== 'raw')
      return { combine: membersCombined(format, names), documents: new Set() }
    return fault('format', 'is missing', 'Say how the members are written: format, or template')
  }
  if (format !== undefined && format !== 'raw')
    return fault('format', 'cannot stand beside template', 'Remove it; escape makes values fit for a format')
  const compiled = compiledTemplate({ path, text: template, escape, names }, at, planning)
  return compiled && { combine: templateRendered(compiled, names), documents: compiled.documents }
}

function gatheredOf(
  member: MemberEntry,
  isDocument: boolean,
  at: Path,
  planning: Planning,
): Gathered | undefined {
  const source = sourceOf(member, isDocument || needsDocument(member), at, at, planning)
  const selection = selectionOf(member, at, planning)
  if (!source || !selection) return undefined
  const { select } = selection
  return { source, object: objectName(member), optional: member.optional, ...(select && { select }) }
}

function expandOutput(entry: ExpandEntry, at: Path, planning: Planning): Output | undefined {
  const { key, into, select: only, rename } = entry.expand
  const wanted = { ...entry, key }
  const source = sourceOf(wanted, true, at, [...at, 'expand'], planning)
  const selection = selectionOf(entry, at, planning)
  if (!source || !selection) return undefined
  return {
    kind: 'expand',
    into,
    object: objectName(wanted),
    mode: entry.mode ?? planning.mode,
    optional: entry.optional,
    source,
    split: partsSplit({ within: selection.select, only, rename: new Map(Object.entries(rename ?? {})) }),
  }
}

/** Name of an object in errors and audit records. */
function objectName({
  store,
  key,
  property,
}: {
  store: string
  key: string
  property?: string | undefined
}): string {
  return `${store}/${key}${property === undefined ? '' : `#${property}`}`
}

/** The steps from the fetched bytes to the wanted ones, or undefined with a problem reported. */
function selectionOf(
  entry: Selection,
  at: Path,
  planning: Planning,
): { readonly select: ReturnType<typeof selectOf> } | undefined {
  if (entry.property !== undefined && entry.jmesPath !== undefined)
    return report(planning, [...at, 'jmesPath'], {
      code: 'KEYFERRY_FILES',
      message: 'cannot stand beside property',
      remedy: 'Keep one of them',
    })
  try {
    return { select: selectOf(entry) }
  } catch (error) {
    if (!(error instanceof JmesPathError)) throw error
    return report(planning, [...at, 'jmesPath'], {
      code: 'KEYFERRY_JMES_PATH',
      message: `cannot be read: ${error.message}`,
      remedy: 'Keys with other characters than letters, digits and _ need double quotes inside the path',
    })
  }
}

interface Wanted {
  readonly store: string
  readonly key: string
  readonly version?: string | undefined
}

/** Where an entry is fetched from, or undefined with every reason reported. */
function sourceOf(
  wanted: Wanted,
  document: boolean,
  at: Path,
  keyAt: Path,
  planning: Planning,
): Source | undefined {
  const { stores, pod, problems } = planning
  planning.objects += 1
  if (planning.objects > MAX_OBJECTS) {
    if (planning.objects > MAX_OBJECTS + 1) return undefined
    return report(planning, at, {
      code: 'KEYFERRY_FILES',
      message: `is over the limit of ${MAX_OBJECTS} objects`,
      remedy: 'Split the SecretProviderClass',
    })
  }
  const before = problems.length
  const key = [...keyAt, 'key']
  const fault = keyFault(wanted.key)
  if (fault !== undefined) report(planning, key, { code: 'KEYFERRY_KEY', message: fault })
  if (wanted.version !== undefined && !isVersion(wanted.version))
    report(planning, [...at, 'version'], {
      code: 'KEYFERRY_KEY',
      message: 'is no version: letters, digits and _ . : + = @ -',
    })
  const store = stores.get(wanted.store)
  if (!store && planning.broken.has(wanted.store)) return undefined
  if (!store) {
    const withheld = planning.withheld.has(wanted.store)
    const problem = withheld ? withheldStore(wanted.store, pod) : unknownStore(wanted.store, stores, pod)
    return report(planning, [...at, 'store'], problem)
  }
  if (!store.allows(wanted.key))
    report(planning, key, {
      kind: 'denied',
      code: 'KEYFERRY_KEY_DENIED',
      message: `is not among the keys of store "${store.name}" that ${pod.namespace}/${pod.serviceAccount} may read`,
      remedy: `Ask the operator for an allow rule of the store`,
    })
  if (problems.length > before) return undefined
  const { backend, settings, identity, configured, name } = store
  try {
    const ref: unknown = backend.ref(itemFor(backend.kind, { ...wanted, document }, pod.uid))
    return { backend: backend.kind, store: settings, identity, ref, ...(configured && { name }) }
  } catch (error) {
    if (!(error instanceof PlanError)) throw error
    for (const { code, message, remedy } of error.problems)
      report(planning, key, {
        code,
        message: `cannot be used: ${message}`,
        ...(remedy !== undefined && { remedy }),
      })
    return undefined
  }
}

/** For the operator only: the store exists. */
function withheldStore(name: string, pod: PodFacts): Pick<Problem, 'code' | 'message' | 'remedy'> {
  return {
    code: 'KEYFERRY_UNKNOWN_STORE',
    message: `"${name}" has no allow rule for ${pod.namespace}/${pod.serviceAccount}`,
    remedy: 'Add one to the store, or check the class as the service account that mounts it',
  }
}

/** The same whether the store does not exist or is not for this pod. */
function unknownStore(
  name: string,
  stores: ReadonlyMap<string, UsableStore>,
  pod: PodFacts,
): Pick<Problem, 'code' | 'message' | 'remedy'> {
  const meant = nearMiss(name, stores.keys())
  return {
    code: 'KEYFERRY_UNKNOWN_STORE',
    message: `"${name.slice(0, 100)}" is no store for ${pod.namespace}/${pod.serviceAccount}`,
    remedy:
      meant === undefined
        ? 'Check the name, and ask the operator whether a rule of the store allows this service account'
        : `Is "${meant}" meant?`,
  }
}

/** Other parameters may be anybody's and are ignored, but one that looks like ours is told. */
function misspelt(parameters: ReadonlyMap<string, string>): string[] {
  return Array.from(parameters.keys())
    .slice(0, 100)
    .flatMap((name) => {
      const meant = PARAMETERS.some((known) => known === name) ? undefined : nearMiss(name, PARAMETERS)
      return meant === undefined ? [] : [`parameter "${name}" is unknown and ignored; is "${meant}" meant?`]
    })
}
