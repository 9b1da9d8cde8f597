import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createSessionCache } from '../../src/identity/session-cache.ts'
import { silentMeter } from '../../src/telemetry/metrics.ts'

function setUp(maxSessions?: number) {
  const clock = { now: 0 }
  const cache = createSessionCache({
    now: () => clock.now,
    meter: silentMeter,
    ...(maxSessions !== undefined && { maxSessions }),
  })
  let opened = 0
  const open =
    (lifeMs = 3_600_000) =>
    () =>
      Promise.resolve({ session: `s${(opened += 1)}`, expiresAt: new Date(clock.now + lifeMs) })
  return { clock, cache, open, opened: () => opened }
}

describe('sessions', () => {
  it('are opened once for everybody who asks at the same time or later', async () => {
    const { cache, open, opened } = setUp()
    const all = await Promise.all(
      Array.from({ length: 100 }, () => cache.get(['pod a', 'aws', 'role'], open())),
    )
    expect(new Set(all)).toEqual(new Set(['s1']))
    expect(await cache.get(['pod a', 'aws', 'role'], open())).toBe('s1')
    expect(opened()).toBe(1)
  })

  it('are opened anew within 60 s of their end', async () => {
    const { cache, open, clock } = setUp()
    expect(await cache.get(['a', 'b'], open())).toBe('s1')
    clock.now = 3_540_000 - 1
    expect(await cache.get(['a', 'b'], open())).toBe('s1')
    clock.now = 3_540_000
    expect(await cache.get(['a', 'b'], open())).toBe('s2')
  })

  it('a failure reaches all who wait and is not kept', async () => {
    const { cache, open } = setUp()
    const fail = () => Promise.reject(new Error('no'))
    const results = await Promise.allSettled([cache.get(['a', 'b'], fail), cache.get(['a', 'b'], fail)])
    expect(results.map((result) => result.status)).toEqual(['rejected', 'rejected'])
    expect(await cache.get(['a', 'b'], open())).toBe('s1')
  })

  it('an opener that throws at once is a failure like any other', async () => {
    const { cache } = setUp()
    const boom = (): never => {
      throw new Error('boom')
    }
    await expect(cache.get(['a', 'b'], boom)).rejects.toThrow('boom')
    expect(cache.size).toBe(0)
  })

  it('can be dropped when the store no longer accepts them', async () => {
    const { cache, open } = setUp()
    await cache.get(['a', 'b'], open())
    cache.drop(['a', 'b'])
    expect(await cache.get(['a', 'b'], open())).toBe('s2')
  })

  it('are bounded in number, the least recently used going first', async () => {
    const { cache, open } = setUp(2)
    await cache.get(['a'], open())
    await cache.get(['b'], open())
    await cache.get(['a'], open())
    await cache.get(['c'], open())
    expect(cache.size).toBe(2)
    expect(await cache.get(['a'], open())).toBe('s1')
    expect(await cache.get(['b'], open())).toBe('s4')
  })

  it('T7 never meet under different keys, whatever the parts hold', async () => {
    const part = fc.string({ unit: fc.constantFrom('a', '"', ',', '[', ']', '\\'), maxLength: 4 })
    const key = fc.array(part, { minLength: 1, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(key, key, async (one, other) => {
        const { cache, open } = setUp()
        const first = await cache.get(one, open())
        const second = await cache.get(other, open())
        expect(first === second).toBe(JSON.stringify(one) === JSON.stringify(other))
      }),
    )
  })
})
