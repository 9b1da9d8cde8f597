/**
 * Owns the socket files: where they may lie, how they appear and what they may replace (driver.md
 * sections 2 and 5, threat model T5). A socket is bound under a temporary name in its directory and
 * renamed into place, so that a successor takes over without a gap and our own shutdown, in which Node
 * unlinks the name it bound, removes nothing.
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, lstatSync, readdirSync, realpathSync, renameSync, unlinkSync, type Stats } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { dirname, isAbsolute, join } from 'node:path'
import { connectProvider } from '../rpc/contract.ts'
import type { Logger } from '../telemetry/log.ts'

/** A socket cannot be where it should. The text says what to do. */
export class SocketError extends Error {
  override readonly name = 'SocketError'
}

export interface SocketDirectory {
  readonly path: string
  /** Left out without an error when it does not exist. At least one directory has to. */
  readonly optional?: boolean
}

export interface SocketOptions {
  readonly directories: readonly SocketDirectory[]
  /** Socket names and the runtime name by which we know another process of our own. */
  readonly names: readonly { readonly name: string; readonly runtimeName: string }[]
  /** Replace a live listener that is not ours. */
  readonly takeover: boolean
  /** Further directories in which the driver looks; a dead socket there would hide ours. */
  readonly alsoSearched: readonly string[]
  readonly onConnection: (name: string, socket: Socket) => void
  readonly log: Logger
}

export interface BoundSockets {
  /** Paths on which we accept. */
  readonly paths: readonly string[]
  /** Stops accepting. The files stay: a connect to them fails until a successor has replaced them. */
  stopAccepting(): void
}

/** What the driver accepts as `spec.provider`. */
const PROVIDER_NAME = /^[a-zA-Z0-9_-]{1,30}$/
/** Longest path of a unix socket on Linux, in bytes, without the closing NUL. */
const MAX_PATH_BYTES = 107
const TEMPORARY_PREFIX = '.kf-'
/** A temporary name older than this belongs to a process that died between bind and rename. */
const ABANDONED_MS = 60_000
const CONNECT_MS = 1000
const VERSION_MS = 2000

/**
 * Binds every name in every directory. Nothing is replaced unless everything can be.
 * @throws SocketError
 */
export async function bindSockets(options: SocketOptions): Promise<BoundSockets> {
  const directories = usableDirectories(options.directories)
  const wanted = directories.flatMap((directory) =>
    options.names.map(({ name, runtimeName }) => ({
      directory,
      name,
      runtimeName,
      path: socketPath(directory, name),
    })),
  )
  await Promise.all(wanted.map((socket) => checkOccupant(socket.path, socket.runtimeName, options)))
  const names = new Set(options.names.map(({ name }) => name))
  await Promise.all(
    options.alsoSearched
      .filter((directory) => !directories.includes(directory))
      .flatMap((directory) =>
        [...names].map((name) => removeShadow(join(directory, `${name}.sock`), options.log)),
      ),
  )
  directories.forEach(removeAbandoned)

  const bound: { readonly server: Server; readonly temporary: string; readonly path: string }[] = []
  try {
    for (const { directory, name, path } of wanted) {
      const temporary = join(directory, TEMPORARY_PREFIX + randomBytes(4).toString('hex'))
      const server = createServer((socket) => {
        options.onConnection(name, socket)
      })
      bound.push({ server, temporary, path })
      await listenPrivately(server, temporary)
    }
    for (const { temporary, path } of bound) renameSync(temporary, path)
  } catch (error) {
    for (const { server } of bound) server.close()
    throw error instanceof SocketError ? error : new SocketError(`cannot bind a socket: ${reason(error)}`)
  }
  return {
    paths: bound.map(({ path }) => path),
    stopAccepting: () => {
      for (const { server } of bound) server.close()
    },
  }
}

/** @throws SocketError naming what is wrong with a directory. */
function usableDirectories(directories: readonly SocketDirectory[]): string[] {
  const usable = directories.flatMap(({ path, optional }) => {
    const fault = directoryFault(path)
    if (fault === undefined) return [path]
    if (fault === MISSING && optional) return []
    throw new SocketError(`socket directory ${path} ${fault}`)
  })
  if (usable.length === 0) {
    const all = directories.map(({ path }) => path).join(' and ')
    throw new SocketError(`no socket directory: ${all || 'none was given, and none'} ${MISSING}`)
  }
  return [...new Set(usable)]
}

const MISSING =
  'cannot be found; mount the host path in which the driver looks for providers, or name it with --socket-dir'

/** Why sockets must not lie in `path`: whoever can write there can put a socket of his own in our place. */
function directoryFault(path: string): string | undefined {
  if (!isAbsolute(path)) return 'is not an absolute path'
  const stats = statOf(path)
  if (!stats) return MISSING
  if (stats.isSymbolicLink()) return 'is a symbolic link; name the directory itself'
  if (!stats.isDirectory()) return 'is not a directory'
  if (!isTrustedOwner(stats)) return 'belongs to another user; it must belong to root or to us'
  if (writableByOthers(stats)) return 'is writable by others; run chmod go-w on it'
  for (let above = dirname(realpathSync(path)); above !== dirname(above); above = dirname(above)) {
    const ancestor = lstatSync(above)
    const sticky = (ancestor.mode & 0o1000) !== 0
    if (!isTrustedOwner(ancestor) || (writableByOthers(ancestor) && !sticky)) {
      return `lies below ${above}, which others can write to; it could be replaced`
    }
  }
  return undefined
}

function isTrustedOwner(stats: Stats): boolean {
  return stats.uid === 0 || stats.uid === process.getuid?.()
}

/** Write access of root's and of our own group is no more than root's and ours. */
function writableByOthers(stats: Stats): boolean {
  const foreignGroup = stats.gid !== 0 && stats.gid !== process.getgid?.()
  return (stats.mode & 0o002) !== 0 || (foreignGroup && (stats.mode & 0o020) !== 0)
}

function socketPath(directory: string, name: string): string {
  if (!PROVIDER_NAME.test(name)) throw new SocketError(`"${name}" is not a provider name the driver accepts`)
  const path = join(directory, `${name}.sock`)
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new SocketError(`socket path ${path} is longer than ${MAX_PATH_BYTES} bytes`)
  }
  return path
}

/** @throws SocketError when what lies at `path` must not be replaced. */
async function checkOccupant(path: string, runtimeName: string, options: SocketOptions): Promise<void> {
  const stats = statOf(path)
  if (!stats) return
  if (!stats.isSocket()) {
    throw new SocketError(`${path} exists and is not a socket; remove it if it is not needed`)
  }
  if (!(await isListening(path))) return
  const occupant = await runtimeNameAt(path)
  if (occupant === runtimeName) return
  const who = occupant === undefined ? 'a process that does not say who it is' : `"${printable(occupant)}"`
  if (!options.takeover) {
    throw new SocketError(
      `${path} is served by ${who}; uninstall that provider, leave the dialect out with --dialects, or start with --takeover`,
    )
  }
  options.log.warn('taking over a socket that another provider serves', { path, occupant: occupant ?? '' })
}

/** A name that another process chose, fit for an error text. */
function printable(name: string): string {
  return name.slice(0, 60).replace(/[^ -~]/g, '?')
}

/** Whether somebody accepts connections at `path`. */
function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path)
    const settle = (alive: boolean): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(alive)
    }
    // A full backlog neither accepts nor refuses; somebody is there.
    const timer = setTimeout(() => settle(true), CONNECT_MS)
    socket.once('connect', () => settle(true))
    socket.once('error', (error: NodeJS.ErrnoException) =>
      settle(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    )
  })
}

async function runtimeNameAt(path: string): Promise<string | undefined> {
  const client = connectProvider(path)
  try {
    return (await client.version({ deadlineMs: VERSION_MS })).runtime_name
  } catch {
    return undefined
  } finally {
    client.close()
  }
}

/**
 * A file of our socket's name in a directory that the driver also searches is used instead of ours,
 * dead or alive, and for the driver's lifetime. A dead socket is removed, anything else is told.
 */
async function removeShadow(path: string, log: Logger): Promise<void> {
  const stats = statOf(path)
  if (!stats) return
  if (stats.isSocket() && !(await isListening(path))) {
    try {
      unlinkSync(path)
      log.warn('removed a dead socket that could hide ours from the driver', { path })
      return
    } catch (error) {
      log.warn('a dead socket could hide ours from the driver and cannot be removed', {
        path,
        reason: reason(error),
      })
      return
    }
  }
  log.warn('another file of this name could hide our socket from the driver; remove one of them', { path })
}

/** Removes what processes left that died between bind and rename. */
function removeAbandoned(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (!name.startsWith(TEMPORARY_PREFIX)) continue
    const path = join(directory, name)
    const stats = statOf(path)
    if (stats?.isSocket() && Date.now() - stats.mtimeMs > ABANDONED_MS) unlinkSync(path)
  }
}

async function listenPrivately(server: Server, path: string): Promise<void> {
  const umask = process.umask(0o077)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      // Node binds before `listen` returns, so the umask holds for it.
      server.listen(path, resolve)
    })
  } finally {
    process.umask(umask)
  }
  server.on('error', () => {})
  chmodSync(path, 0o600)
}

function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new SocketError(`cannot look at ${path}: ${reason(error)}`)
  }
}

function reason(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown reason'
}
