/**
 * Owns a scripted Vault on loopback: it logs pods in, checks tokens, renews and revokes like the real
 * one, answers everything else from a script, records every call and injects faults.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, type ServerOptions } from 'node:https'
import type { AddressInfo } from 'node:net'

/** One call as it came in. */
export interface FakeCall {
  readonly method: string
  /** Path and query, raw. */
  readonly path: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

export interface FakeReply {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON. */
  readonly json?: unknown
  /** Sent as it is. */
  readonly text?: string
  /** Never answers. */
  readonly hang?: boolean
  /** Breaks the connection after the headers. */
  readonly cut?: boolean
}

type Script = FakeReply | readonly FakeReply[] | ((call: FakeCall) => FakeReply)

export interface FakeVault {
  /** `http://127.0.0.1:PORT`, `https://…`, or `unix:///…`. */
  readonly address: string
  /** Every call, in order. */
  readonly calls: FakeCall[]
  /** Calls whose `METHOD path` begins so. */
  callsTo(prefix: string): readonly FakeCall[]
  /** What to answer to `METHOD path`; of a list the last stays. Replaces an earlier script. */
  on(route: string, script: Script): void
  /** Tokens that are good. */
  readonly tokens: Set<string>
  /** What the next logins say about their token. */
  auth: Readonly<Record<string, unknown>>
  /** Seconds that renewals grant; undefined grants what is asked for. */
  granted: number | undefined
  /** Answers wait for this, call by call. */
  gate: (call: FakeCall) => Promise<void>
  close(): Promise<void>
}

export interface FakeOptions {
  readonly tls?: ServerOptions
  readonly socketPath?: string
}

const envelope = (members: Readonly<Record<string, unknown>>): FakeReply => ({
  json: {
    request_id: 'r',
    lease_id: '',
    renewable: false,
    lease_duration: 0,
    data: null,
    wrap_info: null,
    warnings: null,
    auth: null,
    ...members,
  },
})

/** A KV v1 answer: `data` directly. */
export const secret = (data: unknown, more: Readonly<Record<string, unknown>> = {}): FakeReply =>
  envelope({ lease_duration: 2764800, data, ...more })

/** A KV v2 answer. */
export const secretV2 = (data: unknown, version = 1): FakeReply => {
  const metadata = { version, created_time: '2026-01-01T00:00:00Z', deletion_time: '', destroyed: false }
  return envelope({ data: { data, metadata } })
}

/** An answer with a lease. */
export const leased = (leaseId: string, seconds: number, data: unknown, renewable = true): FakeReply =>
  envelope({ lease_id: leaseId, lease_duration: seconds, renewable, data })

export const errors = (status: number, ...texts: string[]): FakeReply => ({ status, json: { errors: texts } })

export async function startFakeVault(options: FakeOptions = {}): Promise<FakeVault> {
  const scripts = new Map<string, Script>()
  const calls: FakeCall[] = []
  const tokens = new Set<string>()
  let logins = 0

  const builtIn = new Map<string, (call: FakeCall) => FakeReply>([
    [
      'POST /v1/auth/token/renew-self',
      (call) => envelope({ auth: { lease_duration: vault.granted ?? increment(call), renewable: true } }),
    ],
    [
      'POST /v1/auth/token/revoke-self',
      (call) => {
        tokens.delete(String(call.headers['x-vault-token']))
        return { status: 204 }
      },
    ],
    ['PUT /v1/sys/leases/renew', (call) => leased('x', vault.granted ?? increment(call), null)],
    ['PUT /v1/sys/leases/revoke', () => errors(403, 'permission denied')],
  ])

  function answer(call: FakeCall): FakeReply {
    const route = `${call.method} ${call.path}`
    const script = scripts.get(route)
    if (script === undefined && /^POST \/v1\/auth\/[^?]+\/login$/.test(route)) return logIn()
    if (typeof script === 'function') return script(call)
    if (Array.isArray(script)) {
      const list = script as readonly FakeReply[]
      if (list.length > 1) scripts.set(route, list.slice(1))
      return list[0] ?? errors(404)
    }
    if (!tokens.has(String(call.headers['x-vault-token']))) return errors(403, 'permission denied')
    return (script as FakeReply | undefined) ?? builtIn.get(route)?.(call) ?? errors(404)
  }

  function logIn(): FakeReply {
    logins += 1
    const token = `s.token-${logins}`
    tokens.add(token)
    const auth = {
      client_token: token,
      lease_duration: 3600,
      renewable: true,
      num_uses: 0,
      token_type: 'service',
    }
    return envelope({ auth: { ...auth, ...vault.auth } })
  }

  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    void bodyOf(request).then((body) => {
      const call: FakeCall = {
        method: request.method ?? '',
        path: request.url ?? '',
        headers: request.headers,
        body,
      }
      calls.push(call)
      void vault.gate(call).then(() => send(response, answer(call)))
    })
  }

  const server: Server = options.tls ? createTlsServer(options.tls, handle) : createServer(handle)
  await new Promise<void>((resolve) => {
    if (options.socketPath === undefined) server.listen(0, '127.0.0.1', resolve)
    else server.listen(options.socketPath, resolve)
  })
  const { port } = (server.address() ?? {}) as AddressInfo
  const tcp = `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}`
  const vault: FakeVault = {
    address: options.socketPath === undefined ? tcp : `unix://${options.socketPath}`,
    calls,
    callsTo: (prefix) => calls.filter((call) => `${call.method} ${call.path}`.startsWith(prefix)),
    on: (route, script) => scripts.set(route, script),
    tokens,
    auth: {},
    granted: undefined,
    gate: () => Promise.resolve(),
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return vault
}

function increment(call: FakeCall): number {
  return (JSON.parse(call.body) as { increment: number }).increment
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

function send(response: ServerResponse, reply: FakeReply): void {
  if (reply.hang) return
  const text = reply.text ?? (reply.json === undefined ? '' : JSON.stringify(reply.json))
  response.writeHead(reply.status ?? 200, { 'content-type': 'application/json', ...reply.headers })
  if (reply.cut) {
    response.write(text.slice(0, 5))
    setImmediate(() => response.destroy())
  } else {
    response.end(text)
  }
}
