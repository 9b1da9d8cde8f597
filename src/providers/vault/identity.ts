/** Owns which token a fetch uses: the pod's login, or the operator's token for `identity: node` (vault section 7). */
import { readFile } from 'node:fs/promises'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import { BackendError, type Host, type ServiceAccountToken } from '../adapter.ts'
import { login, type VaultToken } from './auth.ts'
import type { Api, Connection } from './connection.ts'
import { failed } from './failure.ts'
import { variable } from './settings.ts'
import type { VaultStore } from './store.ts'

/** A JWT this close to its end is not sent: the server's clock may be ahead. */
const JWT_MARGIN_MS = 30_000

/** How the pod of `host` logs in. The JWT is asked for only when a login is due. */
export function podLogin(
  api: Api,
  connection: Connection,
  store: VaultStore,
  host: Host,
): () => Promise<VaultToken> {
  return async () => {
    const { role } = store
    if (role === undefined) throw withoutRole()
    const jwt = await podToken(store, host)
    if (jwt.expiresAt.getTime() - JWT_MARGIN_MS <= host.now().getTime()) {
      throw failed({
        kind: 'unauthenticated',
        code: 'VAULT_JWT_EXPIRED',
        message: "the pod's service-account token has expired or is about to",
        remedy:
          'Raise expirationSeconds of the tokenRequest; kubelet hands over a new token at the next publish',
      })
    }
    return login(api, connection, { role, jwt: jwt.token, turn: host.pod.namespace }, host.signal)
  }
}

function withoutRole(): BackendError {
  return failed({
    kind: 'config',
    code: 'VAULT_NO_ROLE',
    message: 'the store names no role to log in with',
    remedy: 'Set its role, or identity: node',
  })
}

/** The SPC's audience; without one the flavour's name if the driver has it, else the API server's default. */
async function podToken(store: VaultStore, host: Host): Promise<ServiceAccountToken> {
  if (store.audience !== undefined) return host.token(store.audience)
  if (host.audiences.has(store.flavour)) return host.token(store.flavour)
  try {
    return await host.token('')
  } catch (error) {
    if (!(error instanceof BackendError)) throw error
    // The better advice is to have the driver hand over a token that is good for this server only.
    return host.token(store.flavour)
  }
}

/** The operator's own token. Only for `identity: node`: no pod ever gets it by default. @throws BackendError */
export async function nodeToken(api: Api, store: VaultStore): Promise<SecretBytes> {
  const { tokenFile } = api.settings
  const text =
    tokenFile === undefined
      ? variable(api.env, store.flavour, 'TOKEN')
      : await readFile(tokenFile, 'utf8').catch(() => undefined)
  const token = text?.trim() ?? ''
  if (!/^[\x21-\x7e]{1,8192}$/.test(token)) {
    throw failed({
      kind: 'config',
      code: 'VAULT_NO_NODE_TOKEN',
      message: "there is no token for the node's identity",
      remedy: 'Set backends.vault.tokenFile, or VAULT_TOKEN',
    })
  }
  return SecretBytes.copyOf(token)
}
