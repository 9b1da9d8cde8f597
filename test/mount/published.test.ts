import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openPublished, readBootId, type PublishedOptions } from '../../src/mount/published.ts'
import { silentLogger } from '../../src/telemetry/log.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kf-published-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

const volume = (name: string, holdsVersions = false) => ({
  pod: { uid: `uid-of-${name}` },
  targetPath: `/pods/${name}/mount`,
  holdsVersions,
})
const HOUR = 3_600_000

function setUp() {
  const warnings: object[] = []
  const log = {
    ...silentLogger,
    warn: (message: string, fields: object = {}) => void warnings.push({ message, ...fields }),
  }
  const time = { now: Date.UTC(2026, 0, 31) }
  const open = (changes: Partial<PublishedOptions> = {}) =>
    openPublished({ stateDir: directory, bootId: 'boot-1', log, now: () => time.now, ...changes })
  return { warnings, time, open, file: join(directory, 'published.json') }
}

describe('the memory of published volumes', () => {
  it('sops B5 knows a volume by pod and target once its files were handed over', async () => {
    const { open } = setUp()
    const published = await open()
    expect(published.isRepublish(volume('a'))).toBe(false)
    published.delivered(volume('a'))
    expect(published.isRepublish(volume('a'))).toBe(true)
    expect(published.isRepublish({ ...volume('a'), targetPath: '/pods/a/other' })).toBe(false)
    expect(published.isRepublish({ ...volume('a'), pod: { uid: 'uid-of-b' } })).toBe(false)
    await published.close()
  })

  it('sops B5 survives a restart of the process, and no restart of the node', async () => {
    const { open, warnings } = setUp()
    const first = await open()
    first.delivered(volume('a'))
    await first.close()
    expect((await open()).isRepublish(volume('a'))).toBe(true)
    expect((await open({ bootId: 'boot-2' })).isRepublish(volume('a'))).toBe(false)
    expect((await open({ bootId: undefined })).isRepublish(volume('a'))).toBe(false)
    expect((await open({ stateDir: undefined })).isRepublish(volume('a'))).toBe(false)
    expect(warnings).toEqual([])
  })

  it('sops B5 a node that starts anew overwrites what the boot before left behind', async () => {
    const { open } = setUp()
    const first = await open()
    first.delivered(volume('a'))
    await first.close()
    const second = await open({ bootId: 'boot-2' })
    second.delivered(volume('b'))
    await second.close()
    const third = await open({ bootId: 'boot-2' })
    expect([third.isRepublish(volume('a')), third.isRepublish(volume('b'))]).toEqual([false, true])
  })

  it('T24 the file is for its owner only and names neither pod nor path', async () => {
    const { open, file } = setUp()
    const published = await open()
    published.delivered(volume('payments'))
    await published.close()
    expect(statSync(file).mode & 0o777).toBe(0o600)
    const text = readFileSync(file, 'utf8')
    expect(text).not.toContain('payments')
    expect(JSON.parse(text)).toEqual({
      format: 1,
      boot: 'boot-1',
      versionsAt: 0,
      volumes: {
        [Object.keys((JSON.parse(text) as { volumes: object }).volumes)[0] ?? '']: expect.any(Number),
      },
    })
    expect(readdirSync(directory)).toEqual(['published.json'])
  })

  it('is written once for many mounts, off their path, and not again for mere republishes', async () => {
    const { open, file, time } = setUp()
    const published = await open({ writeAfterMs: 20 })
    for (let index = 0; index < 100; index += 1) published.delivered(volume(`p${index}`))
    expect(existsSync(file)).toBe(false)
    await expect.poll(() => existsSync(file)).toBe(true)
    await published.close()
    const { ino } = statSync(file)
    for (let index = 0; index < 100; index += 1) expect(published.isRepublish(volume(`p${index}`))).toBe(true)
    published.delivered(volume('p7'))
    await published.close()
    expect(statSync(file).ino).toBe(ino)
    // Otherwise a restart after a day would find every volume too old.
    time.now += HOUR + 1
    published.delivered(volume('p7'))
    await published.close()
    expect(statSync(file).ino).not.toBe(ino)
  })

  it('T17 forgets what was not asked for in a day, and the oldest when there are too many', async () => {
    const { open, time } = setUp()
    const published = await open()
    published.delivered(volume('old'))
    time.now += 23 * HOUR
    expect(published.isRepublish(volume('old'))).toBe(true)
    time.now += 25 * HOUR
    expect(published.isRepublish(volume('old'))).toBe(false)
    published.delivered(volume('old'))
    for (let index = 0; index < 4096; index += 1) published.delivered(volume(`p${index}`))
    expect(published.isRepublish(volume('old'))).toBe(false)
    expect(published.isRepublish(volume('p0'))).toBe(true)
    await published.close()
  })

  it('driver 1 where a driver names versions when it rotates, a call without them is a first mount', async () => {
    const { open, time } = setUp()
    const published = await open()
    published.delivered(volume('a'))
    published.delivered(volume('b'))
    expect(published.isRepublish(volume('b', true))).toBe(true)
    expect(published.isRepublish(volume('a'))).toBe(false)
    expect(published.isRepublish(volume('a', true))).toBe(true)
    expect(published.isRepublish(volume('c', true))).toBe(false)
    await published.close()
    const after = await open()
    expect(after.isRepublish(volume('a'))).toBe(false)
    expect(after.isRepublish(volume('a', true))).toBe(true)
    // The driver was upgraded: nobody names versions any more.
    time.now += 25 * HOUR
    after.delivered(volume('a'))
    expect(after.isRepublish(volume('a'))).toBe(true)
    await after.close()
  })

  it.each([
    ['nothing', ''],
    ['no JSON', '{"format":1'],
    ['another format', '{"format":2,"boot":"boot-1","versionsAt":0,"volumes":{}}'],
    ['a list', '[]'],
    ['no volumes', '{"format":1,"boot":"boot-1","versionsAt":0}'],
    ['foreign keys', '{"format":1,"boot":"boot-1","versionsAt":0,"volumes":{"__proto__x":1}}'],
    [
      'a time that is none',
      `{"format":1,"boot":"boot-1","versionsAt":0,"volumes":{"${'a'.repeat(32)}":"x"}}`,
    ],
    ['far too much', ' '.repeat(1024 * 1024 + 1)],
  ])('a file with %s begins anew, with one warning that quotes nothing', async (_what, content) => {
    const { open, warnings, file } = setUp()
    writeFileSync(file, content)
    const published = await open()
    expect(published.isRepublish(volume('a'))).toBe(false)
    expect(warnings).toHaveLength(1)
    expect(warnings[0]).toMatchObject({ file, reason: expect.stringMatching(/^\w+$/) })
    published.delivered(volume('a'))
    await published.close()
    expect((await open()).isRepublish(volume('a'))).toBe(true)
    expect(warnings).toHaveLength(1)
  })

  it('a directory that cannot be written costs one warning and no mount', async () => {
    const { open, warnings } = setUp()
    const stateDir = join(directory, 'file')
    writeFileSync(stateDir, '')
    const published = await open({ stateDir, writeAfterMs: 0 })
    // What could not be read is told as well.
    warnings.length = 0
    for (const name of ['a', 'b', 'c']) {
      published.delivered(volume(name))
      await published.close()
    }
    expect(published.isRepublish(volume('c'))).toBe(true)
    expect(warnings).toEqual([
      {
        message: 'published volumes cannot be kept: after a restart onRevoked: remove begins anew',
        file: join(stateDir, 'published.json'),
        reason: 'EEXIST',
      },
    ])
  })

  it('makes the directory for its owner only, where nothing else did', async () => {
    const { open } = setUp()
    const stateDir = join(directory, 'deep/state')
    const published = await open({ stateDir })
    published.delivered(volume('a'))
    await published.close()
    expect(statSync(stateDir).mode & 0o777).toBe(0o700)
  })

  it('a time from a clock that was set back lasts no longer than others', async () => {
    const { open, time } = setUp()
    const first = await open()
    first.delivered(volume('a'))
    await first.close()
    time.now -= 240 * HOUR
    const second = await open()
    time.now += 25 * HOUR
    expect(second.isRepublish(volume('a'))).toBe(false)
  })

  it.runIf(process.platform === 'linux')('reads the id of this boot where Linux has it', () => {
    expect(readBootId()).toMatch(/^[0-9a-f-]{36}$/)
  })
})
