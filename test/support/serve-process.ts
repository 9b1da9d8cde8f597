/** Owns `keyferry serve` as a real process of the shipped bundle: started, read, ended by its pid. */
import { existsSync, readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startProcess, type RunningProcess } from '../../src/driver/faults.ts'

const root = join(import.meta.dirname, '../..')
const bundle = join(root, 'dist/cli.js')

export interface ServeOptions {
  /** Configuration file. */
  readonly config: string
  /** Further flags of `serve`. */
  readonly flags?: readonly string[]
  /** Flags of Node itself, before the program. Default: those of the shipped image. */
  readonly nodeFlags?: readonly string[]
  /** Added to PATH and TMPDIR; nothing else is inherited. */
  readonly env?: Readonly<Record<string, string>>
}

export interface ServeProcess {
  readonly pid: number
  /** Everything written to stdout and stderr so far. */
  output(): string
  /** Waits for a line with this text. Throws if the process ends without one. */
  line(text: string): Promise<string>
  /** The Prometheus text. */
  metrics(): Promise<string>
  /** Value of a metric without labels, or undefined. */
  metric(name: string): Promise<number | undefined>
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
  /** Sends a signal, SIGTERM by default, and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<void>
}

/** Node's flags in the image's entry point: what is tested runs as it will on a node. */
export const SHIPPED_FLAGS: readonly string[] = entryPoint().filter((word) => word.startsWith('--'))

function entryPoint(): string[] {
  const [, words = '[]'] =
    /^ENTRYPOINT (\[.*\])$/m.exec(readFileSync(join(root, 'daemonset/Dockerfile'), 'utf8')) ?? []
  return JSON.parse(words) as string[]
}

/** Starts `keyferry serve` and waits until it is ready. Throws with its output if it ends before. */
export async function serveProcess(options: ServeOptions): Promise<ServeProcess> {
  refuseStaleBundle()
  const { config, flags = [], nodeFlags = SHIPPED_FLAGS, env = {} } = options
  const started = await startProcess(
    process.execPath,
    [...nodeFlags, bundle, 'serve', '--config', config, '--admin-address', '127.0.0.1:0', ...flags],
    undefined,
    { PATH: process.env['PATH'], ...env },
  )
  const admin = await adminAddress(started)
  const metrics = async (): Promise<string> => (await fetch(`http://${admin}/metrics`)).text()
  return {
    pid: started.pid,
    output: () => started.lines.join('\n'),
    line: (text) => started.line(text),
    metrics,
    async metric(name) {
      const line = (await metrics()).split('\n').find((one) => one.startsWith(`${name} `))
      return line === undefined ? undefined : Number(line.slice(name.length + 1))
    },
    ended: started.ended,
    stop: (signal = 'SIGTERM') => started.kill(signal),
  }
}

/** Waits until the process answers that it is ready; with the level `warn` no line of the log would say so. */
async function adminAddress(started: RunningProcess): Promise<string> {
  const state = { over: false }
  void started.ended.then(() => (state.over = true))
  while (!state.over) {
    const [port] = listeningPorts(started.pid)
    const address = `127.0.0.1:${port}`
    const ready =
      port !== undefined &&
      (await fetch(`http://${address}/readyz`).then(
        ({ ok }) => ok,
        () => false,
      ))
    if (ready) return address
    await sleep(10)
  }
  throw new Error(`keyferry serve ended before it was ready:\n${started.lines.join('\n')}`)
}

/** Inodes of the sockets that a process holds. */
function socketsOf(pid: number): Set<string> {
  const links = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => readLink(`/proc/${pid}/fd/${fd}`))
  return new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []))
}

function readLink(path: string): string[] {
  try {
    return [readlinkSync(path)]
  } catch {
    return []
  }
}

/** TCP ports on which a process listens; none when it has ended. */
export function listeningPorts(pid: number): number[] {
  try {
    return portsOf(pid)
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EINVAL'].includes(String((error as NodeJS.ErrnoException).code))) return []
    throw error
  }
}

function portsOf(pid: number): number[] {
  const own = socketsOf(pid)
  return ['tcp', 'tcp6'].flatMap((family) => {
    const lines = readFileSync(`/proc/${pid}/net/${family}`, 'utf8').trim().split('\n').slice(1)
    return lines.flatMap((line) => {
      const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/)
      return state === '0A' && own.has(inode) ? [Number.parseInt(local.split(':')[1] ?? '', 16)] : []
    })
  })
}

/** A test of yesterday's bundle would prove nothing about today's sources. */
function refuseStaleBundle(): void {
  const built = existsSync(bundle) ? statSync(bundle).mtimeMs : 0
  if (built < newest(join(root, 'src')))
    throw new Error('dist/ is older than src/: run `npm run build` (`npm test` does so by itself)')
}

function newest(folder: string): number {
  return Math.max(
    ...readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs),
  )
}
