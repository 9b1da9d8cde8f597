/** Templates of the keyferry dialect with values: what is written, each escaping against an independent reader. */
import { execFileSync } from 'node:child_process'
import fc from 'fast-check'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { SelectError } from '../../../src/providers/adapter.ts'
import { writeDocument } from '../../../src/providers/keyferry/documents.ts'
import { createTemplateCompiler } from '../../../src/providers/keyferry/template-engine.ts'
import { ESCAPES, FILTERS, type Escape } from '../../../src/providers/keyferry/template-filters.ts'

const compile = createTemplateCompiler()

interface Options {
  readonly escape?: Escape | undefined
  /** Names without a value. */
  readonly absent?: readonly string[]
  readonly maxBytes?: number
}
type Values = Readonly<Record<string, string | Uint8Array>>

function rendered(text: string, values: Values, options: Options = {}): string {
  const { escape, absent = [], maxBytes = 1024 * 1024 } = options
  const names = new Set([...Object.keys(values), ...absent])
  const compiled = compile({ text, escape, names, maxBytes })
  if ('faults' in compiled) throw new Error(compiled.faults.map(({ message }) => message).join('; '))
  const bytes = new Map(Object.entries(values).map(([name, value]) => [name, Buffer.from(value)]))
  return Buffer.from(compiled.render(bytes)).toString()
}

function refusal(...parameters: Parameters<typeof rendered>): SelectError {
  try {
    rendered(...parameters)
  } catch (error) {
    if (error instanceof SelectError) return error
    throw error
  }
  return expect.unreachable('it was rendered')
}

/** Texts as secrets are: anything in UTF-8. */
const anyText = fc.string({ unit: 'binary', maxLength: 40 }).map((text) => text.toWellFormed())
const ODD = 'a"b c/ü'

describe('a filter', () => {
  // The table of docs/templates.md.
  it.each([
    ['json', String.raw`"a\"b c/ü"`],
    ['yaml', String.raw`"a\"b c/ü"`],
    ['dotenv', `'a"b c/ü'`],
    ['properties', String.raw`a"b c/\u00fc`],
    ['shell', `'a"b c/ü'`],
    ['url', 'a%22b%20c%2F%C3%BC'],
    ['xml', 'a&quot;b c/ü'],
    ['base64', 'YSJiIGMvw7w='],
    ['base64url', 'YSJiIGMvw7w'],
    ['raw', ODD],
    ['append: "!"', `${ODD}!`],
    ['prepend: "!"', `!${ODD}`],
    ['upcase', 'A"B C/Ü'],
    ['downcase', ODD],
    ['strip', ODD],
    ['default: "x"', ODD],
  ])('%s gives what the documentation says', (filter, expected) => {
    expect(rendered(`{{ v | ${filter} }}`, { v: ODD })).toBe(expected)
  })

  it('json is read back by JSON.parse', () => {
    fc.assert(
      fc.property(anyText, (v) => {
        expect(JSON.parse(rendered('[{{ v | json }}]', { v }))).toEqual([v])
      }),
    )
  })

  it('yaml is read back by a YAML reader, in a block and in brackets', () => {
    fc.assert(
      fc.property(anyText, (v) => {
        const source = rendered('a: {{ v | yaml }}\nb: [{{ v | yaml }}]\n', { v })
        expect(parse(source)).toEqual({ a: v, b: [v] })
      }),
    )
  })

  it('shell is one word for a shell', () => {
    const words = fc.array(
      anyText.filter((text) => !text.includes('\0')),
      { minLength: 1, maxLength: 5 },
    )
    fc.assert(
      fc.property(words, (list) => {
        const names = list.map((_, index) => `v${index}`)
        const script = rendered(
          `printf '%s\\0' ${names.map((name) => `{{ ${name} | shell }}`).join(' ')}`,
          Object.fromEntries(list.map((text, index) => [`v${index}`, text])),
        )
        expect(execFileSync('sh', ['-c', script]).toString().split('\0').slice(0, -1)).toEqual(list)
      }),
      { numRuns: 30 },
    )
  })

  it('url is read back from every part of a URL', () => {
    fc.assert(
      fc.property(anyText, (v) => {
        const source = rendered('https://{{ v | url }}:{{ v | url }}@h/{{ v | url }}?q={{ v | url }}', { v })
        expect(source).toMatch(/^[A-Za-z0-9\-._~%:/?@=]*$/)
        const { username, password, searchParams } = new URL(source)
        expect([username, password].map(decodeURIComponent)).toEqual([v, v])
        expect(searchParams.get('q')).toBe(v)
      }),
    )
  })

  it.each(['properties', 'dotenv'] as const)('%s is what documents of that format have', (format) => {
    fc.assert(
      fc.property(anyText, (v) => {
        let expected = ''
        try {
          expected = Buffer.from(writeDocument(format, new Map([['K', v]]))).toString()
        } catch {
          expect(refusal(`K={{ v | ${format} }}\n`, { v }).code).toBe('KEYFERRY_FORMAT')
          return
        }
        expect(rendered(`K={{ v | ${format} }}\n`, { v })).toBe(expected)
      }),
    )
  })

  it('xml leaves nothing that could end a text or an attribute', () => {
    expect(rendered('{{ v | xml }}', { v: `<a b='"'>&\n` })).toBe('&lt;a b=&apos;&quot;&apos;&gt;&amp;&#10;')
    expect(refusal('{{ v | xml }}', { v: 'a\u0001' }).message).toContain('XML cannot hold')
  })

  it('base64 and base64url take any bytes, and no other does', () => {
    const v = Buffer.from([0xff, 0x00, 0xfe])
    expect(rendered('{{ v | base64 }} {{ v | base64url }}', { v })).toBe('/wD+ _wD-')
    for (const filter of FILTERS.keys()) {
      if (/^(?:base64|base64url|default|join)$/.test(filter)) continue
      const argument = FILTERS.get(filter)?.args === 1 ? ': "x"' : ''
      const error = refusal(`one\n{{ v | ${filter}${argument} }}`, { v })
      expect(error).toMatchObject({ kind: 'malformed', code: 'KEYFERRY_TEMPLATE_VALUE' })
      expect(error.message).toBe(
        `template line 2: {{ v | ${filter}${argument} }}: the value is not UTF-8 text`,
      )
    }
    expect(refusal('{{ v }}', { v }).remedy).toContain('base64')
    expect(refusal('{{ "x" | append: v }}', { v }).code).toBe('KEYFERRY_TEMPLATE_VALUE')
  })

  it('join makes one text of a list', () => {
    expect(rendered('{{ v.x | join: ", " }}', { v: '{"x":["a",1,null,{"b":true}]}' })).toBe(
      'a, 1, , {"b":true}',
    )
    expect(refusal('{{ v | join: "," }}', { v: 'a' }).message).toContain('not a list')
  })

  it.each(['', 'null', 'false'])('default stands in for %j', (value) => {
    expect(rendered('{{ v.x | default: "y" }}', { v: `{"x":${value === '' ? '""' : value}}` })).toBe('y')
  })
})

describe('escape', () => {
  it.each(ESCAPES)('%s ends every output without an escaping filter', (escape) => {
    const v = escape === 'dotenv' ? 'a b' : `a'b"c <d>\n`
    expect(rendered('{{ v }}', { v }, { escape })).toBe(rendered(`{{ v | ${escape} }}`, { v }))
    expect(rendered('{{ v | append: "x" }}', { v }, { escape })).toBe(
      rendered(`{{ v | append: "x" | ${escape} }}`, { v }),
    )
  })

  it.each(ESCAPES)('%s leaves alone what an escaping filter made, and raw', (escape) => {
    for (const filter of ['raw', 'url', 'base64', escape])
      expect(rendered(`{{ v | ${filter} }}`, { v: 'a b' }, { escape })).toBe(
        rendered(`{{ v | ${filter} }}`, { v: 'a b' }),
      )
  })

  it('json keeps what JSON has', () => {
    const v = '{"s":"x","n":1.50,"big":12345678901234567890,"b":false,"z":null,"o":{"k":[1]}}'
    const text = '[{{ v.s }},{{ v.n }},{{ v.big }},{{ v.b }},{{ v.z }},{{ v.o }}]'
    expect(rendered(text, { v }, { escape: 'json' })).toBe(
      '["x",1.50,12345678901234567890,false,null,{"k":[1]}]',
    )
  })
})

describe('names and members', () => {
  const db =
    '{"user":"app","tls.crt":"PEM","n":5432,"f":1.0,"list":["a","b"],"o":{"x":{"y":"deep"}},"z":null}'

  it.each([
    ['{{ db.user }}', 'app'],
    ['{{ db["tls.crt"] }}', 'PEM'],
    ['{{ db.n }}/{{ db.f }}', '5432/1.0'],
    ['{{ db.list[1] }}{{ db.list.first }}{{ db.list.last }}{{ db.list.size }}', 'bab2'],
    ['{{ db.o.x.y }}{{ db.z }}', 'deep'],
    ['{{ db.o }}', '{"x":{"y":"deep"}}'],
    ['{{ db[key] }}', 'app'],
    ['{{ ["odd name"] }}', 'odd'],
    ['{% if db.n == 5432 %}=={% endif %}{% if db.n > 10 and db.user != "x" %}>{% endif %}', '==>'],
    ['{% unless db.f < 1 %}no{% endunless %}', 'no'],
    [
      '{% for x in db.list %}{{ forloop.index }}{{ x }}{% unless forloop.last %},{% endunless %}{% endfor %}',
      '1a,2b',
    ],
    ['{% for x in db.o.x %}{{ x[0] }}={{ x[1] }}{% else %}none{% endfor %}', 'y=deep'],
    ['{% for x in empty_list %}{{ x }}{% else %}none{% endfor %}', 'none'],
    ['a  {{- key -}}  b', 'auserb'],
    ['{% comment %}{% nothing %}{{ here }}{% endcomment %}{% raw %}{{ db }}{% endraw %}', '{{ db }}'],
    ['{% if db.z %}1{% elsif nope %}2{% else %}3{% endif %}', '3'],
    ['{{ nope | default: key }}', 'user'],
  ])('%s', (text, expected) => {
    const values = { db, key: 'user', 'odd name': 'odd', empty_list: '[]' }
    expect(rendered(text, values, { absent: ['nope'] })).toBe(expected)
  })

  it.each([
    ['{{ nope }}', 'template line 1: "nope" is not there'],
    ['\n\n  {{ db.pasword }}', 'template line 3: "db.pasword" is not there'],
    ['{{ db.user.x }}', 'template line 1: "db.user.x" is not there'],
    ['{{ db[secret] }}', 'template line 1: "db[secret]" is not there'],
    ['{% for x in db.nope %}{% endfor %}', 'template line 1: "db.nope" is not there'],
    ['{{ db.list[9] }}', 'template line 1: "db.list[9]" is not there'],
    ['{{ db.user.size }}', 'template line 1: "db.user.size" is not there'],
  ])('%s names line and name, and neither a value nor what there is', (text, message) => {
    const error = refusal(text, { db, secret: 'hunter2' }, { absent: ['nope'] })
    expect(error).toMatchObject({ kind: 'malformed', code: 'KEYFERRY_TEMPLATE_NAME', message })
    expect(`${error.message}${error.remedy}${error.stack}`).not.toMatch(/hunter2|app|PEM/)
  })

  it('a name with members that is no JSON is told with its first place', () => {
    const error = refusal('a\n{{ db.user }}', { db: 'user=app' })
    expect(error.code).toBe('KEYFERRY_NOT_JSON')
    expect(error.message).toMatch(/^template line 2: "db": the value is not JSON/)
    expect(error.message).not.toContain('app')
  })

  it.each([
    'constructor',
    '__proto__',
    'prototype',
    'toString',
    'valueOf',
    'hasOwnProperty',
    '__defineGetter__',
  ])('T16 %s is a name and a member like any other', (name) => {
    const own = `{${JSON.stringify(name)}:"own"}`
    expect(rendered(`{{ db.${name} }}`, { db: own })).toBe('own')
    expect(rendered(`{{ ${name} }}`, Object.fromEntries([[name, 'own']]))).toBe('own')
    for (const text of [
      `{{ db.${name} }}`,
      `{{ db["${name}"] }}`,
      `{{ db.l.${name} }}`,
      `{{ db.s.${name} }}`,
    ])
      expect(refusal(text, { db: '{"l":[1],"s":"x"}' }).code).toBe('KEYFERRY_TEMPLATE_NAME')
    expect(refusal(`{% for x in db %}{{ forloop.${name} }}{% endfor %}`, { db: '[1]' }).code).toBe(
      'KEYFERRY_TEMPLATE_NAME',
    )
    expect(refusal(`{{ ${name} }}`, {}, { absent: [name] }).code).toBe('KEYFERRY_TEMPLATE_NAME')
  })

  it('the same template renders with other values without a trace of the first', () => {
    const compiled = compile({ text: '{{ v }}', escape: undefined, names: new Set(['v']), maxBytes: 10 })
    if ('faults' in compiled) throw new Error('it has faults')
    expect(Buffer.from(compiled.render(new Map([['v', Buffer.from('one')]]))).toString()).toBe('one')
    expect(Buffer.from(compiled.render(new Map([['v', Buffer.from('two')]]))).toString()).toBe('two')
    expect(() => compiled.render(new Map())).toThrow('"v" is not there')
  })

  it('a template renders after many others have been read, which takes its place in memory', () => {
    const names = new Set(['v'])
    const made = Array.from({ length: 60 }, (_, index) =>
      compile({ text: `${index}${'{{ v }}'.repeat(290)}`, escape: undefined, names, maxBytes: 1000 }),
    )
    for (const [index, one] of made.entries()) {
      if ('faults' in one) throw new Error('it has faults')
      const file = Buffer.from(one.render(new Map([['v', Buffer.from('x')]]))).toString()
      expect(file).toBe(`${index}${'x'.repeat(290)}`)
    }
  })

  it('T14 long texts without tags take their place in memory, too', () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const compiler = createTemplateCompiler()
    collect()
    const before = process.memoryUsage().heapUsed
    for (let index = 0; index < 300; index += 1)
      compiler({
        text: index + '\u2500'.repeat(32_000),
        escape: undefined,
        names: new Set(['v']),
        maxBytes: 1000,
      })
    collect()
    expect((process.memoryUsage().heapUsed - before) / 1024 ** 2).toBeLessThan(14)
    expect(compiler).toBeDefined()
  })

  it('what is written is bounded by the size of a file', () => {
    expect(rendered('{{ v }}', { v: 'x'.repeat(100) }, { maxBytes: 100 })).toHaveLength(100)
    expect(refusal('{{ v }}!', { v: 'x'.repeat(100) }, { maxBytes: 100 })).toMatchObject({
      kind: 'too-large',
      code: 'KEYFERRY_TEMPLATE_LIMIT',
    })
  })
})
