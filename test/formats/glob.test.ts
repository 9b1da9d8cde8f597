import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { matchesGlob, MAX_GLOB_TEXT } from '../../src/formats/glob.ts'

describe('a glob', () => {
  it.each([
    ['shop', 'shop', true],
    ['shop', 'shop2', false],
    ['shop', 'Shop', false],
    ['shop/*', 'shop/db', true],
    ['shop/*', 'shop/', true],
    ['shop/*', 'shop', false],
    ['shop/*', 'shop/db/password', false],
    ['shop/**', 'shop/db/password', true],
    ['shop/**', 'shop', false],
    ['shop/**', 'shopping/db', false],
    ['**/db', 'a/b/db', true],
    ['**/db', 'db', false],
    ['**', '', true],
    ['*', '', true],
    ['', '', true],
    ['', 'a', false],
    ['*', 'a/b', false],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'a-b-/b-c', false],
    ['a***c', 'a/b/c', true],
    ['arn:**:secret:shop/*', 'arn:aws:secretsmanager:eu-central-1:1:secret:shop/db-Ab12Cd', true],
    ['a.c', 'abc', false],
    ['[a]?(b)\\', '[a]?(b)\\', true],
    ['__proto__', '__proto__', true],
    ['😀*', '😀x', true],
  ])('%j on %j: %j', (pattern, text, expected) => {
    expect(matchesGlob(pattern, text, '/')).toBe(expected)
  })

  it.each([
    ['*.example.org', 'vault.example.org', true],
    ['*.example.org', 'a.b.example.org', false],
    ['**.example.org', 'a.b.example.org', true],
    ['*.example.org', 'example.org', false],
    ['*.example.org', 'vault.example.org.evil.test', false],
  ])('of hosts: %j on %j: %j', (pattern, text, expected) => {
    expect(matchesGlob(pattern, text, '.')).toBe(expected)
  })

  it('agrees with the plain definition on every small pattern and text', () => {
    const small = (alphabet: string): fc.Arbitrary<string> =>
      fc
        .array(fc.constantFrom(...alphabet.split('')), { maxLength: 8 })
        .map((characters) => characters.join(''))
    fc.assert(
      fc.property(small('ab/**'), small('ab/'), (pattern, text) => {
        expect(matchesGlob(pattern, text, '/')).toBe(byDefinition(pattern, text))
      }),
      { numRuns: 5000 },
    )
  })

  it('a text matches itself, and whatever a star replaces in it', () => {
    const plain = fc.string({ maxLength: 60 }).filter((text) => !text.includes('*'))
    fc.assert(
      fc.property(plain, plain, plain, (before, middle, after) => {
        const text = before + middle + after
        expect(matchesGlob(text, text, '/')).toBe(true)
        expect(matchesGlob(`${before}**${after}`, text, '/')).toBe(true)
        expect(matchesGlob(`${before}*${after}`, text, '/') || middle.includes('/')).toBe(true)
      }),
    )
  })

  it('T17 answers where backtracking would not end', () => {
    expect(matchesGlob('*a'.repeat(128), `${'a'.repeat(MAX_GLOB_TEXT - 1)}b`, '/')).toBe(false)
    expect(matchesGlob(`${'**a'.repeat(80)}b`, 'a'.repeat(MAX_GLOB_TEXT), '/')).toBe(false)
  })

  it('a text over the bound matches nothing', () => {
    expect(matchesGlob('**', 'a'.repeat(MAX_GLOB_TEXT), '/')).toBe(true)
    expect(matchesGlob('**', 'a'.repeat(MAX_GLOB_TEXT + 1), '/')).toBe(false)
  })
})

/** What the stars mean, written down as a definition: slow, and obviously right. */
function byDefinition(pattern: string, text: string): boolean {
  const stars = /^\*+/.exec(pattern)?.[0]
  if (stars === undefined) {
    if (pattern === '' || text === '') return pattern === text
    return pattern[0] === text[0] && byDefinition(pattern.slice(1), text.slice(1))
  }
  const rest = pattern.slice(stars.length)
  return Array.from({ length: text.length + 1 }, (_, taken) => taken).some(
    (taken) =>
      (stars.length > 1 || !text.slice(0, taken).includes('/')) && byDefinition(rest, text.slice(taken)),
  )
}
