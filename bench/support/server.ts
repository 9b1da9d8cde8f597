/** Owns the server under test: the shipped bundle with the shipped flags, in a process of its own, and what it uses. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, watch, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const ROOT = join(import.meta.dirname, '..', '..')
const BUNDLE = join(ROOT, 'dist', 'cli.js')
const PROFILER = join(import.meta.dirname, 'profiler.ts')
const PROBE = join(import.meta.dirname, 'loop-probe.ts')

/** What the image and the chart start Keyferry with (dependencies.md section 5). */
export const SHIPPED_FLAGS = ['--max-old-space-size=64', '--max-semi-space-size=2'] as const
const SHIPPED_ENVIRONMENT = { MALLOC_ARENA_MAX: '1' } as const

const START_MS = 20_000
const STOP_MS = 10_000

export interface ServerOptions {
  /** Holds sockets and configuration. */
  readonly directory: string
  /** Text of the configuration file. */
  readonly config: string
  /** Socket names; absent: all there are. */
  readonly dialects?: readonly string[]
  /** Loads the probe that tells how long the event loop was held. */
  readonly probe?: boolean
  readonly env?: Readonly<Record<string, string>>
}

/** Longest hold of the event loop since the last question, in milliseconds. */
export interface LoopHold {
  /** Processor time of the main thread between two turns: what our own code did. */
  readonly processorMs: number
  /** Time on the wall: includes what other programs of this machine took. */
  readonly wallMs: number
}

export interface BenchServer {
  readonly pid: number
  /** From spawn until the last socket had its name, in milliseconds. */
  readonly boundMs: number
  /** From spawn until the line `ready`, in milliseconds. */
  readonly readyMs: number
  socket(name: string): string
  /** Resident memory now, in MiB; `anonymous` is what a container is billed for apart from page cache. */
  memory(): { readonly resident: number; readonly anonymous: number }
  /** Highest resident memory since the start or the last {@link BenchServer.forgetPeak}, in MiB. */
  peak(): number
  forgetPeak(): void
  /** Processor time used so far, user and system, all threads, in milliseconds. */
  processorMs(): number
  /** Asks the probe, and makes it forget. */
  loopHold(): Promise<LoopHold>
  /** @throws Error when the process has ended. */
  alive(): void
  stop(): Promise<void>
}

/** Directory for processor profiles of every server that is started; costs some speed. */
const PROFILES = process.env['KEYFERRY_BENCH_PROFILES']

function profileFlags(): readonly string[] {
  return PROFILES === undefined ? [] : ['--import', PROFILER]
}

/** Starts `keyferry serve`. @throws Error when it does not become ready; the text has its last lines. */
export async function startBenchServer(options: ServerOptions): Promise<BenchServer> {
  if (!existsSync(BUNDLE)) throw new Error(`${BUNDLE} does not exist; build it with node scripts/build.ts`)
  const sockets = join(options.directory, 'sockets')
  mkdirSync(sockets, { recursive: true, mode: 0o700 })
  const config = join(options.directory, 'config.yaml')
  await writeFile(config, options.config)
  const args = [
    ...SHIPPED_FLAGS,
    ...profileFlags(),
    ...(options.probe ? ['--import', PROBE] : []),
    BUNDLE,
    'serve',
    '--config',
    config,
    '--socket-dir',
    sockets,
    ...(options.dialects ? ['--dialects', options.dialects.join(',')] : []),
  ]
  const named = options.dialects === undefined ? undefined : new Set(options.dialects)
  const bound = Promise.withResolvers<number>()
  const watcher = watch(sockets, () => {
    if (named !== undefined && [...named].every((name) => existsSync(join(sockets, `${name}.sock`))))
      bound.resolve(performance.now())
  })
  const started = performance.now()
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe', ...(options.probe ? (['ipc'] as const) : [])],
    env: {
      PATH: process.env['PATH'] ?? '',
      ...SHIPPED_ENVIRONMENT,
      ...(PROFILES && { KEYFERRY_BENCH_PROFILES: PROFILES }),
      ...options.env,
    },
  })
  try {
    const readyAt = await ready(child)
    // Whoever watches for no name in particular goes by the line, which comes after the last of them.
    if (named === undefined) bound.resolve(readyAt)
    const boundAt = await Promise.race([bound.promise, delay(1000).then(() => readyAt)])
    return running(child, sockets, boundAt - started, readyAt - started)
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  } finally {
    watcher.close()
  }
}

/** Time of the line `ready`. Audit lines and logs are read on, so that the server never waits for us. */
async function ready(child: ChildProcess): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const last: string[] = []
  child.stdout?.resume()
  if (child.stderr) {
    createInterface({ input: child.stderr }).on('line', (line) => {
      if (line.includes('"msg":"ready"')) resolve(performance.now())
      last.push(line)
      if (last.length > 5) last.shift()
    })
  }
  child.once('exit', (code, signal) =>
    reject(new Error(`keyferry serve ended with ${String(code ?? signal)}: ${last.join(' | ')}`)),
  )
  const timer = setTimeout(
    () => reject(new Error(`keyferry serve was not ready in time: ${last.join(' | ')}`)),
    START_MS,
  )
  try {
    return await promise
  } finally {
    clearTimeout(timer)
  }
}

function running(child: ChildProcess, sockets: string, boundMs: number, readyMs: number): BenchServer {
  const pid = child.pid ?? 0
  const exited = once(child, 'exit')
  const alive = (): void => {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`keyferry serve ended with ${String(child.exitCode ?? child.signalCode)}`)
  }
  return {
    pid,
    boundMs,
    readyMs,
    alive,
    socket: (name) => join(sockets, `${name}.sock`),
    memory: () => ({ resident: statusField(pid, 'VmRSS'), anonymous: statusField(pid, 'RssAnon') }),
    peak: () => statusField(pid, 'VmHWM'),
    forgetPeak: () => forgetPeak(pid),
    processorMs: () => processorMs(pid),
    loopHold: async () => {
      alive()
      const answer = once(child, 'message')
      child.send('hold')
      const [hold] = (await answer) as [LoopHold]
      return hold
    },
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
      await exited
      clearTimeout(timer)
    },
  }
}

/** A field of `/proc/PID/status` that is given in kB, as MiB. */
function statusField(pid: number, field: string): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8')
  const line = text.split('\n').find((one) => one.startsWith(`${field}:`))
  if (line === undefined) throw new Error(`/proc has no ${field}; these figures need Linux`)
  return Number.parseInt(line.slice(field.length + 1), 10) / 1024
}

function forgetPeak(pid: number): void {
  // 5 resets VmHWM (proc_pid_clear_refs(5)); asynchronous writing would measure the wrong moment.
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
}

/** Clock ticks a second of `/proc/PID/stat`: 100 on every Linux that Node runs on. */
const TICKS = 100

function processorMs(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name of the program, in brackets, may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return ((Number(fields[11]) + Number(fields[12])) / TICKS) * 1000
}

/** Waits. */
export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
