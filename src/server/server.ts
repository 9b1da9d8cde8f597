/**
 * Owns the running server: sockets, gRPC servers and admission put together, from start to a drained
 * end (driver.md sections 4 and 5).
 */
import { ServerCredentials, type Server } from '@grpc/grpc-js'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout } from 'node:timers/promises'
import type { MountPipeline } from '../mount/answer.ts'
import { connectProvider } from '../rpc/contract.ts'
import type { Logger } from '../telemetry/log.ts'
import { createAdmission, createByteBudget, DEFAULT_ADMISSION, type AdmissionLimits } from './admission.ts'
import { FAILURE } from './final-status.ts'
import { acceptConnection, type AcceptedConnection } from './legacy-authority/connection.ts'
import type { MountHost, MountReport } from './mount-call.ts'
import { createProviderServer, type Provider } from './provider-service.ts'
import { bindSockets, type SocketDirectory } from './sockets.ts'

export interface ServerLimits {
  /** Time a mount may take when its caller would wait longer or for ever, in milliseconds. Default 90 000. */
  readonly budgetMs: number
  /** After the budget, time for the driver to take its response before the call is reset. Default 10 000. */
  readonly flushGraceMs: number
  /** Largest encoded response in bytes; the driver's `--max-call-recv-msg-size`. Default 4 MiB. */
  readonly maxResponseBytes: number
  /** Largest request in bytes. Default 4 MiB. */
  readonly maxRequestBytes: number
  /** Encoded responses on their way at once, in bytes. Default 16 MiB: 64 largest mounts then stay below 256 MiB. */
  readonly responseBytes: number
  /** Requests being read or waiting at once, in bytes. Default 24 MiB; what is over it waits unread in the kernel. */
  readonly requestBytes: number
  /** After so many milliseconds a request that could not be read has waiting ones give way. Default 30 000. */
  readonly giveWayMs: number
  readonly admission: AdmissionLimits
}

const MIB = 1024 * 1024
export const DEFAULT_SERVER_LIMITS: ServerLimits = {
  budgetMs: 90_000,
  flushGraceMs: 10_000,
  maxResponseBytes: 4 * MIB,
  maxRequestBytes: 4 * MIB,
  responseBytes: 16 * MIB,
  requestBytes: 24 * MIB,
  giveWayMs: 30_000,
  admission: DEFAULT_ADMISSION,
}

export interface ServerOptions {
  /** One for each socket name. */
  readonly providers: readonly Provider[]
  readonly directories: readonly SocketDirectory[]
  /** Directories in which the driver looks as well. Default none; `serve` passes the driver's own. */
  readonly alsoSearched?: readonly string[]
  readonly takeover?: boolean
  readonly pipeline: MountPipeline
  readonly limits?: Partial<ServerLimits>
  readonly log: Logger
  /** Told how each Mount call ended. */
  readonly onMount?: (report: MountReport) => void
  /** Told when a connection was closed for what it sent. */
  readonly onRefusedConnection?: () => void
}

/** What is going on, for metrics and status. */
export interface ServerStats {
  readonly running: number
  readonly waiting: number
  /** Bytes of requests being read or waiting, and of responses on their way. */
  readonly requestBytes: number
  readonly responseBytes: number
}

export interface RunningServer {
  readonly paths: readonly string[]
  stats(): ServerStats
  /**
   * Stops accepting, says goodbye to every connection and waits for running mounts. What still runs
   * after `drainMs` is answered FAILED_PRECONDITION. The same promise every time: a second call neither
   * cuts nor shortens anything.
   */
  close(options: { readonly drainMs: number }): Promise<void>
}

/** Time for the answers of mounts that were ended by the drain to reach the driver, on a node that has much to do. */
const LAST_WORDS_MS = 3000
const WARM_UP_MS = 5000

/**
 * What messages of usual size must not share memory with each other for: then they can be given back when
 * they are done. Newer versions of Node pool 64 KiB, which stays as long as its smallest part.
 */
const POOL_BYTES = 8192

/**
 * Binds every socket and answers on all of them when the promise resolves.
 * @throws SocketError
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  Buffer.poolSize = POOL_BYTES
  const limits = { ...DEFAULT_SERVER_LIMITS, ...options.limits }
  const host: MountHost = {
    pipeline: options.pipeline,
    admission: createAdmission(limits.admission),
    requests: createByteBudget(limits.requestBytes),
    responses: createByteBudget(limits.responseBytes),
    maxRequestBytes: limits.maxRequestBytes,
    giveWayMs: limits.giveWayMs,
    maxResponseBytes: limits.maxResponseBytes,
    budgetMs: limits.budgetMs,
    flushGraceMs: limits.flushGraceMs,
    log: options.log,
    report: options.onMount ?? ((): void => {}),
    live: new Set(),
  }
  const servers = new Map(
    options.providers.map((provider) => {
      const server = createProviderServer(provider, host)
      return [provider.name, { server, inject: injector(server) }]
    }),
  )
  const connections = new Map<Socket, AcceptedConnection>()

  const sockets = await bindSockets({
    directories: options.directories,
    names: options.providers,
    takeover: options.takeover ?? false,
    alsoSearched: options.alsoSearched ?? [],
    log: options.log,
    onConnection: (name, socket) => {
      const accepted = acceptConnection(socket, {
        inject: (connection) => servers.get(name)?.inject(connection),
        onRewrite: () => options.log.debug('rewriting the authority of a connection', { provider: name }),
        onGarbage: (error) => {
          options.onRefusedConnection?.()
          options.log.warn('closed a connection that does not speak HTTP/2 as it must', {
            provider: name,
            reason: error.message,
          })
        },
      })
      connections.set(socket, accepted)
      socket.once('close', () => connections.delete(socket))
    },
  })
  await warmUp(sockets.paths[0], options.log)

  let closing: Promise<void> | undefined
  return {
    paths: sockets.paths,
    stats: () => ({
      ...host.admission.counts(),
      requestBytes: host.requests.counts().used,
      responseBytes: host.responses.counts().used,
    }),
    close: ({ drainMs }) => {
      closing ??= drain({
        stopAccepting: () => sockets.stopAccepting(),
        servers: [...servers.values()].map(({ server }) => server),
        connections,
        host,
        drainMs,
      })
      return closing
    },
  }
}

function injector(server: Server): (connection: Duplex) => void {
  const made = server.createConnectionInjector(ServerCredentials.createInsecure())
  return (connection) => {
    made.injectConnection(connection)
  }
}

/** The first call of a process takes 20 ms more than the second; let it be ours. */
async function warmUp(path: string | undefined, log: Logger): Promise<void> {
  if (path === undefined) return
  const client = connectProvider(path)
  try {
    await client.version({ deadlineMs: WARM_UP_MS })
  } catch {
    log.warn('our own socket did not answer in time', { path })
  } finally {
    client.close()
  }
}

interface Drain {
  readonly stopAccepting: () => void
  readonly servers: readonly Server[]
  readonly connections: ReadonlyMap<Socket, AcceptedConnection>
  readonly host: MountHost
  readonly drainMs: number
}

/**
 * grpc-js says that it is done as soon as it has said goodbye on injected connections, so calls and
 * sockets are counted here.
 */
async function drain({ stopAccepting, servers, connections, host, drainMs }: Drain): Promise<void> {
  stopAccepting()
  for (const connection of connections.values()) connection.goAway()
  // Sends GOAWAY on every connection: running calls go on, new ones go to our successor.
  for (const server of servers) server.tryShutdown(() => {})
  await holds(() => host.live.size === 0, drainMs)
  for (const call of host.live) call.fail(FAILURE.shuttingDown)
  // A driver closes its connection once it has its last answer.
  await holds(() => connections.size === 0, LAST_WORDS_MS)
  for (const socket of connections.keys()) socket.destroy()
}

const POLL_MS = 5

/** Waits until `condition` holds, at most `ms`. */
async function holds(condition: () => boolean, ms: number): Promise<void> {
  const end = performance.now() + ms
  while (!condition() && performance.now() < end) await setTimeout(POLL_MS)
}
