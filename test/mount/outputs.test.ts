import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { collisions, isFileMode, pathFault, planProblems } from '../../src/mount/outputs.ts'

describe('what a volume may contain', () => {
  it.each(['a', 'a/b', 'a/..x', '.hidden', 'a/.b', 'ä/ö', 'a b', 'x'.repeat(255), 'a\\b'])(
    'driver 3 allows the path %j',
    (path) => {
      expect(pathFault(path)).toBeUndefined()
    },
  )

  it.each([
    '',
    '/a',
    '..',
    '../a',
    'a/../b',
    '..x',
    '...',
    'a//b',
    './a',
    'a/',
    'a/./b',
    '.',
    'x'.repeat(256),
    `${'a/'.repeat(2100)}a`,
    'a\0b',
    'a\nb',
    'a\u007fb',
    'a\ud800b',
  ])('driver 3, T9 refuses the path %j', (path) => {
    expect(pathFault(path)).toEqual(expect.any(String))
  })

  it('driver 3 takes permission bits only as modes', () => {
    expect([0, 0o400, 0o777].every(isFileMode)).toBe(true)
    expect([-1, 0o1000, 1.5, Number.NaN, 2 ** 20].some(isFileMode)).toBe(false)
  })

  it('driver 8.4 finds the same path twice and a file that is another one’s directory', () => {
    const files = ['a', 'a', 'b', 'b/c/d', 'bc'].map((path, index) => ({ path, object: `o${index}` }))
    expect(collisions(files).map((problem) => `${problem.code}: ${problem.message}`)).toEqual([
      'DUPLICATE_PATH: objects "o0" and "o1" both want the file "a"',
      'PATH_CONFLICT: object "o2" is the file "b", which object "o3" needs as a directory',
    ])
  })

  it('any set of paths without a collision can be laid out as files in directories', () => {
    const path = fc
      .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 4 })
      .map((parts) => parts.join('/'))
    fc.assert(
      fc.property(fc.array(path, { maxLength: 8 }), (paths) => {
        const clash = paths.some((one, i) =>
          paths.some((other, j) => i !== j && (one === other || one.startsWith(`${other}/`))),
        )
        expect(collisions(paths.map((one) => ({ path: one, object: one }))).length > 0).toBe(clash)
      }),
    )
  })

  it('lists every fault of a plan at once', () => {
    const source = { backend: 'b', store: {}, identity: 'pod' as const, ref: 'r' }
    const file = (path: string, mode: number) => ({ kind: 'file' as const, path, mode, source, object: path })
    const codes = planProblems(
      { outputs: [file('../x', 0o644), file('a', 0o7777), file('a', 0)] },
      { maxOutputs: 2 },
    ).map((p) => p.code)
    expect(codes).toEqual(['TOO_MANY_OBJECTS', 'INVALID_PATH', 'INVALID_MODE', 'DUPLICATE_PATH'])
    expect(planProblems({ outputs: [] }, { maxOutputs: 1 }).map((p) => p.code)).toEqual(['NO_OBJECTS'])
  })
})
