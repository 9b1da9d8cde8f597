/**
 * Owns a stand-in for the Kubernetes API server: as much of it as the real driver calls (driver.md
 * section 9.1), over plain HTTP, with every object in memory. Discovery, list, watch, create, update,
 * events and service-account tokens; nothing is validated that the driver does not rely on.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'

const SECRETS_STORE = '/apis/secrets-store.csi.x-k8s.io/v1'

/** Resource name → where it lives and the kind its objects have. */
const resources = {
  pods: { base: '/api/v1', kind: 'Pod', namespaced: true },
  secrets: { base: '/api/v1', kind: 'Secret', namespaced: true },
  events: { base: '/api/v1', kind: 'Event', namespaced: true },
  serviceaccounts: { base: '/api/v1', kind: 'ServiceAccount', namespaced: true },
  csidrivers: { base: '/apis/storage.k8s.io/v1', kind: 'CSIDriver', namespaced: false },
  secretproviderclasses: { base: SECRETS_STORE, kind: 'SecretProviderClass', namespaced: true },
  secretproviderclasspodstatuses: {
    base: SECRETS_STORE,
    kind: 'SecretProviderClassPodStatus',
    namespaced: true,
  },
} as const
export type Resource = keyof typeof resources

export interface KubernetesObject {
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly uid?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly resourceVersion?: string
  }
  readonly [field: string]: unknown
}

export interface StubApiServer {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string
  /** Creates or replaces an object, as a user would with kubectl; watchers are told. */
  readonly put: (resource: Resource, object: KubernetesObject) => void
  readonly remove: (resource: Resource, namespace: string, name: string) => void
  readonly get: (resource: Resource, namespace: string, name: string) => KubernetesObject | undefined
  readonly list: (resource: Resource) => readonly KubernetesObject[]
  /** `METHOD path` of every request that changed or created something, in order. */
  readonly writes: readonly string[]
  readonly close: () => Promise<void>
}

export interface StubOptions {
  /**
   * Forget a pod status as soon as it was written. The driver then needs one request a mount instead
   * of two, which halves the waiting for its own limit of 20 requests a second.
   */
  readonly forgetPodStatuses?: boolean
}

interface Change {
  readonly revision: number
  readonly resource: Resource
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly object: KubernetesObject
}

export async function startStubApiServer(options: StubOptions = {}): Promise<StubApiServer> {
  let revision = 1
  const objects = new Map<string, KubernetesObject>()
  const history: Change[] = []
  const watchers = new Set<(change: Change) => void>()
  const writes: string[] = []

  const keyOf = (resource: Resource, namespace: string, name: string) => `${resource}/${namespace}/${name}`
  const store = (resource: Resource, object: KubernetesObject, type: Change['type']): KubernetesObject => {
    revision += 1
    const { base, kind } = resources[resource]
    const stored: KubernetesObject = {
      ...object,
      apiVersion: base.replace(/^\/apis?\//, ''),
      kind,
      metadata: {
        uid: `uid-${revision}`,
        creationTimestamp: '2026-01-01T00:00:00Z',
        ...object.metadata,
        resourceVersion: String(revision),
      } as KubernetesObject['metadata'],
    }
    const key = keyOf(resource, object.metadata.namespace ?? '', object.metadata.name)
    if (type === 'DELETED') objects.delete(key)
    else objects.set(key, stored)
    const change: Change = { revision, resource, type, object: stored }
    history.push(change)
    for (const watcher of watchers) watcher(change)
    if (options.forgetPodStatuses && resource === 'secretproviderclasspodstatuses' && type === 'ADDED')
      store(resource, object, 'DELETED')
    return stored
  }
  const put = (resource: Resource, object: KubernetesObject) => {
    const key = keyOf(resource, object.metadata.namespace ?? '', object.metadata.name)
    return store(resource, object, objects.has(key) ? 'MODIFIED' : 'ADDED')
  }
  const list = (resource: Resource) =>
    [...objects].filter(([key]) => key.startsWith(`${resource}/`)).map(([, object]) => object)

  function watch(resource: Resource, url: URL, response: ServerResponse): void {
    const since = Number(url.searchParams.get('resourceVersion') ?? 0)
    const send = (change: Change) => {
      if (change.resource === resource && change.revision > since && selected(change.object, url))
        response.write(`${JSON.stringify({ type: change.type, object: change.object })}\n`)
    }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.flushHeaders()
    for (const change of history) send(change)
    watchers.add(send)
    response.on('close', () => watchers.delete(send))
  }

  function read(target: Target, url: URL, response: ServerResponse): void {
    const { resource, namespace, name } = target
    if (name) {
      const object = objects.get(keyOf(resource, namespace, name))
      if (object) answer(response, 200, object)
      else refuse(response, 404, 'NotFound', `${resource} "${name}" not found`)
    } else if (url.searchParams.get('watch')) {
      watch(resource, url, response)
    } else {
      const { base, kind } = resources[resource]
      answer(response, 200, {
        kind: `${kind}List`,
        apiVersion: base.replace(/^\/apis?\//, ''),
        metadata: { resourceVersion: String(revision) },
        items: list(resource).filter(
          (object) => (!namespace || object.metadata.namespace === namespace) && selected(object, url),
        ),
      })
    }
  }

  function write(target: Target, method: string, body: KubernetesObject, response: ServerResponse): void {
    const { resource, namespace } = target
    if (target.subresource === 'token') {
      answer(response, 201, tokenFor(target.name, namespace, body))
      return
    }
    const name = target.name || body.metadata.name
    const existing = objects.get(keyOf(resource, namespace, name))
    const sent = body.metadata?.resourceVersion
    const object: KubernetesObject = { ...body, metadata: { ...body.metadata, name, namespace } }
    if (name.length > 253) {
      refuse(response, 422, 'Invalid', `metadata.name: must be no more than 253 characters`)
    } else if (method === 'POST' && existing) {
      refuse(response, 409, 'AlreadyExists', `${resource} "${name}" already exists`)
    } else if (method === 'POST') {
      answer(response, 201, store(resource, object, 'ADDED'))
    } else if (!existing) {
      refuse(response, 404, 'NotFound', `${resource} "${name}" not found`)
    } else if (method === 'PUT' && sent && sent !== existing.metadata.resourceVersion) {
      refuse(response, 409, 'Conflict', 'the object has been modified')
    } else if (method === 'PATCH') {
      const metadata = { ...existing.metadata, ...body.metadata, name, namespace }
      answer(response, 200, store(resource, { ...existing, ...body, metadata }, 'MODIFIED'))
    } else if (same(existing, object)) {
      answer(response, 200, existing)
    } else {
      const uid = existing.metadata.uid
      const metadata = { ...object.metadata, ...(uid === undefined ? {} : { uid }) }
      answer(response, 200, store(resource, { ...object, metadata }, 'MODIFIED'))
    }
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://stub')
    const document = discovery(url.pathname)
    const target = targetOf(url.pathname)
    if (document) {
      answer(response, 200, document)
    } else if (!target) {
      refuse(response, 404, 'NotFound', 'no such resource')
    } else if (request.method === 'GET') {
      read(target, url, response)
    } else {
      writes.push(`${request.method} ${url.pathname}`)
      write(target, request.method ?? '', JSON.parse(await text(request)) as KubernetesObject, response)
    }
  }

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => refuse(response, 500, 'InternalError', String(error)))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (typeof address !== 'object' || !address) throw new Error('the stub API server has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    put,
    remove: (resource, namespace, name) => {
      const object = objects.get(keyOf(resource, namespace, name))
      if (object) store(resource, object, 'DELETED')
    },
    get: (resource, namespace, name) => objects.get(keyOf(resource, namespace, name)),
    list,
    writes,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

interface Target {
  readonly resource: Resource
  readonly namespace: string
  readonly name: string
  readonly subresource: string
}

function targetOf(path: string): Target | undefined {
  for (const [resource, { base, namespaced }] of Object.entries(resources)) {
    if (!path.startsWith(`${base}/`)) continue
    const segments = path
      .slice(base.length + 1)
      .split('/')
      .map(decodeURIComponent)
    const [namespace, rest] =
      namespaced && segments[0] === 'namespaces' && segments.length > 2
        ? [segments[1] ?? '', segments.slice(2)]
        : ['', segments]
    if (rest[0] === resource)
      return { resource: resource as Resource, namespace, name: rest[1] ?? '', subresource: rest[2] ?? '' }
  }
  return undefined
}

/** The legacy discovery documents. */
function discovery(path: string): object | undefined {
  const groups = [...new Set(Object.values(resources).map(({ base }) => base))]
    .filter((base) => base.startsWith('/apis/'))
    .map((base) => {
      const [name = '', version = ''] = base.slice('/apis/'.length).split('/')
      const entry = { groupVersion: `${name}/${version}`, version }
      return { name, versions: [entry], preferredVersion: entry }
    })
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] }
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups }
  const listed = Object.entries(resources).filter(([, { base }]) => base === path)
  if (listed.length === 0) return undefined
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: path.replace(/^\/apis?\//, ''),
    resources: listed.map(([name, { kind, namespaced }]) => ({
      name,
      singularName: kind.toLowerCase(),
      namespaced,
      kind,
      verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
    })),
  }
}

/** Equality label selectors, and the two field selectors that the driver uses. */
function selected(object: KubernetesObject, url: URL): boolean {
  const labels = url.searchParams.get('labelSelector')
  const fields = url.searchParams.get('fieldSelector')
  const wanted = (selector: string) => selector.split(',').map((term) => term.split('='))
  const { nodeName } = (object['spec'] ?? {}) as { nodeName?: string }
  return (
    (!labels || wanted(labels).every(([key = '', value]) => object.metadata.labels?.[key] === value)) &&
    (!fields ||
      wanted(fields).every(
        ([key, value]) => (key === 'metadata.name' ? object.metadata.name : nodeName) === value,
      ))
  )
}

function same(existing: KubernetesObject, sent: KubernetesObject): boolean {
  const content = ({ metadata, ...rest }: KubernetesObject) =>
    JSON.stringify({ ...rest, apiVersion: '', kind: '', labels: metadata.labels })
  return content(existing) === content(sent)
}

/** A token that nobody verifies: the driver passes it on unread. */
function tokenFor(account: string, namespace: string, request: KubernetesObject): object {
  const { audiences = [] } = (request['spec'] ?? {}) as { audiences?: readonly string[] }
  return {
    ...request,
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    status: {
      token: `token-of-${namespace}-${account}-for-${audiences.join('+')}`,
      expirationTimestamp: new Date(Date.now() + 3_600_000).toISOString().replace(/\.\d+Z$/, 'Z'),
    },
  }
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function refuse(response: ServerResponse, code: number, reason: string, message: string): void {
  answer(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message })
}

async function text(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
