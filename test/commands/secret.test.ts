import { Buffer } from 'node:buffer'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { openDocument } from '../../src/providers/sops/open.ts'
import { ringOf, shown } from '../providers/sops/write/samples.ts'

const ENTRY = join(import.meta.dirname, 'secret-entry.ts')
const CANARY = 'kf-canary-7c1d9e'

const directory = mkdtempSync(join(tmpdir(), 'keyferry-secret-'))
const root = join(directory, 'store')
const identity = join(directory, 'keys/store.agekey')
const recovery = join(directory, 'recovery/store.agekey')
afterAll(() => rmSync(directory, { recursive: true }))

interface Result {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Everything that any verb printed in this file; the last test looks for the canary in it. */
const printed: string[] = []

function secret(args: readonly string[], input: string | Buffer = ''): Result {
  const { status, stdout, stderr } = spawnSync(process.execPath, [ENTRY, 'secret', ...args], {
    input,
    encoding: 'utf8',
    cwd: directory,
  })
  printed.push(stdout, stderr)
  return { status, stdout, stderr }
}

const R = ['--root', root]
const I = ['--identity', identity]

async function document(name: string, key = identity): Promise<unknown> {
  const bytes = readFileSync(join(root, name))
  const format = name.endsWith('.json') ? 'json' : name.endsWith('.bin') ? 'binary' : 'yaml'
  return (await openDocument(format, bytes, await ringOf(readFileSync(key)))).branches.map(shown)[0]
}

function recipientOf(file: string): string {
  return /public key: (\S+)/.exec(readFileSync(file, 'utf8'))?.[1] ?? ''
}

beforeAll(() => {
  const made = secret([
    'init',
    '--root',
    join(directory, 'other'),
    '--identity-file',
    recovery,
    '--without-recovery',
  ])
  expect(made).toMatchObject({ status: 0, stderr: '' })
  const options = ['--identity-file', identity, '--recovery-recipient', recipientOf(recovery)]
  expect(secret(['init', ...R, ...options])).toMatchObject({ status: 0, stderr: '' })
})

describe('keyferry secret init', () => {
  it('T31 asks for a recovery recipient or an explicit waiver', () => {
    const fresh = ['--root', join(directory, 'fresh'), '--identity-file', join(directory, 'fresh.agekey')]
    const { status, stderr } = secret(['init', ...fresh])
    expect(status).toBe(2)
    expect(stderr).toMatch(/--recovery-recipient age1….*--without-recovery/)
    expect(secret(['init', ...fresh, '--without-recovery', '--recovery-recipient', 'age1x']).status).toBe(2)
    expect(readdirSync(directory)).not.toContain('fresh.agekey')
  })

  it('T32 --post-quantum makes a hybrid identity', () => {
    const file = join(directory, 'pq.agekey')
    const options = ['--identity-file', file, '--without-recovery', '--post-quantum', '--json']
    const { stdout } = secret(['init', '--root', join(directory, 'pq'), ...options])
    expect((JSON.parse(stdout) as { recipient: string }).recipient).toMatch(/^age1pq1/)
    expect(readFileSync(file, 'utf8')).toContain('AGE-SECRET-KEY-PQ-1')
  })

  it('sops B2 does not overwrite a store: exit code 4', () => {
    const file = join(directory, 'again.agekey')
    expect(secret(['init', ...R, '--identity-file', file, '--without-recovery']).status).toBe(4)
  })
})

describe('keyferry secret put', () => {
  it('sops B2 keeps standard input byte for byte under the key "value", and needs no identity', async () => {
    expect(secret(['put', 'payments/db', '--bind', 'payments/api', ...R], `${CANARY}\n`).status).toBe(0)
    expect(await document('payments/db.yaml')).toEqual([
      ['csi_bind', 'str:payments/api'],
      ['value', `str:${CANARY}\n`],
    ])
    expect(await document('payments/db.yaml', recovery)).toBeDefined()
  })

  it('sops B2 takes files, env files and JSON Pointers, and --merge changes only what is given', async () => {
    writeFileSync(join(directory, 'pw'), `${CANARY}-pw\n`)
    writeFileSync(join(directory, 'env'), `# comment\nUSER=${CANARY}=u\nEMPTY=\n`)
    const files = ['--from-file', '/db/password=pw', '--from-env-file', 'env', '--trim-newline']
    const bind = ['--bind', 'payments/api', '--bind', 'payments/worker']
    expect(secret(['put', 'payments/many', ...bind, ...files, ...R]).status).toBe(0)
    const before = await document('payments/many.yaml')
    expect(before).toEqual([
      ['csi_bind', 'str:payments/api,payments/worker'],
      ['db', [['password', `str:${CANARY}-pw`]]],
      ['USER', `str:${CANARY}=u`],
      ['EMPTY', 'str:'],
    ])
    const merge = ['put', 'payments/many', '--merge', '--from-file', 'USER=pw', ...R, ...I]
    expect(secret(merge).status).toBe(0)
    expect(await document('payments/many.yaml')).toEqual([
      ...(before as []).slice(0, 2),
      ['USER', `str:${CANARY}-pw\n`],
      ['EMPTY', 'str:'],
    ])
  })

  it('sops B2 writes json and binary; a binary document has no binding and needs --unbound', async () => {
    expect(secret(['put', 'payments/j', '--bind', 'a/b', '--format', 'json', ...R], 'x').status).toBe(0)
    expect(await document('payments/j.json')).toEqual([
      ['csi_bind', 'str:a/b'],
      ['value', 'str:x'],
    ])
    const binary = ['put', 'payments/bin', '--format', 'binary', ...R]
    expect(secret([...binary, '--bind', 'a/b'], 'x').status).toBe(2)
    expect(secret([...binary, '--unbound'], Buffer.from([0, 255])).status).toBe(0)
    expect(await document('payments/bin.bin')).toEqual([['data', 'str:\u0000\u00ff']])
  })

  it.each([
    ['no NAMESPACE/NAME', ['db', '--bind', 'a/b']],
    ['neither --bind nor --unbound', ['a/b']],
    ['both --bind and --unbound', ['a/b', '--bind', 'a/b', '--unbound']],
    ['a subject that is none', ['a/b', '--bind', 'payments']],
    ['an unknown format', ['a/b', '--bind', 'a/b', '--format', 'toml']],
    ['an unknown option', ['a/b', '--bind', 'a/b', '--value', 'x']],
    ['--from-file without a path', ['a/b', '--bind', 'a/b', '--from-file', 'x']],
    ['a file that is not there', ['a/b', '--bind', 'a/b', '--from-file', 'x=/nowhere']],
    ['too many arguments', ['a/b', 'c', '--bind', 'a/b']],
  ])('sops B2 wrong use ends with 2 and advice: %s', (_name, args) => {
    const { status, stdout, stderr } = secret(['put', ...args, ...R], 'x')
    expect(status).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/\S/)
  })

  it('sops B2 empty standard input is wrong use, not an empty secret', () => {
    const { status, stderr } = secret(['put', 'a/b', '--bind', 'a/b', ...R])
    expect(status).toBe(2)
    expect(stderr).toMatch(/standard input is empty/)
  })

  it('T22 a word given to --from-file in the place of KEY=PATH is not repeated', () => {
    expect(secret(['put', 'a/b', '--bind', 'a/b', '--from-file', 'hunter2', ...R]).stderr).not.toContain(
      'hunter2',
    )
  })

  it('sops B7 of 32 processes that expect the same version, one wins and the others end with 4', async () => {
    const { stdout } = secret(['put', 'race/one', '--bind', 'race/x', '--json', ...R], 'start')
    const { version } = JSON.parse(stdout) as { version: string }
    const put = ['secret', 'put', 'race/one', '--bind', 'race/x', '--expect-version', version, ...R]
    const codes = await Promise.all(
      Array.from({ length: 32 }, async (_, i) => {
        const child = spawn(process.execPath, [ENTRY, ...put], { stdio: ['pipe', 'ignore', 'ignore'] })
        child.stdin.end(`writer ${i}`)
        const [code] = (await once(child, 'exit')) as [number | null]
        return code
      }),
    )
    expect(codes.filter((code) => code === 0)).toHaveLength(1)
    expect(codes.filter((code) => code === 4)).toHaveLength(31)
  }, 120_000)
})

describe('keyferry secret seal', () => {
  it('sops B2 --spc prints a complete SecretProviderClass whose document opens', async () => {
    const spc = ['--spc', 'api-secrets', '--age', recipientOf(identity), '--root', join(directory, 'nowhere')]
    const { status, stdout } = secret(['seal', '--bind', 'payments/api', ...spc], CANARY)
    expect(status).toBe(0)
    const object = parse(stdout) as {
      kind: string
      metadata: unknown
      spec: { provider: string; parameters: { sopsFormat: string; sopsDocument: string } }
    }
    expect(object).toMatchObject({
      apiVersion: 'secrets-store.csi.x-k8s.io/v1',
      kind: 'SecretProviderClass',
      metadata: { name: 'api-secrets', namespace: 'payments' },
      spec: { provider: 'sops', parameters: { sopsFormat: 'yaml' } },
    })
    const bytes = Buffer.from(object.spec.parameters.sopsDocument)
    const opened = await openDocument('yaml', bytes, await ringOf(readFileSync(identity)))
    expect(opened.branches.map(shown)).toEqual([
      [
        ['csi_bind', 'str:payments/api'],
        ['value', `str:${CANARY}`],
      ],
    ])
  })

  it('sops B2 uses the recipients of the store, and prints the bare document without --spc', async () => {
    const { stdout } = secret(['seal', '--bind', 'payments/api', '--format', 'json', ...R], CANARY)
    const opened = await openDocument('json', Buffer.from(stdout), await ringOf(readFileSync(recovery)))
    expect(opened.branches).toHaveLength(1)
  })

  it('sops A1 a document that a YAML block would change goes in base64', () => {
    writeFileSync(join(directory, 'odd'), `A_unencrypted=x\r\nB=${CANARY}\n`)
    const options = ['--spc', 'odd', '--format', 'dotenv', '--from-env-file', 'odd']
    const { stdout } = secret(['seal', '--bind', 'payments/api', ...options, ...R])
    const object = parse(stdout) as { spec: { parameters: Record<string, string> } }
    expect(Object.keys(object.spec.parameters)).toEqual(['sopsFormat', 'sopsDocumentBase64'])
    const text = Buffer.from(object.spec.parameters['sopsDocumentBase64'] ?? '', 'base64').toString()
    expect(text).toContain('A_unencrypted=x\r\n')
  })

  it.each(['yaml', 'json', 'dotenv', 'binary'])(
    'sops B7 what seal --spc prints mounts as it is: %s',
    (format) => {
      writeFileSync(join(directory, 'token'), `${CANARY}\n`)
      writeFileSync(
        join(directory, 'node.yaml'),
        `backends: { sops: { identities: [{ path: ${JSON.stringify(identity)}, subjects: ["payments/*"] }] } }\n`,
      )
      const who = format === 'binary' ? ['--unbound', '--namespace', 'payments'] : ['--bind', 'payments/api']
      const file = ['--from-file', 'token=token', '--format', format, '--spc', 'token']
      writeFileSync(join(directory, 'spc.yaml'), secret(['seal', ...who, ...file, ...R]).stdout)
      const target = join(directory, `volume-${format}`)
      const pod = ['--namespace', 'payments', '--config', 'node.yaml', '--target', target]
      const mount = (account: string) =>
        spawnSync(
          process.execPath,
          [
            join(import.meta.dirname, '../../src/cli.ts'),
            'mount',
            '-f',
            'spc.yaml',
            '--service-account',
            account,
            ...pod,
          ],
          { cwd: directory, encoding: 'utf8' },
        )
      expect(mount('api')).toMatchObject({ status: 0 })
      expect(readFileSync(join(target, 'token'), 'utf8')).toBe(`${CANARY}\n`)
      // A binary document has no binding; the others refuse another service account.
      expect(mount('other').status).toBe(format === 'binary' ? 0 : 1)
    },
  )

  it('sops B2 a namespace that does not follow from --bind must be named', () => {
    const bind = ['--bind', 'a/x', '--bind', 'b/x', '--spc', 'n']
    expect(secret(['seal', ...bind, ...R], 'x').status).toBe(2)
    expect(secret(['seal', ...bind, '--namespace', 'a', ...R], 'x').stdout).toContain('namespace: "a"')
  })
})

describe('looking, checking and removing', () => {
  it('sops B2 list and describe show names, keys and recipients, and the binding with an identity only', () => {
    expect(secret(['list', ...R]).stdout).toMatch(/^payments\/db {2}yaml {2}[0-9a-f]{16} {2}2\d{3}-/m)
    const named = ['describe', 'payments/db', ...R, '--json']
    const facts = JSON.parse(secret([...named, ...I]).stdout) as object
    expect(facts).toMatchObject({
      name: 'payments/db',
      keys: ['value'],
      recipients: [recipientOf(identity), recipientOf(recovery)],
      subjects: ['payments/api'],
    })
  })

  it('sops B2 not found is 3, with and without a store', () => {
    expect(secret(['describe', 'payments/none', ...R, ...I]).status).toBe(3)
    expect(secret(['delete', 'payments/none', ...R]).status).toBe(3)
    expect(secret(['list', '--root', join(directory, 'nowhere')]).status).toBe(3)
  })

  it('sops B2 verify: a changed document, a foreign one and one bound elsewhere are found, exit code 5', () => {
    const name = (file: string): string => join(root, 'shop', file)
    mkdirSync(join(root, 'shop'), { mode: 0o700 })
    const good = readFileSync(join(root, 'payments/db.yaml'), 'utf8')
    writeFileSync(name('cut.yaml'), good.replace(/"value": .*\n/, ''))
    writeFileSync(name('copied.yaml'), good)
    writeFileSync(name('plain.yaml'), 'a: b\n')
    const { status, stdout } = secret(['verify', ...R, ...I])
    expect(status).toBe(5)
    expect(stdout).toMatch(/^payments\/db ok$/m)
    expect(stdout).toMatch(/^shop\/cut NOT SOUND: MAC_MISMATCH/m)
    expect(stdout).toMatch(/^shop\/copied NOT SOUND: its binding names no service account of namespace shop/m)
    expect(stdout).toMatch(/^shop\/plain NOT SOUND: METADATA_NOT_FOUND/m)
    rmSync(join(root, 'shop'), { recursive: true })
    expect(secret(['verify', 'payments/db', ...R, '--identity', recovery]).status).toBe(0)
  })

  it('sops B2 a verb that opens documents without an identity that fits ends with 6', () => {
    const stranger = ['--identity', join(directory, 'pq.agekey')]
    expect(secret(['describe', 'payments/db', ...R, ...stranger]).status).toBe(6)
    expect(secret(['rekey', 'payments/db', ...R, '--identity', join(directory, 'none')]).status).toBe(6)
  })

  it('T31 rekey encrypts to the recipients that .sops.yaml names now; verify tells when that is due', () => {
    const rules = join(root, '.sops.yaml')
    const before = readFileSync(rules, 'utf8')
    writeFileSync(rules, before.replace(/.*\n$/, ''))
    expect(secret(['verify', 'payments/db', ...R, ...I]).stdout).toMatch(/recipients differ/)
    expect(secret(['rekey', 'payments/db', ...R, ...I]).stdout).toMatch(/rekeyed/)
    expect(secret(['verify', 'payments/db', ...R, '--identity', recovery]).status).toBe(5)
    writeFileSync(rules, before)
    expect(secret(['rekey', ...R, ...I]).stdout).toMatch(/^payments\/db rekeyed.*$/m)
    expect(secret(['verify', 'payments/db', ...R, '--identity', recovery]).status).toBe(0)
  })

  it('sops B2 delete removes a document, with --expect-version only the one meant', () => {
    expect(secret(['delete', 'race/one', '--expect-version', '0'.repeat(16), ...R]).status).toBe(4)
    expect(secret(['delete', 'race/one', ...R]).status).toBe(0)
    expect(secret(['delete', 'race/one', ...R]).status).toBe(3)
  })

  it('sops B2 --json prints errors as JSON too', () => {
    const { stdout, status } = secret(['describe', 'payments/none', '--json', ...R])
    expect(status).toBe(3)
    expect(JSON.parse(stdout)).toMatchObject({ error: { kind: 'not-found' } })
  })

  it.each(['init', 'put', 'seal', 'list', 'describe', 'rekey', 'delete', 'verify'])(
    'help of %s shows an example',
    (verb) => {
      const { status, stdout } = secret([verb, '--help'])
      expect(status).toBe(0)
      expect(stdout).toMatch(new RegExp(`keyferry secret ${verb}`))
    },
  )
})

describe('what is left behind', () => {
  it('sops B2 every verb leaves one audit line, failures too, and none holds a value', () => {
    const lines = readFileSync(join(root, '.audit.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(new Set(lines.map((line) => Object.keys(line).join()))).toEqual(
      new Set(['time,uid,verb,name,version,outcome']),
    )
    const verbs = new Set(lines.map(({ verb }) => verb))
    expect([...verbs].sort()).toEqual(
      ['delete', 'describe', 'init', 'list', 'put', 'rekey', 'seal', 'verify'].sort(),
    )
    expect(lines.filter(({ verb, outcome }) => verb === 'put' && outcome === 'conflict')).toHaveLength(31)
  })

  it('sops B2 a verb that cannot be recorded is not done: exit code 6', () => {
    const audit = ['--audit-file', join(directory, 'no/such/dir/audit')]
    expect(secret(['delete', 'payments/db', ...R, ...audit]).status).toBe(6)
    expect(readdirSync(join(root, 'payments'))).toContain('db.yaml')
  })

  it('sops B7 arguments and environment of a running put hold no value', async () => {
    const put = ['secret', 'put', 'payments/db', '--bind', 'payments/api', ...R]
    const child = spawn(process.execPath, [ENTRY, ...put], { stdio: ['pipe', 'pipe', 'pipe'] })
    child.stdin.write(CANARY)
    await sleep(500)
    const seen = ['cmdline', 'environ'].map((name) => readFileSync(`/proc/${child.pid}/${name}`, 'latin1'))
    child.stdin.end()
    const [code] = (await once(child, 'exit')) as [number | null]
    expect(code).toBe(0)
    expect(seen[0]).toContain('payments/db')
    expect(seen.filter((text) => text.includes(CANARY))).toEqual([])
  })

  it('sops B7 neither any output nor any file of the store holds a value', () => {
    expect(printed.length).toBeGreaterThan(60)
    expect(printed.filter((text) => text.includes(CANARY))).toEqual([])
    const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    )
    expect(files.length).toBeGreaterThan(4)
    for (const file of files) {
      expect(readFileSync(join(file.parentPath, file.name), 'latin1')).not.toContain(CANARY)
    }
  })
})
