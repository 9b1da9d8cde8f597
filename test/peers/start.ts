/** Owns starting the server peers (moto, OpenBao, PostgreSQL) and finding the installed programs. */
import { execFileSync } from 'node:child_process'
import { accessSync, chownSync, constants, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { scratchFolder, startProcess } from './process.ts'
import type { RunningProcess } from './process.ts'

const folder = process.env['KEYFERRY_PEERS'] ?? join(import.meta.dirname, '../../.peers')

/** Where `test/peers/install` puts a program. It need not exist: see {@link missing}. */
export function peerProgram(program: string): string {
  return join(folder, 'bin', program)
}

/** One sentence naming what is not installed and how to get it; undefined when all of them are there. */
export function missing(programs: readonly string[]): string | undefined {
  const absent = programs.filter((program) => {
    try {
      accessSync(peerProgram(program), constants.X_OK)
      return false
    } catch {
      return true
    }
  })
  return absent.length === 0 ? undefined : `${absent.join(', ')} not installed (run test/peers/install)`
}

export interface PeerOptions {
  /** More arguments for the program, e.g. OpenBao's `-dev-leased-kv`. */
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

/** Where a peer answers, and what its first client needs to know. */
export interface Peer extends RunningProcess<string> {
  /** `http://127.0.0.1:PORT`, for PostgreSQL `postgresql://admin:PASSWORD@127.0.0.1:PORT/postgres`. */
  readonly address: string
}

export type PeerName = keyof typeof starters

/** The root token of every OpenBao started here, and the password of PostgreSQL's `admin`. */
export const PEER_PASSWORD = 'root'

/**
 * Starts one server peer for a test file and waits until it answers.
 * @throws Error with the end of its log when it does not.
 */
export async function startPeer(name: PeerName, options: PeerOptions = {}): Promise<Peer> {
  const running = await starters[name](options)
  return { ...running, address: running.ready }
}

const starters = {
  moto: startMoto,
  bao: (options: PeerOptions) => startBao('bao', options),
  'vault-ce': (options: PeerOptions) => startBao('vault-ce', options),
  postgres: startPostgres,
}

function startMoto(options: PeerOptions): Promise<RunningProcess<string>> {
  return startProcess({
    name: 'moto',
    command: peerProgram('moto-python'),
    args: ['-m', 'moto.server', '-H', '127.0.0.1', '-p', '0', ...(options.args ?? [])],
    env: { AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'x', ...options.env },
    ready: async ({ log }) => {
      const address = /Running on (http:\/\/127\.0\.0\.1:\d+)/.exec(log())?.[1]
      return address && (await answers(`${address}/moto-api/`)) ? address : undefined
    },
  })
}

/** OpenBao and HashiCorp Vault are started in the same words. */
async function startBao(name: 'bao' | 'vault-ce', options: PeerOptions): Promise<RunningProcess<string>> {
  const port = await freePort(2)
  const address = `http://127.0.0.1:${port}`
  return startProcess({
    name,
    command: peerProgram(name),
    args: [
      'server',
      '-dev',
      `-dev-root-token-id=${PEER_PASSWORD}`,
      `-dev-listen-address=127.0.0.1:${port}`,
      '-dev-no-store-token',
      ...(options.args ?? []),
    ],
    ...(options.env && { env: options.env }),
    ready: async () => ((await answers(`${address}/v1/sys/health`)) ? address : undefined),
  })
}

/** PostgreSQL refuses to run as root; its wrapper in .peers/bin changes to the user named by RUN_AS. */
async function startPostgres(options: PeerOptions): Promise<RunningProcess<string>> {
  const scratch = await scratchFolder()
  const port = await freePort(1)
  const env: Record<string, string> = { ...options.env }
  if (process.getuid?.() === 0) {
    const user = unprivilegedUser()
    chownSync(scratch, user, user)
    env['RUN_AS'] = String(user)
  }
  const data = join(scratch, 'data')
  const password = join(scratch, 'password')
  writeFileSync(password, PEER_PASSWORD)
  execFileSync(
    peerProgram('initdb'),
    [
      '-D',
      data,
      '-U',
      'admin',
      `--pwfile=${password}`,
      '-A',
      'scram-sha-256',
      '--no-sync',
      '-E',
      'UTF8',
      '--locale=C',
    ],
    { env: { ...process.env, ...env, HOME: scratch }, cwd: scratch, stdio: 'pipe' },
  )
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: scratch,
    fsync: 'off',
    shared_buffers: '16MB',
  }
  const running = await startProcess({
    name: 'postgres',
    command: peerProgram('postgres'),
    args: [
      '-D',
      data,
      ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
      ...(options.args ?? []),
    ],
    env,
    scratch,
    // A fast shutdown; SIGTERM would wait for every client to leave.
    stopSignal: 'SIGINT',
    ready: () => {
      execFileSync(peerProgram('pg_isready'), ['-h', '127.0.0.1', '-p', String(port)], { stdio: 'pipe' })
      return `postgresql://admin:${PEER_PASSWORD}@127.0.0.1:${port}/postgres`
    },
  })
  return {
    ...running,
    stop: async () => {
      const exit = await running.stop()
      rmSync(scratch, { recursive: true, force: true })
      return exit
    },
  }
}

function unprivilegedUser(): number {
  const users = new Map(
    readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .map((line) => line.split(':'))
      .map((fields) => [fields[0], Number(fields[2])]),
  )
  const user = users.get('postgres') ?? users.get('nobody')
  if (user === undefined) throw new Error('neither a user postgres nor nobody to run PostgreSQL as')
  return user
}

async function answers(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(1_000) })
  await response.arrayBuffer()
  return response.status === 200
}

/** The first of `count` consecutive ports of 127.0.0.1 that were free a moment ago. */
export async function freePort(count: number): Promise<number> {
  for (;;) {
    const first = await bindOnce(0)
    const others = Array.from({ length: count - 1 }, (_, index) => first + index + 1)
    const results = await Promise.allSettled(others.map(bindOnce))
    if (results.every((result) => result.status === 'fulfilled')) return first
  }
}

function bindOnce(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : port))
    })
  })
}
