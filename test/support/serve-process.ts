/** Owns `keyferry serve` as a real process of the shipped bundle: started, read, ended by its pid. */
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
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
  // A port of our own choice: with the level `warn` no line of the log would name one.
  const admin = `127.0.0.1:${await freePort()}`
  const started = await startProcess(
    process.execPath,
    [...nodeFlags, bundle, 'serve', '--config', config, '--admin-address', admin, ...flags],
    undefined,
    { PATH: process.env['PATH'], ...env },
  )
  await readiness(started, admin)
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

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function readiness(started: RunningProcess, admin: string): Promise<void> {
  let over = false
  void started.ended.then(() => (over = true))
  for (;;) {
    const ready = await fetch(`http://${admin}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    )
    if (ready) return
    if (over) throw new Error(`keyferry serve ended before it was ready:\n${started.lines.join('\n')}`)
    await sleep(10)
  }
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
