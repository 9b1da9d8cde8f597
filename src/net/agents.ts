/** Owns the keep-alive connection pools: one pair of agents for each destination, guard and TLS built in. */
import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { connect as netConnect, isIP } from 'node:net'
import type { LookupFunction, Socket } from 'node:net'
import { checkServerIdentity, connect as tlsConnect } from 'node:tls'
import type { ConnectionOptions } from 'node:tls'
import { hash } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { GuardRules } from './guard.ts'
import type { Destination, TlsSettings } from './http.ts'
import { checkHost, guardedLookup } from './lookup.ts'
import type { Resolve } from './lookup.ts'

export interface AgentPair {
  readonly http: HttpAgent
  readonly https: HttpsAgent
}

export interface PoolOptions {
  readonly rules: GuardRules
  readonly resolve?: Resolve
  /** Trust anchors for destinations that bring none; default Node's. PEM texts. */
  readonly defaultCa?: readonly string[]
}

/** Destinations whose connections are kept; the least recently used one goes first. */
const MAX_POOLS = 64
/** Of one pool. All of them may wait for a next call: closing half after each burst means opening them again. */
export const MAX_SOCKETS = 64
/** Idle connections are closed before the usual server-side limits of 60 s and more. */
const IDLE_MS = 30_000
const CONNECT_MS = 10_000

type Callback = (error: Error | null, socket?: Duplex) => void
interface Target {
  readonly host: string
  readonly port: number
}

/** Pools of connections by destination. */
export class AgentPools {
  readonly #options: PoolOptions
  readonly #pools = new Map<string, AgentPair>()

  constructor(options: PoolOptions) {
    this.#options = options
  }

  /** The agents for `to`; equal destinations share them. */
  get(to: Destination): AgentPair {
    const key = hash('sha256', JSON.stringify([to.origin, to.proxy, to.socketPath, tlsKey(to.tls)]), 'base64')
    const pool = this.#pools.get(key) ?? createAgents(to, this.#options)
    this.#pools.delete(key)
    this.#pools.set(key, pool)
    const oldest = this.#pools.keys().next().value
    if (this.#pools.size > MAX_POOLS && oldest !== undefined) this.#drop(oldest)
    return pool
  }

  /** Closes idle connections now and the others after their reply. */
  close(): void {
    for (const key of this.#pools.keys()) this.#drop(key)
  }

  #drop(key: string): void {
    const pool = this.#pools.get(key)
    this.#pools.delete(key)
    for (const agent of pool === undefined ? [] : [pool.http, pool.https]) {
      agent.maxFreeSockets = 0
      closeIdle(agent)
    }
  }
}

/** Closes the connections that wait for a next call. */
export function closeIdle(agent: HttpAgent): void {
  for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
}

function tlsKey(tls: TlsSettings | undefined): readonly unknown[] {
  return tls === undefined ? [] : [tls.ca, tls.cert, tls.key, tls.serverName, tls.insecureSkipVerify]
}

function createAgents(to: Destination, options: PoolOptions): AgentPair {
  const rules = to.origin === 'parameter' ? options.rules : undefined
  const lookup = guardedLookup(rules, options.resolve)
  const common = { keepAlive: true, maxSockets: MAX_SOCKETS, maxFreeSockets: MAX_SOCKETS, timeout: IDLE_MS }
  const http = new HttpAgent(common)
  const https = new HttpsAgent({ ...common, ...tlsOptions(to.tls, options.defaultCa) })
  const plain = (target: Target, callback: Callback) => openPlain(to, target, lookup, callback)
  guardConnections(http, rules, (request, callback) => {
    if (rules !== undefined) throw new Error('a parameter must name an https address')
    return plain(request, callback)
  })
  const direct = https.createConnection.bind(https)
  guardConnections(https, rules, (request, callback) => {
    if (to.proxy === undefined && to.socketPath === undefined) {
      return direct({ ...request, lookup }) ?? undefined
    }
    plain(request, (error, socket) => {
      if (socket === undefined) return callback(error ?? new Error('no connection'))
      const secured = tlsConnect({ ...(request as ConnectionOptions), socket, ALPNProtocols: ['http/1.1'] })
      secured.setTimeout(CONNECT_MS, () => secured.destroy(new Error('no TLS handshake in time')))
      secured.once('secureConnect', () => {
        secured.setTimeout(0)
        callback(null, secured)
      })
      secured.once('error', (cause) => callback(cause))
      return undefined
    })
    return undefined
  })
  return { http, https }
}

/** Replaces how an agent connects: literal hosts never reach `lookup`, so they are checked here. */
function guardConnections(
  agent: HttpAgent,
  rules: GuardRules | undefined,
  open: (request: Target, callback: Callback) => Duplex | undefined | void,
): void {
  agent.createConnection = ((request: { host?: string; port?: number | string }, callback: Callback) => {
    const target = { ...request, host: request.host ?? '', port: Number(request.port) }
    try {
      if (rules !== undefined) checkHost(target.host, rules)
      return open(target, once(callback))
    } catch (error) {
      process.nextTick(callback, error instanceof Error ? error : new Error('connect failed'))
      return undefined
    }
  }) as typeof agent.createConnection
}

function once(callback: Callback): Callback {
  let called = false
  return (error, socket) => {
    if (!called) callback(error, socket)
    called = true
  }
}

function tlsOptions(
  tls: TlsSettings | undefined,
  defaultCa: readonly string[] | undefined,
): ConnectionOptions {
  const ca = tls?.ca ?? defaultCa
  const serverName = tls?.serverName
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: tls?.insecureSkipVerify !== true,
    ...(ca !== undefined && { ca: [...ca] }),
    ...(tls?.cert !== undefined && { cert: tls.cert }),
    ...(tls?.key !== undefined && { key: tls.key }),
    // An address cannot be an SNI name, but a certificate can still be checked against it.
    ...(serverName !== undefined && { servername: isIP(serverName) === 0 ? serverName : '' }),
    ...(serverName !== undefined && {
      checkServerIdentity: (_, certificate) => checkServerIdentity(serverName, certificate),
    }),
  }
}

function openPlain(
  to: Destination,
  target: Target,
  lookup: LookupFunction,
  callback: Callback,
): Duplex | undefined {
  if (to.socketPath !== undefined) {
    if (to.origin === 'parameter') throw new Error('a parameter must not name a unix socket')
    return settle(netConnect({ path: to.socketPath }), callback)
  }
  const { proxy } = to
  if (proxy === undefined) return settle(netConnect({ ...target, lookup }), callback)
  if (to.origin === 'operator') openTunnel(proxy, target, callback)
  else {
    // The proxy gets the address that was checked, not the name, which it would resolve again.
    lookup(target.host, { all: false }, (error, address) => {
      if (error !== null) callback(error)
      else if (typeof address === 'string') openTunnel(proxy, { host: address, port: target.port }, callback)
    })
  }
  return undefined
}

function settle(socket: Socket, callback: Callback): undefined {
  socket.once('connect', () => callback(null, socket))
  socket.once('error', (error) => callback(error))
  return undefined
}

/** A tunnel through the operator's proxy. Its user and password come from the configuration's URL. */
function openTunnel(proxy: string, target: Target, callback: Callback): void {
  const url = new URL(proxy)
  const authority = `${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`
  const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`
  const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)({
    host: url.hostname.replace(/^\[|\]$/g, ''),
    ...(url.port !== '' && { port: url.port }),
    method: 'CONNECT',
    path: authority,
    agent: false,
    timeout: CONNECT_MS,
    headers: {
      host: authority,
      ...(url.username !== '' && {
        'proxy-authorization': `Basic ${Buffer.from(credentials).toString('base64')}`,
      }),
    },
  })
  request.once('connect', (response, socket, head) => {
    if (response.statusCode === 200 && head.length === 0) return callback(null, socket)
    socket.destroy()
    return callback(new Error(`the proxy answered ${response.statusCode ?? 0}`))
  })
  request.once('response', (response) => {
    response.resume()
    callback(new Error(`the proxy answered ${response.statusCode ?? 0}`))
  })
  request.once('timeout', () => request.destroy(new Error('the proxy did not answer in time')))
  request.once('error', (error) => callback(error))
  request.end()
}
