/**
 * Owns the SOPS key service `hc_vault`: the transit engine unwraps a document's data key with the
 * identity of the pod that mounts it (sops A10, A11.3), or the node's where the operator says so.
 */
import * as v from 'valibot'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatGoJson } from '../../formats/json.ts'
import type { SecretBytes } from '../../telemetry/secret-bytes.ts'
import {
  BackendError,
  type BackendContext,
  type Host,
  type KeyService,
  type KeyServiceFactory,
} from '../adapter.ts'
import { connectionTo, parseAddress, send, type Api, type Connection } from './connection.ts'
import { failed } from './failure.ts'
import { nodeToken, podLogin } from './identity.ts'
import { requestPath } from './request.ts'
import { parseEnvelope, ReplyError } from './response.ts'
import { settingsSchema } from './settings.ts'
import { storeSchema, type VaultStore } from './store.ts'
import { createTlsFiles } from './tls.ts'

/** Settings of the key service, under `backends.vault-transit`. */
export const transitSettingsSchema = v.strictObject({
  /**
   * The servers that a document may name, and how to log in there. Default: none. A document is hostile
   * input: no token goes to an address that is not listed.
   */
  servers: v.optional(v.array(v.required(storeSchema, ['address'])), []),
  /** File with a token, for documents that are opened with the node's identity. */
  tokenFile: v.optional(v.string()),
})

/** An `hc_vault` entry of a document's metadata. Everything in it is its writer's word. */
export interface TransitEntry {
  readonly kind: 'hc_vault'
  readonly vaultAddress: string
  readonly enginePath: string
  readonly keyName: string
  /** `vault:vN:…` */
  readonly enc: string
}

export interface TransitKeyService extends KeyService {
  readonly kind: 'hc_vault'
  /** The plaintext of an entry. @throws BackendError */
  unwrap(entry: TransitEntry, host: Host): Promise<Buffer>
}

/** Switched on by `backends.vault-transit`. */
export const transitFactory: KeyServiceFactory = {
  kind: 'hc_vault',
  settingsName: 'vault-transit',
  settingsSchema: transitSettingsSchema,
  create: (context) => transitKeyService(context),
}

/** Used when the server says that a token never ends. */
const LONG_LIFE_MS = 3_600_000

export function transitKeyService(context: BackendContext): TransitKeyService {
  const { servers, tokenFile } = v.parse(transitSettingsSchema, context.settings)
  const addresses = servers.map(({ address }) => address)
  const settings = v.parse(settingsSchema, { addresses, ...(tokenFile !== undefined && { tokenFile }) })
  const { http, env, log } = context
  const pause = async (ms: number, signal: AbortSignal): Promise<void> => {
    await sleep(ms, undefined, { signal }).catch(() => {})
  }
  const api: Api = { http, settings, env, pause }

  async function token(store: VaultStore, connection: Connection, host: Host): Promise<SecretBytes> {
    if (host.identity === 'node') return nodeToken(api, store)
    return host.session(sessionKey(store), async () => {
      const opened = await podLogin(api, connection, store, host)()
      const lifeMs = opened.ttl === 0 ? LONG_LIFE_MS : opened.ttl * 1000
      return { session: opened.token, expiresAt: new Date(host.now().getTime() + lifeMs) }
    })
  }

  return {
    kind: 'hc_vault',
    async unwrap(entry, host) {
      const path = decryptPath(entry)
      const store = listed(entry.vaultAddress, servers)
      // The operator wrote every path in it, so no directory is off limits.
      const tls = createTlsFiles({ directories: ['/'], log, now: () => host.now().getTime() })
      const connection = await connectionTo(store, { settings, env: {}, tls })
      const body = `{"ciphertext":${formatGoJson(entry.enc)}}`
      const decrypt = async (): Promise<Buffer> => {
        const secret = (await token(store, connection, host)).reveal().toString()
        const turn = host.pod.namespace
        const call = { method: 'PUT', path, body, token: secret, turn, purpose: 'read' } as const
        return plaintextOf((await send(api, connection, call, host.signal)).body)
      }
      try {
        return await decrypt()
      } catch (error) {
        if (!(error instanceof BackendError) || error.kind !== 'denied' || host.identity === 'node')
          throw error
        // The kept token may have been revoked.
        host.dropSession(sessionKey(store))
        return decrypt()
      }
    },
  }
}

function sessionKey(store: VaultStore): readonly string[] {
  return ['vault-transit', JSON.stringify(Object.entries(store).sort(([a], [b]) => (a < b ? -1 : 1)))]
}

/** The operator's entry for the address. Default closed (A10). */
function listed(address: string, servers: readonly VaultStore[]): VaultStore {
  const wanted = keyOf(address)
  const store = servers.find((server) => server.address !== undefined && keyOf(server.address) === wanted)
  if (store !== undefined && wanted !== undefined) return store
  throw failed({
    kind: 'denied',
    code: 'VAULT_TRANSIT_ADDRESS',
    message: `the document names the Vault server "${address.slice(0, 200)}", which is not listed on this node`,
    remedy: 'Have the operator list it under backends.vault-transit.servers',
  })
}

function keyOf(address: string): string | undefined {
  try {
    const { key, prefix } = parseAddress(address)
    return key + prefix
  } catch (error) {
    if (error instanceof BackendError) return undefined
    throw error
  }
}

const PATH = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/
const NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/
const CIPHERTEXT = /^vault:v[0-9]{1,9}:[A-Za-z0-9+/]+={0,2}$/
const MAX_CIPHERTEXT = 4096

function decryptPath({ enginePath, keyName, enc }: TransitEntry): string {
  const engine = enginePath.replace(/^\/|\/$/g, '')
  const fault = !PATH.test(engine)
    ? 'engine_path is not a mount path'
    : !NAME.test(keyName)
      ? 'key_name is not the name of a key'
      : enc.length > MAX_CIPHERTEXT || !CIPHERTEXT.test(enc)
        ? 'enc is not vault:vN:…'
        : undefined
  if (fault === undefined) return requestPath(`${engine}/decrypt/${keyName}`)
  throw failed({
    kind: 'malformed',
    code: 'VAULT_TRANSIT_ENTRY',
    message: `the hc_vault entry is broken: ${fault}`,
  })
}

function plaintextOf(body: Uint8Array): Buffer {
  try {
    const plaintext = parseEnvelope(body).data?.get('plaintext')
    if (typeof plaintext === 'string' && /^[A-Za-z0-9+/]*={0,2}$/.test(plaintext))
      return Buffer.from(plaintext, 'base64')
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error
  }
  throw failed({
    kind: 'malformed',
    code: 'VAULT_REPLY_MALFORMED',
    message: "the transit engine's answer holds no plaintext",
    remedy: 'Check engine_path: it must be the mount of a transit engine',
  })
}
