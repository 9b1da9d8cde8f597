import { describe, expect, it } from 'vitest'
import { sparkline, svg } from '../../bench/support/plot.ts'
import { seededRandom, virtualTime } from '../../bench/support/virtual-time.ts'

describe('the virtual clock of a benchmark', () => {
  it('wakes everybody when it is due, in the order in which they asked', async () => {
    const time = virtualTime(1000)
    const woken: string[] = []
    const sleeper = async (name: string, ...ms: number[]): Promise<void> => {
      for (const one of ms) {
        await time.sleep(one)
        woken.push(`${name} ${time.now()}`)
      }
    }
    void sleeper('a', 100, 50)
    void sleeper('b', 10)
    void sleeper('c', 100)
    void sleeper('d', 3_600_000)
    await time.run(1150)
    expect(woken).toEqual(['b 1010', 'a 1100', 'c 1100', 'a 1150'])
    expect(time.now()).toBe(1150)
    await time.run(10_000_000)
    expect(woken.at(-1)).toBe('d 3601000')
  })

  it('ends a wait when its signal fires', async () => {
    const time = virtualTime(0)
    const mount = new AbortController()
    const waited = time.sleep(1e9, mount.signal)
    mount.abort()
    await waited
    expect(time.now()).toBe(0)
  })

  it('gives the same random numbers for the same seed', () => {
    const [one, same, other] = [seededRandom(1), seededRandom(1), seededRandom(2)]
    const numbers = Array.from({ length: 1000 }, one)
    expect(numbers).toEqual(Array.from({ length: 1000 }, same))
    expect(numbers).not.toEqual(Array.from({ length: 1000 }, other))
    expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0)
    expect(Math.max(...numbers)).toBeLessThan(1)
    expect(numbers.reduce((sum, value) => sum + value, 0) / 1000).toBeCloseTo(0.5, 1)
  })
})

describe('pictures', () => {
  it('a line of blocks has the highest of each group, and a space for nothing', () => {
    expect(sparkline([0, 0, 1, 8, 4, 0], 1)).toBe('  ▂█▅ ')
    expect(sparkline([0, 0, 1, 8, 4, 0], 2)).toBe(' █▅')
  })

  it('an SVG has a line for each series and its names', () => {
    const text = svg({
      title: 'calls',
      unit: 'a minute',
      axis: 'minutes',
      every: 2,
      shaded: { from: 1, to: 2, name: 'away' },
      series: [
        { name: 'one', values: [1, 2, 3] },
        { name: 'other', values: [3, 0, 30] },
      ],
    })
    expect(text.match(/<polyline/g)).toHaveLength(2)
    for (const word of ['calls', 'away', 'one', 'other', '>40<']) expect(text).toContain(word)
    expect(text).not.toContain('NaN')
  })
})
