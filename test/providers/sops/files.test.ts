import { execFileSync } from 'node:child_process'
import { chmodSync, linkSync, mkdirSync, renameSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { webcrypto } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { identitySet } from '../../../src/providers/sops/identities.ts'
import { DEFAULT_LIMITS } from '../../../src/providers/sops/limits.ts'
import { parseFilePath, readSopsFile, type Root } from '../../../src/providers/sops/source.ts'
import { silentLogger } from '../../../src/telemetry/log.ts'
import { silentMeter } from '../../../src/telemetry/metrics.ts'
import { putIdentity, recordingLogger, temporaryDirectory } from './fixtures.ts'

let directory: ReturnType<typeof temporaryDirectory>
let root: string
beforeEach(() => {
  directory = temporaryDirectory()
  root = join(directory.path, 'root')
  mkdirSync(join(root, 'payments'), { recursive: true })
  mkdirSync(join(root, 'other'))
})
afterEach(() => directory.remove())

/** Names and contents of what `sopsFile` finds, or the code of the refusal. */
async function find(file: string, namespace = 'payments', roots?: readonly Root[]): Promise<string> {
  try {
    const found = await readSopsFile(
      roots ?? [{ path: root, namespaced: true }],
      file,
      namespace,
      DEFAULT_LIMITS,
    )
    return found.map(({ name, bytes }) => `${name}=${bytes.toString()}`).join()
  } catch (error) {
    return (error as { code: string }).code
  }
}

describe('document files', () => {
  test('sops A2 a path must be clean and relative', () => {
    const bad = [
      '',
      '/',
      '/a',
      'a//b',
      '.',
      '..',
      'a/../b',
      'a/./b',
      'a\0b',
      'a b',
      'é',
      'a'.repeat(129),
      `${'a/'.repeat(520)}b`,
      'a\\b',
      '~',
    ]
    for (const path of bad) expect(parseFilePath(path), JSON.stringify(path)).toBeUndefined()
    expect(parseFilePath('payments/db.enc.yaml')).toEqual({
      segments: ['payments', 'db.enc.yaml'],
      isDirectory: false,
    })
    expect(parseFilePath('payments/..data')).toEqual({ segments: ['payments', '..data'], isDirectory: false })
    expect(parseFilePath('payments/')).toEqual({ segments: ['payments'], isDirectory: true })
  })
  test('sops A2 a regular file of the own namespace is read', async () => {
    writeFileSync(join(root, 'payments/db.yaml'), 'x')
    expect(await find('payments/db.yaml')).toBe('payments/db.yaml=x')
  })
  test('sops A2, T3 another namespace is refused alike whether the file exists or not', async () => {
    writeFileSync(join(root, 'other/db.yaml'), 'x')
    expect(await find('other/db.yaml')).toBe('NOT_BOUND')
    expect(await find('other/missing.yaml')).toBe('NOT_BOUND')
    expect(await find('other/db.yaml', '')).toBe('NOT_BOUND')
    expect(await find('other/db.yaml', 'payments', [{ path: root, namespaced: false }])).toBe(
      'other/db.yaml=x',
    )
  })
  test('sops A2 without roots, or without the file, the error says so', async () => {
    expect(await find('payments/db.yaml', 'payments', [])).toBe('INVALID_PARAMETER')
    expect(await find('payments/db.yaml')).toBe('OBJECT_NOT_FOUND')
    expect(await find('payments/db.yaml/more')).toBe('OBJECT_NOT_FOUND')
    expect(await find('payments/x', 'payments', [{ path: join(root, 'absent'), namespaced: true }])).toBe(
      'OBJECT_NOT_FOUND',
    )
  })
  test('sops A2, T10 a symbolic link, a hard link, a FIFO, a directory and a device are refused quickly', async () => {
    writeFileSync(join(root, 'other/db.yaml'), 'x')
    symlinkSync(join(root, 'other/db.yaml'), join(root, 'payments/symlink.yaml'))
    symlinkSync('/dev/zero', join(root, 'payments/device'))
    linkSync(join(root, 'other/db.yaml'), join(root, 'payments/hardlink.yaml'))
    execFileSync('mkfifo', [join(root, 'payments/fifo')])
    mkdirSync(join(root, 'payments/directory'))
    const before = performance.now()
    for (const name of ['symlink.yaml', 'device', 'hardlink.yaml', 'fifo', 'directory']) {
      expect(await find(`payments/${name}`), name).toBe('INVALID_PARAMETER')
    }
    expect(performance.now() - before).toBeLessThan(2000)
  })
  test('sops A2, T10 a directory that is a symbolic link out of the namespace is not followed', async () => {
    writeFileSync(join(root, 'other/db.yaml'), 'x')
    symlinkSync('../other', join(root, 'payments/link'))
    symlinkSync('/etc', join(root, 'payments/etc'))
    expect(await find('payments/link/db.yaml')).toBe('OBJECT_NOT_FOUND')
    expect(await find('payments/etc/hostname')).toBe('OBJECT_NOT_FOUND')
    expect(await find('payments/link/')).toBe('OBJECT_NOT_FOUND')
  })
  test('sops B7 0 bytes are read, 2 GiB of nothing are refused without reading', async () => {
    writeFileSync(join(root, 'payments/empty.yaml'), '')
    writeFileSync(join(root, 'payments/sparse.yaml'), '')
    truncateSync(join(root, 'payments/sparse.yaml'), 2 ** 31)
    expect(await find('payments/empty.yaml')).toBe('payments/empty.yaml=')
    const before = process.memoryUsage().rss
    expect(await find('payments/sparse.yaml')).toBe('LIMIT_EXCEEDED')
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20)
  })
  test('sops A1 a directory means its regular files, sorted bytewise, not recursive', async () => {
    for (const name of ['b.yaml', 'B.yaml', 'a.json', '.hidden'])
      writeFileSync(join(root, 'payments', name), name)
    mkdirSync(join(root, 'payments/deeper'))
    symlinkSync('b.yaml', join(root, 'payments/link.yaml'))
    expect(await find('payments/')).toBe(
      'payments/B.yaml=B.yaml,payments/a.json=a.json,payments/b.yaml=b.yaml',
    )
  })
  test('sops A2 a projected volume is read through ..data, one generation at a time', async () => {
    const volume = join(directory.path, 'volume')
    mkdirSync(join(volume, '..2026_1/payments'), { recursive: true })
    writeFileSync(join(volume, '..2026_1/payments/db.yaml'), 'one')
    symlinkSync('..2026_1', join(volume, '..data'))
    symlinkSync('..data/payments', join(volume, 'payments'))
    const roots = [{ path: volume, namespaced: true }]
    expect(await find('payments/db.yaml', 'payments', roots)).toBe('payments/db.yaml=one')
    mkdirSync(join(volume, '..2026_2/payments'), { recursive: true })
    writeFileSync(join(volume, '..2026_2/payments/db.yaml'), 'two')
    symlinkSync('..2026_2', join(volume, '..tmp'))
    renameSync(join(volume, '..tmp'), join(volume, '..data'))
    expect(await find('payments/db.yaml', 'payments', roots)).toBe('payments/db.yaml=two')
  })
  test('sops B4 a root below a directory that everyone may write is refused', async () => {
    writeFileSync(join(root, 'payments/db.yaml'), 'x')
    chmodSync(root, 0o777)
    expect(await find('payments/db.yaml')).toBe('IDENTITY_NOT_ALLOWED')
  })
})

describe('identity files', () => {
  const caller = { namespace: 'payments', serviceAccount: 'api' }
  const keys = (): string => join(directory.path, 'keys')
  beforeEach(() => mkdirSync(join(directory.path, 'keys'), { mode: 0o700 }))

  /** Reason of a refusal, as the log has it. */
  async function refusal(path: string, passphraseFile?: string): Promise<string> {
    const log = recordingLogger()
    const failure: unknown = await identitySet([{ path, subjects: ['*/*'] }], passphraseFile, {
      log,
      meter: silentMeter,
    })
      .for(caller)
      .catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'KEY_SERVICE_UNAVAILABLE' })
    expect(JSON.stringify(log.lines)).not.toContain('AGE-SECRET-KEY')
    return String(log.lines.at(-1)?.fields['reason'])
  }

  test('sops B6 a symbolic link, a hard link, a FIFO, loose modes and another owner are refused', async () => {
    const path = putIdentity(keys(), 'age-a')
    symlinkSync(path, join(keys(), 'symlink'))
    expect(await refusal(join(keys(), 'symlink'))).toContain('symbolic link')
    execFileSync('mkfifo', [join(keys(), 'fifo')])
    expect(await refusal(join(keys(), 'fifo'))).toContain('no regular file')
    chmodSync(path, 0o440)
    expect(await refusal(path)).toContain('chmod 0400')
    chmodSync(path, 0o404)
    expect(await refusal(path)).toContain('chmod 0400')
    chmodSync(path, 0o400)
    linkSync(path, join(keys(), 'hardlink'))
    expect(await refusal(path)).toContain('hard link')
    expect(await refusal(join(keys(), 'absent'))).toContain('ENOENT')
  })
  test.runIf(process.geteuid?.() === 0)(
    'sops B6 (needs root to change owners) a file of another user is refused',
    async () => {
      const path = putIdentity(keys(), 'age-a')
      execFileSync('chown', ['1:1', path])
      expect(await refusal(path)).toContain('another user')
    },
  )
  test('sops B6 content that is no identity is refused without being quoted', async () => {
    const path = join(keys(), 'bad.agekey')
    for (const content of [
      '',
      '# only a comment\n',
      'canary\n',
      'AGE-SECRET-KEY-1CANARY\n',
      // The A19 key with one character changed: the checksum tells.
      'AGE-SECRET-KEY-15GDTSD40P5628V3W4DL2SWJL2HGNHHCLQ23GRDZESQD2HNNWTY8SSE2NTQ\n',
      'AGE-SECRET-KEY-PQ-1CANARY\n',
      'AGE-PLUGIN-CANARY-1QQQ\n',
      '-----BEGIN OPENSSH PRIVATE KEY-----\nY2FuYXJ5\n-----END OPENSSH PRIVATE KEY-----\n',
      '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\ncanary\n',
    ]) {
      writeFileSync(path, content, { mode: 0o600 })
      const reason = await refusal(path)
      expect(reason, content).toContain('is refused')
      expect(reason.toLowerCase()).not.toContain('canary')
    }
  })
  test('sops A10 a PGP key with a passphrase needs the passphrase file', async () => {
    const path = putIdentity(keys(), 'pgp-locked', 'pgp.asc')
    expect(await refusal(path)).toContain('passphraseFile')
    const wrong = join(keys(), 'wrong')
    writeFileSync(wrong, 'wrong\n', { mode: 0o400 })
    expect(await refusal(path, wrong)).toContain('does not open')
  })
  test('sops B6 an X25519 identity is held as a key that cannot be exported', async () => {
    const set = identitySet([{ path: putIdentity(keys(), 'age-a'), subjects: ['payments/*'] }], undefined, {
      log: silentLogger,
      meter: silentMeter,
    })
    const [held] = await set.for(caller)
    if (held?.kind !== 'age' || typeof held.identity === 'string' || !('extractable' in held.identity)) {
      throw new Error('no key object')
    }
    expect(held.identity.extractable).toBe(false)
    await expect(webcrypto.subtle.exportKey('pkcs8', held.identity)).rejects.toThrow()
  })
  test('sops A11.1 only identities for the caller are given; shared ones are marked', async () => {
    mkdirSync(join(directory.path, 'by-namespace/payments'), { recursive: true })
    mkdirSync(join(directory.path, 'by-namespace/other'))
    putIdentity(join(directory.path, 'by-namespace/payments'), 'age-a')
    putIdentity(join(directory.path, 'by-namespace/other'), 'age-b')
    const set = identitySet(
      [
        { path: join(directory.path, 'by-namespace'), perNamespace: true },
        { path: putIdentity(keys(), 'age-c'), shared: true },
        { path: putIdentity(keys(), 'ssh-ed25519', 'one'), subjects: ['payments/api', 'third/*'] },
      ],
      undefined,
      { log: silentLogger, meter: silentMeter },
    )
    const given = async (namespace: string, serviceAccount: string): Promise<string> =>
      (await set.for({ namespace, serviceAccount }))
        .map((held) => `${held.kind === 'age' ? held.recipient.slice(0, 8) : ''}${held.shared ? '*' : ''}`)
        .join()
    expect(await given('payments', 'api')).toBe(`age18auw,${await recipientOf('age-c')}*,ssh-ed25`)
    expect(await given('payments', 'web')).toBe(`age18auw,${await recipientOf('age-c')}*`)
    expect(await given('other', 'api')).toBe(`${await recipientOf('age-b')},${await recipientOf('age-c')}*`)
    expect(await given('third', 'x')).toBe(`${await recipientOf('age-c')}*,ssh-ed25`)
    expect(await given('fourth', 'x')).toBe(`${await recipientOf('age-c')}*`)
  })
  test('sops B6 a changed directory is read again; a broken change keeps the old set', async () => {
    putIdentity(keys(), 'age-a')
    const log = recordingLogger()
    const counted: unknown[] = []
    const meter = { ...silentMeter, count: (...what: unknown[]) => void counted.push(what) }
    const set = identitySet([{ path: keys(), subjects: ['payments/*'] }], undefined, { log, meter })
    expect(await set.for(caller)).toHaveLength(1)
    putIdentity(keys(), 'age-b')
    await sleep(1100)
    expect(await set.for(caller)).toHaveLength(2)
    expect(counted).toEqual([])
    writeFileSync(join(keys(), 'bad.agekey'), 'nothing', { mode: 0o400 })
    await sleep(1100)
    expect(await set.for(caller)).toHaveLength(2)
    expect(log.lines.at(-1)).toMatchObject({ message: 'sops identities not loaded', fields: { kept: 2 } })
    expect(counted).toEqual([['keyferry_identity_reload_failures_total', { backend: 'sops' }]])
  })
  async function recipientOf(name: string): Promise<string> {
    const { identities } = await import('./vectors.ts')
    const [held] = await identities([name])
    return held?.kind === 'age' ? held.recipient.slice(0, 8) : ''
  }
})
