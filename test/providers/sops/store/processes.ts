/** Owns starting and ending the worker processes of the store's tests. */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Readable } from 'node:stream'

export interface Worker {
  readonly child: ChildProcessByStdio<null, Readable, null>
  /** Everything it has printed so far. */
  output(): string
  /** Resolves once it has printed `text`. */
  printed(text: string): Promise<void>
  /** kill -9, and waits until it is gone. */
  kill(): Promise<void>
}

/** Starts `worker.ts`; its errors appear in the test's own output. */
export function startWorker(...args: readonly string[]): Worker {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'worker.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  const exited = once(child, 'exit')
  return {
    child,
    output: () => output,
    printed: async (text) => {
      while (!output.includes(text)) {
        if (child.exitCode !== null) throw new Error(`the worker ended before it printed ${text}`)
        await Promise.race([once(child.stdout, 'data'), exited])
      }
    },
    kill: async () => {
      child.kill('SIGKILL')
      await exited
    },
  }
}
