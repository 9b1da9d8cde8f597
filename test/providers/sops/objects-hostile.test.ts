import { describe, expect, it } from 'vitest'
import { problemsOf } from './fixtures.ts'

const problems = (objects: string): string[] =>
  problemsOf({ sopsFormat: 'yaml', sopsDocument: 'a: b\n', objects })

describe('a hostile list of objects', () => {
  it('sops A15 is refused by its aliases before anything is built from them', () => {
    expect(problems(`- &a x\n${'- *a\n'.repeat(9000)}`)).toEqual([
      expect.stringContaining('over the limit "aliases" of 100'),
    ])
  })

  it('sops A12 has at most fifty of its faults told', () => {
    expect(problems('- { objectName: a, unknown: x }\n'.repeat(900))).toHaveLength(50)
  })

  it('sops A15 may not be a hundred thousand blank lines', () => {
    expect(problems('\n'.repeat(100_000))).toEqual([expect.stringContaining('more than 10000 lines')])
  })

  it('sops A12 may have a thousand entries with every field', () => {
    const entry = (i: number): string =>
      `- { objectName: name-${i}, path: /a/${i}, document: 0, encoding: utf-8, format: raw, filePermission: "0400", optional: false }\n`
    expect(problems(Array.from({ length: 1000 }, (_, i) => entry(i)).join(''))).toEqual([])
  })
})
