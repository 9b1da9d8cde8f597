/** Owns what a store of the kind `azure-key-vault` can be told: the vault, its cloud, and whose credentials open it. */
import * as v from 'valibot'

export const KEY_VAULT = 'azure-key-vault'

/** A vault's name becomes a host name, so nothing but what the service allows in one is accepted (T11). */
export const isVaultName = (text: string): boolean => /^[-A-Za-z0-9]{3,24}$/.test(text)

/** A tenant becomes a path segment of the authority. */
export const isTenant = (text: string): boolean => /^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$/.test(text)

const clientId = v.pipe(v.string(), v.regex(/^[A-Za-z0-9-]{1,128}$/, 'is not the id of a client'))
const keyName = v.pipe(v.string(), v.minLength(1), v.maxLength(253))

/** How the identity signs in. */
export const authSchema = v.variant('mode', [
  /** The pod's token as client assertion. Without `clientId` the service account's annotation names it. */
  v.strictObject({ mode: v.literal('workload-identity'), clientId: v.optional(clientId) }),
  /** The same through the token proxy of AKS. */
  v.strictObject({ mode: v.literal('identity-binding'), clientId }),
  /** A secret or a certificate; the fields are key names in the node-publish Secret. */
  v.strictObject({
    mode: v.literal('service-principal'),
    clientIdKey: keyName,
    secretKey: v.optional(keyName),
    certificateKey: v.optional(keyName),
    passwordKey: v.optional(keyName),
  }),
  /** The managed identity of the node; only with the node's identity. */
  v.strictObject({ mode: v.literal('managed-identity'), clientId: v.optional(clientId) }),
  /** AAD Pod Identity (retired). The pod is part of the store: its labels decide what it gets. */
  v.strictObject({ mode: v.literal('pod-identity'), pod: v.string(), namespace: v.string() }),
])
export type AzureAuth = v.InferOutput<typeof authSchema>

/** Settings of one vault: in `stores:`, or made by the `azure` dialect from an SPC's parameters. */
export const storeSchema = v.strictObject({
  /** Name of the vault. */
  vault: v.pipe(
    v.string(),
    v.check(isVaultName, 'is not the name of a vault (3 to 24 letters, digits and hyphens)'),
  ),
  /** Id, domain or `adfs`. Without it the service account's annotation names it. */
  tenant: v.optional(v.pipe(v.string(), v.check(isTenant, 'is not a tenant'))),
  /** Default: `backends.azure-key-vault.cloud`, else AzurePublicCloud. */
  cloud: v.optional(v.string()),
  /** JSON file that describes AzureStackCloud. */
  environmentFile: v.optional(v.string()),
  /** Default: workload identity with the client id of the service account's annotation. */
  auth: v.optional(authSchema),
})
export type AzureStore = v.InferOutput<typeof storeSchema>

export const OBJECT_TYPES = ['secret', 'key', 'cert'] as const
export type ObjectType = (typeof OBJECT_TYPES)[number]

/** Which object to fetch, and what to make of it. */
export interface VaultRef {
  readonly type: ObjectType
  readonly name: string
  /** Absent: the current version. */
  readonly version?: string
  /** Only secrets of certificates: leave PKCS#12 as it is instead of turning it into PEM. */
  readonly pfx?: true
  /** Only PKCS#12 that becomes PEM: leave certificates in bag order. */
  readonly bagOrder?: true
  /** The value stands for several files. */
  readonly files?: VaultFiles
}

/** Files whose number only the vault knows (azure sections 9.5 and 10). */
export interface VaultFiles {
  /** Name of the file, or of each version's file without its index: the last segment of the path. */
  readonly name?: string
  /** How many versions to take at most, the newest or `version` first; each becomes a file of its number. */
  readonly history?: number
  /** For secrets of certificates `.crt` and `.key` files, before the whole. */
  readonly split?: true
  readonly encoding?: 'base64' | 'hex'
}

/** Equal keys are fetched once. */
export function refKey({ type, name, version, pfx, bagOrder, files }: VaultRef): string {
  const { name: file, history, split, encoding } = files ?? {}
  return JSON.stringify([
    type,
    name,
    version,
    pfx,
    bagOrder,
    files !== undefined,
    file,
    history,
    split,
    encoding,
  ])
}
