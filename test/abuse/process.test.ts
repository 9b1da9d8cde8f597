/** Owns abuse of the process itself: debuggers, signals, flags, configurations (T24, T28). */
import { once } from 'node:events'
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { openingFlag } from '../../src/commands/memory-guard.ts'
import { sopsNode, sopsVolume, type SopsNode } from '../support/sops-node.ts'
import { listeningPorts, serveProcess, SHIPPED_FLAGS, type ServeProcess } from '../support/serve-process.ts'

let here: SopsNode
let served: ServeProcess
beforeAll(async () => {
  here = await sopsNode()
  here.put('shop/db.yaml', await here.sealed({ user: 'app' }))
  served = await here.serve({ nodeFlags: [] })
})
afterAll(() => here.close())

/** How a `keyferry serve` that must not start ends. */
async function refusal(
  options: { config?: string; nodeFlags?: readonly string[]; env?: Record<string, string> } = {},
): Promise<string> {
  return serveProcess({ config: here.config(), flags: ['--socket-dir', here.sockets], ...options }).then(
    async (process) => {
      await process.stop('SIGKILL')
      throw new Error('it started')
    },
    (error: Error) => error.message,
  )
}

describe('T24 memory of the process', () => {
  it('T24 the image and the manifest start it so that no signal opens a debugger', () => {
    const manifest = readFileSync(join(import.meta.dirname, '../../daemonset/keyferry.yaml'), 'utf8')
    for (const flag of [
      '--disable-sigusr1',
      '--disallow-code-generation-from-strings',
      '--disable-proto=delete',
    ]) {
      expect(SHIPPED_FLAGS).toContain(flag)
      expect(manifest).toMatch(new RegExp(`^ +- ${flag}$`, 'm'))
    }
    expect(openingFlag(SHIPPED_FLAGS)).toBeUndefined()
  })

  it('T24 SIGUSR1 with the shipped flags opens no port and ends nothing', async () => {
    const other = await sopsNode()
    here.afterwards(() => other.close())
    const shipped = await other.serve()
    const before = listeningPorts(shipped.pid)
    process.kill(shipped.pid, 'SIGUSR1')
    expect(await shipped.metrics()).toContain('keyferry_mounts_running 0')
    expect(listeningPorts(shipped.pid)).toEqual(before)
    await shipped.stop()
    expect(shipped.output()).not.toContain('Debugger listening')
  })

  it('T24 SIGUSR1 opens no port and ends nothing without those flags either', async () => {
    const before = listeningPorts(served.pid)
    expect(before).toHaveLength(1) // the admin address
    process.kill(served.pid, 'SIGUSR1')
    await served.line('SIGUSR1 ignored')
    process.kill(served.pid, 'SIGUSR1')
    const node = await here.node({ root: join(here.directory, 'kubelet-usr1') })
    expect(await node.publish(sopsVolume({ sopsFile: 'shop/db.yaml' }))).toMatchObject({ code: 'OK' })
    expect(listeningPorts(served.pid)).toEqual(before)
    expect(served.output()).not.toContain('Debugger listening')
  })

  it('T24 control: without our handler the same signal does open one', async () => {
    const plain = spawn(process.execPath, ['-e', 'console.log("up"); setInterval(() => {}, 1000)'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {},
    })
    try {
      await once(plain.stdout, 'data')
      plain.kill('SIGUSR1')
      const [said] = (await once(plain.stderr, 'data')) as [Buffer]
      expect(said.toString()).toMatch(/Debugger listening|address already in use/)
    } finally {
      plain.kill('SIGKILL')
    }
  })

  it.each([
    ['--inspect=127.0.0.1:0'],
    ['--heapsnapshot-signal=SIGUSR2'],
    ['--report-on-signal'],
    ['--abort-on-uncaught-exception'],
  ])('T24 keyferry serve does not start with %s', async (flag) => {
    const said = await refusal({ nodeFlags: [flag], env: { NODE_V8_COVERAGE: '' } })
    expect(said).toContain(`${flag.split('=')[0]} opens the memory of the process`)
  })

  it('T24 nor with such a flag in an inherited NODE_OPTIONS', async () => {
    expect(
      await refusal({ env: { NODE_OPTIONS: '--max-old-space-size=200 --inspect=127.0.0.1:0' } }),
    ).toContain('--inspect opens the memory of the process')
  })

  it.each([
    [['--max-old-space-size=64', '--disable-sigusr1'], '', undefined],
    [['--inspect-brk=0'], '', '--inspect-brk'],
    [['--heap_prof'], '', '--heap-prof'],
    [[], '--enable-source-maps --report_on_fatalerror', '--report-on-fatalerror'],
  ] as const)('T24 the flags %j and NODE_OPTIONS "%s": %s', (flags, options, expected) => {
    expect(openingFlag(flags, options)).toBe(expected)
  })
})

describe('T28 configurations', () => {
  const faulty: readonly [string, object | string, RegExp][] = [
    ['an unknown key', { polcy: { profile: 'hardened' } }, /polcy is not a known key/],
    ['an unknown key below a known one', { cache: { fresFor: '0' } }, /cache\.fresFor is not a known key/],
    ['an unknown backend', { backends: { valt: {} } }, /backends\.valt is not a backend/],
    [
      'an unknown key of a backend',
      { backends: { sops: { allowEveryOne: true } } },
      /backends\.sops\.allowEveryOne is not a known key/,
    ],
    ['an unknown policy profile', { policy: { profile: 'harden' } }, /policy\.profile/],
    ['an unknown dialect', { sockets: { dialects: ['spos'] } }, /sockets\.dialects\.0 is "spos"/],
    ['a key given twice', '{"cache": {}, "cache": {}}', /unique|duplicate/i],
    ['a list', '[]', /must be a mapping/],
  ]
  test.each(faulty)(
    'T28 keyferry serve does not start with %s, and says where',
    async (_what, content, says) => {
      const config = join(here.directory, 'faulty.yaml')
      writeFileSync(
        config,
        typeof content === 'string' ? content : JSON.stringify({ kubernetes: 'off', ...content }),
      )
      const said = await refusal({ config })
      expect(said).toMatch(says)
      expect(said).toMatch(/faulty\.yaml:1:\d+/)
    },
  )
})
