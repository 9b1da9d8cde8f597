import { describe, expect, it } from 'vitest'
import { inSlices, resultOf, SLICE_MS } from '../../src/formats/steps.ts'

function* slow(steps: number): Generator<undefined, string> {
  for (let step = 0; step < steps; step += 1) {
    const end = performance.now() + SLICE_MS + 1
    while (performance.now() < end);
    yield
  }
  return 'done'
}

describe('a computation in small steps', () => {
  it('T17 lets others run after each slice of time', async () => {
    let turns = 0
    const count = (): void => {
      turns += 1
      timer = setImmediate(count)
    }
    let timer = setImmediate(count)
    expect(await inSlices(slow(3))).toBe('done')
    clearImmediate(timer)
    expect(turns).toBeGreaterThanOrEqual(3)
  })

  it('rejects with what a step throws', async () => {
    // oxlint-disable-next-line require-yield
    const failing = function* (): Generator<undefined, never> {
      throw new Error('broken')
    }
    await expect(inSlices(failing())).rejects.toThrow('broken')
    expect(() => resultOf(failing())).toThrow('broken')
  })
})
