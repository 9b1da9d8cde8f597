/**
 * Owns the SOPS key service `kms`: AWS KMS unwraps a document's data key with the credentials of the
 * pod that mounts it (sops A10, A11.3), or with the node's where the operator says so (A11.4).
 */
import * as v from 'valibot'
import type { BackendContext, Host } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { sessionOpener } from './credentials.ts'
import { AwsFailure, backendError, failureOf } from './failures.ts'
import { kmsDecrypt } from './kms-decrypt.ts'
import type { AwsStore } from './settings.ts'
import { awsEnvironment, isRegionName, settingsSchema } from './settings.ts'

/** Settings of the key service, under `backends.aws-kms`. */
export const kmsSettingsSchema = v.strictObject({
  ...settingsSchema.entries,
  /** Whether the pod's token becomes credentials by IRSA (default) or by EKS Pod Identity. */
  auth: v.optional(v.picklist(['irsa', 'pod-identity'])),
  /** Roles that a document's `role` may name. Default: none. */
  roles: v.optional(v.array(v.string())),
})

/** A `kms` entry of a document's metadata. Everything in it is its writer's word. */
export interface KmsEntry {
  readonly kind: 'kms'
  readonly arn: string
  /** `''` for none. */
  readonly role: string
  readonly context: ReadonlyMap<string, string>
  /** Base64 of the ciphertext blob. */
  readonly enc: string
}

export interface KmsKeyService {
  readonly kind: 'kms'
  /**
   * The plaintext of an entry.
   * @param version SOPS version that wrote the document.
   * @throws BackendError
   */
  unwrap(entry: KmsEntry, host: Host, version: string): Promise<Buffer>
}

export function kmsKeyService(context: BackendContext): KmsKeyService {
  const { auth, roles = [], ...common } = v.parse(kmsSettingsSchema, context.settings)
  const environment = awsEnvironment({ ...context, settings: common })
  const sessions = sessionOpener(environment)

  async function decrypt(entry: KmsEntry, key: KmsKey, host: Host, attempts: readonly EncryptionContext[]) {
    const store: AwsStore = {
      region: key.region,
      ...(auth === undefined ? {} : { auth }),
      ...(entry.role === '' ? {} : { assumeRoleArn: entry.role }),
    }
    const session = await sessions.open(store, key.region, host)
    const caller = { environment, host, region: key.region, session }
    let last: unknown
    for (const encryptionContext of attempts) {
      try {
        const input = {
          KeyId: entry.arn,
          CiphertextBlob: entry.enc,
          ...(encryptionContext.size === 0
            ? {}
            : { EncryptionContext: Object.fromEntries(encryptionContext) }),
        }
        return await kmsDecrypt(caller, input)
      } catch (error) {
        last = error
        const wrongContext = error instanceof AwsFailure && error.awsCode.startsWith('InvalidCiphertext')
        if (!wrongContext) throw error
      }
    }
    throw last
  }

  return {
    kind: 'kms',
    unwrap: async (entry, host, version) => {
      const key = keyOf(entry.arn)
      if (entry.role !== '' && !roles.includes(entry.role))
        throw new BackendError({
          kind: 'denied',
          code: 'AWS_ROLE_NOT_LISTED',
          message: 'the document names a role that is not allowed here',
          remedy: 'List the role under backends.aws-kms.roles, or write the document without role.',
        })
      try {
        return await decrypt(entry, key, host, contextsToTry(entry.context, version))
      } catch (error) {
        if (error instanceof BackendError) throw error
        throw backendError([{ region: key.region, failure: failureOf(error) }])
      }
    },
  }
}

interface KmsKey {
  readonly region: string
}

/** @throws BackendError for anything but the ARN of a KMS key or alias: it decides where the call goes. */
function keyOf(arn: string): KmsKey {
  const [prefix, partition = '', service, region = '', account = '', resource = '', ...rest] = arn.split(':')
  const good =
    prefix === 'arn' &&
    /^aws[\w-]{0,20}$/.test(partition) &&
    service === 'kms' &&
    isRegionName(region) &&
    /^\d{1,20}$/.test(account) &&
    /^(?:key|alias)\/[\w/-]{1,300}$/.test(resource) &&
    rest.length === 0
  if (good) return { region }
  throw new BackendError({
    kind: 'config',
    code: 'AWS_BAD_KEY_ARN',
    message: 'the document names a KMS key that is not the ARN of a key or alias',
    remedy: 'Write the document anew with the full ARN of the key.',
  })
}

type EncryptionContext = ReadonlyMap<string, string>

/** Most contexts tried for a document of SOPS before 3.3.0, which set every key to one of the values. */
const MAX_CONTEXTS = 8

function contextsToTry(context: EncryptionContext, version: string): readonly EncryptionContext[] {
  const values = [...new Set(context.values())]
  if (!isBefore330(version) || values.length < 2) return [context]
  const repaired = values
    .slice(0, MAX_CONTEXTS)
    .map((value) => new Map([...context.keys()].map((key) => [key, value] as const)))
  return [context, ...repaired]
}

function isBefore330(version: string): boolean {
  const parts = /^(\d{1,4})\.(\d{1,4})/.exec(version)
  if (parts === null) return false
  const [major, minor] = [Number(parts[1]), Number(parts[2])]
  return major < 3 || (major === 3 && minor < 3)
}
