/** Owns the two Kubernetes routes that Google's provider uses: a service account, and a token for it. */
import type { FakeCluster } from './fake-cluster.ts'
import type { Call } from './fake-google.ts'
import type { Reply } from './fake-reply.ts'

interface TokenRequest {
  readonly kind: string
  readonly spec: {
    readonly audiences: readonly string[]
    readonly expirationSeconds: number
    readonly boundObjectRef?: { readonly kind: string; readonly name: string; readonly uid: string }
  }
}

export function kubernetesRoute(cluster: FakeCluster, call: Call, path: string): Reply {
  const [, namespace = '', name = ''] = /namespaces\/([^/]+)\/serviceaccounts\/([^/]+)/.exec(path) ?? []
  const annotations = cluster.accounts.get(`${namespace}/${name}`)
  if (annotations === undefined)
    return { status: 404, body: { kind: 'Status', status: 'Failure', reason: 'NotFound', code: 404 } }
  if (call.method === 'GET')
    return {
      status: 200,
      body: {
        apiVersion: 'v1',
        kind: 'ServiceAccount',
        metadata: { name, namespace, uid: `uid-of-${namespace}-${name}`, annotations },
      },
    }
  const { kind, spec } = JSON.parse(call.body) as TokenRequest
  const bound = spec.boundObjectRef
  if (kind !== 'TokenRequest' || spec.expirationSeconds < 600 || bound?.kind !== 'Pod')
    return { status: 422, body: { kind: 'Status', status: 'Failure', reason: 'Invalid', code: 422 } }
  const pod = { namespace, serviceAccount: name, podName: bound.name, podUid: bound.uid }
  return {
    status: 201,
    body: {
      status: {
        token: cluster.token(pod, spec.audiences, spec.expirationSeconds),
        expirationTimestamp: new Date(Date.now() + spec.expirationSeconds * 1000).toISOString(),
      },
    },
  }
}
