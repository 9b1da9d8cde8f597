import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatGoJson, JsonNumber } from '../../src/formats/json.ts'
import type { JsonValue } from '../../src/formats/json.ts'
import { decodeLikeGo, JsonError, parseJson } from '../../src/formats/json-parse.ts'

const again = (text: string) => formatGoJson(parseJson(text))

// Compared with Go's encoding/json.
describe('writing JSON as Go does', () => {
  it.each([
    ['{"b":1,"a":2}', '{"a":2,"b":1}'],
    ['{"\u{1F600}":1,"\uFFEE":2}', '{"\uFFEE":2,"\u{1F600}":1}'],
    ['"<a>&\u2028\u2029"', '"\\u003ca\\u003e\\u0026\\u2028\\u2029"'],
    ['"\\b\\f\\n\\r\\t\\u0000\\u001f\\/\u007fé"', '"\\b\\f\\n\\r\\t\\u0000\\u001f/\u007fé"'],
    ['[ 1.0 , -0 , 1e3, 12345678901234567890 ]', '[1.0,-0,1e3,12345678901234567890]'],
    ['{"a":1,"a":2}', '{"a":2}'],
    ['"\\ud800"', '"\uFFFD"'],
    ['{"__proto__":{"x":1},"constructor":null}', '{"__proto__":{"x":1},"constructor":null}'],
    ['[true,false,null,{},[]]', '[true,false,null,{},[]]'],
  ])('vault 5.3: %s becomes %s', (text, expected) => {
    expect(again(text)).toBe(expected)
  })

  it('agrees with JSON.parse on whatever JSON.stringify writes', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value)
        expect(JSON.parse(again(text))).toEqual(JSON.parse(text))
      }),
    )
  })
})

describe('reading JSON', () => {
  it.each([
    '',
    '[',
    '"a',
    '{"a"',
    '{"a":1,}',
    '[1,]',
    '{a:1}',
    "'a'",
    'nul',
    'truex',
    'NaN',
    '01',
    '1.',
    '.5',
    '+1',
    '-',
    '1 2',
    '\uFEFF1',
    '"\t"',
    '"\\x41"',
    '"\\u12"',
    '\u00a01',
  ])('refuses %j as Go does, without quoting it', (text) => {
    expect(() => parseJson(text)).toThrow(JsonError)
  })

  it('never has content in its messages', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 12, unit: 'grapheme' }), (secret) => {
        try {
          parseJson(`{"k": ${secret}`)
        } catch (error) {
          expect(error instanceof JsonError && !error.message.includes(secret)).toBe(true)
        }
      }),
    )
  })

  it('keeps the digits of numbers, and refuses those beyond float64 when asked', () => {
    expect(parseJson('1e400')).toEqual(new JsonNumber('1e400'))
    expect(() => parseJson('1e400', { float64: true })).toThrow('beyond float64')
  })

  it('gcp 7: replaces every byte that is not UTF-8 by one U+FFFD', () => {
    expect(parseJson(Buffer.from([0x22, 0xf0, 0x9f, 0x98, 0x22]))).toBe('\uFFFD\uFFFD\uFFFD')
    expect(decodeLikeGo(Buffer.from([0x61, 0xc0, 0x80, 0xed, 0xa0, 0x80, 0xc3, 0xa9, 0xff]))).toBe(
      'a\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDé\uFFFD',
    )
  })

  it('T14 refuses what is too long, too deep or too much', () => {
    expect(() => parseJson('"aaaa"', { maxBytes: 5 })).toThrow('more than 5 bytes')
    expect(() => parseJson('"éé"', { maxBytes: 5 })).toThrow('more than 5 bytes')
    expect(() => parseJson('['.repeat(501) + ']'.repeat(501))).toThrow('nested too deeply')
    expect(() => parseJson('['.repeat(1_000_000))).toThrow('nested too deeply')
    expect(() => parseJson('[1,2,3]', { maxValues: 3 })).toThrow('too many')
    expect(parseJson('['.repeat(500) + ']'.repeat(500))).toBeInstanceOf(Array)
  })

  it('T16 makes objects without prototypes', () => {
    const value = parseJson('{"a":1}')
    expect(value).toBeInstanceOf(Map)
    expect((value as ReadonlyMap<string, JsonValue>).get('toString')).toBeUndefined()
  })

  it('never throws anything but a JsonError', () => {
    const text = fc.string({
      unit: fc.constantFrom(
        '{',
        '}',
        '[',
        ']',
        '"',
        ':',
        ',',
        '\\',
        'u',
        '1',
        '-',
        'e',
        '.',
        't',
        'rue',
        ' ',
        '\ud800',
      ),
    })
    fc.assert(
      fc.property(text, (source) => {
        try {
          parseJson(source)
        } catch (error) {
          expect(error).toBeInstanceOf(JsonError)
        }
      }),
      { numRuns: 1000 },
    )
  })
})
