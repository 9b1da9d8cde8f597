/** Owns SecretStores and ClusterSecretStores of External Secrets Operator: their settings as those of a Keyferry store. */
import type { SourceObject } from './documents.ts'
import {
  AS_POD,
  POD_IDENTITY,
  setting,
  type KeyReader,
  type Provider,
  type ProviderReader,
} from './eso-provider.ts'
import { vault } from './eso-vault.ts'
import { listRest, type Field } from './field.ts'
import type { StoreBook, StoreHandle } from './stores.ts'

/** A store that ExternalSecrets can name. */
export interface EsoStore {
  readonly kind: string
  readonly name: string
  /** Of a SecretStore; undefined for a ClusterSecretStore. */
  readonly namespace: string | undefined
  /** Undefined where there is no such backend, which was listed. */
  readonly target: { readonly handle: StoreHandle; readonly keyOf: KeyReader } | undefined
  /** Where it may be used, by name; undefined for everywhere. */
  readonly namespaces: ReadonlySet<string> | undefined
  readonly root: Field
}

/** Reads a store; `namespace` is that of a SecretStore. */
export function readEsoStore(object: SourceObject, namespace: string, book: StoreBook): EsoStore {
  const { root, kind, name } = object
  const spec = root.get('spec')
  spec
    ?.get('refreshInterval')
    ?.changed('stores are not checked on a schedule', 'Nothing: a store that fails shows at the mount')
  spec
    ?.get('retrySettings')
    ?.changed('retries are not set per store', 'Nothing: every mount retries inside its time budget')
  spec?.get('controller')?.changed('there is one provider a node, so no controller is chosen', 'Nothing')
  const isCluster = kind === 'ClusterSecretStore'
  const namespaces = isCluster ? conditionsOf(spec?.get('conditions')) : undefined
  const provider = providerOf(spec?.get('provider'), root)
  const target = provider && {
    handle: book.add(isCluster ? name : `${namespace}-${name}`, provider.definition, root.origin.object),
    keyOf: provider.keyOf,
  }
  listRest(root)
  return { kind, name, namespace: isCluster ? undefined : namespace, target, namespaces, root }
}

/** The names that conditions list. Patterns and labels cannot be looked up offline. */
function conditionsOf(conditions: Field | undefined): ReadonlySet<string> | undefined {
  if (conditions === undefined) return undefined
  const names = new Set<string>()
  let open = false
  for (const condition of conditions.items()) {
    for (const one of condition.get('namespaces')?.items() ?? []) {
      const name = one.text()
      if (name !== undefined) names.add(name)
    }
    for (const field of ['namespaceSelector', 'namespaceRegexes'].map((name) => condition.get(name))) {
      if (field === undefined) continue
      field.changed('labels and patterns of namespaces are not looked up', RULES)
      open = true
    }
  }
  return open || names.size === 0 ? undefined : names
}

const RULES = 'The rules of the store name the namespaces that use it in these files: check them'

function providerOf(field: Field | undefined, root: Field): Provider | undefined {
  if (field === undefined)
    return root.note('lost', 'spec.provider is missing', 'Name the provider of the store')
  const given = [...field.entries()]
  const [first] = given
  if (first === undefined || given.length > 1)
    return field.lost('a store has one provider', 'Keep one of them')
  const [name, provider] = first
  const read = PROVIDERS.get(name)
  if (read) return read(provider)
  // Whatever is below may hold values, e.g. of the provider "fake": nothing of it is printed.
  return provider.lost(
    `Keyferry has no backend for the provider "${name.slice(0, 60)}"`,
    'Keep these ExternalSecrets with the operator, or write an adapter (docs/adapters.md)',
  )
}

/** Lists each of these fields that is there. */
function lostFields(field: Field, names: readonly string[], message: string, remedy: string): void {
  for (const name of names) field.get(name)?.lost(message, remedy)
}

const asItIs: KeyReader = (_field, key) => key

// ---------------------------------------------------------------------------------------------
// AWS
// ---------------------------------------------------------------------------------------------

const AWS_SERVICES: ReadonlyMap<string, string> = new Map([
  ['SecretsManager', 'aws-secrets-manager'],
  ['ParameterStore', 'aws-parameter-store'],
])

function aws(field: Field): Provider | undefined {
  const service = field.get('service')
  const backend = AWS_SERVICES.get(service?.text() ?? '')
  if (backend === undefined)
    return (service ?? field).lost(
      'the service is neither SecretsManager nor ParameterStore',
      'Name one of the two',
    )
  const auth = field.get('auth')
  auth?.get('secretRef')?.lost(AS_POD, "Give the pods' service account a role (IRSA or EKS Pod Identity)")
  const jwt = auth?.get('jwt')?.get('serviceAccountRef')
  audiences(jwt)
  jwt?.changed('the role of this service account is not used', POD_IDENTITY)
  const role = field.get('role')
  lostFields(
    field,
    ['additionalRoles', 'sessionTags', 'transitiveTagKeys', 'customSessionTags'],
    'chains of roles and session tags are not available',
    "Let the role trust the pods' role directly, without tags",
  )
  const tags = field.get('sessionTagsPolicy')
  if (tags?.text() !== 'None')
    tags?.lost('session tags are not available', "Let the role trust the pods' role without tags")
  field
    .get('secretsManager')
    ?.changed('it is about deleting pushed secrets, and Keyferry only reads', 'Nothing')
  const prefix = field.get('prefix')?.text() ?? ''
  return {
    definition: {
      backend,
      identity: 'pod',
      settings: {
        ...setting(field.get('region'), 'region'),
        ...setting(role, 'assumeRoleArn'),
        ...setting(field.get('externalID'), 'assumeRoleExternalId'),
      },
    },
    keyOf: (_field, key) => prefix + key,
  }
}

/** Audiences of AWS and Google are the vendor's own with Keyferry. */
function audiences(serviceAccount: Field | undefined): void {
  serviceAccount
    ?.get('audiences')
    ?.changed(
      "the audience is the one that the store's backend asks for",
      'Add it to tokenRequests of the driver',
    )
}

// ---------------------------------------------------------------------------------------------
// Azure
// ---------------------------------------------------------------------------------------------

/** Suffix of vaults → cloud. */
const VAULT_SUFFIXES: ReadonlyMap<string, string> = new Map([
  ['vault.azure.net', 'AzurePublicCloud'],
  ['vault.usgovcloudapi.net', 'AzureUSGovernmentCloud'],
  ['vault.azure.cn', 'AzureChinaCloud'],
  ['vault.microsoftazure.de', 'AzureGermanCloud'],
])

function azure(field: Field): Provider | undefined {
  const url = field.get('vaultUrl')
  const text = url?.text() ?? ''
  const host = URL.canParse(text) ? new URL(text).hostname : ''
  const dot = host.indexOf('.')
  const cloud = VAULT_SUFFIXES.get(host.slice(dot + 1))
  if (url === undefined || cloud === undefined)
    return (url ?? field).lost(
      "vaultUrl is not the address of a vault in one of Azure's clouds",
      'Name the vault as https://NAME.vault.azure.net; its private endpoint is found by DNS',
    )
  field.get('environmentType')?.ignore()
  field.get('useAzureSDK')?.ignore()
  field
    .get('customCloudConfig')
    ?.lost(
      'private clouds are set up by the operator of the node',
      'Set cloud and environmentFile of the store (docs/azure.md)',
    )
  const account = field.get('serviceAccountRef')
  audiences(account)
  account?.changed('the client of this service account is not used', POD_IDENTITY)
  const identityId = field.get('identityId')
  const signIn = field.get('authType')?.text() ?? 'ServicePrincipal'
  const secret = field.get('authSecretRef')
  const managed = signIn === 'ManagedIdentity'
  if (!managed)
    identityId?.changed(
      "the client id is read from the annotation of the pods' service account",
      POD_IDENTITY,
    )
  secret?.lost(AS_POD, "Give the pods' service account workload identity (docs/azure.md)")
  if (secret === undefined && signIn === 'ServicePrincipal')
    field.note(
      'lost',
      'a service principal cannot be used: its secret is a Kubernetes Secret',
      "Give the pods' service account workload identity (docs/azure.md)",
    )
  if (managed)
    field
      .get('authType')
      ?.changed(
        "the managed identity is the node's: every pod that a rule allows reads with it",
        'Prefer workload identity, or keep the rules of the store narrow',
      )
  return {
    definition: {
      backend: 'azure-key-vault',
      identity: managed ? 'node' : 'pod',
      settings: {
        vault: host.slice(0, dot),
        ...setting(field.get('tenantId'), 'tenant'),
        ...(cloud !== 'AzurePublicCloud' && { cloud }),
        ...(managed && { auth: { mode: 'managed-identity', ...setting(identityId, 'clientId') } }),
      },
    },
    keyOf: azureKey,
  }
}

/** `secret/name` and `name` are secrets; keys and certificates cannot be asked for. */
function azureKey(field: Field, key: string): string | undefined {
  const slash = key.indexOf('/')
  const type = slash === -1 ? 'secret' : key.slice(0, slash)
  if (type === 'secret') return key.slice(slash + 1)
  return field.lost(
    'keys and certificates of a vault cannot be named in a class of provider keyferry',
    'Mount it with a class of provider: azure beside this one (docs/azure.md)',
  )
}

// ---------------------------------------------------------------------------------------------
// Google
// ---------------------------------------------------------------------------------------------

function google(field: Field): Provider {
  const auth = field.get('auth')
  auth?.get('secretRef')?.lost(AS_POD, "Give the pods' service account workload identity (docs/gcp.md)")
  const identity = auth?.get('workloadIdentity')
  audiences(identity?.get('serviceAccountRef'))
  identity?.changed('the service account and the cluster named here are not used', POD_IDENTITY)
  auth
    ?.get('workloadIdentityFederation')
    ?.lost(
      'federation is set up by the operator of the node',
      'Set backends.gcp-secret-manager.credentialsFile (docs/gcp.md)',
    )
  const latest = field.get('getLatestEnabledSecret')
  if (latest?.isTrue())
    latest.lost(
      'the current version is always "latest", enabled or not',
      'Give the version of a disabled secret, or enable it',
    )
  return {
    definition: {
      backend: 'gcp-secret-manager',
      identity: 'pod',
      settings: {
        ...setting(field.get('projectID'), 'project'),
        ...setting(field.get('location'), 'location'),
      },
    },
    keyOf: asItIs,
  }
}

const PROVIDERS: ReadonlyMap<string, ProviderReader> = new Map<string, ProviderReader>([
  ['aws', aws],
  ['azurekv', azure],
  ['gcpsm', google],
  ['vault', vault],
])
