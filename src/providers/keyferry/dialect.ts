/** Owns the dialect `keyferry`: files of several named stores in one volume. Pure. */
import { nearMiss } from '../../formats/near-miss.ts'
import type { Steps } from '../../formats/steps.ts'
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
  type Problem,
} from '../adapter.ts'
import { inlineStores, type InlineRefusal } from './inline-stores.ts'
import {
  readFiles,
  type ExpandEntry,
  type FileEntry,
  type GatherEntry,
  type MemberEntry,
  type Path,
} from './language.ts'
import { membersCombined, partsSplit, rewritten, templateRendered } from './outputs.ts'
import { objectName, report, selectionOf, sourceOf, type Planning } from './planning.ts'
import { needsDocument } from './select.ts'
import { visibleStores, type ConfiguredStore } from './stores.ts'
import type { TemplateCompiler } from './template-engine.ts'
import { compiledTemplate } from './template-planning.ts'

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
    plan: (request) => planSteps(request, options, compiler),
  }
}

/** Whether the text can have a key `template`, however YAML writes it. */
function mayHaveTemplate(text: string): boolean {
  return text.includes('template') || text.includes('\\')
}

function* planSteps(
  request: PlanRequest,
  options: KeyferryOptions,
  compiler: TemplateCompiler | undefined,
): Steps<Plan> {
  const { parameters, pod } = request
  const own = yield* inlineStores(parameters.get('stores'), options.inline)
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
  const reading = yield* readFiles(text)
  const planning: Planning = {
    reading,
    stores,
    configured: options.reader === 'operator' ? new Set(options.stores.map(({ name }) => name)) : undefined,
    broken: own.broken,
    pod,
    problems,
    mode: request.defaultMode,
    objects: 0,
    templates: { compiler, maxBytes: options.maxFileBytes, characters: 0, tags: 0, faults: 0 },
    warnings: [],
  }
  problems.push(...reading.problems)
  const outputs: Output[] = []
  for (const [index, entry] of (reading.value ?? []).entries()) {
    const output = entry && outputOf(entry, [index], planning)
    if (output) outputs.push(output)
    yield
  }
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
      return { combine: membersCombined(format, names, planning.templates.maxBytes), documents: new Set() }
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

/** Other parameters may be anybody's and are ignored, but one that looks like ours is told. */
function misspelt(parameters: ReadonlyMap<string, string>): string[] {
  return Array.from(parameters.keys())
    .slice(0, 100)
    .flatMap((name) => {
      const meant = PARAMETERS.some((known) => known === name) ? undefined : nearMiss(name, PARAMETERS)
      return meant === undefined ? [] : [`parameter "${name}" is unknown and ignored; is "${meant}" meant?`]
    })
}
