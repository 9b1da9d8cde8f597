/** Templates of the keyferry dialect without a value: which entries there are, and every fault with its place. */
import { planNow } from '../../../src/mount/planner.ts'
import * as v from 'valibot'
import { describe, expect, it } from 'vitest'
import { PlanError, type Backend, type Plan, type Problem } from '../../../src/providers/adapter.ts'
import { keyferryDialect } from '../../../src/providers/keyferry/dialect.ts'
import type { ConfiguredStore } from '../../../src/providers/keyferry/stores.ts'

/** A backend whose refs are the items. */
function echo(kind: string): Backend {
  return {
    kind,
    storeSchema: v.strictObject({}),
    ref: (item) => item,
    refKey: (ref) => JSON.stringify(ref),
    resolve: () => Promise.reject(new Error('a plan fetches nothing')),
  }
}

const STORES: readonly ConfiguredStore[] = ['echo', 'sops'].map((kind) => ({
  name: kind === 'echo' ? 'db' : 'docs',
  backend: echo(kind),
  settings: {},
  identity: 'pod',
  allow: [{ namespaces: ['*'], serviceAccounts: ['*'], keys: ['**'] }],
}))

async function planned(files: string): Promise<Plan> {
  const dialect = keyferryDialect({ stores: STORES, inline: 'deny', maxFileBytes: 1000 })
  const request = {
    pod: { name: 'web-0', namespace: 'shop', uid: 'u-1', serviceAccount: 'web' },
    parameters: new Map([['files', files]]),
    nodePublishKeys: new Set<string>(),
    defaultMode: 0o644,
    provider: 'keyferry',
  }
  await dialect.prepare?.(request)
  return planNow(dialect, request)
}

async function problems(files: string): Promise<readonly Problem[]> {
  try {
    await planned(files)
  } catch (error) {
    if (error instanceof PlanError) return error.problems
    throw error
  }
  return expect.unreachable('it was accepted')
}

/** What the text has where the problems are. */
async function places(files: string): Promise<string[]> {
  const lines = files.split('\n')
  return (await problems(files)).map(
    ({ line = 0, column = 0 }) => lines[line - 1]?.slice(column - 1) ?? 'nowhere',
  )
}

/** One file of the refs a and b with this template. */
const gathered = (template: string): string => `- path: conf/file
  refs:
    - { name: a, store: db, key: k }
    - { name: b, store: db, key: l, optional: true }
  template: ${template}`

describe('an entry with a template', () => {
  it('of refs is a file made of them', async () => {
    const { outputs, warnings } = await planned(gathered('"{{ a }}-{{ b | default: a }}"'))
    expect(warnings).toBeUndefined()
    expect(outputs).toMatchObject([
      {
        kind: 'gather',
        path: 'conf/file',
        object: 'conf/file',
        sources: [{ object: 'db/k' }, { optional: true }],
      },
    ])
    const combine = outputs[0]?.kind === 'gather' ? outputs[0].combine : expect.unreachable()
    expect(Buffer.from(combine([Buffer.from('x'), undefined])).toString()).toBe('x-x')
  })

  it('of one object calls its value "value"', async () => {
    const [output] = (
      await planned("- { path: f, store: db, key: k, optional: true, template: 'v={{ value }}' }")
    ).outputs
    expect(output).toMatchObject({ kind: 'gather', path: 'f', sources: [{ object: 'db/k', optional: true }] })
    const combine = output?.kind === 'gather' ? output.combine : expect.unreachable()
    expect(Buffer.from(combine([Buffer.from('x')])).toString()).toBe('v=x')
  })

  it('takes property, decode and encoding first', async () => {
    const [output] = (
      await planned("- { path: f, store: db, key: k, property: p, decode: hex, template: '{{ value }}' }")
    ).outputs
    const select = output?.kind === 'gather' ? output.sources[0]?.select : undefined
    expect(Buffer.from(select?.(Buffer.from('{"p":"6869"}')) ?? []).toString()).toBe('hi')
  })

  it('asks a document for JSON where the template wants members of it, and only there', async () => {
    const formats = async (template: string) =>
      (await planned(`- { path: f, store: docs, key: k.yaml, template: '${template}' }`)).outputs.map(
        ({ source }) => source.ref,
      )
    expect(await formats('{{ value.user }}')).toMatchObject([{ args: { format: 'json' } }])
    expect(await formats('{{ value }}')).not.toMatchObject([{ args: expect.anything() }])
  })

  it('warns of a ref that its template does not use', async () => {
    const { warnings } = await planned(gathered('"{{ a }}"'))
    expect(warnings).toEqual(['the template of "conf/file" does not use "b"'])
  })

  it.each([
    ["- { path: f, store: db, key: k, format: json, template: '{{ value }}' }", 'format: json'],
    ['- { path: f, store: db, key: k, escape: json }', 'escape: json'],
    ["- { path: f, store: db, key: k, escape: html, template: '{{ value }}' }", 'escape: html'],
    [
      "- { path: f, format: yaml, template: '{{ a }}', refs: [{ name: a, store: db, key: k }] }",
      'format: yaml',
    ],
    ['- { path: f, refs: [{ name: a, store: db, key: k }] }', 'path: f'],
    ["- { store: db, expand: { key: k }, template: 'x' }", 'template:'],
    ["- { path: f, store: db, key: k, template: '' }", 'template:'],
  ])('%s is refused at %s', async (files, word) => {
    expect(await places(files)).toEqual([expect.stringMatching(new RegExp(`^(?:${word}|\\{ ${word})`))])
    expect((await problems(files))[0]?.code).toBe('KEYFERRY_FILES')
  })

  it('is found however YAML writes the key', async () => {
    const { outputs } = await planned(
      String.raw`- { path: f, store: db, key: k, "temp\u006cate": "{{ value }}" }`,
    )
    expect(outputs).toHaveLength(1)
  })

  it('may be anything but text of a class without templates: those load no engine', async () => {
    const dialect = keyferryDialect({ stores: STORES, inline: 'deny', maxFileBytes: 1000 })
    const parameters = new Map([['files', '[{ path: f, store: db, key: k }]']])
    expect(dialect.prepare?.({ parameters })).toBeInstanceOf(Promise)
    await dialect.prepare?.({ parameters })
    const files = "[{ path: f, store: db, key: k, template: 'x' }]"
    expect(() =>
      planNow(dialect, {
        pod: { name: 'p', namespace: 'n', uid: 'u', serviceAccount: 's' },
        parameters: new Map([['files', files]]),
        nodePublishKeys: new Set(),
        defaultMode: 0o644,
        provider: 'keyferry',
      }),
    ).toThrow('without prepare')
  })
})

describe('a fault of a template', () => {
  it('is told with all others of the class, each at its place, with the file and never with text around it', async () => {
    const files = `
# comment
- path: one
  store: db
  key: k
  template: |
    first {{ value | url }}
      {{ valeu }}  {{ value | ulr }}
    {% if value = 1 %}{% endif %}
- { path: two, store: nope, key: k, template: '{{ vlaue }}' }
`
    expect(
      (await problems(files)).map(({ code, line, column, message, remedy }) => [
        code,
        line,
        column,
        message,
        remedy,
      ]),
    ).toEqual([
      [
        'KEYFERRY_TEMPLATE_NAME',
        8,
        10,
        'files[0].template line 2: "valeu" is not the name of a value (file "one")',
        'Is "value" meant?',
      ],
      [
        'KEYFERRY_TEMPLATE',
        8,
        31,
        'files[0].template line 2: there is no filter "ulr" (file "one")',
        'Is "url" meant?',
      ],
      [
        'KEYFERRY_TEMPLATE',
        9,
        18,
        'files[0].template line 3: the value is followed by something that is neither an operator nor a filter (file "one")',
        undefined,
      ],
      [
        'KEYFERRY_TEMPLATE_NAME',
        10,
        51,
        'files[1].template line 1: "vlaue" is not the name of a value (file "two")',
        'Is "value" meant?',
      ],
      ['KEYFERRY_UNKNOWN_STORE', 10, 16, expect.any(String), expect.any(String)],
    ])
  })

  it.each([
    ['|\n    x\n\n      {{ c }}', ['c }}']],
    ['|- # why\n    {{ c }}', ['c }}']],
    ['|2-\n      {{ c }}', ['c }}']],
    ['"{{ a }}{{ c }}"', ['c }}"']],
    ['{{ a }}{{ c }}'.replace(/^/, "'").replace(/$/, "'"), ["c }}'"]],
    ['x {{ c }}', ['c }}']],
    // What is folded or escaped has moved: the entry's key is the closest.
    ['>\n    x\n    {{ c }}', [expect.stringMatching(/^template:/)]],
    ['"\\n{{ c }}"', [expect.stringMatching(/^template:/)]],
  ])('%j is at %j', async (template, expected) => {
    expect(await places(gathered(template))).toEqual(expected)
  })

  it.each([
    ['{{ a', 'a {{ is not closed by }}'],
    ['{% if a', 'a {% is not closed by %}'],
    ['{% if a %}', 'the tag "if" is not closed by "endif"'],
    ['{% for x in a %}{% if x %}{% endfor %}', 'the tag "endfor" stands where "endif" is expected'],
    ['{% endif %}', 'the tag "endif" closes nothing'],
    ['{% else %}', 'the tag "else" stands outside of a block that it could divide'],
    [
      '{% for x in a %}{% elsif %}{% endfor %}',
      'the tag "elsif" stands outside of a block that it could divide',
    ],
    ['{% for forloop in a %}{% endfor %}', 'the word forloop is not taken'],
    ['{% %}', 'a {% %} names no tag'],
    ['{{ }}', 'a value is missing'],
    ['{% if %}{% endif %}', 'a value is missing'],
    ['{{ a b }}', 'values and operators do not fit together'],
    ['{{ a == }}', 'values and operators do not fit together'],
    ['{{ a contains b }}', 'values and operators do not fit together'],
    ['{{ a | | json }}', 'a | is not followed by the name of a filter'],
    ['{{ a | default "x" }}', 'arguments of a filter begin with :'],
    ['{{ a | default }}', 'the filter "default" takes one argument'],
    ['{{ a | json: 1 }}', 'the filter "json" takes no argument'],
    ['{{ a | default: "x", allow: true }}', 'the filter "default" takes no named argument'],
    ['{{ a | default: c }}', '"c" is not the name of a value'],
    ['{{ a[c] }}', '"c" is not the name of a value'],
    ['{{ a | upcase: }}', undefined],
    ['{% for x in c %}{{ x }}{% endfor %}', '"c" is not the name of a value'],
    ['{% for x in a %}{% endfor %}{{ x }}', '"x" is not the name of a value'],
    ['{% for x in a limit: 2 %}{% endfor %}', 'a "for" takes nothing behind its list'],
    ['{% for x of a %}{% endfor %}', 'a "for" is not written as for NAME in LIST'],
    ['{% for x in (1..3) %}{% endfor %}', 'ranges and parentheses are not taken'],
    ['{{ "abc".size }}', 'members can only be taken of a name'],
    ['{{ [a] }}', 'members can only be taken of a name'],
    ['{% if a == "x %}{% endif %}', 'a quote is not closed'],
    ['{% if a == empty %}{% endif %}', 'the word empty is not taken'],
    ['{% if true %}{% endif %}', 'a condition asks for no value'],
    ['{% if a %}{% else %}{% else %}{% endif %}', 'there is a second "else"'],
    ['{% endraw %}', 'the tag "endraw" closes nothing'],
    ['{% raw %}{{ a }}', 'the tag "raw" is not closed by "endraw"'],
    ['{% comment %}', 'the tag "comment" is not closed by "endcomment"'],
  ])('%s: %s', async (template, message) => {
    if (message === undefined) {
      expect((await planned(gathered(JSON.stringify(`{{ b }}${template}`)))).outputs).toHaveLength(1)
      return
    }
    const found = await problems(gathered(JSON.stringify(`{{ b }}${template}`)))
    expect(found.map((problem) => problem.message)).toContainEqual(
      `files[0].template line 1: ${message} (file "conf/file")`,
    )
    for (const { code } of found) expect(code).toMatch(/^KEYFERRY_TEMPLATE(?:_NAME)?$/)
  })

  it.each([
    'include',
    'render',
    'layout',
    'block',
    'assign',
    'capture',
    'increment',
    'decrement',
    'cycle',
    'case',
    'tablerow',
    'liquid',
    'echo',
    'break',
    'continue',
    'constructor',
    '__proto__',
  ])('there is no tag %s', async (tag) => {
    const found = await problems(gathered(JSON.stringify(`{{ a }}{{ b }}{% ${tag} "/etc/passwd" %}`)))
    expect(found.map(({ message }) => message)).toEqual([
      `files[0].template line 1: there is no tag "${tag}" (file "conf/file")`,
    ])
  })

  it.each([
    'date',
    'replace',
    'split',
    'map',
    'where',
    'where_exp',
    'sort',
    'inspect',
    'hmac_sha256',
    'slice',
    'concat',
    'constructor',
    '__proto__',
    'toString',
  ])('there is no filter %s', async (filter) => {
    const found = await problems(gathered(JSON.stringify(`{{ b }}{{ a | ${filter} }}`)))
    expect(found.map(({ message }) => message)).toEqual([
      `files[0].template line 1: there is no filter "${filter}" (file "conf/file")`,
    ])
  })

  it('of many is told thirty times at most, and does not hide the others', async () => {
    const entry = (path: number): string =>
      `- { path: f${path}, store: db, key: k, template: '${'{{ x }}'.repeat(20)}' }\n`
    const found = await problems(`${entry(1)}${entry(2)}${entry(3)}- { path: f4, store: db }\n`)
    expect(found).toHaveLength(31)
    expect(found[0]?.code).toBe('KEYFERRY_FILES')
    const only = await problems(`${entry(1)}${entry(2)}${entry(3)}- { path: f4, store: nope, key: k }\n`)
    expect(only).toHaveLength(31)
    expect(only.at(-1)?.code).toBe('KEYFERRY_UNKNOWN_STORE')
  })
})
