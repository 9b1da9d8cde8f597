import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sopsNode } from '../support/sops-node.ts'

const ROOT = join(import.meta.dirname, '../..')
const EXAMPLE = join(ROOT, 'examples/sops-inline.yaml')
const IDENTITY = join(ROOT, 'test/vectors/sops/keys/age-a.txt')

let dir = ''
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'keyferry-mount-test-'))
})
afterAll(() => rmSync(dir, { recursive: true }))

function keyferry(...args: string[]): { code: number | null; out: string; err: string } {
  const run = spawnSync(process.execPath, [join(ROOT, 'src/cli.ts'), ...args], { cwd: dir, encoding: 'utf8' })
  return { code: run.status, out: run.stdout, err: run.stderr }
}

const mount = (...args: string[]) => keyferry('mount', '-f', EXAMPLE, '--identity', IDENTITY, ...args)

describe('keyferry mount', () => {
  it('writes what a pod would find and prints it without a value: exit code 0', () => {
    const { code, out, err } = mount('--service-account', 'web', '--target', 'a')
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(out).toMatch(/^shop\/demo-sops \(provider sops\) → /)
    expect(out).toMatch(/0400 +19 +[0-9a-f]{16} +db-password/)
    const value = readFileSync(join(dir, 'a/db-password'), 'utf8')
    expect(value.length).toBe(19)
    expect(out).not.toContain(value)
  })

  it('says the driver’s own words when the class is refused: exit code 1, and nothing is written', () => {
    const { code, out } = mount('--service-account', 'other', '--target', 'b')
    expect(code).toBe(1)
    expect(out).toMatch(/not mounted\n {2}PermissionDenied: .*NOT_BOUND/)
    expect(() => readFileSync(join(dir, 'b/db-password'))).toThrow('ENOENT')
  })

  it('--json is for machines, for good and bad outcomes alike', () => {
    const good = JSON.parse(mount('--service-account', 'web', '--target', 'c', '--json').out) as object
    expect(good).toMatchObject({
      mounts: [
        {
          secretProviderClass: 'demo-sops',
          namespace: 'shop',
          mounted: true,
          files: [
            { path: 'db-password', mode: '0400', size: 19 },
            { path: 'db.json', mode: '0644' },
          ],
          versions: [{ id: 'db-password' }, { id: 'db.json' }],
        },
      ],
    })
    const bad = mount('--namespace', 'bank', '--service-account', 'web', '--target', 'd', '--json')
    expect(bad.code).toBe(1)
    expect(JSON.parse(bad.out)).toMatchObject({
      mounts: [{ mounted: false, error: { code: 'PermissionDenied' } }],
    })
  })

  it('T1 lays volume attributes over the class, as the driver does', () => {
    const { code, out } = mount(
      '--service-account',
      'web',
      '--target',
      'e',
      '--volume-attribute',
      'sopsFormat=toml',
    )
    expect(code).toBe(1)
    expect(out).toContain('sopsFormat')
  })

  it('several classes get a folder each', () => {
    writeFileSync(
      join(dir, 'two.yaml'),
      `${readFileSync(EXAMPLE, 'utf8')}---\n${readFileSync(EXAMPLE, 'utf8').replace('demo-sops', 'again')}`,
    )
    const { code, out } = keyferry(
      'mount',
      '-f',
      'two.yaml',
      '--identity',
      IDENTITY,
      '--service-account',
      'web',
      '--target',
      'f',
    )
    expect(out).toContain('shop/again')
    expect(code).toBe(0)
    expect(readFileSync(join(dir, 'f/again/db-password'))).toEqual(
      readFileSync(join(dir, 'f/demo-sops/db-password')),
    )
  })

  it.each([
    [['mount', '--target', 'x'], /required option '-f, --file <file>'/],
    [['mount', '-f', 'none.yaml', '--target', 'x'], /none\.yaml.*cannot be read \(ENOENT\)/],
    [
      ['mount', '-f', EXAMPLE, '--target', 'x', '--reveal'],
      /--reveal prints values, so it works on a terminal only/,
    ],
    [['mount', '-f', EXAMPLE, '--target', 'x', '--token', 'vault'], /--token takes KEY=VALUE/],
    [['mount', '-f', EXAMPLE, '--target', 'x', '--config', 'none'], /none: cannot be read/],
    [
      ['mount', '-f', EXAMPLE, '--target', 'x', '--identity', 'none'],
      /--identity: the file none cannot be read/,
    ],
    [['moutn'], /unknown command/],
  ])('wrong use ends with exit code 2 and says what to write: %j', (args, text) => {
    const { code, err } = keyferry(...args)
    expect(code).toBe(2)
    expect(err).toMatch(text)
  })

  it('sops B5 shows a revocation: mounted again into the same folder, the file of a deleted document goes', async () => {
    const node = await sopsNode()
    try {
      node.put('shop/a.yaml', await node.sealed({ user: 'app' }))
      node.put('shop/b.yaml', await node.sealed({ password: 'secret' }))
      const file = join(node.directory, 'spc.yaml')
      writeFileSync(
        file,
        JSON.stringify({
          apiVersion: 'secrets-store.csi.x-k8s.io/v1',
          kind: 'SecretProviderClass',
          metadata: { name: 'web', namespace: 'shop' },
          spec: {
            provider: 'keyferry',
            parameters: {
              files:
                '- { path: user, store: documents, key: shop/a.yaml, property: user }\n' +
                '- { path: password, store: documents, key: shop/b.yaml, property: password }',
            },
          },
        }),
      )
      const stores = { documents: { backend: 'sops', allow: [{ namespaces: ['shop'] }] } }
      const run = (onRevoked: string, target: string) => {
        const config = node.config({ stores, policy: { onRevoked } })
        return keyferry(
          'mount',
          '-f',
          file,
          '--config',
          config,
          '--service-account',
          'web',
          '--target',
          target,
        )
      }
      expect(run('remove', 'r').code).toBe(0)
      rmSync(join(node.store, 'shop/a.yaml'))
      const kept = run('keep', 'r')
      expect([kept.code, kept.out]).toEqual([1, expect.stringContaining('OBJECT_NOT_FOUND')])
      expect(readFileSync(join(dir, 'r/user'), 'utf8')).toBe('app')
      const removed = run('remove', 'r')
      expect([removed.code, removed.out]).toEqual([0, expect.not.stringContaining('user')])
      expect(existsSync(join(dir, 'r/user'))).toBe(false)
      expect(readFileSync(join(dir, 'r/password'), 'utf8')).toBe('secret')
      // A folder that nobody filled is a first mount.
      expect(run('remove', 's').code).toBe(1)
    } finally {
      await node.close()
    }
  })

  it('--help teaches, with an example and the exit codes', () => {
    for (const args of [['--help'], ['mount', '--help'], ['serve', '--help']])
      expect(keyferry(...args).code).toBe(0)
    expect(keyferry('mount', '--help').out).toMatch(/keyferry mount -f spc\.yaml[\s\S]*Exit codes: 0/)
  })
})
