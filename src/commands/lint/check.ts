/** Owns the check of one SecretProviderClass: the server's plan without a mount, and what only the driver would say. */
import { nearMiss } from '../../formats/near-miss.ts'
import { checkedPlan, planNow, type PlanLimits } from '../../mount/planner.ts'
import { PlanError, type Dialect, type Plan, type Problem } from '../../providers/adapter.ts'
import type { SpcFile } from '../spc-files.ts'
import type { Place } from '../spc-places.ts'
import type { Finding } from './findings.ts'

export interface CheckOptions {
  /** Socket names that are served. */
  readonly providers: readonly string[]
  readonly dialect: (provider: string) => Promise<Dialect>
  readonly limits: PlanLimits
  /** Who mounts. Default: the service account `default` of the class's namespace, else of `default`. */
  readonly pod?: { readonly namespace?: string; readonly serviceAccount?: string }
}

/** What the driver asks for (driver.md section 1.1). */
const DEFAULT_MODE = 0o644

/** Everything that is wrong with a class, as far as it shows without a store. */
export async function checkSpc(spc: SpcFile, options: CheckOptions): Promise<readonly Finding[]> {
  if (!options.providers.includes(spc.provider)) return [unknownProvider(spc, options.providers)]
  const dialect = await options.dialect(spc.provider)
  const { nodePublishKeys: keys = [] } = dialect.needs
  await dialect.prepare?.({ parameters: parametersOf(spc) })
  const bare = planned(spc, dialect, [], options)
  const found = keys.length > 0 && bare.plan === undefined ? planned(spc, dialect, keys, options) : bare
  const faults = found.problems.map((problem) => faultOf(spc, problem))
  const same = new Set(faults.map(({ code, message }) => `${code} ${message}`))
  // What the Secret of a volume can mend is no fault of the class.
  const mended = bare.problems
    .filter(({ code, message }) => !same.has(`${code} ${message}`))
    .map((problem) => ({ ...faultOf(spc, problem), severity: 'warning' as const }))
  const warnings = (found.plan?.warnings ?? []).map((warning) => warningOf(spc, warning))
  return [...faults, ...mended, ...warnings, ...(found.plan ? unmatched(spc, found.plan) : [])]
}

function parametersOf(spc: SpcFile): ReadonlyMap<string, string> {
  return new Map(Object.entries(spc.parameters))
}

interface Planned {
  readonly plan?: Plan
  readonly problems: readonly Problem[]
}

/** The server's plan for any pod of its namespace and service account: what a plan makes of a pod's name is no fault of the class. */
function planned(
  spc: SpcFile,
  dialect: Dialect,
  keys: readonly string[],
  { limits, pod = {} }: CheckOptions,
): Planned {
  try {
    const plan = planNow(dialect, {
      pod: {
        name: 'pod',
        namespace: pod.namespace ?? spc.namespace ?? 'default',
        uid: '00000000-0000-0000-0000-000000000000',
        serviceAccount: pod.serviceAccount ?? 'default',
      },
      parameters: parametersOf(spc),
      nodePublishKeys: new Set(keys),
      defaultMode: DEFAULT_MODE,
      provider: spc.provider,
    })
    return { plan: checkedPlan(plan, limits), problems: [] }
  } catch (error) {
    if (error instanceof PlanError) return { problems: error.problems }
    throw error
  }
}

function unknownProvider(spc: SpcFile, providers: readonly string[]): Finding {
  const meant = nearMiss(spc.provider, providers)
  return {
    ...findingAt(spc, spc.places.provider),
    severity: 'fault',
    code: 'UNKNOWN_PROVIDER',
    message: `provider "${spc.provider}" is not served: the driver finds no socket of that name`,
    remedy:
      meant === undefined
        ? `Name one of ${providers.join(', ')}`
        : `Is "${meant}" meant? There are ${providers.join(', ')}`,
  }
}

function faultOf(spc: SpcFile, { code, message, remedy, parameter, line, column }: Problem): Finding {
  const place =
    parameter !== undefined && line !== undefined
      ? spc.places.inside(parameter, { line, column: column ?? 1 })
      : placeOfMention(spc, message, parameter)
  return {
    ...findingAt(
      spc,
      column === undefined && line !== undefined ? firstOnLine(spc, parameter, line, place) : place,
    ),
    severity: 'fault',
    code,
    message,
    ...(remedy !== undefined && { remedy }),
  }
}

/** Of a line without a column, the first character that is no indentation. */
function firstOnLine(spc: SpcFile, parameter: string | undefined, line: number, place: Place): Place {
  if (parameter === undefined || !Object.hasOwn(spc.parameters, parameter)) return place
  const text = spc.parameters[parameter]?.split('\n')[line - 1]
  if (text === undefined) return place
  return spc.places.inside(parameter, { line, column: text.length - text.trimStart().length + 1 })
}

function warningOf(spc: SpcFile, message: string): Finding {
  return {
    ...findingAt(spc, placeOfMention(spc, message)),
    severity: 'warning',
    code: 'SPC_WARNING',
    message,
  }
}

/**
 * The driver copies files into Secrets by their path; for a name that no file has, it only writes an event
 * `FailedToCreateSecret` (driver.md section 7).
 */
function unmatched(spc: SpcFile, plan: Plan): Finding[] {
  const files: string[] = []
  const directories: string[] = []
  for (const output of plan.outputs) {
    if (output.kind !== 'expand') files.push(output.path)
    else directories.push(output.into === '' ? '' : `${output.into}/`)
  }
  return spc.secretObjects.flatMap(({ objectName, place }): Finding[] => {
    if (files.includes(objectName) || directories.some((into) => objectName.startsWith(into))) return []
    const meant = nearMiss(objectName, files)
    return [
      {
        ...findingAt(spc, place),
        severity: 'fault',
        code: 'SECRET_OBJECT_NO_FILE',
        message: `secretObjects: objectName "${objectName}" is no file of this volume, so the driver cannot copy it into a Secret`,
        remedy: meant === undefined ? `The files are ${listed(files)}` : `Is "${meant}" meant?`,
      },
    ]
  })
}

/** How many file names a remedy lists. */
const MAX_LISTED = 6

function listed(files: readonly string[]): string {
  const more = files.length > MAX_LISTED ? ` and ${files.length - MAX_LISTED} more` : ''
  return files.slice(0, MAX_LISTED).join(', ') + more
}

function findingAt(spc: SpcFile, { line, column }: Place) {
  return { file: spc.file, line, column, secretProviderClass: spc.name }
}

/**
 * Where something stands of which only a message speaks: the last quoted word of a parameter's text that
 * the message quotes too, else the parameter that it names, else all of them.
 */
function placeOfMention(spc: SpcFile, message: string, parameter?: string): Place {
  const names = Object.keys(spc.parameters).filter((name) => name === (parameter ?? name))
  for (const quoted of message.split('"').filter((_, index) => index % 2 === 1)) {
    for (const name of names) {
      const text = spc.parameters[name] ?? ''
      const at = lastWord(text, quoted)
      if (at !== -1) return spc.places.inside(name, placeInText(text, at))
    }
    if (parameter === undefined && Object.hasOwn(spc.parameters, quoted)) return spc.places.key(quoted)
  }
  const named = names.find((name) => message.split(/[^\w.-]+/).includes(name))
  return spc.places.key(parameter ?? named ?? '')
}

const WORD = /[\w./-]/

/** Where `word` last stands in `text` as a whole word; -1 when it does not. */
function lastWord(text: string, word: string): number {
  if (word === '') return -1
  let at = text.lastIndexOf(word)
  while (at !== -1 && (WORD.test(text.charAt(at - 1)) || WORD.test(text.charAt(at + word.length))))
    at = at === 0 ? -1 : text.lastIndexOf(word, at - 1)
  return at
}

function placeInText(text: string, offset: number): Place {
  const before = text.slice(0, offset).split('\n')
  return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 }
}
