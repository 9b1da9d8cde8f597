import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectProvider } from '../../src/rpc/contract.ts'
import { KEYFERRY, running, smallFile, type Running } from './harness.ts'

let root: string
let directory: string
const started: Running[] = []
const listeners: Server[] = []

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'kf-'))
  directory = join(root, 'providers')
  mkdirSync(directory, { mode: 0o755 })
})
afterEach(async () => {
  for (const one of started.splice(0)) await one.stop()
  for (const one of listeners.splice(0)) one.close()
  rmSync(root, { recursive: true, force: true })
})

async function start(options: Parameters<typeof running>[1] = {}): Promise<Running> {
  const one = await running(smallFile, { directory, ...options })
  started.push(one)
  return one
}

const whoIs = async (path: string): Promise<string> => {
  const client = connectProvider(path)
  try {
    return (await client.version({ deadlineMs: 2000 })).runtime_name
  } finally {
    client.close()
  }
}

/** A listener of another program that says nothing. */
async function mute(path: string): Promise<void> {
  const server = createServer(() => {})
  await new Promise<void>((resolve) => server.listen(path, resolve))
  listeners.push(server)
}

/** A socket file whose process was killed. */
function deadSocket(path: string): void {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', script])
  expect(lstatSync(path).isSocket()).toBe(true)
}

describe('sockets', () => {
  it('driver 2 one process serves several names in several directories', async () => {
    const second = join(root, 'second')
    mkdirSync(second)
    const one = await start({
      directories: [{ path: directory }, { path: second }],
      providers: ['aws', 'azure'].map((name) => ({ ...KEYFERRY, name })),
    })
    expect(one.server.paths).toHaveLength(4)
    for (const path of one.server.paths) expect(await whoIs(path)).toBe('keyferry')
    expect(readdirSync(directory).toSorted()).toEqual(['aws.sock', 'azure.sock'])
  })

  it('driver 8.1 sockets have mode 0600 and appear by rename, without a temporary file left', async () => {
    const one = await start()
    expect(lstatSync(one.path).mode & 0o777).toBe(0o600)
    expect(readdirSync(directory)).toEqual(['aws.sock'])
  })

  it('driver 5 a successor takes the path over without a gap, and our end removes nothing', async () => {
    const first = await start()
    const before = lstatSync(first.path).ino
    const second = await start()
    expect(lstatSync(first.path).ino).not.toBe(before)
    await first.server.close({ drainMs: 0 })
    expect(await whoIs(second.path)).toBe('keyferry')
    await second.server.close({ drainMs: 0 })
    expect(existsSync(second.path)).toBe(true)
  })

  it('driver 5 a socket left by a killed process is replaced', async () => {
    deadSocket(join(directory, 'aws.sock'))
    expect(await whoIs((await start()).path)).toBe('keyferry')
  })

  it('driver 5 a temporary socket left by a killed process is removed, a fresh one is not', async () => {
    deadSocket(join(directory, '.kf-00000001'))
    deadSocket(join(directory, '.kf-00000002'))
    utimesSync(join(directory, '.kf-00000001'), 1, 1)
    await start()
    expect(readdirSync(directory).toSorted()).toEqual(['.kf-00000002', 'aws.sock'])
  })

  it('driver 5 a dead socket in the other directory is removed, anything else is told', async () => {
    const other = join(root, 'other')
    mkdirSync(other)
    deadSocket(join(other, 'aws.sock'))
    await mute(join(other, 'azure.sock'))
    const one = await start({
      alsoSearched: [other, directory, join(root, 'absent')],
      providers: ['aws', 'azure'].map((name) => ({ ...KEYFERRY, name })),
    })
    expect(readdirSync(other)).toEqual(['azure.sock'])
    expect(
      one.log.lines.map(({ message, fields }) => [message.slice(0, 21), fields['path']]).toSorted(),
    ).toEqual([
      ['another file of this ', join(other, 'azure.sock')],
      ['removed a dead socket', join(other, 'aws.sock')],
    ])
  })

  it('T5 a live listener of another provider is not replaced, unless asked', async () => {
    const theirs = await start({
      providers: [{ ...KEYFERRY, runtimeName: 'secrets-store-csi-driver-provider-aws' }],
    })
    await expect(start()).rejects.toThrow('is served by "secrets-store-csi-driver-provider-aws"')
    expect(await whoIs(theirs.path)).toBe('secrets-store-csi-driver-provider-aws')
    const ours = await start({ takeover: true })
    expect(await whoIs(ours.path)).toBe('keyferry')
  })

  it('T5 a live listener that does not answer Version is not replaced', async () => {
    await mute(join(directory, 'aws.sock'))
    await expect(start()).rejects.toThrow('a process that does not say who it is')
  })

  it('T5 one foreign listener stops the start before any other socket is replaced', async () => {
    deadSocket(join(directory, 'azure.sock'))
    const { ino } = lstatSync(join(directory, 'azure.sock'))
    await mute(join(directory, 'aws.sock'))
    await expect(
      start({ providers: ['azure', 'aws'].map((name) => ({ ...KEYFERRY, name })) }),
    ).rejects.toThrow('aws.sock')
    expect(lstatSync(join(directory, 'azure.sock')).ino).toBe(ino)
    expect(readdirSync(directory).toSorted()).toEqual(['aws.sock', 'azure.sock'])
  })

  it.each([
    ['a regular file', (path: string): void => writeFileSync(path, 'x')],
    ['a directory', (path: string): void => mkdirSync(path)],
    ['a symbolic link', (path: string): void => symlinkSync('/dev/null', path)],
    ['a dangling link', (path: string): void => symlinkSync('nowhere', path)],
  ])('T5 %s in place of the socket is never replaced, with --takeover neither', async (_, make) => {
    const path = join(directory, 'aws.sock')
    make(path)
    const { ino } = lstatSync(path)
    await expect(start({ takeover: true })).rejects.toThrow('exists and is not a socket')
    expect(lstatSync(path).ino).toBe(ino)
  })

  it.each([
    ['writable by everybody', 0o777, 'is writable by others'],
    ['writable by everybody and sticky', 0o1777, 'is writable by others'],
  ])('T5 a directory %s is refused', async (_, mode, text) => {
    chmodSync(directory, mode)
    await expect(start()).rejects.toThrow(text)
    expect(readdirSync(directory)).toEqual([])
  })

  it('T5 a directory below one that others can write to is refused', async () => {
    chmodSync(root, 0o777)
    await expect(start()).rejects.toThrow(`lies below ${root}, which others can write to`)
  })

  it('T5 a directory that is a symbolic link is refused', async () => {
    symlinkSync(directory, join(root, 'link'))
    await expect(start({ directories: [{ path: join(root, 'link') }] })).rejects.toThrow('is a symbolic link')
  })

  it('T5 a directory of another user is refused', async ({ skip }) => {
    skip(process.getuid?.() !== 0, 'only root can give a directory away')
    chownSync(directory, 65534, 0)
    await expect(start()).rejects.toThrow('belongs to another user')
  })

  it('driver 2 a missing directory is an error that says what to do, an optional one is left out', async () => {
    const absent = join(root, 'absent')
    await expect(start({ directories: [{ path: absent }] })).rejects.toThrow(
      'cannot be found; mount the host path',
    )
    await expect(start({ directories: [{ path: absent, optional: true }] })).rejects.toThrow(
      'no socket directory',
    )
    const one = await start({ directories: [{ path: absent, optional: true }, { path: directory }] })
    expect(one.server.paths).toEqual([join(directory, 'aws.sock')])
    await expect(start({ directories: [{ path: 'providers' }] })).rejects.toThrow('not an absolute path')
  })

  it('driver 2 a name that the driver does not accept, or too long a path, is refused', async () => {
    for (const name of ['', 'a/b', '..', 'a b', 'x'.repeat(31)]) {
      await expect(start({ providers: [{ ...KEYFERRY, name }] })).rejects.toThrow('not a provider name')
    }
    const deep = join(root, 'd'.repeat(100))
    mkdirSync(deep)
    await expect(start({ directories: [{ path: deep }] })).rejects.toThrow('longer than 107 bytes')
  })
})
