import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const CLI = join(import.meta.dirname, '../../src/cli.ts')

let dir = ''
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'kf-qs-'))
})
afterAll(() => rmSync(dir, { recursive: true }))

const env = { ...process.env, TMPDIR: '' }

describe('keyferry quickstart', () => {
  it('keeps every claim it prints, leaves nothing behind, and is plain text in a log', () => {
    const run = spawnSync(process.execPath, [CLI, 'quickstart'], {
      encoding: 'utf8',
      env: { ...env, TMPDIR: dir },
    })
    expect(run.stderr).toBe('')
    expect(run.status).toBe(0)
    for (const claim of [
      /volume: (a real tmpfs|EMULATED)/,
      /✓ the pod finds exactly the three values/,
      /NOT_BOUND/,
      /✓ it is refused/,
      /✓ the pod finds the new value/,
      /✓ nowhere/,
      /✓ and the search does find one that is put there on purpose/,
      /the pod still waits/,
      /✓ the store is back: the container starts with all its files/,
      /✓ after unpublish and shutdown no value is left anywhere/,
    ]) {
      expect(run.stdout).toMatch(claim)
    }
    expect(run.stdout).not.toContain('\u001b')
    expect(readdirSync(dir)).toEqual([])
  })

  it('cleans up when it is interrupted', async () => {
    const run = spawn(process.execPath, [CLI, 'quickstart'], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...env, TMPDIR: dir },
    })
    for await (const chunk of run.stdout) if (String(chunk).includes('ready on')) break
    run.kill('SIGINT')
    const [code] = await once(run, 'exit')
    expect(code).toBe(130)
    expect(readdirSync(dir)).toEqual([])
  })
})
