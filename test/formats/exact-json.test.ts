/** Reading JSON without losing a digit. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { JsonSyntaxError, parseExactJson } from '../../src/formats/exact-json.ts'
import { formatGoJson } from '../../src/formats/json.ts'

describe('exact JSON', () => {
  it.each([
    '12345678901234567890',
    '1.0',
    '-0',
    '1e3',
    '1E+400',
    'null',
    'true',
    'false',
    '""',
    '[]',
    '{}',
    '[1,[2,{"a":null}]]',
    '{"__proto__":1,"constructor":{}}',
  ])('%s comes out as it went in', (text) => {
    expect(formatGoJson(parseExactJson(text))).toBe(text)
  })

  it('the last duplicate wins, text after the value is ignored, lone surrogates are replaced', () => {
    expect(formatGoJson(parseExactJson('{"a":1,"a":2} trailing'))).toBe('{"a":2}')
    expect(formatGoJson(parseExactJson('"\\ud800x\\udc00"'))).toBe('"\ufffdx\ufffd"')
    expect(parseExactJson('"\\ud83d\\ude00\\u0041\\/"')).toBe('😀A/')
  })

  it.each([
    '',
    ' ',
    '{',
    '[1',
    '[1,]',
    '{"a"}',
    '{"a":}',
    '{a:1}',
    "'a'",
    '"a',
    '"\n"',
    '"\\x"',
    '"\\u12"',
    '01',
    '1.',
    '.5',
    '+1',
    'tru',
    'nul',
    'NaN',
    '['.repeat(501),
  ])('T16 %j is a syntax error that does not quote the text', (text) => {
    // Go's decoder, too, reads 0 from "01" and 1 from "1.".
    if (text === '01' || text === '1.') return expect(formatGoJson(parseExactJson(text))).toBe(text[0])
    expect(() => parseExactJson(text)).toThrow(JsonSyntaxError)
  })

  it('property: it reads what JSON.stringify writes, as JSON.parse does', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value)
        expect(JSON.parse(formatGoJson(parseExactJson(text)))).toEqual(JSON.parse(text))
      }),
    )
  })

  it('property: no text makes it throw anything but its own error', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'{}[]",:\\u0019eE+-.tfn '.split('')), maxLength: 40 }),
        (text) => {
          try {
            parseExactJson(text)
          } catch (error) {
            expect(error).toBeInstanceOf(JsonSyntaxError)
          }
        },
      ),
    )
  })
})
