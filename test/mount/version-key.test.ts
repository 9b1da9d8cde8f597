import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadVersionKey, VersionKeyError } from '../../src/mount/version-key.ts'
import { silentLogger } from '../../src/telemetry/log.ts'

describe('the key of object versions', () => {
  let dir = ''
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'keyferry-version-key-'))
  })
  afterAll(() => rm(dir, { recursive: true }))

  it('T23 is kept over restarts in the state directory, for its owner only', async () => {
    const stateDir = join(dir, 'state')
    const first = await loadVersionKey({ stateDir, log: silentLogger })
    expect(first.length).toBe(32)
    expect(await loadVersionKey({ stateDir, log: silentLogger })).toEqual(first)
    expect((await stat(stateDir)).mode & 0o777).toBe(0o700)
    expect((await stat(join(stateDir, 'version.key'))).mode & 0o777).toBe(0o600)
    expect(await readdir(stateDir)).toEqual(['version.key'])
  })

  it('is one key for processes that start at the same time', async () => {
    const stateDir = join(dir, 'race')
    const keys = await Promise.all(
      Array.from({ length: 20 }, () => loadVersionKey({ stateDir, log: silentLogger })),
    )
    expect(new Set(keys.map((key) => key.toString('hex'))).size).toBe(1)
    expect(await readdir(stateDir)).toEqual(['version.key'])
  })

  it('is the operator’s where a file is named', async () => {
    const file = join(dir, 'own.key')
    await writeFile(file, 'k'.repeat(16))
    expect(
      (await loadVersionKey({ file, stateDir: join(dir, 'unused'), log: silentLogger })).toString(),
    ).toBe('k'.repeat(16))
  })

  it('T23 is random where nothing is kept', async () => {
    const keys = await Promise.all([
      loadVersionKey({ log: silentLogger }),
      loadVersionKey({ log: silentLogger }),
    ])
    expect(keys[0]).not.toEqual(keys[1])
  })

  it('a short, absent or unwritable key stops with its path', async () => {
    const file = join(dir, 'short.key')
    await writeFile(file, 'k'.repeat(15))
    await expect(loadVersionKey({ file, log: silentLogger })).rejects.toThrow(
      new VersionKeyError(`the version key ${file} has 15 bytes; at least 16 are needed`),
    )
    await expect(loadVersionKey({ file: join(dir, 'none'), log: silentLogger })).rejects.toThrow(
      /none cannot be read \(ENOENT\)/,
    )
    await expect(loadVersionKey({ stateDir: join(file, 'below'), log: silentLogger })).rejects.toThrow(
      /cannot be made \(ENOTDIR\)/,
    )
  })
})
