/**
 * Owns the SOPS key service `azure_kv`: Key Vault unwraps a document's data key with the identity of the
 * pod that mounts it (sops A10, A11.3), or with the node's where the operator says so (A11.4).
 */
import * as v from 'valibot'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { BackendContext, BackendError, Host } from '../adapter.ts'
import type { Cloud } from './clouds.ts'
import { createCredentials, type Purpose } from './credentials.ts'
import { azureError, badAnswer, field, jsonOf } from './failures.ts'
import { isObjectName } from './object-names.ts'
import { API_VERSION } from './secrets-sdk.ts'
import { azureEnvironment, settingsSchema } from './settings.ts'
import { isTenant, isVaultName, type AzureAuth } from './store.ts'
import { vaultPaces } from './throttle.ts'
import { vaultCalls } from './vault-calls.ts'

export const KEY_SERVICE = 'azure-key-vault-keys'

const clientId = v.pipe(v.string(), v.regex(/^[A-Za-z0-9-]{1,128}$/, 'is not the id of a client'))

/** Settings of the key service, under `backends.azure-key-vault-keys`. */
export const keyServiceSettingsSchema = v.strictObject({
  ...settingsSchema.entries,
  /** Default: annotation `azure.workload.identity/tenant-id` of the pod's service account. */
  tenant: v.optional(v.pipe(v.string(), v.check(isTenant, 'is not a tenant'))),
  /** Client id of pods. Default: annotation `azure.workload.identity/client-id`. */
  clientId: v.optional(clientId),
  /** Client id of the node's user-assigned identity. Default: its system-assigned one. */
  nodeClientId: v.optional(clientId),
  /** Vaults that documents may name. Default: every vault under the cloud's DNS suffix. */
  vaults: v.optional(v.array(v.pipe(v.string(), v.check(isVaultName, 'is not the name of a vault')))),
})

/** An `azure_kv` entry of a document's metadata. Everything in it is its writer's word. */
export interface AzureKeyEntry {
  readonly kind: 'azure_kv'
  readonly vaultUrl: string
  readonly name: string
  readonly version: string
  /** Base64url of the ciphertext, without padding. */
  readonly enc: string
}

export interface AzureKeyService {
  readonly kind: 'azure_kv'
  /**
   * The plaintext of an entry.
   * @throws BackendError
   */
  unwrap(entry: AzureKeyEntry, host: Host, version: string): Promise<Buffer>
}

const ALGORITHM = 'RSA-OAEP-256'

export function azureKeyService(context: BackendContext): AzureKeyService {
  const { tenant, clientId, nodeClientId, vaults, ...common } = v.parse(
    keyServiceSettingsSchema,
    context.settings,
  )
  const environment = azureEnvironment({ ...context, settings: common })
  const credentials = createCredentials(environment)
  const paceOf = vaultPaces()
  const resources = new Map<string, string>()
  const authOf = (host: Host): AzureAuth =>
    host.identity === 'node'
      ? { mode: 'managed-identity', ...(nodeClientId === undefined ? {} : { clientId: nodeClientId }) }
      : { mode: 'workload-identity', ...(clientId === undefined ? {} : { clientId }) }
  return {
    kind: 'azure_kv',
    unwrap: async (entry, host) => {
      // No file of a document decides on the cloud: it is the operator's.
      const cloud = environment.findCloud(environment.defaultCloud, undefined)
      const origin = vaultOrigin(entry, cloud, vaults)
      const purpose: Purpose = {
        store: { auth: authOf(host), ...(tenant === undefined ? {} : { tenant }) },
        cloud,
        resource: cloud.resource,
      }
      const shared = { environment, credentials, pace: paceOf(new URL(origin).hostname), resources }
      const calls = vaultCalls(origin, purpose, host, shared)
      const reply = await calls.send({
        method: 'POST',
        url: `/keys/${entry.name}/${entry.version}/decrypt?api-version=${API_VERSION}`,
        headers: { 'user-agent': 'keyferry' },
        body: JSON.stringify({ alg: ALGORITHM, value: entry.enc }),
      })
      const value = field(jsonOf(reply.body), 'value')
      reply.body.fill(0)
      if (typeof value !== 'string' || !/^[\w-]{1,1024}$/.test(value))
        throw badAnswer('the answer holds no plaintext')
      return SecretBytes.copyOf(Buffer.from(value, 'base64url')).reveal()
    },
  }
}

/** The vault's origin, if the entry may name it. @throws BackendError before anything is sent. */
function vaultOrigin(entry: AzureKeyEntry, cloud: Cloud, vaults: readonly string[] | undefined): string {
  const { vaultUrl, name, version, enc } = entry
  const refuse = (message: string, remedy: string): BackendError =>
    azureError({ kind: 'config', code: 'AZURE_REQUEST', message, remedy })
  const url = URL.canParse(vaultUrl) ? new URL(vaultUrl) : undefined
  const vault = url?.hostname.endsWith(`.${cloud.suffix}`)
    ? url.hostname.slice(0, -cloud.suffix.length - 1)
    : ''
  const isPlain =
    url !== undefined &&
    url.protocol === 'https:' &&
    url.port === '' &&
    url.username === '' &&
    url.password === ''
  if (!isPlain || !isVaultName(vault)) {
    throw refuse(
      `the document names a vault outside of ${cloud.suffix}`,
      'Write the document anew with a key of a vault in this cloud, or set backends.azure-key-vault-keys.cloud.',
    )
  }
  if (vaults !== undefined && !vaults.some((allowed) => allowed.toLowerCase() === vault)) {
    throw refuse(
      `the document names the vault ${vault}, which is not allowed`,
      'Add it to backends.azure-key-vault-keys.vaults.',
    )
  }
  if (!isObjectName(name) || !isObjectName(version) || !/^[\w-]{1,2048}$/.test(enc)) {
    throw refuse(
      'the document names no usable key and version of a vault',
      'Write the document anew with sops updatekeys.',
    )
  }
  return url.origin
}
