/** Owns the backend `gcp-secret-manager`: AccessSecretVersion over REST, checksums verified (gcp.md section 6). */
import * as v from 'valibot'
import type { Backend, BackendContext, Host } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { members, membersOf, refusal, send, text } from './api.ts'
import { fitsChecksum } from './crc32c.ts'
import { credentialsOf } from './credentials.ts'
import { baseUrl, bytesOf, fetchRefs, malformed, versionOf } from './fetching.ts'
import type { FetchResource, Payload } from './fetching.ts'
import type { GcpSession } from './login.ts'
import { refOf, refOfItem, resourceOf, SECRET_MANAGER } from './resources.ts'
import type { GcpRef, Resource } from './resources.ts'
import { gcpEnvironment, settingsSchema, storeSchema } from './settings.ts'
import type { GcpEnvironment, GcpStore } from './settings.ts'

export function secretManagerBackend(context: BackendContext): Backend {
  const environment = gcpEnvironment(context)
  const settings = v.parse(settingsSchema, context.settings)
  const credentials = credentialsOf(environment)
  const urlOf = (resource: Resource): string =>
    `${baseUrl('secretmanager', resource, settings)}/v1/${resource.name}:access`

  const fetch: FetchResource = async (resource, session, host) => {
    const first = await access(environment, urlOf(resource), session, host)
    if (first !== 'damaged') return first
    const second = await access(environment, urlOf(resource), session, host)
    if (second !== 'damaged') return second
    throw new BackendError({
      kind: 'malformed',
      code: 'GCP_DATA_LOSS',
      message: 'DATA_LOSS: the payload does not match its CRC-32C, twice',
      remedy: 'Add a new version of the secret.',
    })
  }

  return {
    kind: SECRET_MANAGER,
    storeSchema,
    ref: (item) => refOfItem(item, 'secrets'),
    refKey: (ref) => JSON.stringify(Object.values(refOf(ref))),
    keys: (store, ref) => [resourceOf(store as GcpStore, refOf(ref), 'secret').name],
    resolve: (store, refs, host) =>
      fetchRefs({ kind: 'secret', credentials, fetch }, store as GcpStore, refs.map<GcpRef>(refOf), host),
  }
}

/** One AccessSecretVersion. @throws BackendError */
async function access(
  environment: GcpEnvironment,
  url: string,
  session: GcpSession,
  host: Host,
): Promise<Payload | 'damaged'> {
  const reply = await send(environment, {
    kind: 'secretmanager_access_secret_version_requests',
    url,
    headers: { authorization: `Bearer ${session.token.reveal().toString()}` },
    signal: host.signal,
    turn: host.pod.namespace,
  })
  if (reply.status !== 200)
    throw refusal(reply, {
      denied: `Grant roles/secretmanager.secretAccessor on the secret to ${session.member}.`,
      unauthenticated: `Google does not accept the token of ${session.member}; check that the account is enabled.`,
    })
  const body = membersOf(reply)
  reply.body.fill(0)
  const payload = members(body?.get('payload'))
  if (payload === undefined) throw malformed('it has no payload')
  const [data, checksum] = [text(payload.get('data')), payload.get('dataCrc32c')]
  // A checksum that fits also says that the base64 was sound.
  const bytes = checksum === undefined ? bytesOf(data) : Buffer.from(data, 'base64')
  if (!fitsChecksum(checksum, bytes)) {
    bytes.fill(0)
    return 'damaged'
  }
  return { bytes, version: versionOf(text(body?.get('name'))) }
}
