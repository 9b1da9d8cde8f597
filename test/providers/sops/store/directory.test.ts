import { Buffer } from 'node:buffer'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDocument } from '../../../../src/providers/sops/open.ts'
import { safeDirectory } from '../../../../src/providers/sops/store/ancestors.ts'
import { openAuditFile } from '../../../../src/providers/sops/store/audit-file.ts'
import {
  changeDocument,
  documentVersion,
  findDocument,
  listDocuments,
  openStore,
  parseSecretName,
  readDocument,
  requireDocument,
  type Store,
} from '../../../../src/providers/sops/store/directory.ts'
import { loadKeyRing } from '../../../../src/providers/sops/store/identity-files.ts'
import { initStore } from '../../../../src/providers/sops/store/init.ts'
import { RECIPIENT, RING } from '../write/samples.ts'
import { startWorker } from './processes.ts'

let directory = ''
let store: Store = { root: '' }
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'keyferry-store-'))
  mkdirSync(join(directory, 'root'), { mode: 0o700 })
  store = openStore(join(directory, 'root'))
})
afterEach(() => rmSync(directory, { recursive: true }))

const NAME = parseSecretName('payments/db')

async function put(text: string, expected?: string): Promise<string> {
  const { version = '' } = await changeDocument(store, NAME, {
    expect: expected,
    format: 'yaml',
    change: () => Promise.resolve(Buffer.from(text)),
  })
  return version
}

describe('names', () => {
  it.each([
    'payments',
    'payments/',
    '/db',
    'a/b/c',
    'Payments/db',
    'p/../db',
    'p/.hidden',
    '../p/db',
    'p/a b',
    'p/-x',
  ])('sops B1 %j is no NAMESPACE/NAME', (text) => {
    expect(() => parseSecretName(text)).toThrow(expect.objectContaining({ kind: 'usage' }))
  })

  it('sops B1 lists documents by suffix, and neither its own directories nor other files', async () => {
    await put('x')
    for (const file of ['a.json', 'b.env', 'c.ini', 'd.bin', 'README', '.hidden.yaml']) {
      writeFileSync(join(store.root, 'payments', file), 'x')
    }
    const found = (await listDocuments(store)).map(({ relativePath, format }) => [relativePath, format])
    expect(found).toEqual([
      ['payments/a.json', 'json'],
      ['payments/b.env', 'dotenv'],
      ['payments/c.ini', 'ini'],
      ['payments/d.bin', 'binary'],
      ['payments/db.yaml', 'yaml'],
    ])
  })

  it('sops B1 one name in two formats is a conflict', async () => {
    await put('x')
    writeFileSync(join(store.root, 'payments/db.json'), 'x')
    await expect(findDocument(store, NAME)).rejects.toThrow(/exists as yaml and json/)
    rmSync(join(store.root, 'payments/db.yaml'))
    await expect(put('y')).rejects.toThrow(expect.objectContaining({ kind: 'conflict' }))
  })
})

describe('writing', () => {
  it('sops B4 a document is 0600 in a directory of 0700, and no temporary file or lock remains', async () => {
    await put('x')
    expect(statSync(join(store.root, 'payments')).mode & 0o777).toBe(0o700)
    expect(statSync(join(store.root, 'payments/db.yaml')).mode & 0o777).toBe(0o600)
    for (const own of ['.staging', '.locks']) expect(readdirSync(join(store.root, own))).toEqual([])
    expect(readdirSync(join(store.root, 'payments'))).toEqual(['db.yaml'])
  })

  it('sops B4 --expect-version: none, the right one, a wrong one', async () => {
    const first = await put('one', 'none')
    expect(first).toBe(documentVersion(Buffer.from('one')))
    await expect(put('two', 'none')).rejects.toThrow(expect.objectContaining({ kind: 'conflict' }))
    await put('two', first)
    await expect(put('three', first)).rejects.toThrow(expect.objectContaining({ kind: 'conflict' }))
    expect(readFileSync(join(store.root, 'payments/db.yaml'), 'utf8')).toBe('two')
  })

  it('sops B7 of 32 concurrent writers that expect the same version, one wins, every round', async () => {
    let version = 'none'
    for (let round = 0; round < 4; round += 1) {
      const results = await Promise.allSettled(
        Array.from({ length: 32 }, (_, i) => put(`round ${round} writer ${i}`, version)),
      )
      const won = results.filter((result) => result.status === 'fulfilled')
      expect(won).toHaveLength(1)
      version = won[0]?.value ?? ''
      expect(documentVersion(readFileSync(join(store.root, 'payments/db.yaml')))).toBe(version)
    }
  })

  it('sops B7 kill -9 at any moment leaves the old or the new document, and the next writer goes on', async () => {
    for (let round = 0; round < 5; round += 1) {
      const writer = startWorker('write', store.root)
      await writer.printed('round 1')
      await sleep(Math.random() * 60)
      await writer.kill()
      expect(readdirSync(join(store.root, 'payments'))).toEqual(['db.yaml'])
      const document = await requireDocument(store, NAME)
      const opened = await openDocument('yaml', await readDocument(document), RING)
      expect(opened.branches[0]?.entries.map(({ key }) => key)).toEqual(['csi_bind', 'value'])
    }
    await put('x')
    for (const own of ['.staging', '.locks']) expect(readdirSync(join(store.root, own))).toEqual([])
  })

  it('sops B4 a document that is not there cannot be changed or deleted', async () => {
    const change = () => Promise.resolve(undefined)
    await expect(changeDocument(store, NAME, { expect: undefined, change })).rejects.toThrow(
      expect.objectContaining({ kind: 'not-found' }),
    )
  })

  it('sops B2 delete unlinks, and only the expected version', async () => {
    const version = await put('x')
    const change = () => Promise.resolve(undefined)
    await expect(changeDocument(store, NAME, { expect: 'other', change })).rejects.toThrow(/has version/)
    expect((await changeDocument(store, NAME, { expect: version, change })).version).toBeUndefined()
    expect(await findDocument(store, NAME)).toBeUndefined()
  })

  it('T10 a symbolic link in the place of the namespace is not followed', async () => {
    mkdirSync(join(directory, 'elsewhere'), { mode: 0o777 })
    chmodSync(join(directory, 'elsewhere'), 0o777)
    symlinkSync(join(directory, 'elsewhere'), join(store.root, 'payments'))
    await expect(put('x')).rejects.toThrow(expect.objectContaining({ kind: 'permission' }))
    chmodSync(join(directory, 'elsewhere'), 0o700)
    await expect(put('x')).rejects.toThrow(expect.objectContaining({ kind: 'permission' }))
    expect(readdirSync(join(directory, 'elsewhere'))).toEqual([])
  })
})

describe('a disk that does not play along', () => {
  const canMount = spawnSync('unshare', ['-rm', 'true']).status === 0
  const script = join(import.meta.dirname, '../../../commands/secret-entry.ts')

  /** Runs `put` inside a mount namespace of its own, after `setup`. */
  function putInside(setup: string): { status: number | null; stderr: string; left: string } {
    writeFileSync(join(directory, 'big'), Buffer.alloc(300_000, 0x78))
    const command = `set -e; R='${store.root}'; mount -t tmpfs -o size=128k,mode=700 none "$R"
      printf 'creation_rules:\\n  - age: ${RECIPIENT}\\n' > "$R/.sops.yaml"
      put() { '${process.execPath}' '${script}' secret put payments/db --bind payments/api --root "$R" "$@"; }
      printf old | put > /dev/null; before=$(sha256sum "$R/payments/db.yaml"); ${setup}
      status=0; put --from-file "value=${directory}/big" || status=$?
      test "$before" = "$(sha256sum "$R/payments/db.yaml")" && ls -A "$R/.staging" "$R/payments"; exit $status`
    const { status, stderr, stdout } = spawnSync('unshare', ['-rm', 'sh', '-c', command], {
      encoding: 'utf8',
    })
    return { status, stderr, left: stdout }
  }

  it.skipIf(!canMount)(
    'sops B4 full (skipped where mounts are not allowed): the old document stays whole',
    () => {
      const { status, stderr, left } = putInside(':')
      expect(stderr).toMatch(/ENOSPC/)
      expect(status).toBe(1)
      expect(left.trim().split('\n').slice(1).join(' ')).toMatch(/payments: db\.yaml$/)
    },
  )

  it.skipIf(!canMount)('sops B4 read-only (skipped where mounts are not allowed): exit code 6', () => {
    const { status, stderr, left } = putInside('mount -o remount,ro "$R"')
    expect(stderr).toMatch(/EROFS/)
    expect(status).toBe(6)
    expect(left).toMatch(/db\.yaml/)
  })

  it('sops B4 a write that fails half way: the old document stays whole, no temporary file remains', () => {
    writeFileSync(join(store.root, '.sops.yaml'), `creation_rules:\n  - age: ${RECIPIENT}\n`)
    mkdirSync(join(store.root, 'payments'), { mode: 0o700 })
    writeFileSync(join(store.root, 'payments/db.yaml'), 'old')
    writeFileSync(join(directory, 'big'), Buffer.alloc(300_000, 0x78))
    const put = `secret put payments/db --bind payments/api --root '${store.root}' --from-file value='${directory}/big'`
    const { status, stderr } = spawnSync(
      'sh',
      ['-c', `ulimit -f 100; '${process.execPath}' '${script}' ${put}`],
      {
        encoding: 'utf8',
      },
    )
    expect(stderr).toMatch(/EFBIG/)
    expect(status).toBe(1)
    expect(readFileSync(join(store.root, 'payments/db.yaml'), 'utf8')).toBe('old')
    expect(readdirSync(join(store.root, '.staging'))).toEqual([])
  })
})

describe('reading', () => {
  it('sops B7 symlink, hard link, FIFO, directory, 2 GiB sparse file and nothing as a document: refused at once', async () => {
    await put('x')
    const file = join(store.root, 'payments/db.yaml')
    const document = await requireDocument(store, NAME)
    const cases: readonly (readonly [RegExp, () => void])[] = [
      [/symbolic link/, () => symlinkSync(join(directory, 'big'), file)],
      [/hard link/, () => linkSync(join(directory, 'big'), file)],
      [/no regular file/, () => spawnSync('mkfifo', [file])],
      [/no regular file/, () => mkdirSync(file)],
      [/is larger than/, () => (writeFileSync(file, ''), truncateSync(file, 2 ** 31))],
    ]
    writeFileSync(join(directory, 'big'), 'x')
    for (const [message, make] of cases) {
      rmSync(file, { recursive: true })
      make()
      const start = performance.now()
      await expect(readDocument(document)).rejects.toThrow(message)
      expect(performance.now() - start).toBeLessThan(1000)
    }
    rmSync(file)
    writeFileSync(file, '')
    await expect(openDocument('yaml', await readDocument(document), RING)).rejects.toThrow(
      expect.objectContaining({ code: 'FORMAT_INVALID' }),
    )
  })
})

describe('who else could write here', () => {
  it('sops B4 a root, or a directory above it, that others can write to is refused', () => {
    chmodSync(store.root, 0o770)
    expect(() => openStore(store.root)).toThrow(/writable by others/)
    chmodSync(store.root, 0o700)
    chmodSync(directory, 0o777)
    expect(() => openStore(store.root)).toThrow(new RegExp(`${directory} is writable by others`))
    chmodSync(directory, 0o1777)
    expect(openStore(store.root).root).toBe(store.root)
  })

  it('sops B4 a root of another user is refused', () => {
    // Root may own any directory; only root can give one away.
    if (process.getuid?.() === 0) chownSync(store.root, 4_000_000, 4_000_000)
    const caller = process.getuid?.() === 0 ? 0 : 4_000_001
    expect(() => safeDirectory(store.root, caller)).toThrow(/is owned by uid/)
  })

  it('sops B4 no directory at all is not found', () => {
    expect(() => openStore(join(directory, 'none'))).toThrow(expect.objectContaining({ kind: 'not-found' }))
  })

  it('T10 the audit file is not followed through a symbolic link', async () => {
    symlinkSync(join(directory, 'target'), join(directory, 'audit'))
    await expect(openAuditFile(join(directory, 'audit'))).rejects.toThrow(/ELOOP/)
  })
})

describe('init and identities', () => {
  const request = () => ({
    root: join(directory, 'new'),
    identityFile: join(directory, 'keys/store.agekey'),
    recoveryRecipients: [RECIPIENT],
    postQuantum: false,
    now: new Date(),
  })

  it('sops B2 makes root 0700, identity 0400 outside it, and creation rules with the recovery key', async () => {
    const { recipients } = await initStore(request())
    expect(statSync(join(directory, 'new')).mode & 0o777).toBe(0o700)
    expect(statSync(join(directory, 'keys/store.agekey')).mode & 0o777).toBe(0o400)
    expect(readFileSync(join(directory, 'new/.sops.yaml'), 'utf8')).toContain(RECIPIENT)
    const ring = await loadKeyRing([join(directory, 'keys/store.agekey')], directory)
    expect(ring.identities.map((held) => held.kind === 'age' && held.recipient)).toEqual([recipients[0]])
  })

  it('sops B2 overwrites neither identity nor creation rules', async () => {
    await initStore(request())
    const identity = readFileSync(join(directory, 'keys/store.agekey'))
    await expect(initStore(request())).rejects.toThrow(expect.objectContaining({ kind: 'conflict' }))
    await expect(initStore({ ...request(), root: join(directory, 'other') })).rejects.toThrow(/exists/)
    expect(readFileSync(join(directory, 'keys/store.agekey'))).toEqual(identity)
  })

  it('sops B2 refuses an identity inside the root, through a link as well', async () => {
    const inside = join(directory, 'new/store.agekey')
    await expect(initStore({ ...request(), identityFile: inside })).rejects.toThrow(/inside the store/)
    mkdirSync(join(directory, 'new'), { mode: 0o700 })
    symlinkSync(join(directory, 'new'), join(directory, 'link'))
    const linked = join(directory, 'link/store.agekey')
    await expect(initStore({ ...request(), identityFile: linked })).rejects.toThrow(/inside the store/)
    expect(readdirSync(join(directory, 'new'))).toEqual([])
  })

  it('sops B6 an identity file that is a link, is linked twice or is readable by others is refused', async () => {
    await initStore(request())
    const file = join(directory, 'keys/store.agekey')
    const load = (path: string) => loadKeyRing([path], directory)
    symlinkSync(file, join(directory, 'keys/link'))
    await expect(load(join(directory, 'keys/link'))).rejects.toThrow(/symbolic link/)
    chmodSync(file, 0o440)
    await expect(load(file)).rejects.toThrow(/group or others have access/)
    chmodSync(file, 0o400)
    linkSync(file, join(directory, 'keys/second'))
    await expect(load(file)).rejects.toThrow(/hard link/)
  })

  it('T22 an identity file that is not understood is named, never quoted', async () => {
    const file = join(directory, 'bad.agekey')
    writeFileSync(file, 'AGE-SECRET-KEY-1CANARY\n', { mode: 0o400 })
    const error = await loadKeyRing([file], directory).catch((caught: unknown) => caught)
    expect(String(error)).toMatch(/line 1 is no age identity/)
    expect(String(error)).not.toContain('CANARY')
  })
})
