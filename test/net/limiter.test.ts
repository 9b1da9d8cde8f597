import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { limiter, NAMESPACE_SHARE } from '../../src/net/limiter.ts'

/** Tasks that end when told, and who has begun. */
function setUp(limit: number, share?: number) {
  const slot = limiter(limit, share)
  const begun: string[] = []
  const ends: (() => void)[] = []
  const start = (who: string): Promise<void> =>
    slot(() => {
      begun.push(who)
      const { promise, resolve } = Promise.withResolvers<void>()
      ends.push(resolve)
      return promise
    }, who)
  const endFirst = async (): Promise<void> => {
    ends.shift()?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { begun, start, endFirst, ends }
}

describe('a bound on calls', () => {
  it('T18 one namespace leaves room, and its queue is not before another’s', async () => {
    const { begun, start, endFirst } = setUp(8, NAMESPACE_SHARE)
    for (let i = 0; i < 100; i += 1) void start('noisy')
    expect(begun).toHaveLength(6)
    for (let i = 0; i < 6; i += 1) void start('quiet')
    expect(begun.filter((who) => who === 'quiet')).toHaveLength(2)
    for (let i = 0; i < 8; i += 1) await endFirst()
    // In turns: four of eight free places went to those who came a hundred later.
    expect(begun.filter((who) => who === 'quiet')).toHaveLength(6)
  })

  it('without namespaces it is first come, first served', async () => {
    const slot = limiter(2)
    const order: number[] = []
    await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        slot(async () => {
          order.push(index)
          await Promise.resolve()
        }),
      ),
    )
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  it('a task that fails gives its place back', async () => {
    const slot = limiter(1)
    await expect(slot(() => Promise.reject(new Error('x')))).rejects.toThrow('x')
    expect(await slot(() => Promise.resolve('next'))).toBe('next')
  })

  it('T18 never more than the bound, never more than its share, and nobody waits for ever', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 6 }),
        fc.constantFrom(0.5, 0.75, 1),
        fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 60 }),
        async (limit, share, whos) => {
          const slot = limiter(limit, share)
          const running = new Map<string, number>()
          let done = 0
          await Promise.all(
            whos.map((who) =>
              slot(async () => {
                running.set(who, (running.get(who) ?? 0) + 1)
                const all = [...running.values()]
                expect(all.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(limit)
                expect(Math.max(...all)).toBeLessThanOrEqual(Math.ceil(limit * share))
                await new Promise((resolve) => setImmediate(resolve))
                running.set(who, (running.get(who) ?? 0) - 1)
                done += 1
              }, who),
            ),
          )
          expect(done).toBe(whos.length)
        },
      ),
      { numRuns: 50 },
    )
  })
})
