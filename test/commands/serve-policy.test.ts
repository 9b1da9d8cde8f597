/** What `keyferry serve` says about its policy when it starts. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, it, onTestFinished } from 'vitest'

const CLI = join(import.meta.dirname, '../../src/cli.ts')

/** Fields of the line `ready` of a process with this policy. */
async function ready(policy: object): Promise<Record<string, unknown>> {
  const directory = mkdtempSync(join(tmpdir(), 'kf-'))
  const sockets = join(directory, 'sockets')
  mkdirSync(sockets, { mode: 0o755 })
  const config = join(directory, 'config.yaml')
  writeFileSync(config, JSON.stringify({ kubernetes: 'off', policy }))
  const child = spawn(process.execPath, [CLI, 'serve', '--config', config, '--socket-dir', sockets], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env['PATH'] },
  })
  const ended = once(child, 'exit')
  try {
    for await (const line of createInterface(child.stderr)) {
      const fields: unknown = line.startsWith('{') ? JSON.parse(line) : undefined
      if (typeof fields === 'object' && fields !== null && 'msg' in fields && fields.msg === 'ready')
        return { ...fields }
    }
    throw new Error('it ended before it was ready')
  } finally {
    child.kill('SIGKILL')
    await ended
    rmSync(directory, { recursive: true })
  }
}

it('T28 the line ready names profile and hash: equal for equal policies, another for another', async () => {
  const [first, second, other] = await Promise.all([
    ready({}),
    ready({ profile: 'compat', allow: [] }),
    ready({ profile: 'hardened' }),
  ])
  expect(first).toMatchObject({ policy: 'compat', policyHash: expect.stringMatching(/^[0-9a-f]{16}$/) })
  expect(second['policyHash']).toBe(first['policyHash'])
  expect(other['policy']).toBe('hardened')
  expect(other['policyHash']).not.toBe(first['policyHash'])
})

it('SIGHUP does not end a process that was started without a configuration file', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kf-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const child = spawn(process.execPath, [CLI, 'serve', '--socket-dir', directory], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env['PATH'] },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const ended = once(child, 'exit')
  for await (const line of createInterface(child.stderr)) {
    if (!line.includes('"ready"')) continue
    child.kill('SIGHUP')
    child.kill('SIGTERM')
  }
  expect(await ended).toEqual([0, null])
})
