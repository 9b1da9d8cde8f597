/** What users asked of the vendor for years, behind parameters of ours (docs/azure.md). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { keyVaultBackend } from '../../../src/providers/azure/backend.ts'
import { backendContext } from '../../support/backend-context.ts'
import { BASE, startHarness, VAULT_HOST, type Harness, type Seen } from './harness.ts'

const folder = join(import.meta.dirname, '../../vectors/pkcs12')
const text = (name: string): string => readFileSync(join(folder, name), 'utf8')

let harness: Harness
beforeAll(async () => {
  harness = await startHarness()
  const vault = harness.fake.vault(VAULT_HOST)
  vault.secret('plain', 'here')
  vault.secret('json', '{"user":"app","port":5432,"nested":{"list":["a","b"]},"on":true}')
  vault.certificateSecret(
    'site',
    readFileSync(join(folder, 'aes256-sha256.pfx')).toString('base64'),
    'application/x-pkcs12',
  )
  harness.fake.vault('second-kv.vault.azure.net').secret('plain', 'there')
})
afterAll(() => harness.stop())
beforeEach(() => {
  harness.fake.calls.length = 0
  harness.logged.length = 0
})

const mount = (objects: string, more: Readonly<Record<string, string>> = {}): Promise<Seen> =>
  harness.mount({ ...BASE, ...more, objects })
const told = ({ files }: Seen): (readonly [string, string])[] => files.map(({ path, text }) => [path, text])
const refused = async (objects: string): Promise<string> =>
  (await harness.failure({ ...BASE, objects })).message

test('several vaults in one class: keyvaultName of an object', async () => {
  const seen = await mount(`
- {objectName: plain, objectType: secret}
- {objectName: plain, objectType: secret, objectAlias: other, keyvaultName: second-kv}
`)
  expect(told(seen)).toEqual([
    ['plain', 'here'],
    ['other', 'there'],
  ])
  expect(await refused('- {objectName: a, objectType: secret, keyvaultName: evil.example}')).toContain(
    'keyvaultName of the object is not the name of a vault',
  )
})

test('fields of a JSON secret: one call, one file a path', async () => {
  const seen = await mount(`
- objectName: json
  objectType: secret
  objectAlias: db/all.json
  jmesPath:
    - {path: user, objectAlias: db/user}
    - {path: port, objectAlias: db/port, filePermission: "0400"}
    - {path: 'nested.list[1]', objectAlias: db/second}
`)
  expect(told(seen).slice(1)).toEqual([
    ['db/user', 'app'],
    ['db/port', '5432'],
    ['db/second', 'b'],
  ])
  expect(seen.files[2]?.mode).toBe(0o400)
  expect(harness.fake.vaultCalls()).toEqual(['GET /secrets/json/'])
  const field = (path: string, name = 'json'): string =>
    `- {objectName: ${name}, objectType: secret, jmesPath: [{path: '${path}', objectAlias: x}]}`
  expect(await refused(field('absent'))).toContain('jmesPath "absent" finds nothing')
  expect(await refused(field('nested'))).toContain('finds more than one text')
  expect(await refused(field('user', 'plain'))).toContain('the value is not JSON')
  expect(await refused(field('a-b'))).toMatch(/^AZURE_JMES: object "json", jmesPath "a-b": /)
})

test('optional objects: only one that does not exist is left out', async () => {
  const seen = await mount(`
- {objectName: plain, objectType: secret}
- {objectName: absent, objectType: secret, optional: true}
- {objectName: absent, objectType: secret, optional: true, objectVersionHistory: 3}
`)
  expect(told(seen)).toEqual([['plain', 'here']])
  harness.fake.vault(VAULT_HOST).access = new Map()
  expect(await refused('- {objectName: absent, objectType: secret, optional: true}')).toContain('[denied]')
  harness.fake.vault(VAULT_HOST).access = undefined
})

test('split: certificate, key and chain of one object under names of their own', async () => {
  const seen = await mount(`
- objectName: site
  objectType: secret
  split: {certificate: tls.crt, key: tls.key, chain: ca.crt}
`)
  const [leaf, intermediate, root] = ['rsa', 'intermediate', 'root'].map((name) => text(`${name}.crt.pem`))
  expect(told(seen)).toEqual([
    ['tls.crt', `${leaf}${intermediate}${root}`],
    ['tls.key', text('rsa.key.pem')],
    ['ca.crt', `${intermediate}${root}`],
  ])
  expect(harness.fake.vaultCalls()).toEqual(['GET /secrets/site/'])
  const keyOnly = await mount('- {objectName: site, objectType: secret, split: {key: only.key}}')
  expect(told(keyOnly)).toEqual([['only.key', text('rsa.key.pem')]])
  const all = await mount('- {objectName: site, objectType: secret, split: true}')
  expect(told(all).map(([path]) => path)).toEqual(['site.crt', 'site.key', 'site'])
  expect(await refused('- {objectName: plain, objectType: secret, split: {key: k}}')).toContain(
    'split: the secret holds no key',
  )
  expect(await refused('- {objectName: site, objectType: cert, split: true}')).toContain(
    'split only supported for objectType: secret',
  )
  expect(await refused('- {objectName: site, objectType: secret, split: {key: ../k}}')).toContain(
    "must not contain '..'",
  )
})

test('unknown parameters are named in a warning and change nothing', async () => {
  await mount('- {objectName: plain, objectType: secret}', { objectz: 'x', resourceGroup: 'old' })
  expect(harness.logged.flatMap(({ fields }) => fields['warning'] ?? [])).toEqual([
    'unknown parameter objectz is ignored',
  ])
})

test('the keyferry dialect’s items: type, format and version', () => {
  const backend = keyVaultBackend(backendContext())
  expect(backend.ref({ key: 'a' })).toEqual({ type: 'secret', name: 'a' })
  expect(backend.ref({ key: 'a', version: 'v1', args: { type: 'key' } })).toEqual({
    type: 'key',
    name: 'a',
    version: 'v1',
  })
  expect(backend.ref({ key: 'a', args: { format: 'pfx' } })).toEqual({ type: 'secret', name: 'a', pfx: true })
  for (const bad of [
    { key: 'a/b' },
    { key: '' },
    { key: 'a', args: { type: 'x' } },
    { key: 'a', args: { color: 'x' } },
    { key: 'a', version: '../b' },
  ]) {
    expect(() => backend.ref(bad)).toThrow('INVALID_PARAMETER')
  }
  expect(backend.keys?.({ vault: 'Shop' }, { type: 'secret', name: 'a' })).toEqual(['shop/secret/a'])
})
