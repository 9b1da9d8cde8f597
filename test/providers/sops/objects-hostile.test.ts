import { describe, expect, it } from 'vitest'
import { problemsOf } from './fixtures.ts'

const problems = (objects: string): string[] =>
  problemsOf({ sopsFormat: 'yaml', sopsDocument: 'a: b\n', objects })

describe('a hostile list of objects', () => {
  it('sops A15 may have a hundred aliases and no more', () => {
    const list = (aliases: number): string =>
      `- { objectName: a, path: &p /x }\n${Array.from({ length: aliases }, (_, i) => `- { objectName: n${i}, path: *p }\n`).join('')}`
    expect(problems(list(100))).toEqual([])
    expect(problems(list(101))).toEqual([expect.stringContaining('more than 100 aliases')])
  })

  it('sops A15 is refused by its aliases before anything is built from them', () => {
    expect(problems(`- &a x\n${'- *a\n'.repeat(5000)}`)).toEqual([
      expect.stringContaining('excessive aliasing'),
    ])
  })

  it('sops A12 has at most fifty of its faults told', () => {
    expect(problems('- { objectName: a, unknown: x }\n'.repeat(900))).toHaveLength(50)
  })

  it('sops A15 may not be a hundred thousand blank lines', () => {
    expect(problems('\n'.repeat(100_000))).toEqual([expect.stringContaining('more than 24000 tokens')])
  })

  it('sops A12 may have a thousand entries of a name and a path, or three hundred with every field', () => {
    const short = (i: number): string => `- { objectName: name-${i}, path: /a/${i} }\n`
    const long = (i: number): string =>
      `- { objectName: name-${i}, path: /a/${i}, document: 0, encoding: utf-8, format: raw, filePermission: "0400", optional: false }\n`
    const list = (length: number, entry: (i: number) => string): string =>
      Array.from({ length }, (_, i) => entry(i)).join('')
    expect(problems(list(1000, short))).toEqual([])
    expect(problems(list(300, long))).toEqual([])
    expect(problems(list(1000, long))).toEqual([expect.stringContaining('more than 24000 tokens')])
  })
})
