/**
 * Owns the SOPS key service `gcp_kms`: Cloud KMS unwraps a document's data key with the credentials of the
 * pod that mounts it (sops A10, A11.3), or with the provider's where the operator says so (A11.4).
 */
import * as v from 'valibot'
import type { BackendContext, Host } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { membersOf, refusal, send, text } from './api.ts'
import { fitsChecksum } from './crc32c.ts'
import { credentialsOf } from './credentials.ts'
import { bytesOf, malformed } from './fetching.ts'
import type { GcpSession } from './login.ts'
import { isKeyName } from './names.ts'
import { endpointSchema, gcpEnvironment, identityEntries } from './settings.ts'
import type { GcpEnvironment } from './settings.ts'

/** Settings of the key service, under `backends.gcp-kms`. */
export const kmsSettingsSchema = v.strictObject({
  ...identityEntries,
  /** Instead of `https://cloudkms.googleapis.com`. */
  endpoint: v.optional(endpointSchema),
})

/** A `gcp_kms` entry of a document's metadata. Everything in it is its writer's word. */
export interface GcpKmsEntry {
  readonly kind: 'gcp_kms'
  /** `projects/P/locations/L/keyRings/R/cryptoKeys/K` */
  readonly resourceId: string
  /** Base64 of the ciphertext. */
  readonly enc: string
}

export interface GcpKmsKeyService {
  readonly kind: 'gcp_kms'
  /** The plaintext of an entry. @throws BackendError */
  unwrap(entry: GcpKmsEntry, host: Host): Promise<Buffer>
}

const MAX_CIPHERTEXT = 16 * 1024

export function gcpKmsKeyService(context: BackendContext): GcpKmsKeyService {
  const environment = gcpEnvironment(context)
  const { endpoint = 'https://cloudkms.googleapis.com' } = v.parse(kmsSettingsSchema, context.settings)
  const credentials = credentialsOf(environment)
  return {
    kind: 'gcp_kms',
    async unwrap(entry, host) {
      checkEntry(entry)
      const url = `${endpoint.replace(/\/$/, '')}/v1/${entry.resourceId}:decrypt`
      const { key, open } = await credentials({}, host)
      const session = await host.session(key, open)
      try {
        return await decrypted(environment, url, entry.enc, session, host)
      } catch (error) {
        if (!(error instanceof BackendError) || error.kind !== 'unauthenticated') throw error
        if ((await host.session(key, open)) === session) host.dropSession(key)
        return decrypted(environment, url, entry.enc, await host.session(key, open), host)
      }
    },
  }
}

/** @throws BackendError */
function checkEntry({ resourceId, enc }: GcpKmsEntry): void {
  const fault = !isKeyName(resourceId)
    ? 'resource_id is not the name of a Cloud KMS key'
    : enc.length > MAX_CIPHERTEXT || !/^[A-Za-z0-9+/]+={0,2}$/.test(enc)
      ? 'enc is not base64'
      : undefined
  if (fault === undefined) return
  throw new BackendError({
    kind: 'config',
    code: 'GCP_KMS_ENTRY',
    message: `the gcp_kms entry is broken: ${fault}`,
    remedy: 'Write the document anew with the full name of the key.',
  })
}

/** @throws BackendError */
async function decrypted(
  environment: GcpEnvironment,
  url: string,
  ciphertext: string,
  session: GcpSession,
  host: Host,
): Promise<Buffer> {
  const reply = await send(environment, {
    kind: 'cloudkms_decrypt_requests',
    method: 'POST',
    url,
    headers: { authorization: `Bearer ${session.token.reveal().toString()}` },
    body: { ciphertext },
    signal: host.signal,
    turn: host.pod.namespace,
  })
  if (reply.status !== 200)
    throw refusal(reply, {
      denied: `Grant roles/cloudkms.cryptoKeyDecrypter on the key to ${session.member}.`,
    })
  const body = membersOf(reply)
  reply.body.fill(0)
  const bytes = bytesOf(text(body?.get('plaintext')))
  if (bytes.length > 0 && fitsChecksum(body?.get('plaintextCrc32c'), bytes)) return bytes
  throw malformed(bytes.length === 0 ? 'it has no plaintext' : 'the plaintext does not match its CRC-32C')
}
