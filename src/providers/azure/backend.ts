/** Owns the backend `azure-key-vault`: secrets, keys and certificates of one vault, and their version history. */
import { EncodingError } from '../../formats/go-encodings.ts'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import {
  BackendError,
  PlanError,
  type Backend,
  type BackendContext,
  type Host,
  type RefItem,
  type Value,
  type ValuePart,
} from '../adapter.ts'
import { certificateText, decoded, keyText, pemPart, secretText } from './contents.ts'
import { createCredentials } from './credentials.ts'
import { azureError, badValue, inObject } from './failures.ts'
import { isObjectName } from './object-names.ts'
import { fetchCertificate, fetchKey, fetchVersions, versionOf } from './objects-rest.ts'
import { secretReader, type SecretReader } from './secrets-sdk.ts'
import { azureEnvironment, type AzureEnvironment } from './settings.ts'
import { KEY_VAULT, OBJECT_TYPES, refKey, storeSchema, type AzureStore, type VaultRef } from './store.ts'
import { vaultPaces } from './throttle.ts'
import { vaultCalls, type VaultCalls, type VaultContext } from './vault-calls.ts'

export function keyVaultBackend(context: BackendContext): Backend<AzureStore, VaultRef> {
  const environment = azureEnvironment(context)
  const credentials = createCredentials(environment)
  const paceOf = vaultPaces()
  const resources = new Map<string, string>()
  return {
    kind: KEY_VAULT,
    storeSchema,
    ref: refOfItem,
    refKey,
    keys: (store, ref) => [`${store.vault.toLowerCase()}/${ref.type}/${ref.name}`],
    resolve: async (store, refs, host) => {
      const cloud = cloudOf(environment, store)
      const origin = originOf(store, cloud.suffix)
      const shared: VaultContext = {
        environment,
        credentials,
        pace: paceOf(new URL(origin).hostname),
        resources,
      }
      const calls = vaultCalls(origin, { store, cloud, resource: cloud.resource }, host, shared)
      await calls.signIn()
      const fetches = fetchesOf(calls, host)
      return Promise.all(refs.map((ref) => valueOrError(ref, fetches, host)))
    },
  }
}

const cloudOf = (environment: AzureEnvironment, store: AzureStore) =>
  environment.findCloud(store.cloud ?? environment.defaultCloud, store.environmentFile)

/** Lower case, as in every URL; the vault's own ids are so too. */
const originOf = (store: AzureStore, suffix: string): string =>
  `https://${store.vault.toLowerCase()}.${suffix}`

/** @throws PlanError */
function refOfItem(item: RefItem): VaultRef {
  const args = new Map(Object.entries(item.args ?? {}))
  const wanted = args.get('type') ?? 'secret'
  const type = OBJECT_TYPES.find((known) => known === wanted)
  const format = args.get('format') ?? 'pem'
  const problems = [
    ...(isObjectName(item.key) ? [] : ['is not the name of an object in a vault']),
    ...(item.version === undefined || isObjectName(item.version) ? [] : ['has a version that is none']),
    ...(type === undefined ? ['has a type that is not secret, key or cert'] : []),
    ...(format === 'pem' || format === 'pfx' ? [] : ['has a format that is not pem or pfx']),
    ...[...args.keys()]
      .filter((name) => name !== 'type' && name !== 'format')
      .map((name) => `has an unknown argument ${name}`),
  ]
  if (type === undefined || problems.length > 0) {
    throw new PlanError(
      problems.map((problem) => ({
        code: 'INVALID_PARAMETER',
        message: `"${item.key.slice(0, 130)}" ${problem}`,
      })),
    )
  }
  return {
    type,
    name: item.key,
    ...(item.version === undefined ? {} : { version: item.version }),
    ...(format === 'pfx' ? { pfx: true } : {}),
  }
}

// ---------------------------------------------------------------------------------------------
// Fetching: each object once a mount, however many files it becomes
// ---------------------------------------------------------------------------------------------

/** An object as fetched: what text it makes is the ref's choice. */
interface Fetched {
  readonly version: string
  readonly text: (ref: VaultRef) => Promise<string>
  /** A secret of a certificate. */
  readonly isCertificate: boolean
}

interface Fetches {
  object(ref: VaultRef, version: string | undefined): Promise<Fetched>
  versions(ref: VaultRef): Promise<readonly string[]>
}

function fetchesOf(calls: VaultCalls, host: Host): Fetches {
  const objects = new Map<string, Promise<Fetched>>()
  let reader: Promise<SecretReader> | undefined
  const secrets = (): Promise<SecretReader> => (reader ??= secretReader(calls))
  return {
    object: (ref, version) => {
      const key = JSON.stringify([ref.type, ref.name, version])
      const known = objects.get(key)
      if (known !== undefined) return known
      const fetched = fetchObject(ref, version, calls, secrets, host)
      objects.set(key, fetched)
      return fetched
    },
    versions: (ref) => fetchVersions(calls, ref.type, ref.name),
  }
}

async function fetchObject(
  { type, name }: VaultRef,
  version: string | undefined,
  calls: VaultCalls,
  secrets: () => Promise<SecretReader>,
  host: Host,
): Promise<Fetched> {
  if (type === 'key') {
    const { jwk, id } = await fetchKey(calls, name, version)
    return { version: versionOf(id), text: async () => keyText(jwk), isCertificate: false }
  }
  if (type === 'cert') {
    const { der, id } = await fetchCertificate(calls, name, version)
    return { version: versionOf(id), text: async () => certificateText(der), isCertificate: false }
  }
  const secret = await (await secrets())(name, version, host.signal)
  return {
    version: versionOf(secret.id),
    text: (ref) => secretText(secret, ref, host),
    isCertificate: Boolean(secret.kid),
  }
}

// ---------------------------------------------------------------------------------------------
// From objects to values
// ---------------------------------------------------------------------------------------------

/** Causes that all objects of a vault share: naming each object would only repeat them. */
const OF_THE_VAULT: ReadonlySet<string> = new Set([
  'AZURE_AUTH',
  'AZURE_NETWORK',
  'AZURE_THROTTLED',
  'AZURE_UNREACHABLE',
])

async function valueOrError(ref: VaultRef, fetches: Fetches, host: Host): Promise<Value | BackendError> {
  try {
    return ref.files === undefined ? await singleValue(ref, fetches) : await manyFiles(ref, fetches, host)
  } catch (error) {
    if (host.signal.aborted) return outOfTime()
    if (!(error instanceof BackendError)) throw error
    const prefix = `failed to get objectType:${ref.type}, objectName:${ref.name}, objectVersion:${ref.version ?? ''}: `
    return OF_THE_VAULT.has(error.code) ? error : inObject(error, prefix)
  }
}

function outOfTime(): BackendError {
  return azureError({
    kind: 'timeout',
    code: 'AZURE_UNREACHABLE',
    message: "the vault did not answer within the mount's time",
    remedy:
      'Check name resolution, firewall and proxy between this node and Azure; kubelet tries again by itself.',
  })
}

async function singleValue(ref: VaultRef, fetches: Fetches): Promise<Value> {
  const fetched = await fetches.object(ref, ref.version)
  return {
    bytes: SecretBytes.copyOf(await fetched.text(ref)),
    version: fetched.version,
    ...(ref.version === undefined ? {} : { immutable: true }),
  }
}

async function manyFiles(ref: VaultRef, fetches: Fetches, host: Host): Promise<Value> {
  const { history, name = ref.name } = ref.files ?? {}
  if (history === undefined) return together(await partsOf(ref, ref.version, name, fetches))
  const versions = await chosenVersions(ref, history, fetches, host)
  const parts = await Promise.all(
    versions.map((version, index) => partsOf(ref, version, String(index), fetches)),
  )
  return together(parts.flat())
}

const together = (parts: readonly ValuePart[]): Value => ({
  bytes: SecretBytes.copyOf(''),
  version: parts[0]?.version ?? '',
  parts,
})

/** Versions to mount, the newest or the named one first (azure section 10). */
async function chosenVersions(
  ref: VaultRef,
  count: number,
  fetches: Fetches,
  host: Host,
): Promise<readonly string[]> {
  const all = await fetches.versions(ref)
  const start = ref.version === undefined ? 0 : all.indexOf(ref.version)
  if (start !== -1) return all.slice(start, start + count)
  host.log.warn('objectVersion is not among the enabled versions, so there are no files', {
    object: ref.name,
  })
  return []
}

/** The files of one version: the whole, and before it certificates and keys where that is asked for. */
async function partsOf(
  ref: VaultRef,
  version: string | undefined,
  name: string,
  fetches: Fetches,
): Promise<readonly ValuePart[]> {
  const fetched = await fetches.object(ref, version)
  const text = await fetched.text(ref)
  const part = (suffix: string, content: string): ValuePart => ({
    name: name + suffix,
    bytes: SecretBytes.copyOf(decodedText(content, ref)),
    version: fetched.version,
  })
  const split = ref.files?.split && fetched.isCertificate
  return [
    ...(split ? [part('.crt', pemPart(text, 'certificates')), part('.key', pemPart(text, 'keys'))] : []),
    part('', text),
  ]
}

function decodedText(text: string, ref: VaultRef): Buffer {
  try {
    return decoded(text, ref.files?.encoding)
  } catch (error) {
    if (error instanceof EncodingError) throw badValue(error.message)
    throw error
  }
}
