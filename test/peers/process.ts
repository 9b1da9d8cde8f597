/**
 * Owns the life of one foreign process in a test: started through a guard that ends it when the test
 * runner dies, ready before it is handed out, ended by pid, its log at hand for error messages.
 */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * The guard: runs the program given as its arguments, tells its pid on descriptor 3 and kills it when
 * the guard's own stdin, a pipe from the runner, is closed. A runner that is killed cannot leave an
 * orphan behind.
 */
const guard = `
exec 4<&0 </dev/null
"$@" 3>&- 4<&- &
program=$!
echo "$program" >&3
exec 3>&-
{ cat <&4 >/dev/null; kill -KILL "$program"; } >/dev/null 2>&1 &
exec 4<&-
wait "$program"
`

export interface ProcessOptions<Ready> {
  /** Used in error messages. */
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  /** Added to PATH, LANG and a scratch HOME; nothing else is inherited. */
  readonly env?: Readonly<Record<string, string>>
  /** The working folder and HOME; a new folder, removed by `stop`, when not given. */
  readonly scratch?: string
  /** Asked every 25 ms until it gives something other than undefined; a throw means not yet. */
  readonly ready: (view: { readonly log: () => string }) => Promise<Ready | undefined> | Ready | undefined
  /** Default 20 000. */
  readonly readyWithinMs?: number
  /** Default SIGTERM. */
  readonly stopSignal?: NodeJS.Signals
}

export interface Exit {
  readonly code: number | null
  /** Milliseconds from the signal to the end. */
  readonly tookMs: number
}

export interface RunningProcess<Ready> {
  readonly pid: number
  readonly scratch: string
  /** What the readiness probe gave, e.g. an address. */
  readonly ready: Ready
  /** Everything written to stdout and stderr so far; kept in the scratch folder, so not after its end. */
  readonly log: () => string
  /** False once the process has ended, for whatever reason. */
  readonly running: () => boolean
  readonly signal: (signal: NodeJS.Signals) => void
  /** Asks it to end, kills it after 5 s, removes its scratch folder. Repeatable. */
  readonly stop: () => Promise<Exit>
  /** SIGKILL: the process has no chance to clean up. Keeps the scratch folder. */
  readonly kill: () => Promise<Exit>
}

/** A new folder with a short path: a unix socket's path may have 107 bytes. */
export async function scratchFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'kf-'))
}

/**
 * Starts a program and waits until it is ready.
 * @throws Error with the tail of its log when it ends or stays unready.
 */
export async function startProcess<Ready>(options: ProcessOptions<Ready>): Promise<RunningProcess<Ready>> {
  const scratch = options.scratch ?? (await scratchFolder())
  const logFile = join(scratch, `${options.name}-${randomUUID()}.log`)
  const log = () => readFileSync(logFile, 'utf8')
  const output = openSync(logFile, 'w')
  const child = spawn('sh', ['-c', guard, 'guard', options.command, ...options.args], {
    cwd: scratch,
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LANG: 'C.UTF-8', HOME: scratch, ...options.env },
    stdio: ['pipe', output, output, 'pipe'],
  })
  closeSync(output)
  let code: number | null | undefined
  const exited = new Promise<void>((resolve) => {
    child.once('exit', (status) => {
      code = status
      // Lets the guard's watcher end as well.
      child.stdin?.destroy()
      resolve()
    })
    child.once('error', () => {
      code = null
      resolve()
    })
  })
  child.stdin?.on('error', () => {})
  const running = () => code === undefined
  const pid = await programPid(child.stdio[3] as NodeJS.ReadableStream, exited)

  const signal = (name: NodeJS.Signals) => {
    if (running() && pid !== undefined) process.kill(pid, name)
  }
  const end = async (name: NodeJS.Signals): Promise<Exit> => {
    const since = Date.now()
    signal(name)
    const timely = await Promise.race([exited.then(() => true), sleep(5_000, false, { ref: false })])
    if (!timely) {
      signal('SIGKILL')
      await exited
    }
    return { code: code ?? null, tookMs: Date.now() - since }
  }
  let stopped: Promise<Exit> | undefined
  const stop = () =>
    (stopped ??= end(options.stopSignal ?? 'SIGTERM').then((exit) => {
      if (!options.scratch) rmSync(scratch, { recursive: true, force: true })
      return exit
    }))

  const until = Date.now() + (options.readyWithinMs ?? 20_000)
  for (;;) {
    const ready = running() ? await probe(options.ready, log) : undefined
    if (ready !== undefined && pid !== undefined)
      return { pid, scratch, ready, log, running, signal, stop, kill: () => end('SIGKILL') }
    if (!running() || Date.now() > until) {
      const why = running() ? 'was not ready in time' : `ended with code ${code} before it was ready`
      const tail = log().slice(-4_000)
      await stop()
      throw new Error(`${options.name} ${why}. The end of its log:\n${tail}`)
    }
    await sleep(25)
  }
}

async function probe<Ready>(
  ready: ProcessOptions<Ready>['ready'],
  log: () => string,
): Promise<Ready | undefined> {
  try {
    return await ready({ log })
  } catch {
    return undefined
  }
}

/** The pid of the program itself, not of the guard; undefined when the guard could not start. */
async function programPid(pipe: NodeJS.ReadableStream, exited: Promise<void>): Promise<number | undefined> {
  const line = new Promise<string>((resolve) => {
    let text = ''
    pipe.setEncoding('utf8')
    pipe.on('data', (chunk: string) => (text += chunk))
    pipe.on('end', () => resolve(text))
  })
  const text = await Promise.race([line, exited.then(() => '')])
  return text.trim() === '' ? undefined : Number(text)
}
