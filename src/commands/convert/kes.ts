/** Owns objects of kubernetes-external-secrets (`kubernetes-client.io/v1`) as classes of `provider: keyferry`. */
import type { SourceObject } from './documents.ts'
import {
  classOf,
  lastOfEachPath,
  usableKey,
  usableVersion,
  type ConvertedClass,
  type Entry,
  type Taken,
} from './entries.ts'
import { POD_IDENTITY, setting } from './eso-provider.ts'
import { listRest, type Field } from './field.ts'
import { literalProperty } from './gjson.ts'
import type { StoreBook, StoreDefinition, StoreHandle } from './stores.ts'

/** What a kind of backend needs to be a store. */
interface Backend {
  readonly store: (spec: Field) => { readonly definition: StoreDefinition; readonly hint: string }
  /** Text of an entry's version, from the fields that say it. */
  readonly version: (entry: Field) => { readonly field: Field; readonly text: string } | undefined
}

const BACKENDS: ReadonlyMap<string, Backend> = new Map<string, Backend>([
  ['secretsManager', { store: (spec) => aws(spec, 'aws-secrets-manager'), version: secretVersion }],
  ['secretManager', { store: (spec) => aws(spec, 'aws-secrets-manager'), version: secretVersion }],
  ['systemManager', { store: (spec) => aws(spec, 'aws-parameter-store'), version: () => undefined }],
  ['azureKeyVault', { store: azure, version: (entry) => textOf(entry.get('version')) }],
  ['gcpSecretsManager', { store: google, version: (entry) => textOf(entry.get('version')) }],
  ['vault', { store: vault, version: () => undefined }],
])

/** The class of one object. */
export function convertKes(
  object: SourceObject,
  namespace: string,
  book: StoreBook,
): ConvertedClass | undefined {
  const { root } = object
  const spec = root.get('spec') ?? root.get('secretDescriptor')
  if (spec === undefined) return root.note('lost', 'spec is missing', 'Write it')
  const type = spec.get('backendType')
  const backend = BACKENDS.get(type?.text() ?? '')
  if (backend === undefined)
    return (type ?? spec).lost(
      'Keyferry has no backend of this type',
      `There are ${[...BACKENDS.keys()].join(', ')}; or write an adapter (docs/adapters.md)`,
    )
  const { definition, hint } = backend.store(spec)
  const handle = book.shared(hint, definition, root.origin.object)
  root
    .get('spec')
    ?.get('controllerId')
    ?.changed('there is one provider a node, so no controller is chosen', 'Nothing')
  templateNotes(spec)
  const entries = [
    ...(spec.get('dataFrom')?.items() ?? []).flatMap((item) => expandOf(item, item, undefined, handle) ?? []),
    ...(spec.get('dataFromWithOptions')?.items() ?? []).flatMap((item) => {
      const key = item.get('key')
      return key === undefined
        ? (item.lost('key is missing', 'Name the object') ?? [])
        : (expandOf(item, key, backend, handle) ?? [])
    }),
    ...((spec.get('data') ?? spec.get('properties'))?.items() ?? []).flatMap(
      (item) => fileOf(item, backend, handle) ?? [],
    ),
  ]
  if (entries.some((entry) => 'expand' in entry) && entries.length > 1)
    spec
      .get('dataFrom')
      ?.note(
        'changed',
        'where two sources have a name in common the last was taken, and Keyferry refuses the mount',
        'Where that happens, name the members to take in expand.select',
      )
  listRest(root)
  const kept = lastOfEachPath(entries)
  if (kept.length === 0)
    return root.note('lost', 'nothing of it can be carried over', 'See what else is listed of it')
  return classOf(object, namespace, kept, [handle])
}

function templateNotes(spec: Field): void {
  const template = spec.get('template')
  spec.get('type')?.changed(NO_SECRET, FILES)
  template?.get('type')?.changed(NO_SECRET, FILES)
  template?.get('metadata')?.changed(NO_SECRET, 'Nothing, unless somebody reads its labels or annotations')
  for (const name of ['data', 'stringData'])
    template
      ?.get(name)
      ?.lost(
        'entries of the template are not carried over',
        'Write each as a template in the class (docs/templates.md)',
      )
}

const NO_SECRET = 'no Kubernetes Secret is made'
const FILES = 'The files have the names of its keys: mount them where they are read'

type EntryOf<T> = Extract<Entry, T>

function fileOf(
  item: Field,
  backend: Backend,
  handle: StoreHandle,
): EntryOf<{ path: string; key: string }> | undefined {
  const path = item.get('path')
  if (path !== undefined) {
    item.get('recursive')?.ignore()
    return path.lost('parameters are not looked for by path', 'List the parameters, one entry for each')
  }
  const name = item.get('name')
  const file = name?.text() ?? ''
  if (!/^[-._a-zA-Z0-9]{1,253}$/.test(file) || file === '.' || file.startsWith('..'))
    return (name ?? item).lost('this cannot be the name of a file', 'Use letters, digits and - _ .')
  const key = item.get('key')
  if (key === undefined) return item.lost('key is missing', 'Name the object')
  const taken = takenOf(item, key, backend, handle)
  if (taken === undefined) return undefined
  if (handle.backend === 'vault' && taken.property === undefined)
    item.note(
      'changed',
      'the members of the whole document are written in the order of the alphabet',
      'Nothing, for a reader of JSON',
    )
  return { path: file, ...taken, ...(item.get('isBinary')?.isTrue() && { decode: 'base64' as const }) }
}

function takenOf(
  item: Field,
  key: Field,
  backend: Backend | undefined,
  handle: StoreHandle,
): Taken | undefined {
  const text = key.text() ?? ''
  if (!usableKey(key, text)) return undefined
  const version = backend?.version(item)
  if (version !== undefined && !usableVersion(version.field, version.text)) return undefined
  const property = item === key ? undefined : item.get('property')?.text()
  return {
    store: handle.name,
    key: text,
    ...(version !== undefined && { version: version.text }),
    ...(property && { property: literalProperty(property) }),
  }
}

function expandOf(
  item: Field,
  key: Field,
  backend: Backend | undefined,
  handle: StoreHandle,
): EntryOf<{ expand: unknown }> | undefined {
  const taken = takenOf(item, key, backend, handle)
  if (taken === undefined) return undefined
  const binary = item === key ? undefined : item.get('isBinary')
  if (binary?.isTrue())
    return binary.lost(
      'the members of a document are not decoded when it is expanded',
      'List the members under data',
    )
  const { key: name, ...rest } = taken
  return { ...rest, expand: { key: name } }
}

function textOf(field: Field | undefined): { field: Field; text: string } | undefined {
  const text = field?.text()
  return field === undefined || text === undefined || text === '' || text === 'latest'
    ? undefined
    : { field, text }
}

/** A version id wins over a stage, as one of them is enough to find the value. */
function secretVersion(entry: Field): { field: Field; text: string } | undefined {
  const stage = textOf(entry.get('versionStage'))
  const id = textOf(entry.get('versionId'))
  if (id === undefined) return stage
  stage?.field.lost('a version is named by its id or its stage, not by both', 'Remove the stage')
  return { field: id.field, text: `uuid/${id.text}` }
}

// ---------------------------------------------------------------------------------------------
// Stores
// ---------------------------------------------------------------------------------------------

function aws(spec: Field, backend: string): { definition: StoreDefinition; hint: string } {
  const role = setting(spec.get('roleArn'), 'assumeRoleArn')
  const region = setting(spec.get('region'), 'region')
  if (role['assumeRoleArn'] !== undefined)
    spec
      .get('roleArn')
      ?.changed("the role is assumed by the pods' own role, not by the controller", 'Let the role trust it')
  const account = role['assumeRoleArn']?.split('/').at(-1)
  const hint = [backend, region['region'], account].filter(Boolean).join('-')
  return { definition: { backend, identity: 'pod', settings: { ...region, ...role } }, hint }
}

function azure(spec: Field): { definition: StoreDefinition; hint: string } {
  const vault = spec.get('keyVaultName')
  const name = setting(vault, 'vault')
  if (name['vault'] === undefined)
    (vault ?? spec).note('lost', 'the vault is not named', 'Set vault of the store')
  ;(vault ?? spec).note('changed', "the controller's service principal is not used", POD_IDENTITY)
  return {
    definition: { backend: 'azure-key-vault', identity: 'pod', settings: name },
    hint: `azure-key-vault-${name['vault'] ?? ''}`,
  }
}

function google(spec: Field): { definition: StoreDefinition; hint: string } {
  const project = setting(spec.get('projectId'), 'project')
  if (project['project'] === undefined)
    spec.note(
      'lost',
      'the project is not named: it was in the environment of the controller',
      'Set project of the store',
    )
  spec.get('keyByLabels')?.lost('objects are not looked for by label', 'List the objects')
  return {
    definition: { backend: 'gcp-secret-manager', identity: 'pod', settings: project },
    hint: `gcp-secret-manager-${project['project'] ?? ''}`,
  }
}

function vault(spec: Field): { definition: StoreDefinition; hint: string } {
  const role = spec.get('vaultRole')
  spec.get('kvVersion')?.ignore()
  if (role === undefined)
    spec.note(
      'lost',
      'the role is not named: it was in the environment of the controller',
      'Set role of the store',
    )
  spec.note(
    'changed',
    'the address of the server was in the environment of the controller',
    'Set backends.vault.address, or address of the store',
  )
  role?.changed("the role must be bound to the pods' service account, not to the controller's", POD_IDENTITY)
  const settings = { ...setting(role, 'role'), ...setting(spec.get('vaultMountPoint'), 'authMount') }
  return {
    definition: { backend: 'vault', identity: 'pod', settings },
    hint: `vault-${settings['role'] ?? ''}`,
  }
}
