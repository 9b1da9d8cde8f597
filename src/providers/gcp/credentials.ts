/** Owns the choice between the ways to credentials (gcp.md section 10.1). */
import type { Host } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { KEY_JSON, keySession } from './key-json.ts'
import { authFailure } from './login.ts'
import type { Login } from './login.ts'
import { providerSession } from './provider-adc.ts'
import type { GcpEnvironment, GcpStore } from './settings.ts'
import { workloadIdentity } from './workload-identity.ts'

/** Gives the login that a fetch must use. @throws BackendError */
export type Credentials = (store: Pick<GcpStore, 'auth'>, host: Host) => Promise<Login>

export function credentialsOf(environment: GcpEnvironment): Credentials {
  const podLogin = workloadIdentity(environment)
  return async (store, host) => {
    const key = keyJson(environment, host)
    if (key !== undefined && store.auth !== undefined)
      throw new BackendError({
        kind: 'config',
        code: 'GCP_AUTH',
        message: `attempting to set both nodePublishSecretRef and ${store.auth} auth`,
        remedy: 'Remove auth from the SecretProviderClass, or nodePublishSecretRef from the volume.',
      })
    if (host.identity === 'node') {
      if (!environment.allowsProviderAdc)
        throw authFailure(
          'GCP_PROVIDER_ADC',
          'provider-adc is switched off on this node',
          'Use auth: pod-adc, or have the operator set allowProviderAdc.',
        )
      const { credentialsFile = '', metadataUrl } = environment
      const parts = ['gcp', 'provider-adc', credentialsFile, metadataUrl]
      return { key: parts, open: () => providerSession(environment, host) }
    }
    if (store.auth === 'provider-adc')
      throw new BackendError({
        kind: 'config',
        code: 'GCP_AUTH',
        message: 'a store with auth: provider-adc needs the identity of the node',
        remedy: 'Set identity: node on the store, or remove auth.',
      })
    // The host tells sessions of different node-publish Secrets apart.
    if (key !== undefined) {
      const source = { document: key, types: environment.keyTypes, name: NODE_PUBLISH_KEY }
      const { oauthEndpoint, iamCredentialsEndpoint } = environment
      const types = [...environment.keyTypes].sort().join()
      const parts = ['gcp', KEY_JSON, oauthEndpoint, iamCredentialsEndpoint, types]
      return { key: parts, open: () => keySession(environment, source, host) }
    }
    return podLogin(host)
  }
}

const NODE_PUBLISH_KEY = `${KEY_JSON} of the node-publish Secret`

function keyJson(environment: GcpEnvironment, host: Host) {
  const allowed = environment.allowsNodePublishSecret()
  const key = host.nodePublishSecret(KEY_JSON)
  if (key === undefined || allowed) return key
  host.log.warn('key.json of the node-publish Secret is ignored: ALLOW_NODE_PUBLISH_SECRET is not set', {
    namespace: host.pod.namespace,
    pod: host.pod.name,
  })
  return undefined
}
