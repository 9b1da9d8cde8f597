import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Caller } from '../../src/mount/caller.ts'
import {
  createResolver,
  type CacheSettings,
  type Resolution,
  type ResolverOptions,
} from '../../src/mount/resolver.ts'
import { sourceKey } from '../../src/mount/source-key.ts'
import { ValueCache } from '../../src/mount/value-cache.ts'
import {
  BackendError,
  type Backend,
  type Host,
  type Identity,
  type Source,
} from '../../src/providers/adapter.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { silentMeter } from '../../src/telemetry/metrics.ts'
import { SecretBytes } from '../../src/telemetry/secret-bytes.ts'
import { backendContext } from '../support/backend-context.ts'
import { memoryStore, type Held, type MemoryStore } from '../support/memory-adapter.ts'

const CACHE: CacheSettings = {
  freshForMs: 30_000,
  staleIfErrorMs: 0,
  immutableForMs: 3_600_000,
  maxBytes: 1 << 20,
}

function setUp(
  initial: Record<string, Held>,
  cache: Partial<CacheSettings> = {},
  maxBatch?: number,
  more: Partial<ResolverOptions> = {},
) {
  const store = memoryStore(initial, maxBatch)
  const clock = { now: 1_000_000 }
  const backend = backendOf(store)
  const resolver = createResolver({
    backend: () => Promise.resolve(backend),
    cache: { ...CACHE, ...cache },
    meter: silentMeter,
    now: () => clock.now,
    random: () => 0,
    ...more,
  })
  return { store, clock, resolver, backend }
}

function backendOf(store: MemoryStore): Backend {
  const factory = store.adapter.backends?.[0]
  if (!factory) throw new Error('no backend')
  return factory.create(backendContext())
}

const source = (ref: string, name = 'default', identity: Identity = 'pod'): Source => ({
  backend: 'memory',
  store: { name },
  identity,
  ref,
})

function caller(
  who = 'shop/web',
  signal: AbortSignal = new AbortController().signal,
  deadline = 1_090_000,
): Caller {
  return {
    identityKey: (identity) => (identity === 'node' ? 'node' : who),
    host: (_source, fetchSignal) => ({ signal: fetchSignal, log: silentLogger }) as unknown as Host,
    signal,
    deadline,
  }
}

const text = (resolution: Resolution | undefined): string =>
  resolution instanceof BackendError || resolution === undefined
    ? `error ${resolution?.kind}`
    : `${resolution.value.bytes.reveal().toString()} from ${resolution.from}`

const release = (resolutions: readonly Resolution[]): void => {
  for (const one of resolutions) if (!(one instanceof BackendError)) one.release()
}

describe('the resolver', () => {
  it('T5 whom a backend does not admit gets nothing from the cache, from a fetch in flight or from the backend', async () => {
    const { store, resolver, backend } = setUp({ a: { text: 'A' } })
    const admitted: (string | Error)[] = []
    const denied = new BackendError({ kind: 'denied', code: 'NOT_BOUND', message: 'not you' })
    let verdict: Error | undefined
    Object.assign(backend, {
      admit: (): void => {
        admitted.push(verdict ?? 'yes')
        if (verdict) throw verdict
      },
    })
    const started = resolver.resolve([source('a'), source('a', 'other')], caller())
    while (admitted.length === 0) await Promise.resolve()
    verdict = denied
    const refused = await resolver.resolve([source('a')], caller())
    expect(refused).toEqual([denied])
    release(await started)
    expect(await resolver.resolve([source('a')], caller())).toEqual([denied])
    verdict = new TypeError('with the secret in its text')
    const [broken] = await resolver.resolve([source('a')], caller())
    expect(broken).toMatchObject({ kind: 'internal' })
    expect((broken as BackendError).message).not.toContain('secret')
    verdict = undefined
    const again = await resolver.resolve([source('a')], caller())
    expect(again.map(text)).toEqual(['A from cache'])
    release(again)
    // Once for each mount, however many sources; the refused ones fetched nothing.
    expect(admitted).toHaveLength(5)
    expect(store.calls).toHaveLength(2)
  })

  it('fetches each distinct ref once and answers in input order', async () => {
    const { store, resolver } = setUp({ a: { text: 'A' }, b: { text: 'B' } })
    const results = await resolver.resolve([source('b'), source('a'), source('b'), source('nope')], caller())
    expect(results.map(text)).toEqual([
      'B from backend',
      'A from backend',
      'B from backend',
      'error not-found',
    ])
    expect(store.calls).toEqual([['b', 'a', 'nope']])
  })

  it('driver 8.7 serves identical requests inside freshFor from the cache, then asks again', async () => {
    const { store, resolver, clock } = setUp({ a: { text: 'A' } })
    release(await resolver.resolve([source('a')], caller()))
    clock.now += 29_999
    expect((await resolver.resolve([source('a')], caller())).map(text)).toEqual(['A from cache'])
    clock.now += 1
    expect((await resolver.resolve([source('a')], caller())).map(text)).toEqual(['A from backend'])
    expect(store.calls.length).toBe(2)
  })

  it('driver 8.7 lets 200 mounts of one identity at once cost one call', async () => {
    const { store, resolver } = setUp({ a: { text: 'A' } }, { freshForMs: 0 })
    store.before = () => new Promise((resolve) => setTimeout(resolve, 20))
    const all = await Promise.all(
      Array.from({ length: 200 }, () => resolver.resolve([source('a')], caller())),
    )
    expect(new Set(all.flat().map(text))).toEqual(new Set(['A from backend']))
    expect(store.calls).toEqual([['a']])
  })

  it('T7 never shares between two identities, neither cached nor in flight', async () => {
    const { store, resolver } = setUp({ a: { text: 'A' } })
    store.before = () => new Promise((resolve) => setTimeout(resolve, 10))
    await Promise.all([
      resolver.resolve([source('a')], caller('shop/web')),
      resolver.resolve([source('a')], caller('shop/other')),
      resolver.resolve([source('a', 'default', 'node')], caller('shop/web')),
    ])
    await resolver.resolve([source('a')], caller('bank/web'))
    expect(store.calls.length).toBe(4)
  })

  it('T7 keys differ whenever backend, store, ref or identity differ, whatever characters they hold', () => {
    const part = fc.string({
      unit: fc.constantFrom('a', '"', ',', '[', ']', '\\', '/', ':', '\0'),
      maxLength: 6,
    })
    const tuple = fc.tuple(part, part, part, part, part)
    const backend = { refKey: String } as unknown as Backend
    const keyOf = ([kind, name, region, ref, who]: [string, string, string, string, string]): string =>
      sourceKey({ backend: kind, store: { name, region }, identity: 'pod', ref }, backend, {
        identityKey: () => who,
      })
    fc.assert(
      fc.property(tuple, tuple, (one, other) => {
        expect(keyOf(one) === keyOf(other)).toBe(JSON.stringify(one) === JSON.stringify(other))
      }),
      { numRuns: 2000 },
    )
  })

  it('the order of a store’s settings does not matter', () => {
    const backend = { refKey: String } as unknown as Backend
    const key = (store: unknown): string =>
      sourceKey({ backend: 'b', store, identity: 'pod', ref: 'r' }, backend, { identityKey: () => '' })
    expect(key({ a: 1, b: [{ c: 2, d: 3 }] })).toBe(key({ b: [{ d: 3, c: 2 }], a: 1 }))
    expect(key({ a: [1, 2] })).not.toBe(key({ a: [2, 1] }))
    expect(key({ a: ['x', 'y'] })).not.toBe(key({ a: { x: 'y' } }))
    expect(key({ a: [['x', 'y']] })).not.toBe(key({ a: { x: 'y' } }))
  })

  it('a failure is not kept: the next mount asks again', async () => {
    const { store, resolver } = setUp({})
    expect((await resolver.resolve([source('a')], caller())).map(text)).toEqual(['error not-found'])
    store.held.set('a', { text: 'A' })
    expect((await resolver.resolve([source('a')], caller())).map(text)).toEqual(['A from backend'])
  })

  it('retries only what may pass by itself, and only those refs', async () => {
    const { store, resolver } = setUp({ a: { text: 'A' }, b: { fails: 'throttled' }, c: { fails: 'denied' } })
    store.before = () => {
      if (store.calls.length === 2) store.held.set('b', { text: 'B' })
    }
    const results = await resolver.resolve([source('a'), source('b'), source('c')], caller())
    expect(results.map(text)).toEqual(['A from backend', 'B from backend', 'error denied'])
    expect(store.calls).toEqual([['a', 'b', 'c'], ['b']])
  })

  it('gives up at once when the backend asks for a longer wait than the budget has left', async () => {
    const { store, resolver } = setUp({ a: { fails: 'throttled', retryAfterMs: 60_000 } })
    expect((await resolver.resolve([source('a')], caller())).map(text)).toEqual(['error throttled'])
    expect(store.calls.length).toBe(1)
  })

  it('ends after three attempts', async () => {
    const { store, resolver } = setUp({ a: { fails: 'unavailable' } })
    expect((await resolver.resolve([source('a')], caller())).map(text)).toEqual(['error unavailable'])
    expect(store.calls.length).toBe(3)
  })

  it.each([
    ['throttled', 'A from stale'],
    ['unavailable', 'A from stale'],
    ['timeout', 'A from stale'],
    ['denied', 'error denied'],
    ['not-found', 'error not-found'],
    ['gone', 'error gone'],
    ['unauthenticated', 'error unauthenticated'],
  ] as const)('design 6 with staleIfError, a backend that says %s gives %s', async (kind, expected) => {
    const { store, resolver, clock } = setUp({ a: { text: 'A' } }, { staleIfErrorMs: 600_000 })
    release(await resolver.resolve([source('a')], caller()))
    clock.now += 300_000
    store.held.set('a', { fails: kind, retryAfterMs: 3_600_000 })
    expect(
      (await resolver.resolve([source('a')], caller('shop/web', undefined, clock.now + 1))).map(text),
    ).toEqual([expected])
  })

  it('design 6 a stale value is not older than the bound, and never another identity’s', async () => {
    const { store, resolver, clock } = setUp({ a: { text: 'A' } }, { staleIfErrorMs: 600_000 })
    release(await resolver.resolve([source('a')], caller()))
    store.held.set('a', { fails: 'unavailable', retryAfterMs: 3_600_000 })
    clock.now += 599_000
    expect((await resolver.resolve([source('a')], caller('shop/other'))).map(text)).toEqual([
      'error unavailable',
    ])
    clock.now += 2_000
    expect((await resolver.resolve([source('a')], caller())).map(text)).toEqual(['error unavailable'])
  })

  it('an expiring value is never served after its end; an immutable one is kept longer', async () => {
    const end = new Date(1_010_000)
    const { store, resolver, clock } = setUp({
      a: { text: 'A', expiresAt: end },
      v1: { text: 'V', immutable: true },
    })
    release(await resolver.resolve([source('a'), source('v1')], caller()))
    clock.now = end.getTime()
    release(await resolver.resolve([source('a')], caller()))
    clock.now += 1_000_000
    expect((await resolver.resolve([source('v1')], caller())).map(text)).toEqual(['V from cache'])
    expect(store.calls).toEqual([['a', 'v1'], ['a']])
  })

  it('splits by maxBatch and by store', async () => {
    const { store, resolver } = setUp({ a: {}, b: {}, c: {} }, {}, 2)
    await resolver.resolve([source('a'), source('b'), source('c'), source('a', 'other')], caller())
    expect(store.calls.toSorted()).toEqual([['a'], ['a', 'b'], ['c']])
  })

  it('driver 8.3 a backend that hangs for ever ends with the budget, as timeout, and is told to stop', async () => {
    const { store, resolver } = setUp({ a: { text: 'A' } })
    store.before = () => new Promise(() => {})
    const mount = new AbortController()
    const answer = resolver.resolve([source('a')], caller('shop/web', mount.signal))
    setTimeout(() => mount.abort(), 20)
    expect((await answer).map(text)).toEqual(['error timeout'])
    expect(store.hosts[0]?.signal.aborted).toBe(true)
  })

  it('a mount that goes away does not end the fetch that another is waiting for', async () => {
    const { store, resolver } = setUp({ a: { text: 'A' } })
    const gate = Promise.withResolvers<void>()
    store.before = () => gate.promise
    const mount = new AbortController()
    const first = resolver.resolve([source('a')], caller('shop/web', mount.signal))
    const second = resolver.resolve([source('a')], caller())
    await new Promise((resolve) => setImmediate(resolve))
    mount.abort()
    expect((await first).map(text)).toEqual(['error timeout'])
    gate.resolve()
    expect((await second).map(text)).toEqual(['A from backend'])
    expect(store.calls.length).toBe(1)
  })

  it('a mount that comes after everybody has gone starts a fetch of its own', async () => {
    const { store, resolver } = setUp({ a: { text: 'A' } })
    store.before = () => (store.calls.length === 1 ? new Promise(() => {}) : undefined)
    const mount = new AbortController()
    const first = resolver.resolve([source('a')], caller('shop/web', mount.signal))
    await new Promise((resolve) => setImmediate(resolve))
    mount.abort()
    await first
    expect((await resolver.resolve([source('a')], caller())).map(text)).toEqual(['A from backend'])
  })

  it.each([new Error('boom'), 'text', null, new TypeError('x')])(
    'an adapter that throws %j fails as internal and says nothing of it',
    async (thrown) => {
      const { resolver } = setUp({ a: { throws: thrown ?? 'null' } })
      const [result] = await resolver.resolve([source('a')], caller())
      expect(result).toMatchObject({ kind: 'internal', message: 'the backend failed in a way it should not' })
    },
  )

  it('an adapter that answers with the wrong number of results fails as internal', async () => {
    const { resolver, backend } = setUp({ a: {} })
    Object.assign(backend, { resolve: () => Promise.resolve([]) })
    expect((await resolver.resolve([source('a')], caller())).map(text)).toEqual(['error internal'])
  })

  it('T24 wipes a value once nobody holds it: at once without a cache, on eviction with one', async () => {
    const none = setUp({ a: { text: 'AAAA' } }, { freshForMs: 0 })
    const results = await none.resolver.resolve([source('a')], caller())
    await new Promise((resolve) => setImmediate(resolve))
    expect(results.map(text)).toEqual(['AAAA from backend'])
    release(results)
    expect(none.store.given.map((secret) => secret.reveal().toString())).toEqual(['\0\0\0\0'])

    const small = setUp({ a: { text: 'AAAA' }, b: { text: 'BBBB' } }, { maxBytes: 1000 })
    release(await small.resolver.resolve([source('a')], caller()))
    release(await small.resolver.resolve([source('b')], caller()))
    await new Promise((resolve) => setImmediate(resolve))
    expect(small.store.given.map((secret) => secret.reveal().toString())).toEqual(['\0\0\0\0', 'BBBB'])
    small.resolver.clear()
    expect(small.store.given[1]?.reveal().toString()).toBe('\0\0\0\0')
  })

  it('T14 the bound on the cache holds for values of no length, too', () => {
    const cache = new ValueCache(100_000)
    for (let index = 0; index < 1000; index += 1)
      cache.put(`key ${index}`, { bytes: SecretBytes.copyOf(''), version: '1' }, 1).release()
    const kept = Array.from({ length: 1000 }, (_, index) => cache.get(`key ${index}`, 1)).filter(Boolean)
    expect(kept.length).toBeGreaterThan(100)
    expect(kept.length).toBeLessThan(200)
  })
})

/** A resolver whose waits pass on its own clock. */
function virtual(initial: Record<string, Held>, cache: Partial<CacheSettings> = {}, maxBatch?: number) {
  const waits: number[] = []
  const all = setUp(initial, cache, maxBatch, {
    sleep: (ms) => {
      waits.push(ms)
      all.clock.now += ms
      return Promise.resolve()
    },
  })
  const ask = async (key = 'a', who = 'shop/web', budgetMs = 90_000): Promise<string> => {
    const results = await all.resolver.resolve(
      [source(key)],
      caller(who, undefined, all.clock.now + budgetMs),
    )
    release(results)
    const [result] = results
    return result instanceof BackendError ? result.code : text(result)
  }
  return { ...all, waits, ask }
}

describe('T29 a store that keeps failing', () => {
  it('is called again in time where the clock of the node was set back', async () => {
    const steady = { now: 0 }
    const { store, clock, resolver } = setUp({ a: DOWN }, {}, undefined, {
      steady: () => steady.now,
      sleep: (ms) => {
        steady.now += ms
        clock.now += ms
        return Promise.resolve()
      },
    })
    const ask = async () => {
      const results = await resolver.resolve([source('a')], caller(undefined, undefined, clock.now + 90_000))
      release(results)
      return results.map(text)
    }
    for (let mount = 0; mount < 3; mount += 1) expect(await ask()).toEqual(['error unavailable'])
    store.held.set('a', { text: 'A' })
    clock.now -= 3_600_000
    steady.now += 30_000
    expect(await ask()).toEqual(['A from backend'])
    clock.now -= 3_600_000
    store.held.set('a', { text: 'B' })
    expect(await ask()).toEqual(['B from backend'])
  })

  it("T18 for one namespace is called on for another that shares the node's identity", async () => {
    const { store, resolver } = virtual({ bad: { fails: 'unavailable' }, good: { text: 'A' } })
    const of = (namespace: string): Caller => ({ ...caller(), namespace, deadline: 2_000_000 })
    const bad = source('bad', 'default', 'node')
    for (let mount = 0; mount < 4; mount += 1) await resolver.resolve([bad], of('storm'))
    const [refused] = await resolver.resolve([bad], of('storm'))
    expect(refused).toMatchObject({ code: 'BACKEND_CIRCUIT_OPEN' })
    const others = await resolver.resolve([source('good', 'default', 'node')], of('shop'))
    expect(others.map(text)).toEqual(['A from backend'])
    release(others)
    expect(store.calls.at(-1)).toEqual(['good'])
  })

  const DOWN: Held = { fails: 'unavailable' }

  it('is not called while its circuit is open; running out of it, one mount tries', async () => {
    const { store, ask, clock } = virtual({ a: DOWN })
    expect(await ask()).toBe('FAULT')
    expect(await ask()).toBe('FAULT')
    const calls = store.calls.length
    expect(calls).toBe(5)
    for (let i = 0; i < 20; i += 1) expect(await ask()).toBe('BACKEND_CIRCUIT_OPEN')
    expect(store.calls.length).toBe(calls)
    clock.now += 30_000
    expect(await ask()).toBe('FAULT')
    expect(store.calls.length).toBe(calls + 1)
    store.held.set('a', { text: 'A' })
    clock.now += 30_000
    expect(await ask()).toBe('A from backend')
  })

  it('is called on by another identity, and so is another store of the same kind', async () => {
    const { store, ask, resolver, clock } = virtual({ a: DOWN })
    await ask()
    await ask()
    expect(await ask()).toBe('BACKEND_CIRCUIT_OPEN')
    store.held.set('a', { text: 'A' })
    expect(await ask('a', 'shop/other')).toBe('A from backend')
    const other = await resolver.resolve(
      [source('a', 'second')],
      caller('shop/web', undefined, clock.now + 1000),
    )
    expect(other.map(text)).toEqual(['A from backend'])
    expect(await ask()).toBe('BACKEND_CIRCUIT_OPEN')
  })

  it.each(['unauthenticated', 'denied', 'not-found', 'config', 'malformed', 'internal'] as const)(
    'answers of kind %s never open it',
    async (kind) => {
      const { store, ask } = virtual({ a: { fails: kind } })
      for (let i = 0; i < 20; i += 1) expect(await ask()).toBe('FAULT')
      expect(store.calls.length).toBe(20)
    },
  )

  it('one object that fails while others of the batch come opens nothing', async () => {
    const { store, resolver, clock } = virtual({ a: DOWN, b: { text: 'B' } }, { freshForMs: 0 })
    for (let i = 0; i < 10; i += 1) {
      const results = await resolver.resolve(
        [source('a'), source('b')],
        caller('w', undefined, clock.now + 1e5),
      )
      expect(results.map(text)).toEqual(['error unavailable', 'B from backend'])
    }
    expect(store.calls.length).toBeGreaterThanOrEqual(10)
  })

  it('a mount of several batches gets through as soon as the store is back', async () => {
    const { store, ask, resolver, clock } = virtual({ a: DOWN, b: {}, c: {} }, {}, 1)
    await ask()
    await ask()
    store.held.set('a', { text: 'A' })
    clock.now += 30_000
    const results = await resolver.resolve(
      ['a', 'b', 'c'].map((key) => source(key)),
      caller('shop/web', undefined, clock.now + 90_000),
    )
    expect(results.map(text)).toEqual(['A from backend', ' from backend', ' from backend'])
  })

  it('all its identities together have a few retries, no more', async () => {
    const { store, ask } = virtual({ a: DOWN })
    for (let i = 0; i < 100; i += 1) await ask('a', `shop/sa-${i}`)
    expect(store.calls.length).toBe(110)
  })

  it('a refusal is bridged by staleIfError as the outage itself is', async () => {
    const { store, ask, clock } = virtual({ a: { text: 'A' } }, { staleIfErrorMs: 600_000 })
    await ask()
    clock.now += 60_000
    store.held.set('a', DOWN)
    for (let i = 0; i < 10; i += 1) expect(await ask()).toBe('A from stale')
    expect(store.calls.length).toBe(6)
  })

  it('one that hangs until budgets end opens its circuit, callers who leave do not', async () => {
    const { store, resolver, clock, ask } = virtual({ a: { text: 'A' } })
    store.before = () => new Promise(() => {})
    const abandoned = async (hangs: boolean): Promise<void> => {
      const mount = new AbortController()
      const end = clock.now + 90_000
      const answer = resolver.resolve([source('a')], caller('shop/web', mount.signal, end))
      await new Promise((resolve) => setImmediate(resolve))
      if (hangs) clock.now = end
      mount.abort()
      expect((await answer).map(text)).toEqual(['error timeout'])
    }
    for (let i = 0; i < 10; i += 1) await abandoned(false)
    expect(store.calls.length).toBe(10)
    for (let i = 0; i < 5; i += 1) await abandoned(true)
    expect(await ask()).toBe('BACKEND_CIRCUIT_OPEN')
  })
})

describe('T29 a store that says when to come again', () => {
  it('is waited for when that fits the budget, by every mount of that identity', async () => {
    const { store, ask, waits, clock } = virtual({ a: { fails: 'throttled', retryAfterMs: 4000 } })
    store.before = () => {
      if (store.calls.length === 2) store.held.set('a', { text: 'A' })
    }
    const before = clock.now
    expect(await ask()).toBe('A from backend')
    expect(clock.now - before).toBeGreaterThanOrEqual(4000)
    expect(waits.length).toBeLessThan(4)
    expect(store.calls.length).toBe(2)
  })

  it('is not called before by a mount that cannot wait: it ends at once', async () => {
    const { store, ask, clock } = virtual({ a: { fails: 'throttled', retryAfterMs: 60_000 } })
    expect(await ask()).toBe('FAULT')
    const before = clock.now
    for (let i = 0; i < 10; i += 1) expect(await ask()).toBe('BACKEND_ASKED_TO_WAIT')
    expect(clock.now).toBe(before)
    expect(store.calls.length).toBe(1)
    store.held.set('a', { text: 'A' })
    expect(await ask('a', 'shop/other')).toBe('A from backend')
    clock.now += 60_000
    expect(await ask()).toBe('A from backend')
  })
})

describe('T25 revoked, then an outage', () => {
  it.each(['denied', 'not-found', 'gone', 'unauthenticated'] as const)(
    'a value is not served stale after the store said %s',
    async (kind) => {
      const { store, ask, clock } = virtual({ a: { text: 'A' } }, { staleIfErrorMs: 3_600_000 })
      await ask()
      clock.now += 60_000
      store.held.set('a', { fails: kind })
      expect(await ask()).toBe('FAULT')
      expect(store.given[0]?.reveal().toString()).toBe('\0')
      store.held.set('a', { fails: 'unavailable' })
      expect(await ask()).toBe('FAULT')
    },
  )

  it.each(['config', 'malformed', 'too-large', 'internal', 'throttled', 'timeout'] as const)(
    'a store that says %s has revoked nothing',
    async (kind) => {
      const { store, ask, clock } = virtual({ a: { text: 'A' } }, { staleIfErrorMs: 3_600_000 })
      await ask()
      clock.now += 60_000
      store.held.set('a', { fails: kind })
      await ask()
      store.held.set('a', { fails: 'unavailable' })
      expect(await ask()).toBe('A from stale')
    },
  )

  it('only the value that was refused, and only for the identity that was refused', async () => {
    const { store, ask, clock } = virtual(
      { a: { text: 'A' }, b: { text: 'B' } },
      { staleIfErrorMs: 3_600_000 },
    )
    for (const who of ['one', 'other']) for (const key of ['a', 'b']) await ask(key, who)
    clock.now += 60_000
    store.held.set('a', { fails: 'denied' })
    await ask('a', 'one')
    for (const key of ['a', 'b']) store.held.set(key, { fails: 'unavailable' })
    expect(await ask('a', 'one')).toBe('FAULT')
    expect(await ask('b', 'one')).toBe('B from stale')
    expect(await ask('a', 'other')).toBe('A from stale')
  })

  it('a value that arrives after everybody has left is not kept', async () => {
    const { store, resolver, ask, clock } = virtual({ a: { text: 'A' } }, { staleIfErrorMs: 3_600_000 })
    const gate = Promise.withResolvers<void>()
    store.before = () => (store.calls.length === 1 ? gate.promise : undefined)
    const mount = new AbortController()
    const first = resolver.resolve([source('a')], caller('shop/web', mount.signal))
    await new Promise((resolve) => setImmediate(resolve))
    mount.abort()
    await first
    store.held.set('a', { fails: 'denied' })
    expect(await ask()).toBe('FAULT')
    store.held.set('a', { text: 'A' })
    gate.resolve()
    await new Promise((resolve) => setImmediate(resolve))
    expect(store.given).toHaveLength(1)
    expect(store.given[0]?.reveal().toString()).toBe('\0')
    clock.now += 1000
    store.held.set('a', { fails: 'unavailable' })
    expect(await ask()).toBe('FAULT')
  })
})
