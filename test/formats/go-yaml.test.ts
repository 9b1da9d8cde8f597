import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decodeGoYaml,
  goAny,
  goBool,
  goInt,
  goMap,
  goPointer,
  goSlice,
  goString,
  goStruct,
  goYamlErrorText,
  located,
} from '../../src/formats/go-yaml.ts'
import type { GoYamlFlavour } from '../../src/formats/go-yaml.ts'
import { formatGoFloat32 } from '../../src/formats/go-numbers.ts'
import { formatGoJson } from '../../src/formats/json.ts'
import { loadYaml } from '../../src/formats/yaml-nodes.ts'

const Target = goStruct('main.T', {
  s: goString,
  n: goInt('int32'),
  u: goInt('uint32'),
  b: goBool,
  objectName: goString,
  list: goSlice(goString),
  map: goMap(goString),
})

/** The one field of `text`, or the error text. */
function field(name: keyof ReturnType<typeof Target.zero>, text: string, flavour: GoYamlFlavour): unknown {
  const { value, problems } = decodeGoYaml(text, flavour, Target)
  return problems.length === 0 ? value[name] : goYamlErrorText(problems)
}
const string3 = (scalar: string) => field('s', `s: ${scalar}\n`, 'yaml3')
const stringSigs = (scalar: string) => field('s', `s: ${scalar}\n`, 'sigs')
const isError = (result: unknown) => typeof result === 'string' && result.startsWith('yaml: ')

// Every expectation in this file was compared with yaml.v3 3.0.1 and sigs.k8s.io/yaml 1.4.0 built with Go.

describe('string fields', () => {
  it.each([
    ['yes', 'yes', 'true'],
    ['y', 'y', 'true'],
    ['on', 'on', 'true'],
    ['True', 'True', 'true'],
    ['No', 'No', 'false'],
    ['off', 'off', 'false'],
    ['0644', '0644', '420'],
    ['0o600', '0o600', '384'],
    ['0x10', '0x10', '16'],
    ['0b11', '0b11', '3'],
    ['010', '010', '8'],
    ['1_000', '1_000', '1000'],
    ['1e3', '1e3', '1000'],
    ['1.0', '1.0', '1'],
    ['+1', '+1', '1'],
    ['+3', '+3', '3'],
    ['08', '08', '8'],
    ['0800', '0800', '800'],
    ['1.50', '1.50', '1.5'],
    ['1.', '1.', '1'],
    ['.5', '.5', '0.5'],
    ['1e6', '1e6', '1e+06'],
    ['1234567.0', '1234567.0', '1.234567e+06'],
    ['123456789.5', '123456789.5', '1.2345679e+08'],
    ['0.000001', '0.000001', '1e-06'],
    ['3.14159265358', '3.14159265358', '3.1415927'],
    ['1e400', '1e400', '1e400'],
    ['.inf', '.inf', '+Inf'],
    ['-.inf', '-.inf', '-Inf'],
    ['.nan', '.nan', 'NaN'],
    ['18446744073709551615', '18446744073709551615', '18446744073709551615'],
    ['100000000000000000000', '100000000000000000000', '1e+20'],
    ['00000000000000000000000000000012', '00000000000000000000000000000012', '10'],
    ['0b-11', '0b-11', '-3'],
    ['0o-17', '0o-17', '0o-17'],
    ['null', '', ''],
    ['~', '', ''],
    ['', '', ''],
    ['2024-01-01', '2024-01-01', '2024-01-01'],
    ['12:30:45', '12:30:45', '12:30:45'],
    ['1:20', '1:20', '1:20'],
    ['=', '=', '='],
    ['"0644"', '0644', '0644'],
    ["'yes'", 'yes', 'yes'],
    ['!!str 0644', '0644', '0644'],
    ['!foo 0644', '0644', '0644'],
    ['!!binary aGk=', 'hi', 'hi'],
    ['!!int "0400"', '0400', '256'],
    ['|\n  x\n  y\n', 'x\ny\n', 'x\ny\n'],
  ])('dependencies 9: the scalar %j is %j for yaml.v3 and %j for sigs', (scalar, yaml3, sigs) => {
    expect(string3(scalar)).toBe(yaml3)
    expect(stringSigs(scalar)).toBe(sigs)
  })

  it.each(['[1]', '{a: 1}', '!!binary a', '!!int abc', '"a\u0007b"'])(
    'refuses %j where a string is wanted',
    (scalar) => {
      expect(string3(scalar)).toSatisfy(isError)
      expect(stringSigs(scalar)).toSatisfy(isError)
    },
  )
})

describe('integer fields', () => {
  it.each([
    ['0644', 420],
    ['0o644', 420],
    ['0x1A4', 420],
    ['0_600', 384],
    ['0b111', 7],
    ['4_20', 420],
    ['384.0', 384],
    ['1e2', 100],
    ['0800', 800],
    ['!!int "0400"', 256],
    ['-1', -1],
    ['~', 0],
    ['2147483647', 2147483647],
  ])('dependencies 9: the int32 %j is %j for both', (scalar, expected) => {
    expect(field('n', `n: ${scalar}`, 'yaml3')).toBe(expected)
    expect(field('n', `"n": ${scalar}`, 'sigs')).toBe(expected)
  })

  it('gcp 4: cuts off a fraction for yaml.v3 and refuses it for sigs', () => {
    expect(field('n', 'n: 420.7', 'yaml3')).toBe(420)
    expect(field('n', '"n": 420.7', 'sigs')).toSatisfy(isError)
  })

  it.each([
    '"0600"',
    "'0400'",
    '!!str 0400',
    'yes',
    'true',
    '[1]',
    '99999999999',
    '2147483648',
    '.nan',
    '.inf',
  ])('gcp 4: refuses %j as an int32', (scalar) => {
    expect(field('n', `n: ${scalar}`, 'yaml3')).toSatisfy(isError)
    expect(field('n', `"n": ${scalar}`, 'sigs')).toSatisfy(isError)
  })

  it('vault 2.4: takes a uint32 up to its end and refuses negatives', () => {
    expect(field('u', 'u: 4294967295', 'yaml3')).toBe(4294967295)
    expect(field('u', 'u: 4294967296', 'yaml3')).toSatisfy(isError)
    expect(field('u', 'u: -1', 'yaml3')).toSatisfy(isError)
  })

  it('words a mismatch as Go does, with at most ten characters of the scalar', () => {
    expect(field('n', 's: a\nn: x', 'yaml3')).toBe(
      'yaml: unmarshal errors:\n  line 2: cannot unmarshal !!str `x` into int32',
    )
    expect(field('n', 'n: abcdefghijklm', 'yaml3')).toBe(
      'yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `abcdefg...` into int32',
    )
  })
})

describe('bool fields', () => {
  it.each(['yes', 'on', 'true', 'Y', 'On'])('dependencies 9: takes %s as true', (word) => {
    expect(field('b', `b: ${word}`, 'yaml3')).toBe(true)
    expect(field('b', `b: ${word}`, 'sigs')).toBe(true)
  })

  it.each(['"true"', '1', 'ja'])('refuses %s', (word) => {
    expect(field('b', `b: ${word}`, 'yaml3')).toSatisfy(isError)
    expect(field('b', `b: ${word}`, 'sigs')).toSatisfy(isError)
  })
})

describe('field names and duplicates', () => {
  it('dependencies 9: yaml.v3 wants the exact name, sigs any case', () => {
    expect(field('objectName', 'OBJECTNAME: x', 'yaml3')).toBe('')
    expect(field('objectName', 'OBJECTNAME: x', 'sigs')).toBe('x')
  })

  it('aws 3: of two spellings the one last in byte order wins, of one spelling the last', () => {
    expect(field('objectName', 'objectName: a\nObjectName: b', 'sigs')).toBe('a')
    expect(field('objectName', 'objectName: a\nobjectName: b', 'sigs')).toBe('b')
  })

  it('leaves a field alone when a later spelling is null, as JSON does', () => {
    expect(field('objectName', 'ObjectName: a\nobjectName: ~', 'sigs')).toBe('a')
  })

  it('dependencies 9: yaml.v3 refuses a duplicate key and names both lines', () => {
    expect(field('s', 's: 1\nb: true\ns: 2', 'yaml3')).toBe(
      'yaml: unmarshal errors:\n  line 3: mapping key "s" already defined at line 1',
    )
  })

  it('takes __proto__ and constructor as ordinary names', () => {
    const text = '{"map": {"__proto__": "a", "constructor": "b"}, "__proto__": {"s": "x"}}'
    for (const flavour of ['yaml3', 'sigs'] as const) {
      const { value, problems } = decodeGoYaml(text, flavour, Target)
      expect(problems).toEqual([])
      expect([...value.map]).toEqual([
        ['__proto__', 'a'],
        ['constructor', 'b'],
      ])
      expect(value.s).toBe('')
    }
  })

  it('reports an unknown field with its place when the list is strict', () => {
    const strict = goStruct('secret', { name: goString }, { unknown: 'problem' })
    expect(decodeGoYaml('- name: a\n  nmae: b', 'yaml3', goSlice(strict)).problems).toEqual([
      { message: 'field nmae not found in type secret', line: 2, column: 3 },
    ])
  })
})

describe('merge keys', () => {
  const map = (text: string, flavour: GoYamlFlavour) => {
    const { value, problems } = decodeGoYaml(text, flavour, goMap(goString))
    return problems.length > 0 ? goYamlErrorText(problems) : Object.fromEntries(value)
  }

  it('merge one mapping and lists of mappings, the earlier first', () => {
    const text = '<<: [{a: "1"}, {a: "2", c: "3"}]\nd: "1"'
    expect(map(text, 'yaml3')).toEqual({ a: '1', c: '3', d: '1' })
    expect(map(text, 'sigs')).toEqual({ a: '1', c: '3', d: '1' })
  })

  it('let own keys win: for yaml.v3 wherever they stand, for sigs only below the merge', () => {
    expect(map('a: "1"\n<<: {a: "2"}', 'yaml3')).toEqual({ a: '1' })
    expect(map('a: "1"\n<<: {a: "2"}', 'sigs')).toEqual({ a: '2' })
    expect(map('<<: {a: "2"}\na: "1"', 'sigs')).toEqual({ a: '1' })
  })

  it('do not merge when quoted', () => {
    expect(map('"<<": x', 'yaml3')).toEqual({ '<<': 'x' })
  })

  it('must be of mappings', () => {
    expect(map('<<: 1', 'yaml3')).toBe(
      'yaml: line 1: map merge requires map or sequence of maps as the value',
    )
  })
})

describe('lists and pointers', () => {
  const Entry = goStruct('main.Entry', { s: goString, mode: goPointer(goInt('int32')) })

  it('vault 2.4: yaml.v3 drops a null item, sigs makes it empty, a slice of pointers keeps it', () => {
    const text = '- s: a\n-\n- s: b'
    expect(decodeGoYaml(text, 'yaml3', goSlice(Entry)).value.map(({ s }) => s)).toEqual(['a', 'b'])
    expect(decodeGoYaml(text, 'sigs', goSlice(Entry)).value.map(({ s }) => s)).toEqual(['a', '', 'b'])
    for (const flavour of ['yaml3', 'sigs'] as const) {
      expect(decodeGoYaml(text, flavour, goSlice(goPointer(Entry))).value[1]).toBeUndefined()
    }
  })

  it('gcp 4: a pointer tells absent and null from zero', () => {
    const modes = decodeGoYaml('- {mode: 0}\n- {mode: ~}\n- {}', 'yaml3', goSlice(Entry)).value
    expect(modes.map(({ mode }) => mode)).toEqual([0, undefined, undefined])
  })

  it('tells where an item stands', () => {
    const { value } = decodeGoYaml('\n- s: a\n\n-   s: b', 'yaml3', goSlice(located(Entry)))
    expect(value.map((item) => [item?.line, item?.column])).toEqual([
      [2, 3],
      [4, 5],
    ])
  })

  it('azure 4: scalars of any kind become text in a list of strings', () => {
    const { value } = decodeGoYaml(
      'array: [012, true, ~, 1.0]',
      'yaml3',
      goStruct('T', { array: goSlice(goString) }),
    )
    expect(value.array).toEqual(['012', 'true', '1.0'])
  })
})

describe('documents', () => {
  it.each(['', '---', '# only a comment', 'null', '~'])('take %j as nothing', (text) => {
    expect(decodeGoYaml(text, 'yaml3', goSlice(goString))).toEqual({ value: [], problems: [] })
    expect(decodeGoYaml(text, 'sigs', goSlice(goString))).toEqual({ value: [], problems: [] })
  })

  it.each([
    's: a\n---\ns: b',
    's: a\n...\ngarbage: [',
    's: a\n---\n]]]',
    '\uFEFFs: a',
    '{"s": "a"}',
    's: a\r\n',
    '%YAML 1.1\n---\ns: a',
  ])('read the first document of %j only', (text) => {
    expect(field('s', text, 'yaml3')).toBe('a')
    expect(field('s', text, 'sigs')).toBe('a')
  })

  it.each([
    's:\n\tn: 1',
    '%YAML 1.2\n---\ns: a',
    's: }',
    's: "a',
    's: a: b',
    's: *nowhere',
    's: &x [*x]',
    's: @a',
    '? [a]\n: b',
    'plain',
    '- a',
  ])('refuse %j', (text) => {
    expect(field('s', text, 'yaml3')).toSatisfy(isError)
    expect(field('s', text, 'sigs')).toSatisfy(isError)
  })

  it('name the line of a syntax error', () => {
    expect(field('s', 's: a\nn: 1\nb: [', 'yaml3')).toMatch(/^yaml: line 3: /)
  })

  it('gcp 7: read UTF-16 with a byte-order mark and refuse invalid UTF-8', () => {
    const utf16 = Buffer.from('\uFEFFs: é', 'utf16le')
    expect(decodeGoYaml(utf16, 'yaml3', Target).value.s).toBe('é')
    expect(decodeGoYaml(Buffer.from(utf16).swap16(), 'yaml3', Target).value.s).toBe('é')
    expect(decodeGoYaml(Buffer.from([0x73, 0x3a, 0x20, 0xff]), 'yaml3', Target).problems).toEqual([
      { message: 'the text is not UTF-8' },
    ])
  })
})

describe('any values', () => {
  const Args = goStruct('T', { args: goPointer(goMap(goAny)) })
  const json = (args: string) => {
    const { value, problems } = decodeGoYaml(`args:\n  k: ${args}`, 'yaml3', Args)
    return problems.length > 0 ? goYamlErrorText(problems) : formatGoJson(value.args?.get('k') ?? null)
  }

  it.each([
    ['yes', '"yes"'],
    ['n', '"n"'],
    ['true', 'true'],
    ['0755', '493'],
    ['08', '8'],
    ['1.0', '1'],
    ['1e3', '1000'],
    ['18446744073709551615', '18446744073709551615'],
    ['100000000000000000000', '100000000000000000000'],
    ['1e21', '1e+21'],
    ['1e-7', '1e-7'],
    ['1e400', '"1e400"'],
    ['2001-12-14', '"2001-12-14T00:00:00Z"'],
    ['2001-12-14t21:59:43.10-05:00', '"2001-12-14T21:59:43.1-05:00"'],
    ['2001-2-30', '"2001-2-30"'],
    ['!!binary aGk=', '"hi"'],
    ['190:20:30', '"190:20:30"'],
    ['{b: [1, x], a: ~}', '{"a":null,"b":[1,"x"]}'],
  ])('vault 2.4: %s reads as %s', (scalar, expected) => {
    expect(json(scalar)).toBe(expected)
  })

  it.each(['.inf', '{1: x}', '{~: x}'])('vault 2.4: refuses %s inside a value', (value) => {
    expect(json(value)).toSatisfy(isError)
  })

  it('vault 2.4: makes text of a key at the top', () => {
    const { value, problems } = decodeGoYaml('args: {1: x, 012: y}', 'yaml3', Args)
    expect(problems).toEqual([])
    expect([...(value.args?.keys() ?? [])]).toEqual(['1', '012'])
  })
})

describe('limits (T15, T17)', () => {
  const elapsed = (run: () => void) => {
    const before = performance.now()
    run()
    return performance.now() - before
  }
  const bomb = (levels: number) =>
    ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]']
      .concat(Array.from({ length: levels }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(10)}]`))
      .join('\n')

  it('T15 refuses an alias bomb of nine levels, also through merges', () => {
    expect(() => loadYaml(bomb(9))).toThrow('document contains excessive aliasing')
    const merges = Array.from({ length: 40 }, (_, i) => `m${i + 1}: &m${i + 1} {<<: [*m${i}, *m${i}]}`)
    expect(() => loadYaml(['m0: &m0 {a: 1}', ...merges].join('\n'))).toThrow('excessive aliasing')
  })

  it('accepts honest anchors', () => {
    const shared = `base: &base {a: 1, b: 2}\n${Array.from({ length: 500 }, (_, i) => `k${i}: {<<: *base, c: ${i}}`).join('\n')}`
    expect(
      decodeGoYaml(shared, 'yaml3', goMap(goMap(goString)))
        .value.get('k499')
        ?.get('b'),
    ).toBe('2')
  })

  it.each([
    ['flow lists', '['.repeat(20_000)],
    ['flow maps', '{a: '.repeat(20_000)],
    ['block lists', '- '.repeat(20_000)],
    ['keys', '? '.repeat(20_000)],
    ['indentation', Array.from({ length: 700 }, (_, i) => `${' '.repeat(i)}a:`).join('\n')],
  ])('T15 refuses %s nested too deeply', (_, text) => {
    expect(() => loadYaml(text)).toThrow('exceeded max depth')
  })

  it('reads 400 levels and refuses 501', () => {
    expect(loadYaml('['.repeat(400) + ']'.repeat(400))?.kind).toBe('list')
    expect(() => loadYaml('['.repeat(501) + ']'.repeat(501))).toThrow('exceeded max depth')
  })

  it('T14 refuses a text over its cap and a document of too many tokens', () => {
    expect(() => loadYaml('x'.repeat(11), { maxBytes: 10 })).toThrow('larger than 10 bytes')
    expect(() => loadYaml('é'.repeat(6), { maxBytes: 10 })).toThrow('larger than 10 bytes')
    expect(() => loadYaml('- a\n'.repeat(100), { maxTokens: 50 })).toThrow('more than 50 tokens')
  })

  it('T17 does not spend superlinear time on digits, keys or spaces', () => {
    const worst = [
      `s: ${'9'.repeat(300_000)}`,
      `s: 0x${'f'.repeat(300_000)}`,
      `s: ${'1_'.repeat(150_000)}`,
      `s: ${' '.repeat(300_000)}x`,
      `s: 2001-01-01T00:00:00.${'0'.repeat(300_000)}`,
    ]
    for (const text of worst) expect(elapsed(() => decodeGoYaml(text, 'yaml3', Target))).toBeLessThan(2000)
  })
})

describe('floats', () => {
  it('print as the shortest text of the same 32-bit float', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
        expect(Math.fround(Number(formatGoFloat32(value)))).toBe(value)
      }),
    )
  })
})

describe('fuzz', () => {
  const atom = fc.constantFrom(
    's',
    'n',
    'b',
    'list',
    'map',
    'objectName',
    ': ',
    ':\n',
    ' ',
    '- ',
    '\n',
    '\n  ',
    '\n- ',
    '"',
    "'",
    '[',
    ']',
    '{',
    '}',
    ',',
    '&x ',
    '*x',
    '!!str ',
    '!!int ',
    '!',
    '|',
    '>',
    '#',
    '<<: ',
    '? ',
    '1',
    '0644',
    'yes',
    '~',
    '---\n',
    '...\n',
    '\\',
    '%',
    '@',
    '`',
    '\t',
    'é',
    '\0',
    '\u2028',
    '__proto__',
    '\uD800',
  )
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(atom).map((atoms) => atoms.join('')),
  )

  it('T15 whatever comes in, there is a value or a problem, never a throw', () => {
    fc.assert(
      fc.property(text, fc.constantFrom('yaml3' as const, 'sigs' as const), (source, flavour) => {
        const typed = decodeGoYaml(source, flavour, Target)
        expect(typeof typed.value.s).toBe('string')
        decodeGoYaml(source, flavour, goAny)
      }),
      { numRuns: 500 },
    )
    expect(Object.keys(Object.prototype)).toEqual([])
  })

  it('reads back every text that JSON can quote', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', ' ', '\n', '"', '\\', ':', '#', 'é', '\t', '😀') }),
        (content) => {
          const source = `s: ${JSON.stringify(content)}`
          expect(decodeGoYaml(source, 'yaml3', Target).value.s).toBe(content)
          expect(decodeGoYaml(source, 'sigs', Target).value.s).toBe(content)
        },
      ),
    )
  })
})
