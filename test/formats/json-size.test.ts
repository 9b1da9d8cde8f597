import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hasMoreElements } from '../../src/formats/json-size.ts'

/** Members, items, lists and objects of a value; a list or object that is not empty hides one comma. */
function elements(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const inside = Object.values(value)
  return 1 + Math.max(0, inside.length - 1) + inside.reduce<number>((sum, one) => sum + elements(one), 0)
}

describe('counting what JSON text would make', () => {
  it('is exact for every JSON value, whatever its strings hold', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value)
        const count = elements(JSON.parse(text))
        expect(hasMoreElements(text, count)).toBe(false)
        if (count > 0) expect(hasMoreElements(text, count - 1)).toBe(true)
      }),
    )
  })

  it('does not count what stands inside a string, nor is misled by escaped quotes', () => {
    expect(hasMoreElements(JSON.stringify('[[[[,,,,{{{{"\\",[[[['), 0)).toBe(false)
    expect(hasMoreElements('["a\\\\",["b"]]', 2)).toBe(true)
  })
})
