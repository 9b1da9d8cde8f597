/**
 * Owns the few reads we make of the Kubernetes API: service-account annotations, node labels, a pod, a
 * SecretProviderClass, the pods of a node, and the cluster's signing keys. Nothing here reads a Secret (threat model section 2).
 */
import { JsonNumber } from '../formats/json.ts'
import type { JsonValue } from '../formats/json.ts'
import type { HttpClient } from '../net/http.ts'
import { SecretBytes } from '../telemetry/secret-bytes.ts'
import { createKubernetesSend, KubernetesError } from './access.ts'
import type { KubernetesSettings } from './access.ts'
import { createTimedCache } from './timed-cache.ts'

export { inClusterSettings, KubernetesError } from './access.ts'
export type { KubernetesSettings } from './access.ts'

/** What every object has. */
export interface ObjectFacts {
  readonly name: string
  readonly uid: string
  readonly labels: ReadonlyMap<string, string>
  readonly annotations: ReadonlyMap<string, string>
}

export interface PodObject extends ObjectFacts {
  readonly serviceAccount: string
  readonly nodeName: string
  /** IP address of the node, if it is known yet. */
  readonly hostIp: string | undefined
}

/** `spec` of a SecretProviderClass, as far as it decides what is mounted. */
export interface SecretProviderClassFacts {
  readonly provider: string
  readonly parameters: ReadonlyMap<string, string>
}

export interface TokenRequest {
  readonly namespace: string
  readonly serviceAccount: string
  /** None: the API server's own audience. */
  readonly audiences: readonly string[]
  readonly expirationSeconds: number
  /** The pod to which the token is bound. */
  readonly pod: { readonly name: string; readonly uid: string }
}

export interface MintedToken {
  readonly token: SecretBytes
  readonly expiresAt: Date
}

/** All methods throw {@link KubernetesError}. */
export interface KubernetesClient {
  /** Kept for 30 s. */
  serviceAccount(namespace: string, name: string, signal: AbortSignal): Promise<ObjectFacts>
  /** Kept for 5 minutes. */
  node(name: string, signal: AbortSignal): Promise<ObjectFacts>
  /** Never kept. */
  pod(namespace: string, name: string, signal: AbortSignal): Promise<PodObject>
  /** Never kept. */
  secretProviderClass(namespace: string, name: string, signal: AbortSignal): Promise<SecretProviderClassFacts>
  /** UIDs of the pods that are assigned to a node, whatever their phase. Never kept. */
  podUidsOnNode(node: string, signal: AbortSignal): Promise<ReadonlySet<string>>
  /** The keys that sign service-account tokens, as the API server publishes them (a JWK set). Kept for 5 minutes. */
  signingKeys(signal: AbortSignal): Promise<JsonValue>
  /** Needs `allowTokenRequests`: with this right, root on one node could mint any account's token (T21). */
  mintToken(request: TokenRequest, signal: AbortSignal): Promise<MintedToken>
}

export interface KubernetesClientOptions {
  readonly http: HttpClient
  readonly settings: KubernetesSettings
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Default false. */
  readonly allowTokenRequests?: boolean
}

const SHORT_MS = 30_000
const LONG_MS = 300_000
/** Only the metadata of a list: pods are large. */
const METADATA_LIST = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1'
const PAGE = '250'
const MAX_PAGES = 40

export function createKubernetesClient({
  http,
  settings,
  now,
  allowTokenRequests = false,
}: KubernetesClientOptions): KubernetesClient {
  const send = createKubernetesSend(http, settings)
  const accounts = createTimedCache<ObjectFacts>(SHORT_MS, 1000, now)
  const nodes = createTimedCache<ObjectFacts>(LONG_MS, 10, now)
  const keys = createTimedCache<JsonValue>(LONG_MS, 1, now)
  return {
    async serviceAccount(namespace, name, signal) {
      const path = `/api/v1/namespaces/${segment(namespace)}/serviceaccounts/${segment(name)}`
      const subject = `service account ${namespace}/${name}`
      // A shared read outlives the mount that began it; the client's own deadline ends it.
      const read = () => send({ path, subject, permission: 'get on serviceaccounts', signal: shared() })
      return untilAborted(
        accounts.get(path, async () => factsOf(await read(), subject)),
        signal,
        subject,
      )
    },
    async node(name, signal) {
      const path = `/api/v1/nodes/${segment(name)}`
      const subject = `node ${name}`
      const read = () => send({ path, subject, permission: 'get on nodes', signal: shared() })
      return untilAborted(
        nodes.get(path, async () => factsOf(await read(), subject)),
        signal,
        subject,
      )
    },
    async pod(namespace, name, signal) {
      const path = `/api/v1/namespaces/${segment(namespace)}/pods/${segment(name)}`
      const subject = `pod ${namespace}/${name}`
      const pod = await send({ path, subject, permission: 'get on pods', signal })
      const spec = member(pod, 'spec')
      return {
        ...factsOf(pod, subject),
        serviceAccount: textOf(member(spec, 'serviceAccountName')) ?? '',
        nodeName: textOf(member(spec, 'nodeName')) ?? '',
        hostIp: textOf(member(member(pod, 'status'), 'hostIP')),
      }
    },
    async secretProviderClass(namespace, name, signal) {
      const path = `/apis/secrets-store.csi.x-k8s.io/v1/namespaces/${segment(namespace)}/secretproviderclasses/${segment(name)}`
      const subject = `SecretProviderClass ${namespace}/${name}`
      const permission = 'get on secretproviderclasses.secrets-store.csi.x-k8s.io'
      const spec = member(await send({ path, subject, permission, signal }), 'spec')
      if (spec === undefined) throw malformed(subject)
      return {
        provider: textOf(member(spec, 'provider')) ?? '',
        parameters: textsOf(member(spec, 'parameters')),
      }
    },
    async podUidsOnNode(node, signal) {
      const uids = new Set<string>()
      const subject = `pods of node ${node}`
      let token = ''
      for (let page = 0; page < MAX_PAGES; page++) {
        const query = {
          fieldSelector: `spec.nodeName=${segment(node)}`,
          limit: PAGE,
          ...(token !== '' && { continue: token }),
        }
        const list = await send({
          path: '/api/v1/pods',
          query,
          accept: METADATA_LIST,
          subject,
          permission: 'list on pods',
          signal,
        })
        const items = member(list, 'items')
        if (!Array.isArray(items)) throw malformed(subject)
        for (const item of items as readonly JsonValue[]) uids.add(factsOf(item, subject).uid)
        token = textOf(member(member(list, 'metadata'), 'continue')) ?? ''
        if (token === '') return uids
      }
      // A partial list would call living pods gone.
      throw new KubernetesError('malformed', `${subject}: the list does not end`)
    },
    signingKeys(signal) {
      const subject = 'signing keys of the cluster'
      const permission = 'the cluster role system:service-account-issuer-discovery'
      const read = () =>
        send({
          path: '/openid/v1/jwks',
          accept: 'application/jwk-set+json, application/json',
          subject,
          permission,
          signal: shared(),
        })
      return untilAborted(keys.get('jwks', read), signal, subject)
    },
    async mintToken(request, signal) {
      const subject = `token of service account ${request.namespace}/${request.serviceAccount}`
      if (!allowTokenRequests) {
        throw new KubernetesError(
          'config',
          `${subject}: minting tokens is switched off`,
          'Set tokenRequests on the CSIDriver object, so that the driver hands tokens over',
        )
      }
      const path = `/api/v1/namespaces/${segment(request.namespace)}/serviceaccounts/${segment(request.serviceAccount)}/token`
      const body = JSON.stringify({
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: {
          audiences: request.audiences,
          expirationSeconds: request.expirationSeconds,
          boundObjectRef: { kind: 'Pod', apiVersion: 'v1', ...request.pod },
        },
      })
      const reply = await send({
        method: 'POST',
        path,
        body,
        subject,
        permission: 'create on serviceaccounts/token',
        signal,
      })
      const status = member(reply, 'status')
      const token = textOf(member(status, 'token'))
      const expiresAt = new Date(textOf(member(status, 'expirationTimestamp')) ?? '')
      if (!token || Number.isNaN(expiresAt.getTime())) throw malformed(subject)
      return { token: SecretBytes.copyOf(token), expiresAt }
    },
  }
}

const shared = () => AbortSignal.timeout(10_000)

/** Waits for a shared read no longer than this caller may. */
function untilAborted<T>(read: Promise<T>, signal: AbortSignal, subject: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const give = () => reject(new KubernetesError('timeout', `${subject}: the time of the call is over`))
    if (signal.aborted) return give()
    signal.addEventListener('abort', give, { once: true })
    read.then(resolve, reject).finally(() => signal.removeEventListener('abort', give))
    return undefined
  })
}

const malformed = (subject: string) =>
  new KubernetesError('malformed', `${subject}: the API server's reply has an unexpected shape`)

/** A name as a path segment. Kubernetes names are lower-case DNS names, so nothing needs escaping. */
function segment(name: string): string {
  if (name.length > 253 || !/^[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?$/.test(name) || name.includes('..')) {
    throw new KubernetesError(
      'config',
      'a namespace, pod, class, node or service account has a name that Kubernetes does not allow',
    )
  }
  return name
}

function member(value: JsonValue | undefined, name: string): JsonValue | undefined {
  return value instanceof Map ? (value.get(name) as JsonValue | undefined) : undefined
}

function textOf(value: JsonValue | undefined): string | undefined {
  return typeof value === 'string' ? value : value instanceof JsonNumber ? value.text : undefined
}

function factsOf(object: JsonValue, subject: string): ObjectFacts {
  const metadata = member(object, 'metadata')
  const name = textOf(member(metadata, 'name'))
  const uid = textOf(member(metadata, 'uid'))
  if (name === undefined || uid === undefined) throw malformed(subject)
  return {
    name,
    uid,
    labels: textsOf(member(metadata, 'labels')),
    annotations: textsOf(member(metadata, 'annotations')),
  }
}

function textsOf(value: JsonValue | undefined): ReadonlyMap<string, string> {
  if (!(value instanceof Map)) return new Map()
  const entries = [...(value as ReadonlyMap<string, JsonValue>)]
  return new Map(entries.flatMap(([key, text]) => (typeof text === 'string' ? [[key, text] as const] : [])))
}
