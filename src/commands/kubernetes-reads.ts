/** Owns what hosts may read from the Kubernetes API, as the configuration allows it. */
import type { Config } from '../config.ts'
import {
  createKubernetesClient,
  inClusterSettings,
  KubernetesError,
  type KubernetesClient,
} from '../kubernetes/client.ts'
import type { HostServices } from '../mount/host.ts'
import type { ReadClass } from '../mount/verify-parameters.ts'
import type { HttpClient } from '../net/http.ts'
import { BackendError } from '../providers/adapter.ts'

export interface KubernetesReads extends Pick<HostServices, 'mint'> {
  /** `undefined` when `kubernetes: off`, or outside a cluster without `kubernetes.server`. */
  readonly client: KubernetesClient | undefined
  /** Name of this node; `node.name` of the configuration, else the environment's NODE_NAME. */
  readonly nodeName: string | undefined
  /** @throws BackendError */
  readonly annotation: (
    namespace: string,
    serviceAccount: string,
    name: string,
    signal: AbortSignal,
  ) => Promise<string | undefined>
  /** Absent without a client. @throws BackendError */
  readonly secretProviderClass: ReadClass | undefined
  /** @throws BackendError */
  readonly nodeLabel: (name: string, signal: AbortSignal) => Promise<string | undefined>
}

/** Life of a token that we ask for ourselves, in seconds: enough for a mount and its retries. */
const MINTED_SECONDS = 900

export function createKubernetesReads(
  config: Config,
  http: HttpClient,
  env: Readonly<Record<string, string | undefined>>,
): KubernetesReads {
  const settings = settingsOf(config, env)
  const mayMint = config.kubernetes !== 'off' && config.kubernetes.tokenRequests
  const client =
    settings && createKubernetesClient({ http, settings, now: Date.now, allowTokenRequests: mayMint })
  const nodeName = config.node.name ?? env['NODE_NAME']
  return {
    client,
    nodeName,
    ...(client &&
      mayMint && {
        mint: (pod, audience, signal) =>
          client
            .mintToken(
              {
                namespace: pod.namespace,
                serviceAccount: pod.serviceAccount,
                audiences: audience === '' ? [] : [audience],
                expirationSeconds: MINTED_SECONDS,
                pod: { name: pod.name, uid: pod.uid },
              },
              signal,
            )
            .catch(asBackendError),
      }),
    async annotation(namespace, serviceAccount, name, signal) {
      if (!client) throw off('the annotations of a service account')
      const account = await client.serviceAccount(namespace, serviceAccount, signal).catch(asBackendError)
      return account.annotations.get(name)
    },
    secretProviderClass:
      client &&
      ((namespace, name, signal) =>
        client.secretProviderClass(namespace, name, signal).catch(asBackendError)),
    async nodeLabel(name, signal) {
      if (!client) throw off('the labels of this node')
      if (nodeName === undefined) throw withoutName()
      const node = await client.node(nodeName, signal).catch(asBackendError)
      return node.labels.get(name)
    },
  }
}

function settingsOf({ kubernetes }: Config, env: Readonly<Record<string, string | undefined>>) {
  if (kubernetes === 'off') return undefined
  const inCluster = inClusterSettings(env)
  const server = kubernetes.server ?? inCluster?.server
  if (server === undefined) return undefined
  return {
    ...inCluster,
    server,
    ...(kubernetes.tokenFile !== undefined && { tokenFile: kubernetes.tokenFile }),
    ...(kubernetes.caFile !== undefined && { caFile: kubernetes.caFile }),
  }
}

function asBackendError(error: unknown): never {
  if (!(error instanceof KubernetesError)) throw error
  throw new BackendError({
    kind: error.kind,
    code: 'KUBERNETES_FAILED',
    message: error.message,
    remedy: error.remedy,
    indirect: true,
  })
}

function off(what: string): BackendError {
  return new BackendError({
    kind: 'config',
    code: 'KUBERNETES_OFF',
    message: `this needs ${what}, and the provider may not ask the Kubernetes API`,
    remedy: 'Set kubernetes in the configuration, and grant the provider that read',
  })
}

function withoutName(): BackendError {
  return new BackendError({
    kind: 'config',
    code: 'NODE_NAME_MISSING',
    message: 'the provider does not know the name of its node',
    remedy: 'Set NODE_NAME from spec.nodeName in the DaemonSet, or node.name in the configuration',
  })
}
