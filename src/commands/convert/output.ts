/** Owns how converted classes and their stores are written: YAML for `kubectl` and `keyferry lint -`, or JSON. */
import { Document, isMap, isScalar, visit } from 'yaml'
import { printable } from '../lint/findings.ts'
import type { ConvertedClass, Entry } from './entries.ts'
import { noteAdvice, type Note } from './notes.ts'
import { storeConfiguration, type StoreHandle } from './stores.ts'

/** What a run has made. */
export interface Conversion {
  readonly classes: readonly ConvertedClass[]
  readonly stores: readonly StoreHandle[]
  readonly notes: readonly Note[]
  /** Stores stand in the classes, not in the configuration of the nodes. */
  readonly inline: boolean
}

/** Settings that stores share are written out, each time. */
const YAML = {
  lineWidth: 0,
  blockQuote: 'literal',
  flowCollectionPadding: false,
  aliasDuplicateObjects: false,
} as const

/** Characters that some readers of YAML take for the end of a line, or refuse where they stand as they are. */
const UNSEEN = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/

/**
 * The text of a document. The readers of kubectl and the API server follow YAML 1.1, to which a line separator ends
 * a line even in quotes: a name with one must not be able to end its value and begin a key of its own.
 */
function written(document: Document): string {
  visit(document, {
    Scalar(_key, node) {
      if (typeof node.value === 'string' && UNSEEN.test(node.value)) node.type = 'QUOTE_DOUBLE'
    },
  })
  return document
    .toString(YAML)
    .replaceAll(new RegExp(UNSEEN, 'g'), (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** The stream: each class with its list in its head, then the ConfigMap with the stores. */
export function yamlStream(conversion: Conversion): string {
  const notesOf = Map.groupBy(conversion.notes, ({ object }) => object)
  const documents = conversion.classes.map((one) =>
    documentText(classObject(one, conversion.inline), classHead(one, conversion.inline, notesOf)),
  )
  if (conversion.classes.length > 0)
    documents.push(documentText(configMapObject(conversion, notesOf), CONFIG_MAP_HEAD))
  return documents.join('---\n')
}

/** Notes by the object that they are about. */
type NotesOf = ReadonlyMap<string, readonly Note[]>

/** The same as data, with the list. */
export function jsonReport(files: readonly string[], conversion: Conversion): string {
  const { classes, stores, notes, inline } = conversion
  const lost = notes.filter(({ severity }) => severity === 'lost').length
  return `${JSON.stringify(
    {
      files,
      counts: { classes: classes.length, stores: stores.length, lost, changed: notes.length - lost },
      classes: classes.map((one) => ({ source: one.source, class: classObject(one, inline) })),
      configuration: configuration(conversion),
      notCarried: notes,
    },
    undefined,
    2,
  )}\n`
}

/** The parameters of a class. */
export function classParameters(
  { entries, stores, onRevoked }: ConvertedClass,
  inline: boolean,
): Readonly<Record<string, string>> {
  const own = Object.fromEntries(
    Array.from(stores, ({ name, backend, settings }) => [name, { backend, settings }] as const).sort(),
  )
  return {
    ...(inline && { stores: written(new Document(own, YAML)) }),
    ...(onRevoked && { onRevoked }),
    files: filesText(entries),
  }
}

function classObject(one: ConvertedClass, inline: boolean) {
  const { name, namespace } = one
  return {
    apiVersion: 'secrets-store.csi.x-k8s.io/v1',
    kind: 'SecretProviderClass',
    metadata: { name, ...(namespace !== undefined && { namespace }) },
    spec: { provider: 'keyferry', parameters: classParameters(one, inline) },
  }
}

/** Entries as a YAML list. Every scalar of it is read as text, so that nothing but the grammar asks for quotes. */
function filesText(entries: readonly Entry[]): string {
  return written(new Document(entries, { ...YAML, schema: 'failsafe' }))
}

/** The entries of the configuration that this run asks for. */
function configuration({ stores, inline }: Conversion) {
  if (inline) return { policy: { inlineStores: 'allow' } }
  return { stores: Object.fromEntries(stores.map((store) => [store.name, storeConfiguration(store)])) }
}

const CONFIG_MAP_HEAD = [
  'What the classes above need in the configuration of the nodes. Merge it into the ConfigMap "keyferry" that the',
  'DaemonSet mounts (daemonset/keyferry.yaml); as it is, it would replace that one. Rules allow exactly the keys that',
  'the classes name, to their namespaces: everything else is denied.',
]

function configMapObject(conversion: Conversion, notesOf: NotesOf) {
  const document = new Document(configuration(conversion), YAML)
  const sources = new Map(conversion.stores.map((store) => [store.name, store.sources]))
  const stores: unknown = document.get('stores')
  for (const { key } of isMap(stores) ? stores.items : []) {
    if (!isScalar(key)) continue
    const from = sources.get(String(key.value)) ?? new Set<string>()
    const named = [...from].slice(0, MAX_SOURCES).join(', ')
    key.commentBefore = comment([
      `From ${named}${from.size > MAX_SOURCES ? ', …' : ''}.`,
      ...noteLines(storeNotes(from, notesOf)),
    ])
  }
  visit(document, {
    Seq(_key, node) {
      // `namespaces: [shop]` is what people write.
      if (node.items.length === 1 && node.items.every(isScalar)) node.flow = true
    },
  })
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'keyferry', namespace: 'keyferry' },
    data: { 'config.yaml': written(document) },
  }
}

/** How many source objects a store's comment names. */
const MAX_SOURCES = 5

/** What is listed of the SecretStores that a store was made of; of other objects it stands with their classes. */
function storeNotes(sources: ReadonlySet<string>, notesOf: NotesOf): readonly Note[] {
  return [...sources]
    .filter((object) => /^(?:Cluster)?SecretStore /.test(object))
    .flatMap((object) => notesOf.get(object) ?? [])
}

function comment(lines: readonly string[]): string {
  return lines.map((line) => ` ${printable(line)}`).join('\n')
}

function classHead({ source, stores }: ConvertedClass, inline: boolean, notesOf: NotesOf): readonly string[] {
  const sources = new Set(inline ? [...stores].flatMap((store) => [...store.sources]) : [])
  const own = [
    ...(notesOf.get(source.object) ?? []).filter(({ file }) => file === source.file),
    ...storeNotes(sources, notesOf),
  ]
  return [
    `Converted by keyferry convert from ${source.object} (${source.file}:${source.line}).`,
    ...(own.length === 0 ? [] : ['Not carried over as it was:', ...noteLines(own)]),
  ]
}

function noteLines(notes: readonly Note[]): readonly string[] {
  return notes.map((note) =>
    printable(`- ${note.severity}: ${note.field} (line ${note.line}): ${noteAdvice(note)}`),
  )
}

function documentText(object: unknown, head: readonly string[]): string {
  const document = new Document(object, YAML)
  document.commentBefore = comment(head)
  return written(document)
}
