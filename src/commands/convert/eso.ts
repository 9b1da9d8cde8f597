/** Owns ExternalSecrets of External Secrets Operator as classes of `provider: keyferry`. */
import type { OnRevoked } from '../../providers/adapter.ts'
import type { SourceObject } from './documents.ts'
import {
  classOf,
  lastOfEachPath,
  optionalEntries,
  usableKey,
  usableVersion,
  type ConvertedClass,
  type Entry,
  type ExpandEntry,
  type Extract,
  type Taken,
} from './entries.ts'
import type { EsoStore } from './eso-stores.ts'
import { templateEntries } from './eso-templates.ts'
import { listRest, type Field } from './field.ts'
import { isPlainProperty } from './gjson.ts'
import type { StoreHandle } from './stores.ts'

/** The stores of the run, by what a reference says. */
export type StoreFinder = (kind: string, name: string, namespace: string) => EsoStore | undefined

/** Reads one source object's entries. */
interface Reading {
  readonly object: SourceObject
  readonly namespace: string
  readonly find: StoreFinder
  readonly used: Set<StoreHandle>
  /** `spec.secretStoreRef`. */
  readonly defaultStore: Field | undefined
}

const FETCHED = 'Keyferry asks the store when a pod is mounted, and then as often as the driver polls'

/** The class of an ExternalSecret. @param spec its `spec`, or the one in a ClusterExternalSecret */
export function convertExternalSecret(
  object: SourceObject,
  spec: Field | undefined,
  namespace: string,
  find: StoreFinder,
): ConvertedClass | undefined {
  const { root } = object
  if (spec === undefined) return root.note('lost', 'spec is missing', 'Write it')
  const reading: Reading = {
    object,
    namespace,
    find,
    used: new Set(),
    defaultStore: spec.get('secretStoreRef'),
  }
  reading.defaultStore?.ignore()
  refreshNotes(spec)
  const target = spec.get('target')
  targetNotes(target)
  const onRevoked = revocationOf(target)
  const data = new Map<string, Taken>()
  const fields = new Map<string, Field>()
  for (const item of spec.get('data')?.items() ?? []) {
    const name = fileName(item.get('secretKey') ?? item)
    const taken = dataTaken(item, reading)
    if (name === undefined || taken === undefined) {
      item.ignore()
      continue
    }
    data.set(name, taken)
    fields.set(name, item)
  }
  const extracts = (spec.get('dataFrom')?.items() ?? []).flatMap((item) => {
    const extract = extractOf(item, reading)
    if (extract === undefined) item.ignore()
    return extract ?? []
  })
  const template = target?.get('template')
  const plan = templateEntries(template, {
    apiVersion: object.apiVersion,
    data,
    extract: extracts.length === 1 ? extracts[0]?.extract : undefined,
  })
  const entries: Entry[] = [
    ...(plan.replaces ? [] : extracts.map(({ entry }) => entry)),
    ...(plan.replaces ? [] : Array.from(data, ([path, taken]) => ({ path, ...taken }))),
    ...plan.entries,
  ]
  if (!plan.replaces && extracts.length > 0 && entries.length > 1)
    spec
      .get('dataFrom')
      ?.note(
        'changed',
        'where two sources have a name in common the operator takes the last, and Keyferry refuses the mount',
        'Where that happens, name the members to take in expand.select',
      )
  listRest(root)
  const last = lastOfEachPath(entries)
  const kept = onRevoked === 'remove' ? optionalEntries(last) : last
  if (kept.length === 0)
    return root.note('lost', 'nothing of it can be carried over', 'See what else is listed of it')
  return classOf(object, namespace, kept, reading.used, onRevoked)
}

function refreshNotes(spec: Field): void {
  const interval = spec.get('refreshInterval')
  const policy = spec.get('refreshPolicy')
  const once = (policy?.text() ?? 'Periodic') !== 'Periodic' || /^0[a-z]*$/.test(interval?.text() ?? '')
  if (once)
    (policy ?? interval)?.lost(
      'values that are fetched once and then kept are not available',
      `${FETCHED}; pin a version instead`,
    )
  if (interval !== undefined && !(once && policy === undefined))
    interval.changed('there is no interval for each object', `${FETCHED} (rotation of the driver)`)
  spec.get('syncWindows')?.lost('windows of time in which values may change are not available', FETCHED)
}

function targetNotes(target: Field | undefined): void {
  const creation = target?.get('creationPolicy')
  const word = creation?.text() ?? 'Owner'
  if (word === 'Merge' || word === 'Orphan')
    creation?.lost('no Kubernetes Secret is made, so none is merged or left behind', MOUNT)
  else creation?.changed('no Kubernetes Secret is made', MOUNT)
  for (const name of ['name', 'immutable', 'manifest'])
    target?.get(name)?.changed('no Kubernetes Secret is made', MOUNT)
}

/** `Retain` keeps what objects that are gone have left behind; the others take it away and go on without. */
function revocationOf(target: Field | undefined): OnRevoked | undefined {
  const deletion = target?.get('deletionPolicy')
  const word = deletion?.text()
  if (deletion === undefined || word === undefined) return undefined
  if (word === 'Retain') return 'keep'
  deletion.changed(
    'files go one by one, also when access to an object is denied, and an object that is gone is no error',
    'Remove optional where new pods must not start without the file',
  )
  return 'remove'
}

const MOUNT = 'Mount the class as a volume (csi, secrets-store.csi.k8s.io) and read the files'

/** A name that the operator allows is a file name but for `.` and what begins with `..`. */
function fileName(field: Field): string | undefined {
  const name = field.text()
  if (name === undefined) return undefined
  if (/^[-._a-zA-Z0-9]{1,253}$/.test(name) && name !== '.' && !name.startsWith('..')) return name
  return field.lost('this cannot be the name of a file', 'Use letters, digits and - _ .')
}

const DECODE: ReadonlyMap<string, Taken['decode']> = new Map([
  ['None', undefined],
  ['Base64', 'base64'],
  ['Base64URL', 'base64url'],
])

function dataTaken(item: Field, reading: Reading): Taken | undefined {
  const store = storeOf(item.get('sourceRef'), reading)
  const ref = item.get('remoteRef')
  if (ref === undefined) return item.lost('remoteRef is missing', 'Name the object')
  return store && taken(ref, store, reading)
}

/** What a `remoteRef` or `extract` fetches; undefined with a note where the bytes would not be the same. */
function taken(ref: Field, store: NonNullable<EsoStore['target']>, reading: Reading): Taken | undefined {
  const metadata = ref.get('metadataPolicy')
  if (metadata !== undefined && metadata.text() !== 'None')
    return metadata.lost(
      'tags and labels of an object cannot be mounted',
      'Store what is needed of them as a value',
    )
  const conversion = ref.get('conversionStrategy')
  if (conversion !== undefined && conversion.text() !== 'Default')
    conversion.lost('names of members are not converted', 'Name those that need it in expand.rename')
  const decoding = ref.get('decodingStrategy')
  const word = decoding?.text() ?? 'None'
  if (decoding !== undefined && !DECODE.has(word))
    return decoding.lost('a value is not decoded on a guess', 'Say Base64, Base64URL or None')
  const decode = DECODE.get(word)
  const property = ref.get('property')
  const path = property?.text()
  if (property !== undefined && path !== undefined && !isPlainProperty(path))
    return property.lost(
      'this property is a query (gjson), and a property of a class names members and positions only',
      'Write what it finds as jmesPath',
    )
  const key = ref.get('key')
  if (key === undefined) return ref.lost('key is missing', 'Name the object')
  const text = store.keyOf(key, key.text() ?? '')
  if (text === undefined || !usableKey(key, text)) return undefined
  const version = ref.get('version')
  const wanted = version?.text()
  if (version !== undefined && wanted && !usableVersion(version, wanted)) return undefined
  reading.used.add(store.handle)
  return {
    store: store.handle.name,
    key: text,
    ...(wanted && { version: wanted }),
    ...(path && { property: path }),
    ...(decode && { decode }),
  }
}

/** The store of an entry: its own `sourceRef`, else that of the object. */
function storeOf(source: Field | undefined, reading: Reading): EsoStore['target'] {
  const generator = source?.get('generatorRef')
  if (generator !== undefined)
    return generator.lost(
      'there are no generators',
      'Create the value in a store, or use what the store issues (docs/vault.md)',
    )
  const ref = source?.get('storeRef') ?? reading.defaultStore
  if (ref === undefined)
    return (source ?? reading.object.root).note('lost', 'no store is named', 'Name one in secretStoreRef')
  const kind = ref.get('kind')?.text() ?? 'SecretStore'
  const name = ref.get('name')?.text() ?? ''
  const store = reading.find(kind, name, reading.namespace)
  const shown = `${kind} "${name.slice(0, 100)}"`
  if (store === undefined)
    return ref.lost(
      `${shown} is not among the files`,
      'Give its file, too, or the output of kubectl get secretstores,clustersecretstores -A -o yaml',
    )
  if (store.namespaces !== undefined && !store.namespaces.has(reading.namespace))
    return ref.lost(
      `${shown} is not for the namespace "${reading.namespace}"`,
      'Add it to the conditions of the store',
    )
  if (store.target === undefined)
    return ref.lost(`${shown} cannot be carried over`, 'See what is listed of the store')
  return store.target
}

/** One `dataFrom`. In v1alpha1 the item is itself what later versions call `extract`. */
function extractOf(item: Field, reading: Reading): { extract: Extract; entry: ExpandEntry } | undefined {
  item
    .get('find')
    ?.lost(
      'objects are not looked for by name or tag',
      'List the objects to mount, one entry for each, or an expand of a document',
    )
  const isOld = reading.object.apiVersion.endsWith('/v1alpha1')
  const ref = isOld ? item : item.get('extract')
  const rename = renames(item.get('rewrite'))
  const source = item.get('sourceRef')
  if (ref === undefined) {
    source?.get('generatorRef')?.lost('there are no generators', 'Create the value in a store')
    return undefined
  }
  const store = storeOf(source, reading)
  const found = store && taken(ref, store, reading)
  if (found === undefined || rename === undefined) return undefined
  if (found.decode !== undefined)
    return ref
      .get('decodingStrategy')
      ?.lost(
        'the members of a document are not decoded when it is expanded',
        'List the members under data, each with its decodingStrategy',
      )
  const { store: name, key, version, property } = found
  return {
    extract: { taken: found, renamed: Object.keys(rename).length > 0 },
    entry: {
      store: name,
      ...(version !== undefined && { version }),
      ...(property !== undefined && { property }),
      expand: { key, ...(Object.keys(rename).length > 0 && { rename }) },
    },
  }
}

const LITERAL = /^\^([-_a-zA-Z0-9]+)\$$/

/** What `expand.rename` can say of a rewrite; undefined, with a note, where it cannot say it all. */
function renames(rewrite: Field | undefined): Record<string, string> | undefined {
  const names = Object.create(null) as Record<string, string>
  for (const item of rewrite?.items() ?? []) {
    const regexp = item.get('regexp')
    const [, from] = LITERAL.exec(regexp?.get('source')?.text() ?? '') ?? []
    const to = regexp?.get('target')?.text() ?? ''
    const clean = /^[-_.a-zA-Z0-9]+$/.test(to) && !to.startsWith('.')
    if (from === undefined || !clean || Object.hasOwn(names, from) || Object.values(names).includes(from))
      return rewrite?.lost(
        'members are renamed one by one only: source ^NAME$ and a plain target',
        'Name the members and their files in expand.rename',
      )
    names[from] = to
  }
  return names
}
