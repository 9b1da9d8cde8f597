/** Owns classes of `provider: azure`, read with that dialect's own parser. */
import { resultOf } from '../../formats/steps.ts'
import { checkedObjects, type CheckedObject, type JmesEntry } from '../../providers/azure/objects.ts'
import type { AzureStore } from '../../providers/azure/store.ts'
import { modeText, usableKey, type Entry, type FileEntry } from './entries.ts'
import type { Field } from './field.ts'
import { DEFAULT_MODE, type SpcReading, type SpcResult } from './spc-reading.ts'
import type { StoreHandle } from './stores.ts'

const OWN_CLASS = 'Keep it in a class of provider: azure beside the new one'

export function convertAzure(reading: SpcReading): SpcResult {
  const { parameters, plan, book, object: source, fields, given } = reading
  const [output] = plan.outputs
  if (output === undefined) return { entries: [], stores: new Set() }
  const flag = (name: string): boolean => /^(?:1|t|true)$/i.test(parameters.get(name)?.trim() ?? '')
  if (flag('writeCertAndKeyInSeparateFiles'))
    fields
      .get('writeCertAndKeyInSeparateFiles')
      ?.note('lost', 'secrets of certificates are not split into files', OWN_CLASS)
  if (/^(?:0|f|false)$/i.test(parameters.get('constructPEMChain')?.trim() ?? ''))
    fields
      .get('constructPEMChain')
      ?.note(
        'changed',
        'certificates of a secret are written in the order of their chain',
        'Nothing, for a usual reader of PEM',
      )
  const objects = resultOf(
    checkedObjects(
      (parameters.get('objects') ?? '').trim(),
      { defaultMode: DEFAULT_MODE, exactHistory: true, strictPermission: false },
      () => {},
      () => {},
    ),
  )
  const stores = new Set<StoreHandle>()
  const { vault: _, ...common } = output.source.store as AzureStore
  const settings = signIn(common, given)
  const vaultName = parameters.get('keyvaultName')?.trim() ?? ''
  const objectsField = fields.get('objects') ?? given
  const entries = objects.flatMap((object) => {
    const taken = takenOf(object, objectsField)
    if (taken === undefined) return []
    const vault = object.vault ?? vaultName
    const definition = {
      backend: 'azure-key-vault',
      settings: { vault, ...settings },
      identity: output.source.identity,
    }
    const handle = book.shared(`azure-key-vault-${vault}`, definition, source)
    stores.add(handle)
    return entriesOf(object, { store: handle.name, ...taken }, objectsField)
  })
  return { entries, stores }
}

/** The store's settings without ways to sign in that need more than the pod's token. */
function signIn(common: Omit<AzureStore, 'vault'>, given: Field): Omit<AzureStore, 'vault'> {
  const { auth, ...rest } = common
  if (auth?.mode === 'service-principal') {
    given.note(
      'lost',
      'a service principal cannot be used: its secret is a Kubernetes Secret',
      'Give the service account workload identity (docs/azure.md)',
    )
    return rest
  }
  if (auth?.mode === 'pod-identity') {
    given.note(
      'lost',
      'AAD Pod Identity is not available to a store',
      'Give the service account workload identity (docs/azure.md)',
    )
    return rest
  }
  if (auth?.mode === 'managed-identity')
    given.note(
      'changed',
      "the managed identity is the node's: every pod that a rule allows reads with it",
      'Prefer workload identity, or keep the rules of the store narrow',
    )
  return common
}

type Wanted = Omit<FileEntry, 'path' | 'store'>

function takenOf(
  { type, name, version, history, pfx, split, path, optional, mode }: CheckedObject,
  field: Field,
): Wanted | undefined {
  const lost = (message: string): undefined =>
    field.note('lost', `object "${name}" (${path.slice(0, 100)}): ${message}`, OWN_CLASS)
  if (type !== 'secret') return lost('keys and certificates cannot be named in a class of provider keyferry')
  if (history !== undefined) return lost('objectVersionHistory is not available')
  if (pfx) return lost('objectFormat pfx is not available')
  if (split !== false) return lost('secrets of certificates are not split into files')
  if (!usableKey(field, name)) return undefined
  return {
    key: name,
    ...(version !== undefined && { version }),
    ...(mode !== DEFAULT_MODE && { mode: modeText(mode) }),
    ...(optional && { optional: 'true' as const }),
  }
}

function entriesOf(object: CheckedObject, taken: Omit<FileEntry, 'path'>, field: Field): readonly Entry[] {
  const { path, encoding, jmesPath, name } = object
  const own: Entry = { path, ...taken, ...(encoding !== undefined && { decode: encoding }) }
  if (encoding !== undefined && jmesPath.length > 0) {
    field.note(
      'lost',
      `object "${name}": a field of a value that is encoded as a whole cannot be chosen: values are decoded after the choice`,
      OWN_CLASS,
    )
    return [own]
  }
  return [own, ...jmesPath.map((entry) => fieldEntry(entry, taken))]
}

function fieldEntry({ path, objectAlias, filePermission }: JmesEntry, taken: Omit<FileEntry, 'path'>): Entry {
  const mode = /^[0-7]{1,4}$/.test(filePermission)
    ? { mode: modeText(Number.parseInt(filePermission, 8) & 0o777) }
    : {}
  return { path: objectAlias, ...taken, ...mode, jmesPath: path }
}
