/** Owns the last check of a conversion: every store by its backend's schema, every class by the dialect that will read it. */
import { planNow } from '../../mount/planner.ts'
import * as v from 'valibot'
import { defaultConfig, issueOf } from '../../config.ts'
import { PlanError, type Backend, type Dialect, type Problem } from '../../providers/adapter.ts'
import { keyferryDialect } from '../../providers/keyferry/dialect.ts'
import type { ConfiguredStore } from '../../providers/keyferry/stores.ts'
import type { Registry } from '../../providers/registry.ts'
import { allowExactly, type ConvertedClass } from './entries.ts'
import type { Note } from './notes.ts'
import { classParameters, type Conversion } from './output.ts'
import { DEFAULT_MODE } from './spc-reading.ts'
import { storeConfiguration, type StoreHandle } from './stores.ts'

interface Made {
  readonly classes: readonly ConvertedClass[]
  readonly stores: readonly StoreHandle[]
  readonly notes: Note[]
  readonly inline: boolean
}

/** The conversion without stores and classes that the nodes would refuse; why is listed. */
export async function checkConversion(made: Made, registry: Registry): Promise<Conversion> {
  const { stores, notes, inline } = made
  const classes = onceEach(inNamespaces(made.classes, notes), notes)
  allowExactly(classes, stores)
  const { configured, backends, faults } = await checkedStores(stores, inline, registry)
  const dialect = keyferryDialect({
    stores: inline ? [] : configured,
    inline: inline ? backends : 'deny',
    maxFileBytes: defaultConfig().limits.fileBytes,
  })
  const sound: ConvertedClass[] = []
  for (const one of classes) {
    const broken = [...one.stores].flatMap((handle) => faults.get(handle) ?? [])
    for (const message of broken) notes.push(noteOf(one, message, 'Correct what the store is made of'))
    if (broken.length > 0) continue
    const problems = await planProblems(one, dialect, inline)
    notes.push(...problems.map((problem) => problemNote(one, problem)))
    if (problems.length === 0) sound.push(one)
  }
  allowExactly(sound, stores)
  return { classes: sound, stores: stores.filter(({ allowed }) => allowed.size > 0), notes, inline }
}

/** What a node would say of a class. */
async function planProblems(
  one: ConvertedClass,
  dialect: Dialect,
  inline: boolean,
): Promise<readonly Problem[]> {
  const parameters = new Map(Object.entries(classParameters(one, inline)))
  try {
    await dialect.prepare?.({ parameters })
    planNow(dialect, {
      pod: { name: 'pod', namespace: one.usedIn, uid: 'uid', serviceAccount: 'default' },
      parameters,
      nodePublishKeys: new Set(),
      defaultMode: DEFAULT_MODE,
      provider: 'keyferry',
    })
    return []
  } catch (error) {
    if (error instanceof PlanError) return error.problems
    throw error
  }
}

/** What the API server takes for a namespace; a rule of a store would read `*` as all of them. */
const NAMESPACE = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/

/** Classes whose namespace can be one, so that a rule means it alone. */
function inNamespaces(classes: readonly ConvertedClass[], notes: Note[]): readonly ConvertedClass[] {
  return classes.filter((one) => {
    const can = NAMESPACE.test(one.usedIn)
    if (!can)
      notes.push(
        noteOf(
          one,
          `"${one.usedIn.slice(0, 100)}" is no name of a namespace`,
          'Correct it: the API server would refuse it, too',
        ),
      )
    return can
  })
}

/** Of classes with one name in one namespace only the first could be applied. */
function onceEach(classes: readonly ConvertedClass[], notes: Note[]): readonly ConvertedClass[] {
  const first = new Map<string, ConvertedClass>()
  return classes.filter((one) => {
    const name = `${one.namespace ?? ''}/${one.name}`
    const earlier = first.get(name)
    if (earlier === undefined) first.set(name, one)
    else
      notes.push(
        noteOf(
          one,
          `the class of ${earlier.source.object} (${earlier.source.file}:${earlier.source.line}) has the same name and namespace`,
          'Rename one of them, or convert them apart',
        ),
      )
    return earlier === undefined
  })
}

interface CheckedStores {
  readonly configured: readonly ConfiguredStore[]
  readonly backends: ReadonlyMap<string, Backend>
  readonly faults: ReadonlyMap<StoreHandle, string>
}

async function checkedStores(
  stores: readonly StoreHandle[],
  inline: boolean,
  registry: Registry,
): Promise<CheckedStores> {
  const backends = new Map<string, Backend>()
  const configured: ConfiguredStore[] = []
  const faults = new Map<StoreHandle, string>()
  for (const handle of stores) {
    const { name, identity } = handle
    const backend = await registry.backend(handle.backend)
    backends.set(handle.backend, backend)
    const allow = storeConfiguration(handle).allow.map((rule) => ({ ...rule, serviceAccounts: ['*'] }))
    const result = v.safeParse(backend.storeSchema, handle.settings)
    if (!result.success) {
      const [path, reason] = issueOf(result.issues)
      faults.set(handle, `the store "${name}" cannot be used: ${path.join('.')} ${reason}`)
    } else if (inline && identity === 'node')
      faults.set(handle, `the store "${name}" has the identity of the node, which a class may not ask for`)
    else configured.push({ name, backend, settings: result.output, identity, allow })
  }
  return { configured, backends, faults }
}

function problemNote(one: ConvertedClass, { code, message, remedy }: Problem): Note {
  return noteOf(
    one,
    `the class that was made has a fault and is not written: ${code}: ${message}`,
    remedy ?? 'Correct what it is made of',
  )
}

function noteOf({ source }: ConvertedClass, message: string, remedy: string): Note {
  const { file, line, object } = source
  return { severity: 'lost', file, line, column: 1, object, field: 'spec', message, remedy }
}
