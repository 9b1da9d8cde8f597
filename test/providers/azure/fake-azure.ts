/**
 * Owns a fake Azure on loopback: vaults and Entra ID behind TLS under their real names, reached through
 * a CONNECT proxy; AKS's token proxy; and the agents of a node (instance metadata, Arc, pod identity).
 * Every call is recorded, and a fault can be put in the way of any of them.
 */
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttp, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { sniOfCluster } from '../../../src/providers/azure/token-proxy.ts'
import { createAuthority } from '../../net/certificates.ts'
import { FakeCluster, FakeEntra, type Reply } from './fake-entra.ts'
import { FakeVault } from './fake-vault.ts'

export interface Call {
  readonly host: string
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly authorized: boolean
  /** When it came, milliseconds on Node's monotonic clock. */
  readonly at: number
  status: number
}

/** Answers in place of the service. `hang` never answers; a body that is text is sent as it is. */
export type Fault = (call: Call) => Reply | 'hang' | undefined

const NAMES = [
  '*.vault.azure.net',
  '*.vault.usgovcloudapi.net',
  '*.vault.azure.cn',
  '*.vault.microsoftazure.de',
  '*.vault.local.stack.test',
  'login.microsoftonline.com',
  'login.microsoftonline.us',
  'login.chinacloudapi.cn',
  'login.microsoftonline.de',
  'login.local.stack.test',
  'localhost',
  'kubernetes.default.svc.cluster.local',
  'hcp-kubernetes.c1-abc.svc.cluster.local',
  sniOfCluster('c1-abc'),
]

/** Made once for a test file: keys take time. */
let made: { readonly ca: string; readonly cert: string; readonly key: string } | undefined

function certificates(): NonNullable<typeof made> {
  if (made === undefined) {
    const authority = createAuthority()
    made = { ca: authority.ca, ...authority.issue(NAMES) }
  }
  return made
}

export const ARC_KEY = 'arc-challenge-content'

export class FakeAzure {
  readonly entra = new FakeEntra()
  readonly cluster = new FakeCluster()
  readonly vaults = new Map<string, FakeVault>()
  readonly calls: Call[] = []
  readonly faults: Fault[] = []
  /** Hosts that were asked for at the proxy. */
  readonly connects: string[] = []
  readonly directory = mkdtempSync(join(tmpdir(), 'keyferry-azure-'))
  readonly caFile = join(this.directory, 'ca.pem')
  readonly ca: string
  /** User-assigned identities of the node: client id → principal. */
  readonly nodeIdentities = new Map<string, string>([['', 'vm']])
  readonly #servers: Server[] = []
  readonly #sockets = new Set<Socket>()
  /** Every answer comes that much later. */
  delayMs = 0
  /** Most calls that were being answered at once. */
  mostAtOnce = 0
  #atOnce = 0
  proxyUrl = ''
  /** `https://localhost:PORT`, for the token proxy and the API server. */
  tlsUrl = ''
  /** `http://127.0.0.1:PORT`, for the node's agents. */
  agentUrl = ''

  constructor() {
    this.ca = certificates().ca
    writeFileSync(this.caFile, this.ca)
    writeFileSync(join(this.directory, 'arc.key'), ARC_KEY)
    this.entra.clusters.set(this.cluster.issuer, this.cluster)
  }

  async start(): Promise<this> {
    const tls = createHttps(certificates(), (request, response) => void this.#public(request, response))
    const port = await this.#listen(tls)
    const proxy = createHttp()
    proxy.on('connect', (request: IncomingMessage, client: Socket) => {
      this.connects.push(request.url ?? '')
      const upstream = connect(port, '127.0.0.1', () => client.write('HTTP/1.1 200 OK\r\n\r\n'))
      for (const socket of [client, upstream]) this.#track(socket)
      upstream.on('error', () => client.destroy())
      client.on('error', () => upstream.destroy())
      upstream.pipe(client).pipe(upstream)
    })
    const agents = createHttp((request, response) => void this.#agents(request, response))
    this.tlsUrl = `https://localhost:${port}`
    this.proxyUrl = `http://127.0.0.1:${await this.#listen(proxy)}`
    this.agentUrl = `http://127.0.0.1:${await this.#listen(agents)}`
    return this
  }

  vault(host: string): FakeVault {
    const known = this.vaults.get(host)
    if (known !== undefined) return known
    const made = new FakeVault(host, this.entra)
    this.vaults.set(host, made)
    return made
  }

  /** Calls to vaults, as `METHOD /path` without the query. */
  vaultCalls(): string[] {
    return this.calls
      .filter(({ host }) => this.vaults.has(host))
      .map(({ method, path }) => `${method} ${path.split('?')[0] ?? ''}`)
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))))
    rmSync(this.directory, { recursive: true })
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
  }

  #listen(server: Server): Promise<number> {
    this.#servers.push(server)
    server.on('connection', (socket: Socket) => this.#track(socket))
    return new Promise((resolve) => {
      server.listen(0, '127.0.0.1', () => {
        const address = server.address()
        resolve(typeof address === 'object' && address ? address.port : 0)
      })
    })
  }

  async #public(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const host = (request.headers.host ?? '').split(':')[0] ?? ''
    await this.#answer(request, response, host, (body) => {
      const path = request.url ?? ''
      if (path.endsWith('/token')) {
        const sni = String((request.socket as TLSSocket).servername)
        return this.entra.token({ host, path, sni, form: Object.fromEntries(new URLSearchParams(body)) })
      }
      const { authorization } = request.headers
      const vault = this.vaults.get(host)
      return vault === undefined
        ? { status: 404, body: { error: 'no such host in this fake' } }
        : vault.handle({
            method: request.method ?? '',
            path,
            authorization,
            authority: request.headers.host ?? host,
            body,
          })
    })
  }

  async #agents(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'http://agent')
    const route = AGENTS.get(url.pathname)
    await this.#answer(
      request,
      response,
      'agent',
      () => route?.(this, request, url) ?? { status: 404, body: {} },
    )
  }

  async #answer(
    request: IncomingMessage,
    response: ServerResponse,
    host: string,
    reply: (body: string) => Reply,
  ): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const call: Call = {
      host,
      method: request.method ?? '',
      path: request.url ?? '',
      authorized: request.headers.authorization !== undefined,
      at: performance.now(),
      status: 0,
    }
    this.calls.push(call)
    this.#atOnce += 1
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#atOnce)
    if (this.delayMs > 0) await sleep(this.delayMs)
    this.#atOnce -= 1
    let fault: ReturnType<Fault>
    for (const one of this.faults) fault ??= one(call)
    if (fault === 'hang') return
    const { status, headers = {}, body } = fault ?? reply(Buffer.concat(chunks).toString())
    call.status = status
    response.writeHead(status, {
      'content-type': 'application/json',
      'x-ms-request-id': randomUUID(),
      ...headers,
    })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  }
}

type AgentRoute = (fake: FakeAzure, request: IncomingMessage, url: URL) => Reply

function nodeToken(fake: FakeAzure, url: URL): Reply {
  const principal = fake.nodeIdentities.get(url.searchParams.get('client_id') ?? '')
  if (principal === undefined)
    return { status: 400, body: { error: 'invalid_request', error_description: 'Identity not found' } }
  const resource = (url.searchParams.get('resource') ?? '').replace(/\/$/, '')
  const { token, expiresOn } = fake.entra.issue(principal, 't1', resource)
  return {
    status: 200,
    body: { access_token: token, expires_on: String(expiresOn), resource, token_type: 'Bearer' },
  }
}

const AGENTS: ReadonlyMap<string, AgentRoute> = new Map<string, AgentRoute>([
  [
    '/metadata/identity/oauth2/token',
    (fake, request, url) =>
      request.headers['metadata'] === 'true' && url.searchParams.get('api-version') === '2018-02-01'
        ? nodeToken(fake, url)
        : { status: 400, body: { error: 'invalid_request' } },
  ],
  [
    '/arc/token',
    (fake, request, url) => {
      if (request.headers['metadata'] !== 'true') return { status: 400, body: {} }
      if (request.headers.authorization === `Basic ${ARC_KEY}`) return nodeToken(fake, url)
      const realm = join(fake.directory, 'arc.key')
      return { status: 401, headers: { 'www-authenticate': `Basic realm=${realm}` }, body: {} }
    },
  ],
  [
    '/host/token/',
    (fake, request, url) => {
      const principal = `${String(request.headers['podns'])}/${String(request.headers['podname'])}`
      const { token, expiresOn } = fake.entra.issue(principal, 't1', url.searchParams.get('resource') ?? '')
      return {
        status: 200,
        body: { token: { access_token: token, expires_on: String(expiresOn) }, clientid: 'c' },
      }
    },
  ],
  [
    '/msi/token',
    (fake, request, url) =>
      request.headers['x-identity-header'] === 'msi-header'
        ? nodeToken(fake, url)
        : { status: 401, body: {} },
  ],
])
