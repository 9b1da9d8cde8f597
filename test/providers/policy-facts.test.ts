/** What each backend tells the policy about a ref: what it reads (`keys`), and which hosts the class chose (`addresses`). */
import { parse } from 'valibot'
import { describe, expect, it } from 'vitest'
import type { Backend, RefItem } from '../../src/providers/adapter.ts'
import { parameterStoreBackend } from '../../src/providers/aws/parameter-store.ts'
import { secretsManagerBackend } from '../../src/providers/aws/secrets-manager.ts'
import { sopsBackend } from '../../src/providers/sops/backend.ts'
import { vaultFactory } from '../../src/providers/vault/backend.ts'
import { settingsSchema } from '../../src/providers/vault/settings.ts'
import { backendContext } from '../support/backend-context.ts'

function vault(settings: object = {}, env: Record<string, string> = {}): Backend {
  return vaultFactory.create(backendContext({ settings: parse(settingsSchema, settings), env }))
}
const keysOf = (backend: Backend, item: RefItem, store: object = {}): readonly string[] | undefined =>
  backend.keys?.(store, backend.ref(item))

describe('keys', () => {
  it.each([
    ['secret/data/app', {}, 'secret/data/app'],
    ['/v1/secret/data/app?version=3', {}, 'secret/data/app'],
    ['secret/data/../data//app', {}, 'secret/data/app'],
    ['secret/data/a b', {}, 'secret/data/a b'],
    ['secret/data/app', { namespace: 'team-a' }, 'team-a/secret/data/app'],
    ['secret/data/app', { namespace: 'team-a/../team-b/' }, 'team-b/secret/data/app'],
  ])('T2 vault: %j in %j is %j', (key, store, expected) => {
    expect(keysOf(vault(), { key }, store)).toEqual([expected])
  })

  const secrets = secretsManagerBackend(backendContext())
  const parameters = parameterStoreBackend(backendContext())
  it.each([
    ['a secret', secrets, { key: 'shop/db', version: 'v1' }, ['shop/db']],
    ['secrets with a prefix', secrets, { key: 'shop', args: { expand: 'prefix' } }, ['shop', 'shop/**']],
    ['a parameter', parameters, { key: '/shop/db:3' }, ['/shop/db']],
    [
      'parameters below a path',
      parameters,
      { key: '/shop', args: { expand: 'prefix' } },
      ['/shop', '/shop/**'],
    ],
  ] as const)('T2 aws: %s', (_, backend, item, expected) => {
    expect(keysOf(backend as Backend, item)).toEqual(expected)
  })

  it('T2 aws: a secret that has another name in the failover region is both', () => {
    expect(secrets.keys?.({}, { id: 'shop/db', failover: { id: 'pay/db' } })).toEqual(['shop/db', 'pay/db'])
    expect(parameters.keys?.({}, { name: ' shop ', failover: { name: 'pay' } })).toEqual(['shop', 'pay'])
  })

  it('T2 sops: the file, or that it is inside the class', () => {
    const sops = sopsBackend(backendContext())
    const base = { keyIdentity: 'provider', allowCleartext: false, take: { what: 'whole' } } as const
    expect(sops.keys?.({}, { ...base, source: { file: 'shop/db.yaml' } })).toEqual(['shop/db.yaml'])
    expect(sops.keys?.({}, { ...base, source: { text: 'shop/db.yaml' } })).toEqual(['sopsDocument'])
  })
})

describe('addresses', () => {
  const OWN = 'https://vault.example.org:8200'
  it.each([
    ['none', undefined, {}, {}, false],
    ['any', OWN, {}, {}, true],
    ['the operator’s own', OWN, { address: OWN }, {}, false],
    ['a listed one, with a path', `${OWN}/behind/proxy`, { addresses: [OWN] }, {}, false],
    ['the one in the environment', OWN, {}, { VAULT_ADDR: OWN }, false],
    ['a listed host on another port', 'https://vault.example.org', { addresses: [OWN] }, {}, true],
    ['a listed host without TLS', 'http://vault.example.org:8200', { addresses: [OWN] }, {}, true],
    [
      'a listed host as user name',
      `https://vault.example.org:8200@evil.test`,
      { addresses: [OWN] },
      {},
      true,
    ],
    ['no address at all', ':::', {}, {}, true],
    ['a unix socket', 'unix:///run/a.sock', {}, {}, true],
    ['a listed unix socket', 'unix:///run/a.sock', { addresses: ['unix:///run/a.sock'] }, {}, false],
  ])('T11 vault: a class that gives %s', (_, address, settings, env, chosen) => {
    const backend = vault(settings, env)
    const store = { flavour: 'vault', ...(address !== undefined && { address }) }
    expect(backend.addresses?.(store, backend.ref({ key: 'a' }))).toEqual(chosen ? [address] : [])
  })

  it.each([secretsManagerBackend, parameterStoreBackend, sopsBackend])(
    'T11 %o: a class can choose no host',
    (create) => {
      expect('addresses' in create(backendContext())).toBe(false)
    },
  )
})
