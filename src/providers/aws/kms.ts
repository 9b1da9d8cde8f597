/**
 * Owns the SOPS key service `kms`: AWS KMS unwraps a document's data key with the credentials of the
 * pod that mounts it (sops A10, A11.3), or with the node's where the operator says so (A11.4).
 */
import * as v from 'valibot'
import { HttpError } from '../../net/http.ts'
import type { HttpResponse } from '../../net/http.ts'
import type { BackendContext, Host } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { sessionOpener } from './credentials.ts'
import { AwsFailure, backendError, failureOf, refusal } from './failures.ts'
import type { AwsCredentials } from './sdk.ts'
import type { AwsEnvironment, AwsStore } from './settings.ts'
import { awsEnvironment, isRegionName, settingsSchema } from './settings.ts'
import { signedHeaders } from './sigv4.ts'

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

/** Hosts of KMS by partition; other partitions need `backends.aws-kms.endpoint`. */
const SUFFIXES: ReadonlyMap<string, string> = new Map([
  ['aws', 'amazonaws.com'],
  ['aws-us-gov', 'amazonaws.com'],
  ['aws-cn', 'amazonaws.com.cn'],
])
const DUAL_STACK_SUFFIXES: ReadonlyMap<string, string> = new Map([
  ['aws', 'api.aws'],
  ['aws-us-gov', 'api.aws'],
  ['aws-cn', 'api.amazonwebservices.com.cn'],
])

const decryptReply = v.object({ Plaintext: v.pipe(v.string(), v.base64()) })
const errorReply = v.object({
  __type: v.string(),
  message: v.optional(v.string()),
  Message: v.optional(v.string()),
})

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
    const credentials = await session.source()
    let last: unknown
    for (const encryptionContext of attempts) {
      try {
        return await decrypted(environment, host, key, credentials, {
          KeyId: entry.arn,
          CiphertextBlob: entry.enc,
          ...(encryptionContext.size === 0
            ? {}
            : { EncryptionContext: Object.fromEntries(encryptionContext) }),
        })
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
  readonly partition: string
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
  if (good) return { partition, region }
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

function endpointOf(environment: AwsEnvironment, key: KmsKey): URL {
  const own = environment.endpoint('KMS', key.region)
  if (own !== undefined) return new URL(own)
  const suffix = (environment.dualStack ? DUAL_STACK_SUFFIXES : SUFFIXES).get(key.partition)
  if (suffix === undefined)
    throw new BackendError({
      kind: 'config',
      code: 'AWS_BAD_KEY_ARN',
      message: `there is no built-in address of KMS in partition ${key.partition}`,
      remedy: 'Set backends.aws-kms.endpoint.',
    })
  return new URL(`https://kms${environment.fips ? '-fips' : ''}.${key.region}.${suffix}/`)
}

/** One Decrypt, repeated once when the service's clock turns out to differ. @throws AwsFailure */
async function decrypted(
  environment: AwsEnvironment,
  host: Host,
  key: KmsKey,
  credentials: AwsCredentials,
  input: Readonly<Record<string, unknown>>,
): Promise<Buffer> {
  const url = endpointOf(environment, key)
  const body = JSON.stringify(input)
  const send = async (now: Date): Promise<HttpResponse> => {
    const headers = {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': 'TrentService.Decrypt',
      'user-agent': `app/${environment.appId}`,
    }
    try {
      return await host.http.send({
        method: 'POST',
        url: url.href,
        headers: signedHeaders({ url, headers, body, region: key.region, service: 'kms' }, credentials, now),
        body,
        to: environment.to,
        signal: host.signal,
        timeoutMs: environment.requestTimeoutMs,
        maxBytes: 64 * 1024,
      })
    } catch (error) {
      throw error instanceof HttpError ? failureOf(error) : error
    }
  }
  let reply = await send(host.now())
  let failure = refusedBy(reply)
  const theirs = Date.parse(reply.headers['date'] ?? '')
  if (failure?.awsCode.includes('Signature') && Math.abs(theirs - host.now().getTime()) > 240_000) {
    reply = await send(new Date(theirs))
    failure = refusedBy(reply)
  }
  if (failure !== undefined) throw failure
  const parsed = v.safeParse(decryptReply, jsonOf(reply))
  reply.body.fill(0)
  if (!parsed.success)
    throw new AwsFailure({ kind: 'malformed', awsCode: 'malformed', message: 'the answer has no Plaintext' })
  return Buffer.from(parsed.output.Plaintext, 'base64')
}

function jsonOf(reply: HttpResponse): unknown {
  try {
    return JSON.parse(reply.body.toString())
  } catch {
    return undefined
  }
}

function refusedBy(reply: HttpResponse): AwsFailure | undefined {
  if (reply.status === 200) return undefined
  const parsed = v.safeParse(errorReply, jsonOf(reply))
  const {
    __type: type,
    message,
    Message,
  } = parsed.success ? parsed.output : { __type: `HTTP-${reply.status}`, message: '', Message: '' }
  const code = type.slice(type.indexOf('#') + 1).split(':')[0] ?? type
  return refusal(code, message ?? Message ?? '', {
    status: reply.status,
    requestId: reply.headers['x-amzn-requestid'],
  })
}
