/** Owns the accidents of a node that tests stage: provider processes that die, and sockets nobody answers on. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** A child process, typically `keyferry serve`. */
export interface RunningProcess {
  readonly pid: number
  /** Settles when the process has ended. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
  /** Lines written so far, both streams. */
  readonly lines: readonly string[]
  /** Waits until a line contains `text`. Throws if the process ends without one. */
  line(text: string): Promise<string>
  /** Sends a signal, SIGKILL by default, and waits for the end. */
  kill(signal?: NodeJS.Signals): Promise<void>
}

/**
 * Starts a process and waits until one of its lines contains `ready`, if that is not undefined. Throws with its
 * output if it ends before.
 */
export async function startProcess(
  command: string,
  args: readonly string[],
  ready: string | undefined,
  env: NodeJS.ProcessEnv = process.env,
): Promise<RunningProcess> {
  const child = spawn(command, [...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const lines: string[] = []
  const waiting = new Set<() => void>()
  let over = false
  const notice = (): void => {
    for (const look of waiting) look()
  }
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line)
      notice()
    })
  }
  const ended = once(child, 'close').then(([code, signal]: unknown[]) => {
    over = true
    notice()
    return { code: code as number | null, signal: signal as NodeJS.Signals | null }
  })
  const line = (text: string): Promise<string> =>
    new Promise((found, failed) => {
      const look = (): void => {
        const hit = lines.find((one) => one.includes(text))
        if (hit === undefined && !over) return
        waiting.delete(look)
        if (hit === undefined)
          failed(new Error(`${command} ended without a line "${text}":\n${lines.join('\n')}`))
        else found(hit)
      }
      waiting.add(look)
      look()
    })
  if (ready !== undefined) await line(ready)
  return {
    pid: child.pid ?? -1,
    ended,
    lines,
    line,
    async kill(signal = 'SIGKILL') {
      if (!over) child.kill(signal)
      await ended
    },
  }
}

/** Leaves `<dir>/<provider>.sock` behind as a killed process would: a socket that refuses connections. */
export async function leaveStaleSocket(dir: string, provider: string): Promise<string> {
  const path = join(dir, `${provider}.sock`)
  const server = createServer()
  server.listen(`${path}.dead`)
  await once(server, 'listening')
  renameSync(`${path}.dead`, path) // closing unlinks the name it was bound to, so the file stays
  server.close()
  await once(server, 'close')
  return path
}
