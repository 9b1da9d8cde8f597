/** Tokens and leases over time (vault sections 7 and 9): one of each per pod, renewed, replaced in time, given back. */
import { describe, expect, it } from 'vitest'
import { errors, leased, secret, type FakeVault } from './fake-vault.ts'
import { POD, testPodWatch } from './harness.ts'
import { harness, object, setUp } from './set-up.ts'

const CREDS = object('u', 'database/creds/r', 'username') + object('p', 'database/creds/r', 'password')
const OTHER_POD = { ...POD, name: 'web-1', uid: 'uid-2' }

/** A database role that counts what it issued. */
function database(vault: FakeVault, seconds: number, renewable = true): () => number {
  let issued = 0
  vault.on('GET /v1/database/creds/r', ({ headers }) => {
    if (!vault.tokens.has(String(headers['x-vault-token']))) return errors(403, 'permission denied')
    issued += 1
    return leased(
      `database/creds/r/${issued}`,
      seconds,
      { username: `u${issued}`, password: `p${issued}` },
      renewable,
    )
  })
  return () => issued
}

const logins = (vault: FakeVault): number => vault.callsTo('POST /v1/auth/kubernetes/login').length
const revocations = (vault: FakeVault) => vault.callsTo('POST /v1/auth/token/revoke-self')

describe('a pod that lives', () => {
  it('T18 it logs in and reads in the turn of its namespace', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => secret({ k: 'v' }))
    await h.mount(spc(object('f', 'kv/app', 'k')))
    expect(vault.callsTo('GET /v1/kv/app')).toHaveLength(1)
    expect(h.turns).toEqual(new Set([POD.namespace]))
  })

  it('9 republished 50 times it holds one lease and one token, shown in the metrics', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    const issued = database(vault, 3600)
    const first = await h.mount(spc(CREDS))
    for (let poll = 0; poll < 50; poll += 1) {
      await h.clock.advance(75_000)
      expect(await h.mount(spc(CREDS))).toEqual(first)
    }
    expect([issued(), logins(vault)]).toEqual([1, 1])
    expect(h.backend.keeper.counts()).toEqual({ slots: 1, tokens: 1, leases: 1 })
    expect(h.figures.get('keyferry_leases{vault}')).toBe(1)
    expect(h.figures.get('keyferry_lease_events_total{vault,issued}')).toBe(1)
    expect(h.figures.get('keyferry_lease_events_total{vault,renewed}')).toBeGreaterThanOrEqual(1)
    expect(h.figures.get('keyferry_sessions_opened_total{vault,ok}')).toBe(1)
  })

  it('9 without a republish its lease is still renewed', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    const issued = database(vault, 3600)
    await h.mount(spc(CREDS))
    for (let hour = 0; hour < 24; hour += 1) await h.clock.advance(3_600_000)
    expect(vault.callsTo('PUT /v1/sys/leases/renew').length).toBeGreaterThanOrEqual(24)
    expect((await h.mount(spc(CREDS))).files).toEqual({ u: 'u1', p: 'p1' })
    expect(issued()).toBe(1)
  })

  it('9 near its maximum the secret is replaced while the old one is still good, and the old one is left to end', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    const issued = database(vault, 3600)
    await h.mount(spc(CREDS))
    vault.granted = 600
    let replacedAfter = 0
    for (let poll = 1; replacedAfter === 0 && poll < 100; poll += 1) {
      await h.clock.advance(75_000)
      vault.granted = 600
      if ((await h.mount(spc(CREDS))).files['u'] === 'u2') replacedAfter = poll * 75
    }
    // Renewed at 2400 s for 600 s: the old one ends at 3000 s, and a poll before must bring the next.
    expect(replacedAfter).toBeGreaterThan(2400)
    expect(replacedAfter).toBeLessThan(3000)
    expect(issued()).toBe(2)
    expect(vault.callsTo('PUT /v1/sys/leases/revoke')).toEqual([])
    expect(revocations(vault)).toEqual([])
  })

  it('9 when a new one cannot be had the old one is served as long as it is good', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    database(vault, 3600, false)
    const first = await h.mount(spc(CREDS))
    await h.clock.advance(3_500_000)
    vault.on('GET /v1/database/creds/r', () => errors(500, 'database is down'))
    expect(await h.mount(spc(CREDS))).toEqual(first)
    expect(h.logs.join('\n')).toContain('the old one is still good')
    await h.clock.advance(200_000)
    expect((await h.failure(spc(CREDS))).message).toContain('database is down')
  })

  it('T25 when a new one is refused the old one is not served, and not in an outage after it either', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    database(vault, 3600, false)
    await h.mount(spc(CREDS))
    await h.clock.advance(3_500_000)
    vault.on('GET /v1/database/creds/r', () => errors(403, 'permission denied'))
    expect((await h.failure(spc(CREDS))).message).toContain('[denied]')
    vault.on('GET /v1/database/creds/r', () => errors(500, 'database is down'))
    expect((await h.failure(spc(CREDS))).message).toContain('database is down')
  })

  it('9 a lease that the server no longer knows is replaced at the next poll', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    database(vault, 3600)
    await h.mount(spc(CREDS))
    vault.on('PUT /v1/sys/leases/renew', () => errors(400, 'lease not found'))
    await h.clock.advance(2_500_000)
    expect((await h.mount(spc(CREDS))).files).toEqual({ u: 'u2', p: 'p2' })
    expect(h.figures.get('keyferry_lease_events_total{vault,lost}')).toBe(1)
  })

  it('9 a renewal that fails for now is tried again until it is granted', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    const issued = database(vault, 3600)
    await h.mount(spc(CREDS))
    vault.on('PUT /v1/sys/leases/renew', [
      errors(500, 'x'),
      errors(503, 'Vault is sealed'),
      leased('l', 3600, null),
    ])
    await h.clock.advance(2_400_000 + 120_000)
    expect(vault.callsTo('PUT /v1/sys/leases/renew')).toHaveLength(3)
    await h.clock.advance(2_000_000)
    expect((await h.mount(spc(CREDS))).files).toEqual({ u: 'u1', p: 'p1' })
    expect(issued()).toBe(1)
  })

  it('7 a token revoked on the server is replaced, and what it had issued with it', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    const issued = database(vault, 7200)
    await h.mount(spc(CREDS))
    vault.tokens.clear()
    await h.clock.advance(2_500_000)
    expect((await h.mount(spc(CREDS))).files).toEqual({ u: 'u2', p: 'p2' })
    expect([issued(), logins(vault)]).toEqual([2, 2])
    expect(vault.callsTo('POST /v1/auth/token/renew-self')).toHaveLength(1)
  })

  it('9 a secret is replaced before a token that cannot be renewed takes it along', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    database(vault, 86_400)
    vault.auth = { lease_duration: 3600, renewable: false }
    await h.mount(spc(CREDS))
    let replacedAfter = 0
    for (let poll = 1; replacedAfter === 0 && poll < 60; poll += 1) {
      await h.clock.advance(75_000)
      if ((await h.mount(spc(CREDS))).files['u'] === 'u2') replacedAfter = poll * 75
    }
    expect(replacedAfter).toBeGreaterThan(0)
    expect(replacedAfter).toBeLessThan(3600)
    expect(logins(vault)).toBe(2)
  })

  it('7 a token that may be used twice is replaced without a refused request', async () => {
    const { vault, h, spc } = await setUp()
    vault.auth = { num_uses: 2 }
    vault.on('GET /v1/kv/a', secret({ k: 'v' }))
    for (let poll = 0; poll < 5; poll += 1) await h.mount(spc(object('f', 'kv/a', 'k')))
    expect(logins(vault)).toBe(3)
    expect(vault.callsTo('GET ')).toHaveLength(5)
  })

  it('7 a token without leases is renewed while polls come and lapses when they stop', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    vault.on('GET /v1/kv/a', secret({ k: 'v' }))
    for (let poll = 0; poll < 40; poll += 1) {
      await h.mount(spc(object('f', 'kv/a', 'k')))
      await h.clock.advance(75_000)
    }
    expect(vault.callsTo('POST /v1/auth/token/renew-self')).toHaveLength(1)
    await h.clock.advance(36_000_000)
    expect(vault.callsTo('POST /v1/auth/token/renew-self')).toHaveLength(1)
    expect(h.backend.keeper.counts().tokens).toBe(0)
  })

  it('9 a certificate without lease is kept until two thirds of its life', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch() })
    let issued = 0
    vault.on('PUT /v1/pki/issue/web', () =>
      secret(
        {
          certificate: `c${(issued += 1)}`,
          private_key: `k${issued}`,
          expiration: h.clock.now() / 1000 + 3600,
        },
        { lease_duration: 0 },
      ),
    )
    const objects =
      object('tls.crt', 'pki/issue/web', 'certificate', ['method: PUT', 'secretArgs: {common_name: a}']) +
      object('tls.key', 'pki/issue/web', 'private_key', ['method: PUT'])
    expect((await h.mount(spc(objects))).files).toEqual({ 'tls.crt': 'c1', 'tls.key': 'k1' })
    await h.clock.advance(2_300_000)
    expect((await h.mount(spc(objects))).files).toEqual({ 'tls.crt': 'c1', 'tls.key': 'k1' })
    await h.clock.advance(200_000)
    expect((await h.mount(spc(objects))).files).toEqual({ 'tls.crt': 'c2', 'tls.key': 'k2' })
  })

  it('9 with leases.keep off each poll issues anew, as Go does', async () => {
    const { vault, spc } = await setUp()
    const h = harness({ settings: { addresses: [vault.address], leases: { keep: false } } })
    const issued = database(vault, 3600)
    for (let poll = 0; poll < 3; poll += 1) await h.mount(spc(CREDS))
    expect(issued()).toBe(3)
  })
})

describe('two pods', () => {
  it('T7 of one service account have a lease and a token each, even at once and with a warm cache', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch(), freshForMs: 30_000 })
    const issued = database(vault, 3600)
    const [a, b] = await Promise.all([h.mount(spc(CREDS)), h.mount(spc(CREDS), OTHER_POD)])
    expect(new Set([a.files['u'], b.files['u']])).toEqual(new Set(['u1', 'u2']))
    expect([issued(), logins(vault)]).toEqual([2, 2])
    const tokens = vault.callsTo('GET ').map(({ headers }) => headers['x-vault-token'])
    expect(new Set(tokens).size).toBe(2)
  })

  it('design 7 of one service account share what is no lease', async () => {
    const { vault, h, spc } = await setUp({ watch: testPodWatch(), freshForMs: 30_000 })
    vault.on('GET /v1/kv/a', secret({ k: 'v' }))
    await Promise.all([POD, OTHER_POD].map((pod) => h.mount(spc(object('f', 'kv/a', 'k')), pod)))
    expect(vault.callsTo('GET ')).toHaveLength(1)
  })
})

describe('a pod that is gone', () => {
  it('9 has its token revoked, its leases with it, and leaves the other pods alone', async () => {
    const watch = testPodWatch()
    const { vault, h, spc } = await setUp({ watch })
    database(vault, 3600)
    await h.mount(spc(CREDS))
    await h.mount(spc(CREDS), OTHER_POD)
    watch.gone(POD.uid)
    await h.backend.keeper.idle()
    expect(revocations(vault).map(({ headers }) => headers['x-vault-token'])).toEqual(['s.token-1'])
    expect(h.backend.keeper.counts()).toEqual({ slots: 1, tokens: 1, leases: 1 })
    expect(h.figures.get('keyferry_leases{vault}')).toBe(1)
    expect(h.figures.get('keyferry_lease_events_total{vault,revoked}')).toBe(1)
    expect((await h.mount(spc(CREDS), OTHER_POD)).files).toEqual({ u: 'u2', p: 'p2' })
  })

  it('9 is revoked within a minute although the server fails at first', async () => {
    const watch = testPodWatch()
    const { vault, h, spc } = await setUp({ watch })
    database(vault, 3600)
    await h.mount(spc(CREDS))
    vault.on('POST /v1/auth/token/revoke-self', [
      errors(503, 'Vault is sealed'),
      errors(500, 'x'),
      { status: 204 },
    ])
    watch.gone(POD.uid)
    await expect.poll(() => revocations(vault).length).toBe(1)
    await h.clock.advance(2000)
    await expect.poll(() => revocations(vault).length).toBe(2)
    await h.clock.advance(10_000)
    await h.backend.keeper.idle()
    expect(revocations(vault)).toHaveLength(3)
    expect(h.figures.get('keyferry_lease_events_total{vault,revoked}')).toBe(1)
  })

  it('9 while its secret is being issued gets that revoked too', async () => {
    const watch = testPodWatch()
    const { vault, h, spc } = await setUp({ watch })
    vault.on('GET /v1/database/creds/r', () => {
      watch.gone(POD.uid)
      return leased('l1', 3600, { username: 'u', password: 'p' })
    })
    await h.mount(spc(CREDS))
    await h.backend.keeper.idle()
    expect(revocations(vault).length).toBeGreaterThanOrEqual(1)
    expect(h.backend.keeper.counts()).toEqual({ slots: 0, tokens: 0, leases: 0 })
  })

  it('9 with a batch token has its leases revoked one by one', async () => {
    const watch = testPodWatch()
    const { vault, h, spc } = await setUp({ watch })
    database(vault, 3600)
    vault.auth = { token_type: 'batch', renewable: false }
    vault.on('PUT /v1/sys/leases/revoke', { status: 204 })
    await h.mount(spc(CREDS))
    watch.gone(POD.uid)
    await h.backend.keeper.idle()
    expect(vault.callsTo('PUT /v1/sys/leases/revoke').map(({ body }) => body)).toEqual([
      '{"lease_id":"database/creds/r/1"}',
    ])
    expect(revocations(vault)).toEqual([])
  })

  it('9 is told by disuse where pods cannot be watched, once it was polled regularly', async () => {
    const { vault, h, spc } = await setUp()
    database(vault, 3600)
    for (let poll = 0; poll < 4; poll += 1) {
      await h.mount(spc(CREDS))
      await h.clock.advance(75_000)
    }
    await h.clock.advance(600_000)
    expect(revocations(vault)).toHaveLength(1)
    expect(h.backend.keeper.counts().slots).toBe(0)
  })

  it('9 is not told by disuse when it was never republished: rotation may be off', async () => {
    const { vault, h, spc } = await setUp()
    database(vault, 3600)
    await h.mount(spc(CREDS))
    await h.clock.advance(36_000_000)
    expect(revocations(vault)).toEqual([])
    expect(h.backend.keeper.counts().leases).toBe(1)
  })

  it('9 keeps its leases when the operator says so, and at our own shutdown', async () => {
    const watch = testPodWatch()
    const { vault, spc } = await setUp()
    database(vault, 3600)
    const keeping = harness({ watch, settings: { addresses: [vault.address], leases: { revoke: false } } })
    await keeping.mount(spc(CREDS))
    watch.gone(POD.uid)
    await keeping.backend.keeper.idle()
    const stopping = harness({ watch, settings: { addresses: [vault.address] } })
    await stopping.mount(spc(CREDS))
    await stopping.backend.close?.()
    expect(revocations(vault)).toEqual([])
  })
})
