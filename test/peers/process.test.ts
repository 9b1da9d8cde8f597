import { spawn } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { startProcess } from './process.ts'
import type { RunningProcess } from './process.ts'

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    // A zombie is over, only nobody has asked for its exit code yet.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function gone(pid: number): Promise<boolean> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (!alive(pid)) return true
    await sleep(25)
  }
  return false
}

const started: RunningProcess<unknown>[] = []
afterEach(async () => {
  await Promise.all(started.splice(0).map((running) => running.stop()))
})

async function start(script: string): Promise<RunningProcess<string>> {
  const running = await startProcess({
    name: 'script',
    command: 'sh',
    args: ['-c', script],
    ready: ({ log }) => /ready (\S+)/.exec(log())?.[1],
  })
  started.push(running)
  return running
}

describe.skipIf(process.platform !== 'linux')('startProcess (Linux only: it reads /proc)', () => {
  test('hands out the program when it says that it is ready, with a scratch folder as its home', async () => {
    const running = await start('echo ready $HOME; exec sleep 60')
    expect(running.ready).toBe(running.scratch)
    expect(alive(running.pid)).toBe(true)
  })

  test('ends the program with SIGTERM, keeps its exit code and removes the scratch folder', async () => {
    const running = await start(`trap 'exit 7' TERM; echo ready x; while :; do sleep 0.05; done`)
    expect(await running.stop()).toMatchObject({ code: 7 })
    expect(await gone(running.pid)).toBe(true)
    expect(existsSync(running.scratch)).toBe(false)
  })

  test('kills a program that does not listen to SIGTERM after five seconds', async () => {
    const running = await start(`trap '' TERM; echo ready x; while :; do sleep 0.05; done`)
    const { tookMs } = await running.stop()
    expect(tookMs).toBeGreaterThanOrEqual(5_000)
    expect(await gone(running.pid)).toBe(true)
  })

  test('a program that ends before it is ready fails with its code and the end of its log', async () => {
    await expect(start('echo the reason why; exit 3')).rejects.toThrow(
      /ended with code 3 before it was ready[^]*the reason why/,
    )
  })

  test('a program that does not exist fails at once', async () => {
    const options = { name: 'absent', command: '/nowhere/absent', args: [], ready: () => undefined }
    await expect(startProcess(options)).rejects.toThrow(/ended with code 127/)
  })

  test('leaves no orphan when the runner itself is killed', async () => {
    const module = JSON.stringify(join(import.meta.dirname, 'process.ts'))
    const script = `
      import { startProcess } from ${module}
      const running = await startProcess({
        name: 'orphan', command: 'sleep', args: ['60'], ready: () => true,
      })
      console.log('pid', running.pid, running.scratch)
      setInterval(() => {}, 1000)
    `
    const runner = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const line = await new Promise<string>((resolve, reject) => {
      runner.stdout.on('data', (chunk: Buffer) => resolve(chunk.toString().trim()))
      runner.once('exit', () => reject(new Error('the runner ended')))
    })
    const [, pid, scratch = ''] = /^pid (\d+) (.+)$/.exec(line) ?? []
    onTestFinished(() => rmSync(scratch, { recursive: true, force: true }))
    expect(alive(Number(pid))).toBe(true)
    runner.kill('SIGKILL')
    expect(await gone(Number(pid))).toBe(true)
  })
})
