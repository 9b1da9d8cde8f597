import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { withLock } from '../../../../src/providers/sops/store/lock.ts'
import { startWorker } from './processes.ts'

let directory = ''
let path = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'keyferry-lock-'))
  path = join(directory, 'n.lock')
})
afterEach(() => rmSync(directory, { recursive: true }))

const OPTIONS = { waitMs: 5000, what: 'payments/db' }

describe('the lock of a document', () => {
  it('sops B4 names its owner while it is held and is gone afterwards', async () => {
    await withLock(path, OPTIONS, () => {
      expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ pid: process.pid })
      return Promise.resolve()
    })
    expect(readdirSync(directory)).toEqual([])
  })

  it('sops B4 is released when the work fails', async () => {
    await expect(withLock(path, OPTIONS, () => Promise.reject(new Error('work')))).rejects.toThrow('work')
    expect(existsSync(path)).toBe(false)
  })

  it('sops B4 a live owner keeps it: the next one waits, then gives up and says who has it', async () => {
    const holder = startWorker('hold', path)
    await holder.printed('held')
    await expect(withLock(path, { ...OPTIONS, waitMs: 100 }, () => Promise.resolve())).rejects.toThrow(
      expect.objectContaining({
        kind: 'conflict',
        message: `payments/db is locked by process ${holder.child.pid}`,
      }),
    )
    await holder.kill()
  })

  it("sops B4 a dead owner's lock is broken, and nothing of it remains", async () => {
    const holder = startWorker('hold', path)
    await holder.printed('held')
    await holder.kill()
    expect(existsSync(path)).toBe(true)
    expect(await withLock(path, OPTIONS, () => Promise.resolve('mine'))).toBe('mine')
    expect(readdirSync(directory)).toEqual([])
  })

  it('sops B4 a reused pid, and a pid of before the last boot, do not count as the owner', async () => {
    let owner: Record<string, unknown> = {}
    await withLock(path, OPTIONS, () => {
      owner = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
      return Promise.resolve()
    })
    for (const dead of [
      { ...owner, started: '1' },
      { ...owner, boot: 'another' },
    ]) {
      writeFileSync(path, JSON.stringify(dead))
      expect(await withLock(path, OPTIONS, () => Promise.resolve('mine'))).toBe('mine')
    }
  })

  it('sops B4 a lock of another pid namespace, or without an owner, is never broken', async () => {
    let owner: Record<string, unknown> = {}
    await withLock(path, OPTIONS, () => {
      owner = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>
      return Promise.resolve()
    })
    for (const text of [
      JSON.stringify({ ...owner, pid: 999_999_999, pidNamespace: 'pid:[1]' }),
      '',
      '{"pid":1}',
    ]) {
      writeFileSync(path, text)
      await expect(withLock(path, { ...OPTIONS, waitMs: 50 }, () => Promise.resolve())).rejects.toThrow(
        /locked/,
      )
      expect(readFileSync(path, 'utf8')).toBe(text)
    }
  })

  it('sops B4 is exclusive among processes that are killed at any moment', async () => {
    const guard = join(directory, 'guard')
    const outputs: string[] = []
    const start = () => startWorker('lock', path, guard)
    let workers = Array.from({ length: 4 }, start)
    await Promise.all(workers.map((worker) => worker.printed('round')))
    for (let kills = 0; kills < 6; kills += 1) {
      await sleep(40 + Math.random() * 60)
      const [victim, ...others] = workers
      await victim?.kill()
      outputs.push(victim?.output() ?? '')
      workers = [...others, start()]
    }
    // Whoever is left goes on: the locks of the dead do not block it.
    const last = workers.at(-1)
    await last?.printed('round 3')
    await Promise.all(workers.map((worker) => worker.kill()))
    outputs.push(...workers.map((worker) => worker.output()))
    expect(outputs.filter((output) => output.includes('broken'))).toEqual([])
    expect(outputs.filter((output) => output.includes('round')).length).toBeGreaterThan(4)
  })
})
