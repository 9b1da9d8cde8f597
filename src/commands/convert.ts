/** Owns `keyferry convert`: objects of other tools → classes of `provider: keyferry` and the stores that they need. */
import { writeFile } from 'node:fs/promises'
import { parseConfig } from '../config.ts'
import { createHttpClient } from '../net/client.ts'
import type { Registry } from '../providers/registry.ts'
import { silentLogger } from '../telemetry/log.ts'
import { silentMeter } from '../telemetry/metrics.ts'
import { checkConversion } from './convert/check.ts'
import { readObjects, type SourceObject } from './convert/documents.ts'
import type { ConvertedClass } from './convert/entries.ts'
import { convertExternalSecret, type StoreFinder } from './convert/eso.ts'
import { convertClusterExternalSecret } from './convert/eso-cluster.ts'
import { readEsoStore, type EsoStore } from './convert/eso-stores.ts'
import { convertKes } from './convert/kes.ts'
import { notesText, sortedNotes, type Note } from './convert/notes.ts'
import { jsonReport, yamlStream, type Conversion } from './convert/output.ts'
import { convertSpc } from './convert/spc.ts'
import { createStoreBook, type StoreBook } from './convert/stores.ts'
import { loadRegistry } from './provider-process.ts'
import { readTexts, STDIN, type NamedText } from './spc-files.ts'
import { UsageError } from './usage.ts'

export interface ConvertFlags {
  readonly output?: string
  readonly json?: boolean
  readonly strict?: boolean
  readonly inlineStores?: boolean
  readonly namespace?: string
}

/** Far below what would make a class that no driver takes, and enough for any cluster. */
const MAX_OBJECTS = 20_000

/**
 * Converts the objects of the files, writes classes and stores, and lists what was not carried over.
 * @returns whether something was converted and, with `strict`, nothing was lost.
 * @throws UsageError
 */
export async function convert(files: readonly string[], flags: ConvertFlags): Promise<boolean> {
  if (files.length === 0 && process.stdin.isTTY)
    throw new UsageError('name the files to convert, or pipe them in (see keyferry convert --help)')
  const sources = await readTexts(files.length === 0 ? [STDIN] : files)
  const conversion = await convertSources(sources, flags)
  const made = flags.json
    ? jsonReport(
        sources.map(({ file }) => file),
        conversion,
      )
    : yamlStream(conversion)
  if (flags.output === undefined) process.stdout.write(made)
  else await written(flags.output, made)
  if (!flags.json) process.stderr.write(notesText(conversion.notes))
  const lost = conversion.notes.some(({ severity }) => severity === 'lost')
  return conversion.classes.length > 0 && !(flags.strict && lost)
}

async function written(file: string, text: string): Promise<void> {
  await writeFile(file, text).catch((error: unknown) => {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    throw new UsageError(`${file}: cannot be written (${code})`)
  })
}

/** @throws UsageError where a text cannot be read, or holds nothing that could be converted. */
export async function convertSources(
  sources: readonly NamedText[],
  flags: ConvertFlags,
): Promise<Conversion> {
  const notes: Note[] = []
  const objects = sources.flatMap(({ file, text }) => readObjects(file, text, notes))
  if (objects.length > MAX_OBJECTS)
    throw new UsageError(`more than ${MAX_OBJECTS} objects; convert them in parts`)
  const known = objects
    .filter((object) => KINDS.has(groupKind(object)))
    .map((object) =>
      flags.namespace === undefined || object.kind.startsWith('Cluster')
        ? object
        : { ...object, namespace: object.namespace ?? flags.namespace },
    )
  if (known.length === 0)
    throw new UsageError(
      `${sources.map(({ file }) => file).join(', ')}: there is nothing to convert; known are ExternalSecret, SecretStore and their like (external-secrets.io), ExternalSecret (kubernetes-client.io), SecretProviderClass`,
    )
  const http = createHttpClient({ rules: { refused: [] } })
  try {
    const registry = await loadRegistry(parseConfig('(no configuration file)', ''), {
      log: silentLogger,
      http,
      env: {},
      meter: silentMeter,
    })
    const run = createRun(registry)
    for (const phase of ['stores', 'classes'] as const)
      for (const object of known) await KINDS.get(groupKind(object))?.[phase]?.(object, run)
    const { classes, book } = run
    const inline = flags.inlineStores ?? false
    const conversion = await checkConversion({ classes, stores: book.all(), inline, notes }, registry)
    run.listUnused()
    return {
      ...conversion,
      notes: sortedNotes(
        notes,
        sources.map(({ file }) => file),
      ),
    }
  } finally {
    http.close()
  }
}

/** What converters share, and what they have made so far. */
interface Run {
  readonly registry: Registry
  readonly book: StoreBook
  readonly classes: ConvertedClass[]
  readonly find: StoreFinder
  readonly addStore: (store: EsoStore) => void
  readonly namespaceOf: (object: SourceObject) => string
  /** Lists the stores that no class uses. */
  readonly listUnused: () => void
}

function createRun(registry: Registry): Run {
  const stores: EsoStore[] = []
  return {
    registry,
    book: createStoreBook(),
    classes: [],
    find: (kind, name, namespace) =>
      stores.find(
        (store) => store.kind === kind && store.name === name && (store.namespace ?? namespace) === namespace,
      ),
    addStore: (store) => void stores.push(store),
    namespaceOf: ({ root, namespace }) => {
      if (namespace !== undefined) return namespace
      root.note(
        'changed',
        'the object names no namespace, so rules are for the namespace "default"',
        'Convert with --namespace',
      )
      return 'default'
    },
    listUnused: () => {
      for (const { target, root } of stores)
        if (target?.handle.allowed.size === 0)
          root.note(
            'changed',
            'no class that is written uses the store, so neither is the store',
            'Convert it together with the ExternalSecrets that use it',
          )
    },
  }
}

type Step = (object: SourceObject, run: Run) => void | Promise<void>

interface Kind {
  readonly stores?: Step
  readonly classes?: Step
}

const ESO = 'external-secrets.io'

/** Lists a kind that has no counterpart. */
function nothing(message: string, remedy: string): Kind {
  return {
    classes: ({ root }) => {
      root.note('lost', message, remedy)
    },
  }
}

function kept(run: Run, converted: ConvertedClass | undefined): void {
  if (converted) run.classes.push(converted)
}

const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  [
    `${ESO}/SecretStore`,
    { stores: (object, run) => run.addStore(readEsoStore(object, run.namespaceOf(object), run.book)) },
  ],
  [
    `${ESO}/ClusterSecretStore`,
    { stores: (object, run) => run.addStore(readEsoStore(object, '', run.book)) },
  ],
  [
    `${ESO}/ExternalSecret`,
    {
      classes: (object, run) =>
        kept(run, convertExternalSecret(object, object.root.get('spec'), run.namespaceOf(object), run.find)),
    },
  ],
  [
    `${ESO}/ClusterExternalSecret`,
    { classes: (object, run) => void run.classes.push(...convertClusterExternalSecret(object, run.find)) },
  ],
  [
    `${ESO}/PushSecret`,
    nothing('Keyferry only reads: it pushes nothing into a store', 'Keep it with the operator'),
  ],
  [
    `${ESO}/ClusterPushSecret`,
    nothing('Keyferry only reads: it pushes nothing into a store', 'Keep it with the operator'),
  ],
  [
    'kubernetes-client.io/ExternalSecret',
    { classes: (object, run) => kept(run, convertKes(object, run.namespaceOf(object), run.book)) },
  ],
  [
    'secrets-store.csi.x-k8s.io/SecretProviderClass',
    {
      classes: async (object, run) =>
        kept(
          run,
          await convertSpc(object, run.namespaceOf(object), run.book, (provider) =>
            run.registry.dialect(provider),
          ),
        ),
    },
  ],
  [
    `${ESO}/*`,
    nothing(
      'this kind of object is not known to the converter',
      'Check what it does, and whether it is needed',
    ),
  ],
  [
    'generators.external-secrets.io/*',
    nothing(
      'there are no generators',
      'Create the value in a store, or use what the store issues (docs/vault.md)',
    ),
  ],
])

/** The key of {@link KINDS}: kinds of the other tools that nobody has heard of are told of, too. */
function groupKind({ group, kind }: SourceObject): string {
  const exact = `${group}/${kind}`
  return KINDS.has(exact) ? exact : `${group}/*`
}
