/** Selections and documents of the keyferry dialect: each against an independent reader. */
import { execFileSync } from 'node:child_process'
import { parseEnv } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { parseJson } from '../../../src/formats/json-parse.ts'
import { SelectError } from '../../../src/providers/adapter.ts'
import { writeDocument, type Members } from '../../../src/providers/keyferry/documents.ts'
import { membersCombined, partsSplit, rewritten } from '../../../src/providers/keyferry/outputs.ts'
import { selectOf, type Selection } from '../../../src/providers/keyferry/select.ts'

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString()
const selected = (value: string | Uint8Array, selection: Selection): string =>
  text(selectOf(selection)?.(Buffer.from(value)) ?? Buffer.from(value))
function refusal(make: () => unknown): SelectError {
  try {
    make()
  } catch (error) {
    if (error instanceof SelectError) return error
    throw error
  }
  return expect.unreachable('it was accepted')
}

describe('a selection', () => {
  const document =
    '{"user":"app","a.b":"literal","a":{"b":"nested","list":[{"p":"<x>"},2]},"n":1.0,"big":12345678901234567890,"yes":true,"none":null}'

  it.each([
    ['user', 'app'],
    ['a.b', 'literal'],
    ['a.list.0.p', '<x>'],
    ['a.list', '[{"p":"<x>"},2]'],
    ['a', '{"b":"nested","list":[{"p":"<x>"},2]}'],
    ['n', '1.0'],
    ['big', '12345678901234567890'],
    ['yes', 'true'],
    ['none', ''],
  ])('gives property %s as External Secrets Operator users expect it: %s', (property, expected) => {
    expect(selected(document, { property })).toBe(expected)
  })

  it('takes a point in a name with a backslash', () => {
    expect(selected('{"x":{"tls.crt":"pem"}}', { property: String.raw`x.tls\.crt` })).toBe('pem')
  })

  it.each(['nope', 'a.nope', 'a.list.9', 'a.list.00', 'user.x', '__proto__', 'constructor', 'a.list.#.p'])(
    'T16 says that there is no property %s, and not what there is',
    (property) => {
      const error = refusal(() => selected(document, { property }))
      expect(error).toMatchObject({ kind: 'not-found', code: 'KEYFERRY_NO_PROPERTY' })
      expect(`${error.message}${error.remedy}`).not.toMatch(/literal|nested|app/)
    },
  )

  it('gives what a JMESPath finds', () => {
    expect(selected(document, { jmesPath: 'a.list[0].p' })).toBe('<x>')
    expect(selected(document, { jmesPath: 'a.list[?p].p' })).toBe('["<x>"]')
    expect(refusal(() => selected(document, { jmesPath: 'x.y' }))).toMatchObject({ kind: 'not-found' })
    expect(refusal(() => selected(document, { jmesPath: 'abs(user)' }))).toMatchObject({
      code: 'KEYFERRY_JMES_PATH',
    })
  })

  it('T22 refuses a value that is not JSON without quoting it', () => {
    const error = refusal(() => selected('hunter2', { property: 'a' }))
    expect(error).toMatchObject({ kind: 'malformed', code: 'KEYFERRY_NOT_JSON' })
    expect(error.message).not.toContain('hunter')
  })

  it('decodes what was encoded, whatever the bytes', () => {
    const coding = fc.constantFrom('base64' as const, 'base64url' as const, 'hex' as const)
    fc.assert(
      fc.property(fc.uint8Array(), coding, (bytes, decode) => {
        const encoded = selectOf({ encoding: decode })?.(bytes) ?? bytes
        expect(Buffer.from(selectOf({ decode })?.(encoded) ?? [])).toEqual(Buffer.from(bytes))
      }),
    )
  })

  it.each([
    ['base64', 'aGk'],
    ['base64', 'aGk=!'],
    ['base64', 'aGl='],
    ['base64', 'a-_='],
    ['base64url', 'a+/='],
    ['hex', 'abc'],
    ['hex', 'zz'],
  ] as const)('refuses what is not %s: %s', (decode, value) => {
    expect(refusal(() => selected(value, { decode }))).toMatchObject({
      kind: 'malformed',
      code: 'KEYFERRY_DECODE',
    })
  })

  it('takes wrapped base64, and base64url with or without padding', () => {
    expect(selected('aGVs\nbG8=\n', { decode: 'base64' })).toBe('hello')
    expect(selected('aGVsbG8', { decode: 'base64url' })).toBe('hello')
    expect(selected('aGVsbG8=', { decode: 'base64url' })).toBe('hello')
  })

  it('encoding utf-8 lets text through and refuses the rest', () => {
    expect(selected('é', { encoding: 'utf-8' })).toBe('é')
    expect(refusal(() => selected(Buffer.from([0xff]), { encoding: 'utf-8' })).code).toBe('KEYFERRY_ENCODING')
  })
})

/** A reader of Java properties, from the rules of `java.util.Properties.load`, for one-line escapes. */
function readProperties(source: string): [string, string][] {
  return source
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const units: { char: string; escaped: boolean }[] = []
      for (let at = 0; at < line.length; at += 1) {
        if (line[at] !== '\\') units.push({ char: line.charAt(at), escaped: false })
        else if (line[at + 1] === 'u') {
          units.push({
            char: String.fromCharCode(Number.parseInt(line.slice(at + 2, at + 6), 16)),
            escaped: true,
          })
          at += 5
        } else {
          at += 1
          const named: Record<string, string> = { n: '\n', r: '\r', t: '\t', f: '\f' }
          units.push({ char: named[line.charAt(at)] ?? line.charAt(at), escaped: true })
        }
      }
      const isSpace = (index: number): boolean =>
        !units[index]?.escaped && [' ', '\t', '\f'].includes(units[index]?.char ?? '')
      const end = units.findIndex(
        ({ char, escaped }, index) => !escaped && ('=:'.includes(char) || isSpace(index)),
      )
      let start = end + 1
      while (isSpace(start)) start += 1
      const join = (part: typeof units): string => part.map(({ char }) => char).join('')
      return [join(units.slice(0, end)), join(units.slice(start))]
    })
}

describe('a document', () => {
  const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  const value = fc.string({ unit: 'binary', maxLength: 30 })
  const members = (key: fc.Arbitrary<string>): fc.Arbitrary<Members> =>
    fc
      .uniqueArray(fc.tuple(key, value), { selector: ([one]) => one, maxLength: 6 })
      .map((pairs) => new Map(pairs))

  it('in JSON is read back by JSON.parse, in order', () => {
    fc.assert(
      fc.property(members(name), (map) => {
        const source = text(writeDocument('json', map))
        expect(parseJson(source)).toEqual(map)
        expect(JSON.parse(source, (_, one: unknown) => one)).toBeTypeOf('object')
      }),
    )
  })

  it('in YAML is read back by a YAML reader', () => {
    fc.assert(
      fc.property(members(name), (map) => {
        expect(parse(text(writeDocument('yaml', map)), { mapAsMap: true })).toEqual(map)
      }),
    )
  })

  it('in Java properties is read back by their rules', () => {
    fc.assert(
      fc.property(members(name), (map) => {
        expect(new Map(readProperties(text(writeDocument('properties', map))))).toEqual(map)
      }),
    )
  })

  const hard = fc.string({
    unit: fc.constantFrom('a', ' ', '"', "'", '$', '\\', '`', '\n', '!', '#', '=', 'é', '~'),
    maxLength: 8,
  })

  it('in dotenv is read back by Node, or refused', () => {
    fc.assert(
      fc.property(hard, (one) => {
        try {
          expect(parseEnv(text(writeDocument('dotenv', new Map([['KEY', one]]))))).toEqual({ KEY: one })
        } catch (error) {
          expect(error).toMatchObject({ name: 'SelectError', code: 'KEYFERRY_FORMAT' })
          expect(one).toMatch(/'|\\(?:\\|$)/)
        }
      }),
      { numRuns: 500 },
    )
  })

  it.each([
    ['many', Array.from({ length: 1000 }, (_, index) => `*a*b${index}`), 'ababx'],
    ['long', ['*a'.repeat(2000)], 'a'.repeat(2000)],
  ])('T17 is not compared with %s patterns without end', (_, only, name) => {
    const members = Object.fromEntries(Array.from({ length: 200 }, (__, index) => [`${name}${index}`, 'v']))
    const split = (some: readonly string[]) =>
      partsSplit({ within: undefined, only: some, rename: new Map() })(Buffer.from(JSON.stringify(members)))
    expect(refusal(() => split(only))).toMatchObject({ kind: 'too-large', code: 'KEYFERRY_SELECT' })
    expect(split(Object.keys(members))).toHaveLength(200)
    expect(split(Object.keys(members).slice(0, 20))).toHaveLength(20)
  })

  it('T17 does not become more than 2000 files', () => {
    const members = Object.fromEntries(Array.from({ length: 2001 }, (_, index) => [`m${index}`, 'v']))
    const split = (only?: readonly string[]) =>
      partsSplit({ within: undefined, only, rename: new Map() })(Buffer.from(JSON.stringify(members)))
    expect(refusal(() => split())).toMatchObject({ kind: 'too-large', code: 'KEYFERRY_SELECT' })
    expect(split(Object.keys(members).slice(1))).toHaveLength(2000)
  })

  it('T14 of more than a file may have is refused before it is written', () => {
    const combine = membersCombined('yaml', ['a', 'b'], 7)
    expect(text(combine([Buffer.from('xxx'), Buffer.from('yyyy')]))).toBe('"a": "xxx"\n"b": "yyyy"\n')
    expect(refusal(() => combine([Buffer.from('xxxx'), Buffer.from('yyyy')]))).toMatchObject({
      kind: 'too-large',
      code: 'FILE_TOO_LARGE',
    })
  })

  it('in dotenv is read back by a shell that sources it', () => {
    const values = [
      '',
      'plain',
      'a b',
      '$HOME',
      '`id`',
      '$(id)',
      'back\\slash',
      "it's",
      'two\nlines',
      '#x',
      '"q"',
      '~',
    ]
    const map = new Map(values.map((one, index) => [`V${index}`, one]))
    const script = `${text(writeDocument('dotenv', map))}\n${values.map((_, i) => `printf '%s\\0' "$V${i}"`).join('\n')}`
    const seen = execFileSync('/bin/sh', { input: script, env: {} }).toString().split('\0')
    expect(seen.slice(0, -1)).toEqual(values)
  })

  it.each([
    ['1KEY', 'v'],
    ['A-B', 'v'],
    ['KEY', 'both \' and "'],
    ['KEY', 'a\rb'],
    // python-dotenv makes one backslash of two; to it, dotenv and godotenv the last one escapes the closing quote.
    ['KEY', 'two\\\\backslashes'],
    ['KEY', 'ends in a backslash\\'],
  ])('in dotenv refuses %j with %j, and does not quote the value', (key, one) => {
    const error = refusal(() => writeDocument('dotenv', new Map([[key, one]])))
    expect(error).toMatchObject({ kind: 'malformed', code: 'KEYFERRY_FORMAT' })
    if (one !== 'v') expect(error.message).not.toContain(one)
  })

  it('is written in another format, exact numbers and nested parts kept', () => {
    const source = Buffer.from('{"N":1.50,"O":{"k":[1,null]},"T":"x y"}')
    const as = (format: 'json' | 'yaml' | 'dotenv' | 'properties') =>
      text(rewritten(format, undefined)(source))
    expect(as('json')).toBe('{"N":1.50,"O":{"k":[1,null]},"T":"x y"}\n')
    expect(as('yaml')).toBe('"N": 1.50\n"O": {"k":[1,null]}\n"T": "x y"\n')
    expect(as('dotenv')).toBe(`N=1.50\nO='{"k":[1,null]}'\nT='x y'\n`)
    expect(as('properties')).toBe('N=1.50\nO={"k":[1,null]}\nT=x y\n')
  })
})

describe('an expansion', () => {
  const source = Buffer.from('{"user":"app","pass":"p","port":5432,"tls":{"a":1}}')
  const names = (split: Parameters<typeof partsSplit>[0]) =>
    partsSplit(split)(source).map(({ name: one, bytes }) => [one, text(bytes)])
  const none = { within: undefined, only: undefined, rename: new Map<string, string>() }

  it('is a file a member, in order', () => {
    expect(names(none)).toEqual([
      ['user', 'app'],
      ['pass', 'p'],
      ['port', '5432'],
      ['tls', '{"a":1}'],
    ])
  })

  it('takes what is selected, under other names', () => {
    expect(names({ ...none, only: ['p*', 'user'], rename: new Map([['user', 'db/user']]) })).toEqual([
      ['db/user', 'app'],
      ['pass', 'p'],
      ['port', '5432'],
    ])
  })

  it.each([
    [{ ...none, only: ['nope'] }, 'not-found'],
    [{ ...none, rename: new Map([['nope', 'x']]) }, 'not-found'],
    [{ ...none, within: () => Buffer.from('[1]') }, 'malformed'],
    [{ ...none, within: () => Buffer.from('text') }, 'malformed'],
  ])('fails when what is asked for is not there', (split, kind) => {
    expect(refusal(() => names(split)).kind).toBe(kind)
  })
})
