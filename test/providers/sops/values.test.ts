import * as fc from 'fast-check'
import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  canonicalFloat,
  parseInt64,
  scalarFromPlaintext,
  type TokenType,
} from '../../../src/providers/sops/canonical.ts'
import { flatten, unflatten } from '../../../src/providers/sops/flatten.ts'
import { resultOf } from '../../../src/formats/steps.ts'
import { combine } from '../../../src/providers/sops/keys/shamir.ts'
import { typeScalar } from '../../../src/providers/sops/stores/yaml-scalars.ts'
import { canonicalTime, lastModifiedAad } from '../../../src/providers/sops/time.ts'
import { aadOf, decryptToken, encryptToken, parseToken } from '../../../src/providers/sops/token.ts'
import { text, type MapTree } from '../../../src/providers/sops/tree.ts'

const KEY = randomBytes(32)

describe('tokens', () => {
  test('sops A6 a written token is read back under its own path only', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        const token = parseToken(
          Buffer.from(encryptToken({ type: 'str', bytes: Buffer.from(bytes) }, KEY, 'db:password:')),
        )
        if ('fault' in token) throw new Error(token.fault)
        expect(token.iv).toHaveLength(32)
        expect(decryptToken(token, KEY, 'db:password:')).toEqual({ type: 'str', bytes: Buffer.from(bytes) })
        expect(decryptToken(token, KEY, 'db:passwore:')).toHaveProperty('fault')
      }),
    )
  })
  test('sops A6 each flipped bit of each field is refused', () => {
    const written = encryptToken(text('correct horse'), KEY, 'a:')
    const token = parseToken(Buffer.from(written))
    if ('fault' in token) throw new Error(token.fault)
    for (const name of ['data', 'iv', 'tag'] as const) {
      for (let bit = 0; bit < token[name].length * 8; bit += 1) {
        const bytes = Buffer.from(token[name])
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        expect(decryptToken({ ...token, [name]: bytes }, KEY, 'a:')).toHaveProperty('fault')
      }
    }
  })
  test('sops A6.1 a tag of any length but 16 is refused before a cipher sees it', () => {
    const [head, tail] = encryptToken(text('x'), KEY, 'a:').split(/tag:[^,]*/) as [string, string]
    for (let length = 0; length <= 32; length += 1) {
      const token = parseToken(Buffer.from(`${head}tag:${randomBytes(length).toString('base64')}${tail}`))
      expect('fault' in token).toBe(length !== 16)
    }
  })
  test('sops A6.4 an empty value has no token', () => {
    expect(() => encryptToken(text(''), KEY, 'a:')).toThrow(RangeError)
  })
  test('sops A6 the parser answers any text and never throws', () => {
    const noise = fc.string({
      unit: fc.constantFrom(
        'ENC[AES256_GCM,',
        'data:',
        'iv:',
        'tag:',
        'type:',
        'str',
        ',',
        ']',
        '\n',
        'QQ==',
        '\u00e9',
      ),
    })
    fc.assert(
      fc.property(noise, (s) => 'fault' in parseToken(Buffer.from(s)) || s.startsWith('ENC[AES256_GCM,')),
    )
  })
  test('sops A6.3, T17 a text that made the upstream pattern take seconds is answered within one', () => {
    const slow = Buffer.from(`ENC[AES256_GCM,${'data:,iv:,tag:,type:'.repeat(50_000)}`)
    const before = performance.now()
    expect(parseToken(slow)).toHaveProperty('fault')
    expect(performance.now() - before).toBeLessThan(1000)
  })
  test('sops A6 AAD joins keys with colons and ends in one', () => {
    expect(aadOf(['db', 'password'])).toBe('db:password:')
    expect(aadOf(['foo '])).toBe('foo :')
    expect(aadOf([''])).toBe(':')
  })
})

describe('types', () => {
  const cases: [TokenType, string, unknown][] = [
    ['int', '+007', { type: 'int', value: 7n }],
    ['int', '-0', { type: 'int', value: 0n }],
    ['int', '9223372036854775807', { type: 'int', value: 2n ** 63n - 1n }],
    ['int', '9223372036854775808', undefined],
    ['int', '-9223372036854775808', { type: 'int', value: -(2n ** 63n) }],
    ['int', '0x10', undefined],
    ['int', '', undefined],
    ['float', '.5', { type: 'float', value: 0.5 }],
    ['float', '5.', { type: 'float', value: 5 }],
    ['float', 'iNf', { type: 'float', value: Infinity }],
    ['float', '-INFINITY', { type: 'float', value: -Infinity }],
    ['float', 'NaN', { type: 'float', value: Number.NaN }],
    ['float', '+nan', undefined],
    ['float', '1e400', undefined],
    ['float', '1e-400', { type: 'float', value: 0 }],
    ['float', '0x1p3', undefined],
    ['float', '1_0', undefined],
    ['bool', 'T', { type: 'bool', value: true }],
    ['bool', 'yes', undefined],
    ['bool', 'tRUE', undefined],
    ['time', '2001-12-14T21:59:43.10-05:00', { type: 'time', text: '2001-12-14T21:59:43.1-05:00' }],
    ['time', '2001-02-29T00:00:00Z', undefined],
    ['time', '2001-12-14', undefined],
    ['bytes', 'x', { type: 'str', bytes: Buffer.from('x') }],
  ]
  for (const [type, plain, expected] of cases) {
    test(`sops A7 ${type} ${JSON.stringify(plain)} is ${expected === undefined ? 'refused' : 'read'}`, () => {
      expect(scalarFromPlaintext(type, Buffer.from(plain))).toEqual(expected)
    })
  }
  test('sops A7 floats are positional with the shortest digits that round-trip', () => {
    const cases: [number, string][] = [
      [1e21, '1000000000000000000000'],
      [1, '1'],
      [1e-7, '0.0000001'],
      [-0, '-0'],
      [Infinity, '+Inf'],
      [-Infinity, '-Inf'],
      [Number.NaN, 'NaN'],
      [-1.5e-9, '-0.0000000015'],
      [123456789.125, '123456789.125'],
      [1.5e300, `15${'0'.repeat(299)}`],
    ]
    for (const [value, expected] of cases) expect(canonicalFloat(value)).toBe(expected)
    fc.assert(
      fc.property(fc.double({ noDefaultInfinity: true, noNaN: true }), (value) => {
        const printed = canonicalFloat(value)
        expect(printed).toMatch(/^-?\d+(\.\d+)?$/)
        expect(Object.is(Number(printed), value)).toBe(true)
      }),
    )
  })
  test('sops A7 int64 texts round-trip', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (n) => parseInt64(String(n)) === n),
    )
  })
  test('sops A7, A9.4 times: nine digits of fraction in values, none in the AAD', () => {
    expect(canonicalTime('2001-12-14T21:59:43.12345678901Z')).toBe('2001-12-14T21:59:43.123456789Z')
    expect(canonicalTime('2001-12-14T21:59:43,500-00:00')).toBe('2001-12-14T21:59:43.5Z')
    expect(canonicalTime('2001-12-14T21:59:43+24:00')).toBeUndefined()
    expect(canonicalTime('2001-12-14T21:59:60Z')).toBeUndefined()
    expect(canonicalTime('2001-12-14t21:59:43z')).toBeUndefined()
    expect(lastModifiedAad('2001-12-14T21:59:43.999+00:00')).toBe('2001-12-14T21:59:43Z')
    expect(lastModifiedAad('2001-12-14T21:59:43+02:00')).toBe('2001-12-14T21:59:43+02:00')
  })
})

describe('YAML scalars', () => {
  const str = (s: string): unknown => text(s)
  const int = (n: bigint): unknown => ({ type: 'int', value: n })
  const float = (n: number): unknown => ({ type: 'float', value: n })
  const time = (s: string): unknown => ({ type: 'time', text: s })
  const fault = { fault: expect.any(String) as string }
  const plain: [string, unknown][] = [
    ['', { type: 'null' }],
    ['Null', { type: 'null' }],
    ['nULL', str('nULL')],
    ['yes', str('yes')],
    ['.NaN', float(Number.NaN)],
    ['-.nan', str('-.nan')],
    ['-.Inf', float(-Infinity)],
    ['0777', int(511n)],
    ['0o17', int(15n)],
    ['0O17', int(15n)],
    ['-0b11', int(-3n)],
    ['0xfF', int(255n)],
    ['1_000', int(1000n)],
    ['_1', str('_1')],
    ['-0', int(0n)],
    ['08', float(8)],
    ['1e3', float(1000)],
    ['1e400', str('1e400')],
    ['.5', float(0.5)],
    ['.5_0', float(0.5)],
    ['._5', str('._5')],
    ['.', str('.')],
    ['+.5', float(0.5)],
    ['9223372036854775808', fault],
    ['18446744073709551615', fault],
    ['18446744073709551616', float(18446744073709552000)],
    ['-9223372036854775809', float(-(2 ** 63))],
    ['0xFFFFFFFFFFFFFFFF', fault],
    ['0x1FFFFFFFFFFFFFFFF', str('0x1FFFFFFFFFFFFFFFF')],
    ['2001-12-14', time('2001-12-14T00:00:00Z')],
    ['2001-1-2', time('2001-01-02T00:00:00Z')],
    ['2001-12-14t21:59:43.10-05:00', time('2001-12-14T21:59:43.1-05:00')],
    ['2001-12-14 21:59:43.5', time('2001-12-14T21:59:43.5Z')],
    ['2001-12-14 21:59:43 Z', str('2001-12-14 21:59:43 Z')],
    ['2001-12-14T21:59:43', str('2001-12-14T21:59:43')],
    ['2001-02-30', str('2001-02-30')],
  ]
  for (const [source, expected] of plain) {
    test(`sops A4 YAML plain ${JSON.stringify(source)} types as go-yaml does`, () => {
      expect(typeScalar(source, true)).toEqual(expected)
    })
  }
  test('sops A4 YAML anything quoted is text', () => {
    for (const [source] of plain) expect(typeScalar(source, false)).toEqual(text(source))
  })
  const tag = (name: string): string => `tag:yaml.org,2002:${name}`
  const tagged: [string, string, unknown][] = [
    ['str', '5', str('5')],
    ['int', '5', int(5n)],
    ['int', '5.5', fault],
    ['float', '5', float(5)],
    ['bool', 'true', { type: 'bool', value: true }],
    ['bool', 'yes', fault],
    ['null', '~', { type: 'null' }],
    ['null', 'x', fault],
    ['timestamp', '2001-12-14', time('2001-12-14T00:00:00Z')],
    ['timestamp', 'x', fault],
    ['binary', 'AP/+', { type: 'str', bytes: Buffer.from([0, 255, 254]) }],
    ['binary', 'AP/', fault],
  ]
  for (const [name, source, expected] of tagged) {
    test(`sops A4 YAML !!${name} ${JSON.stringify(source)} forces its type on quoted text too`, () => {
      expect(typeScalar(source, true, tag(name))).toEqual(expected)
      expect(typeScalar(source, false, tag(name))).toEqual(expected)
    })
  }
  test('sops A4 YAML other tags make text, and ! alone is no tag', () => {
    expect(typeScalar('5', true, '!mine')).toEqual(text('5'))
    expect(typeScalar('5', true, '!')).toEqual({ type: 'int', value: 5n })
  })
})

describe('flat metadata', () => {
  test('sops A5 flatten and unflatten are inverse', () => {
    const name = fc.constantFrom('age', 'enc', 'recipient', 'kms', 'a_b', 'x1')
    const { tree } = fc.letrec<{ tree: MapTree['entries'][number]['value'] }>((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.string().map((s) => text(s)),
        fc
          .array(tie('tree'), { minLength: 1, maxLength: 3 })
          .map((items) => ({ type: 'list' as const, items })),
        fc
          .uniqueArray(fc.tuple(name, tie('tree')), { selector: ([k]) => k, minLength: 1, maxLength: 3 })
          .map((pairs) => ({ type: 'map' as const, entries: pairs.map(([key, value]) => ({ key, value })) })),
      ),
    }))
    const block = fc
      .uniqueArray(fc.tuple(name, tree), { selector: ([k]) => k, maxLength: 4 })
      .map((pairs): MapTree => ({ type: 'map', entries: pairs.map(([key, value]) => ({ key, value })) }))
    fc.assert(
      fc.property(block, (map) => {
        expect(resultOf(unflatten(flatten(map)))).toEqual(map)
      }),
    )
  })
  test('sops A5 contradictions, gaps and doubles are METADATA_INVALID', () => {
    const names = [
      ['a', 'a__map_b'],
      ['a__map_b', 'a'],
      ['a__map_b', 'a__list_0'],
      ['a__list_1'],
      ['a__list_0', 'a__list_00'],
      ['a__list_x'],
      ['a', 'a'],
    ]
    for (const list of names) {
      expect(() => resultOf(unflatten(list.map((name) => ({ name, value: text('v') }))))).toThrow(
        expect.objectContaining({ code: 'METADATA_INVALID' }) as Error,
      )
    }
  })
  test('sops A5, T16 names such as __proto__ are only names', () => {
    const map = resultOf(unflatten([{ name: '__proto____map_polluted', value: text('yes') }]))
    expect(map.entries[0]?.key).toBe('__proto__')
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  })
})

describe('Shamir', () => {
  test('sops A10 any two points of a line give its value at 0', () => {
    // Over bytes: y = secret ^ slope·x with x 1 and 2, where doubling is the field's.
    const double = (a: number): number => ((a << 1) ^ (a & 0x80 ? 0x11b : 0)) & 0xff
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        (secret, slope) => {
          const share = (x: number, times: (a: number) => number): Buffer =>
            Buffer.from([...secret.map((s, i) => s ^ times(slope[i] ?? 0)), x])
          const one = share(1, (a) => a)
          const two = share(2, double)
          const three = share(3, (a) => a ^ double(a))
          for (const pair of [
            [one, two],
            [three, one],
            [two, three],
            [one, two, three],
          ]) {
            expect(combine(pair)).toEqual(Buffer.from(secret))
          }
        },
      ),
    )
  })
  test('sops A10 x = 0, a repeated x, a wrong length and a single share are refused', () => {
    const share = (x: number, length = 32): Buffer => Buffer.concat([randomBytes(length), Buffer.from([x])])
    expect(combine([share(0), share(1)])).toBeUndefined()
    expect(combine([share(1), share(1)])).toBeUndefined()
    expect(combine([share(1), share(2, 31)])).toBeUndefined()
    expect(combine([share(1)])).toBeUndefined()
  })
})
