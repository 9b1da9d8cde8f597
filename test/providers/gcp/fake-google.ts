/**
 * Owns a Google Cloud for tests (gcp.md section 16): Secret Manager, Parameter Manager, token exchange,
 * IAM credentials, OAuth, Cloud KMS, the metadata server and the Kubernetes routes beside them. It checks
 * every token, audience, host and permission, records every call, and misbehaves on request.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { FakeCluster } from './fake-cluster.ts'
import { FakeIdentity } from './fake-identity.ts'
import { FakeKms } from './fake-kms.ts'
import { FakeMetadata } from './fake-metadata.ts'
import type { Reply } from './fake-reply.ts'
import { apiError } from './fake-reply.ts'
import { listen } from './fake-servers.ts'
import type { Listeners } from './fake-servers.ts'
import { FakeStores } from './fake-stores.ts'
import { kubernetesRoute } from './fake-kubernetes.ts'

export type Route =
  | 'access'
  | 'render'
  | 'exchange'
  | 'impersonate'
  | 'oauth'
  | 'metadata'
  | 'account'
  | 'token-request'
  | 'kms'
  | 'unknown'

/** One request and what became of it. */
export interface Call {
  readonly route: Route
  /** When it came, in milliseconds of the process's clock. */
  readonly at: number
  readonly method: string
  readonly host: string
  readonly path: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
  status: number
}

/** What a route does instead of, or with, its answer. */
export interface Fault {
  readonly status?: number
  /** A JSON value, or text that is sent as it is. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
  readonly delayMs?: number
  readonly hang?: boolean
  readonly reset?: boolean
  /** Changes the true answer's body. */
  readonly change?: (body: Record<string, unknown>) => unknown
}

const ROUTES: readonly (readonly [RegExp, Route])[] = [
  [/^\/v1\/projects\/[^?]+\/secrets\/[^?]+:access$/, 'access'],
  [/^\/v1\/projects\/[^?]+\/parameters\/[^?]+:render$/, 'render'],
  [/^\/v1\/(?:identitybindingtoken|token)$/, 'exchange'],
  [/^\/v1\/projects\/-\/serviceAccounts\/[^/]+:generateAccessToken$/, 'impersonate'],
  [/^\/token$/, 'oauth'],
  [/^\/computeMetadata\//, 'metadata'],
  [/^\/api\/v1\/namespaces\/[^/]+\/serviceaccounts\/[^/]+$/, 'account'],
  [/^\/api\/v1\/namespaces\/[^/]+\/serviceaccounts\/[^/]+\/token$/, 'token-request'],
  [/^\/v1\/projects\/[^?]+\/cryptoKeys\/[^?]+:(?:en|de)crypt$/, 'kms'],
]

export class FakeGoogle {
  readonly cluster = new FakeCluster()
  readonly identity = new FakeIdentity(this.cluster)
  readonly stores = new FakeStores(this.identity)
  readonly kms = new FakeKms(this.identity)
  readonly metadata = new FakeMetadata(this.identity)
  readonly calls: Call[] = []
  /** Milliseconds until any call is answered. */
  latencyMs = 0
  readonly #faults: { route: Route; fault: Fault; left: number; only?: RegExp | undefined }[] = []
  #listeners: Listeners | undefined

  async start(): Promise<this> {
    this.#listeners = await listen((request, body, response) => this.#handle(request, body, response))
    return this
  }

  get listeners(): Listeners {
    if (this.#listeners === undefined) throw new Error('the fake is not started')
    return this.#listeners
  }

  async stop(): Promise<void> {
    await this.#listeners?.close()
  }

  /** The next `times` calls of a route (with a path that fits `only`) go wrong. */
  fault(route: Route, fault: Fault, times = 1, only?: RegExp): void {
    this.#faults.push({ route, fault, left: times, only })
  }

  clearFaults(): void {
    this.#faults.length = 0
  }

  /** Calls of a route, or all of them. */
  callsOf(...routes: readonly Route[]): readonly Call[] {
    return this.calls.filter(({ route }) => routes.length === 0 || routes.includes(route))
  }

  #handle(request: IncomingMessage, body: string, response: ServerResponse): void {
    const [path = ''] = (request.url ?? '').split('?')
    const route = ROUTES.find(([pattern]) => pattern.test(path))?.[1] ?? 'unknown'
    const call: Call = {
      route,
      at: performance.now(),
      method: request.method ?? '',
      host: request.headers.host ?? '',
      path: request.url ?? '',
      headers: request.headers,
      body,
      status: 0,
    }
    this.calls.push(call)
    const planned = this.#faults.find(
      (one) => one.route === route && one.left > 0 && (one.only === undefined || one.only.test(path)),
    )
    if (planned !== undefined) planned.left -= 1
    const fault = planned?.fault ?? {}
    if (fault.hang) return
    if (fault.reset) {
      request.socket.destroy()
      return
    }
    const answer = (): void => {
      const reply = faulty(fault, () => this.#answer(route, call, path))
      call.status = reply.status
      const text = typeof reply.body === 'string' ? reply.body : JSON.stringify(reply.body)
      response.writeHead(reply.status, {
        'content-type': typeof reply.body === 'string' ? 'text/html' : 'application/json',
        ...reply.headers,
      })
      response.end(text)
    }
    const delayMs = fault.delayMs ?? this.latencyMs
    if (delayMs === 0) answer()
    else setTimeout(answer, delayMs)
  }

  #answer(route: Route, call: Call, path: string): Reply {
    switch (route) {
      case 'access':
      case 'render':
        return this.stores.answer(route, call, path)
      case 'exchange':
        return this.identity.exchange(call, path)
      case 'impersonate':
        return this.identity.impersonate(call, path)
      case 'oauth':
        return this.identity.oauth(call)
      case 'metadata':
        return this.metadata.answer(call, path)
      case 'account':
      case 'token-request':
        return kubernetesRoute(this.cluster, call, path)
      case 'kms':
        return this.kms.answer(call, path)
      default:
        return apiError(404, 'NOT_FOUND', 'no such route')
    }
  }
}

function faulty(fault: Fault, answer: () => Reply): Reply {
  if (fault.status !== undefined)
    return { status: fault.status, body: fault.body ?? {}, headers: fault.headers ?? {} }
  const reply = answer()
  if (fault.change === undefined) return reply
  return { ...reply, body: fault.change(reply.body as Record<string, unknown>) }
}
