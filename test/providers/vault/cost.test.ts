/** What a mount costs the server (design.md section 7, the Vault column): counted, not timed. */
import { describe, expect, it } from 'vitest'
import { secret } from './fake-vault.ts'
import { POD, testPodWatch } from './harness.ts'
import { harness, object, setUp } from './set-up.ts'

const COUNT = 20
const OBJECTS = Array.from({ length: COUNT }, (_, i) => object(`f${i}`, `kv/${i}`, 'k')).join('')

describe('design 7 the cost of a mount', () => {
  it('twenty objects take the login and one round trip', async () => {
    const { vault, h, spc } = await setUp()
    for (let i = 0; i < COUNT; i += 1) vault.on(`GET /v1/kv/${i}`, secret({ k: `v${i}` }))
    // No read is answered before all of them have arrived: one at a time, or four, would wait for ever.
    const all = Promise.withResolvers<void>()
    vault.gate = async ({ method }) => {
      if (method !== 'GET') return
      if (vault.callsTo('GET ').length === COUNT) all.resolve()
      await all.promise
    }
    const { files, order } = await h.mount(spc(OBJECTS))
    expect(Object.keys(files)).toHaveLength(COUNT)
    expect(order).toEqual(Array.from({ length: COUNT }, (_, i) => `f${i}`))
    expect(vault.calls).toHaveLength(1 + COUNT)
  })

  it('two hundred pods of one service account at once cost one login and twenty reads', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch(), freshForMs: 30_000 })
    for (let i = 0; i < COUNT; i += 1) vault.on(`GET /v1/kv/${i}`, secret({ k: `v${i}` }))
    const pods = Array.from({ length: 200 }, (_, i) => ({ ...POD, name: `web-${i}`, uid: `uid-${i}` }))
    const mounts = await Promise.all(pods.map((pod) => h.mount(spc(OBJECTS), pod)))
    expect(mounts.every(({ files }) => files['f19'] === 'v19')).toBe(true)
    expect(vault.callsTo('POST ')).toHaveLength(1)
    expect(vault.callsTo('GET ')).toHaveLength(COUNT)
  })

  it('a slow server of one tenant does not delay the renewals of another', async () => {
    const [slow, quick] = [await setUp(), await setUp()]
    const addresses = [slow.vault.address, quick.vault.address]
    const h = harness({ watch: testPodWatch(), settings: { addresses } })
    const lease = { json: { lease_id: 'l', lease_duration: 3600, renewable: true, data: { username: 'u' } } }
    const objects = object('u', 'database/creds/r', 'username')
    for (const { vault } of [slow, quick]) vault.on('GET /v1/database/creds/r', () => lease)
    await h.mount(slow.spc(objects))
    await h.mount(quick.spc(objects), { ...POD, name: 'web-1', uid: 'uid-2' })
    slow.vault.gate = () => new Promise(() => {})
    await h.clock.advance(2_500_000)
    await expect.poll(() => quick.vault.callsTo('PUT /v1/sys/leases/renew').length).toBeGreaterThanOrEqual(1)
  })
})
