/** Owns what planning one class of `provider: keyferry` remembers, and where its entries are fetched from. Pure. */
import { JmesPathError } from '../../formats/jmespath.ts'
import { nearMiss } from '../../formats/near-miss.ts'
import { PlanError, type PodFacts, type Problem, type Source } from '../adapter.ts'
import { itemFor, isVersion, keyFault } from './kinds.ts'
import type { Fault, Path, Reading } from './language.ts'
import { selectOf, type Selection } from './select.ts'
import type { UsableStore } from './stores.ts'
import type { TemplateCompiler } from './template-engine.ts'

/** Most objects that one SPC may name, members of gathered files counted one by one. */
const MAX_OBJECTS = 2000

/** What the templates planned so far have cost. */
export interface TemplatePlanning {
  /** Undefined until a class with a template was prepared. */
  readonly compiler: TemplateCompiler | undefined
  readonly maxBytes: number
  characters: number
  tags: number
  faults: number
}

/** What planning one SPC knows and remembers. */
export interface Planning {
  readonly reading: Pick<Reading<unknown>, 'problemAt' | 'problemInside'>
  readonly stores: ReadonlyMap<string, UsableStore>
  /** For the operator: all stores of the configuration, also those without a rule for the pod. */
  readonly configured: ReadonlySet<string> | undefined
  /** Stores of the SPC that cannot be used: a problem is reported already. */
  readonly broken: ReadonlySet<string>
  readonly pod: PodFacts
  readonly problems: Problem[]
  readonly mode: number
  objects: number
  readonly templates: TemplatePlanning
  readonly warnings: string[]
}

export function report({ reading, problems }: Planning, path: Path, problem: Fault): undefined {
  problems.push(reading.problemAt(path, problem))
  return undefined
}

/** Name of an object in errors and audit records. */
export function objectName({
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
export function selectionOf(
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
export function sourceOf(
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
  if (!store) return report(planning, [...at, 'store'], storeFault(wanted.store, planning))
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

/** To a tenant the same whether the store does not exist or is not for this pod. */
function storeFault(name: string, { stores, configured, pod }: Planning): Fault {
  const account = `${pod.namespace}/${pod.serviceAccount}`
  const code = 'KEYFERRY_UNKNOWN_STORE'
  if (configured?.has(name))
    return {
      code,
      message: `"${name}" has no allow rule for ${account}`,
      remedy: 'Add one to the store, or check the class as the service account that mounts it',
    }
  const message = `"${name.slice(0, 100)}" is no store for ${account}`
  if (configured?.size === 0)
    return { code, message, remedy: 'The configuration has no stores: name that of your nodes (--config)' }
  const meant = nearMiss(name, stores.keys())
  return {
    code,
    message,
    remedy:
      meant === undefined
        ? 'Check the name, and ask the operator whether a rule of the store allows this service account'
        : `Is "${meant}" meant?`,
  }
}
