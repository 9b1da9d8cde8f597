/** Refs of the keyferry dialect: from `key`, `version` and `args` to a request, and what the value holds. */
import { describe, expect, it } from 'vitest'
import { BackendError, PlanError, type Value } from '../../../src/providers/adapter.ts'
import type { VaultStore } from '../../../src/providers/vault/store.ts'
import { secretV2, type FakeVault } from './fake-vault.ts'
import type { Harness } from './harness.ts'
import { setUp } from './set-up.ts'

async function resolved(
  h: Harness,
  vault: FakeVault,
  item: Parameters<Harness['backend']['ref']>[0],
): Promise<Value> {
  const store: VaultStore = { flavour: 'vault', address: vault.address, role: 'web' }
  const [value] = await h.backend.resolve(store, [h.backend.ref(item)], h.host())
  if (value === undefined || value instanceof BackendError) throw value ?? new Error('no answer')
  return value
}

describe('design 5 refs of the keyferry dialect', () => {
  it('the value is the inner data as JSON, and a part per key', async () => {
    const { vault, h } = await setUp()
    vault.on('GET /v1/secret/data/app?version=3', secretV2({ password: 's', port: 5432 }))
    const value = await resolved(h, vault, { key: 'secret/data/app', version: '3' })
    expect(value.bytes.reveal().toString()).toBe('{"password":"s","port":5432}')
    expect(value.parts?.map(({ name, bytes }) => [name, bytes.reveal().toString()])).toEqual([
      ['password', 's'],
      ['port', '5432'],
    ])
  })

  it('what is issued for one pod is shared with no other, a plain read is', async () => {
    const { h } = await setUp()
    const keyFor = (key: string, podUid: string): string => h.backend.refKey(h.backend.ref({ key, podUid }))
    expect(keyFor('database/creds/app', 'u-1')).not.toBe(keyFor('database/creds/app', 'u-2'))
    expect(keyFor('secret/data/app', 'u-1')).toBe(keyFor('secret/data/app', 'u-2'))
  })

  it('method and body become the request', async () => {
    const { vault, h } = await setUp()
    vault.on('PUT /v1/x', secretV2({ a: 1 }))
    await resolved(h, vault, { key: '/v1/x', args: { method: 'put', body: '{"b": 1.0, "a": "<"}' } })
    expect(vault.callsTo('PUT ')[0]?.body).toBe('{"a":"\\u003c","b":1.0}')
  })

  it.each([
    { key: 'x', version: 'latest' },
    { key: 'x', args: { other: '1' } },
    { key: 'x', args: { body: '[1]' } },
    { key: 'x', args: { body: '{' } },
    { key: 'x', args: { method: 'TRACE' } },
    { key: '../x' },
  ])('%j is a fault of the SPC', async (item) => {
    const { h } = await setUp()
    expect(() => h.backend.ref(item)).toThrow(PlanError)
  })

  it('4 warnings of the server are logged, on one line', async () => {
    const { vault, h } = await setUp()
    vault.on('GET /v1/x', { json: { data: { a: 1 }, warnings: ['deprecated\nsoon'] } })
    await resolved(h, vault, { key: 'x' })
    expect(h.logs.join('\n')).toContain('"warning":"deprecated soon"')
  })
})
