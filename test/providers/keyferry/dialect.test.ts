/** The language of `provider: keyferry`: parameters and configured stores in, a plan or every fault out. */
import { planNow } from '../../../src/mount/planner.ts'
import fc from 'fast-check'
import * as v from 'valibot'
import { describe, expect, it } from 'vitest'
import {
  PlanError,
  type Backend,
  type Plan,
  type Problem,
  type RefItem,
} from '../../../src/providers/adapter.ts'
import { keyferryDialect, type KeyferryOptions } from '../../../src/providers/keyferry/dialect.ts'
import type { AllowRule, ConfiguredStore } from '../../../src/providers/keyferry/stores.ts'

/** A backend that shows what it was asked for: its refs are the items. */
function echo(kind: string): Backend {
  return {
    kind,
    storeSchema: v.strictObject({ region: v.optional(v.string()), port: v.optional(v.number()) }),
    ref: (item) => {
      if (item.key === 'refused')
        throw new PlanError([{ code: 'ECHO_REF', message: 'not this one', remedy: 'Another' }])
      return item
    },
    refKey: (ref) => JSON.stringify(ref),
    resolve: () => Promise.reject(new Error('a plan fetches nothing')),
  }
}

const rule = (changes: Partial<AllowRule> = {}): AllowRule => ({
  namespaces: ['shop'],
  serviceAccounts: ['*'],
  keys: ['**'],
  ...changes,
})
const store = (name: string, changes: Partial<ConfiguredStore> = {}): ConfiguredStore => ({
  name,
  backend: echo('echo'),
  settings: { region: 'r' },
  identity: 'pod',
  allow: [rule()],
  ...changes,
})

const STORES = [
  store('db'),
  store('cloud', { backend: echo('aws-secrets-manager'), identity: 'node' }),
  store('params', { backend: echo('aws-parameter-store') }),
  store('docs', { backend: echo('sops') }),
  store('narrow', { allow: [rule({ keys: ['pub/*'] }), rule({ serviceAccounts: ['other'] })] }),
  store('secretive', { allow: [rule({ namespaces: ['finance'] })] }),
  store('sealed-off', { allow: [] }),
]

function plan(
  files: string | undefined,
  more: Record<string, string> = {},
  options: Partial<KeyferryOptions> = {},
): Plan {
  return planNow(keyferryDialect({ stores: STORES, inline: 'deny', maxFileBytes: 1024 * 1024, ...options }), {
    pod: { name: 'web-0', namespace: 'shop', uid: 'u-1', serviceAccount: 'web' },
    parameters: new Map(Object.entries({ ...(files !== undefined && { files }), ...more })),
    nodePublishKeys: new Set(),
    defaultMode: 0o644,
    provider: 'keyferry',
  })
}

function problems(...parameters: Parameters<typeof plan>): readonly Problem[] {
  try {
    plan(...parameters)
  } catch (error) {
    if (error instanceof PlanError) return error.problems
    throw error
  }
  return expect.unreachable('it was accepted')
}

const item = (files: string): RefItem => plan(files).outputs[0]?.source.ref as RefItem

describe('files', () => {
  it('are planned in order, over several stores, each with the identity of its store', () => {
    const { outputs } = plan(`
- { path: db/url, store: db, key: main/url, mode: 0400, optional: true }
- path: token
  store: cloud
  key: shop/token
`)
    expect(outputs).toEqual([
      {
        kind: 'file',
        path: 'db/url',
        object: 'db/main/url',
        mode: 0o400,
        optional: true,
        source: {
          backend: 'echo',
          store: { region: 'r' },
          identity: 'pod',
          name: 'db',
          ref: { key: 'main/url', podUid: 'u-1' },
        },
      },
      expect.objectContaining({
        path: 'token',
        mode: 0o644,
        optional: false,
        source: expect.objectContaining({ identity: 'node', name: 'cloud', backend: 'aws-secrets-manager' }),
      }),
    ])
  })

  it.each(['0400', '"0400"', '400', "'0400'"])('mode %s is octal however it is quoted', (mode) => {
    expect(plan(`[{path: a, store: db, key: k, mode: ${mode}}]`).outputs[0]?.mode).toBe(0o400)
  })

  it.each([
    ['db', '7', { version: '7' }],
    ['cloud', 'AWSPREVIOUS', { args: { stage: 'AWSPREVIOUS' } }],
    ['cloud', 'uuid/12ab-34', { version: '12ab-34' }],
    ['params', '3', { version: '3' }],
    ['params', 'prod', { args: { label: 'prod' } }],
  ])('in store %s version %s is what External Secrets Operator users expect', (name, version, expected) => {
    expect(item(`[{path: a, store: ${name}, key: k, version: ${version}}]`)).toEqual({
      key: 'k',
      podUid: 'u-1',
      ...expected,
    })
  })

  it('a property of a SOPS document asks for the document as JSON', () => {
    expect(item('[{path: a, store: docs, key: shop/db.yaml, property: x}]').args).toEqual({ format: 'json' })
    expect(item('[{path: a, store: docs, key: shop/db.yaml}]').args).toBeUndefined()
    expect(item('[{store: docs, expand: {key: shop/db.yaml}}]').args).toEqual({ format: 'json' })
  })

  it('refs become one file of several sources', () => {
    const [output] = plan(`
- path: app.json
  format: json
  refs:
    - { name: url, store: db, key: url }
    - { name: pw, store: cloud, key: shop/db, property: password, optional: true }
`).outputs
    if (output?.kind !== 'gather') throw new Error('there is no gathered file')
    expect(output.sources.map(({ object, optional, source }) => [object, optional, source.name])).toEqual([
      ['db/url', false, 'db'],
      ['cloud/shop/db#password', true, 'cloud'],
    ])
    expect(Buffer.from(output.combine([Buffer.from('u"'), undefined])).toString()).toBe('{"url":"u\\""}\n')
    expect(() => output.combine([Buffer.from([0xff]), undefined])).toThrow('"url" is not UTF-8')
  })

  it('a document expands into files of a directory', () => {
    const [output] = plan(
      '[{store: db, expand: {key: all, into: d, select: [a*], rename: {ab: x}}, mode: "0440"}]',
    ).outputs
    expect(output).toMatchObject({ kind: 'expand', into: 'd', mode: 0o440, object: 'db/all' })
    const parts =
      output?.kind === 'expand' ? output.split?.(Buffer.from('{"ab":"1","ac":"2","b":"3"}')) : undefined
    expect(parts?.map(({ name }) => name)).toEqual(['x', 'ac'])
  })
})

describe('faults of files', () => {
  it.each<[string, string, string, number, number]>([
    [
      '- path: a\n  store: db\n  key: k\n  kye: k\n',
      'KEYFERRY_FILES',
      'files[0].kye is not a known key',
      4,
      3,
    ],
    ['- path: a\n  store: db\n', 'KEYFERRY_FILES', 'files[0].key is missing', 1, 3],
    ['- path: a\n  store: db\n  key: ""\n', 'KEYFERRY_FILES', 'files[0].key is empty', 3, 3],
    [
      '- {path: a, store: db, key: k}\n- {path: b, store: db, key: k, mode: 0999}\n',
      'KEYFERRY_FILES',
      'files[1].mode is not an octal mode such as "0400"',
      2,
      32,
    ],
    [
      '- {path: a, store: db, key: k, decode: rot13}',
      'KEYFERRY_FILES',
      'files[0].decode is none of none, base64, base64url, hex',
      1,
      32,
    ],
    [
      '- {path: a, store: db, key: k, templates: x}',
      'KEYFERRY_FILES',
      'files[0].templates is not a known key',
      1,
      32,
    ],
    ['path: a', 'KEYFERRY_FILES', 'files is not a list of files', 1, 1],
    ['[]', 'KEYFERRY_FILES', 'files is empty', 1, 1],
    ['- text', 'KEYFERRY_FILES', 'files[0] is not a mapping', 1, 3],
    ['- path: a\n  path: b\n', 'KEYFERRY_FILES', 'files: the key "path" is there twice', 2, 3],
    ['- path: [\n', 'KEYFERRY_FILES', 'files: ', 2, 1],
    ['- __proto__: {a: b}', 'KEYFERRY_FILES', 'files: "__proto__" cannot be a key here', 1, 3],
    [
      '- {path: a, store: db, key: k, jmesPath: "a["}',
      'KEYFERRY_JMES_PATH',
      'files[0].jmesPath cannot be read',
      1,
      32,
    ],
    [
      '- {path: a, store: db, key: k, property: b, jmesPath: a}',
      'KEYFERRY_FILES',
      'files[0].jmesPath cannot stand beside property',
      1,
      45,
    ],
    [
      '- {path: a, format: json, refs: [{name: x, store: db, key: k}, {name: x, store: db, key: l}]}',
      'KEYFERRY_FILES',
      'files[0].refs[1].name is the name of another member',
      1,
      65,
    ],
    [
      '- {path: a, refs: [{name: x, store: db, key: k}]}',
      'KEYFERRY_FILES',
      'files[0].format is missing',
      1,
      3,
    ],
    ['- {path: a, format: json, refs: []}', 'KEYFERRY_FILES', 'files[0].refs is empty', 1, 27],
    ['- {path: a, store: db, key: refused}', 'ECHO_REF', 'files[0].key cannot be used: not this one', 1, 24],
  ])('%j is told with line and column', (files, code, message, line, column) => {
    const [first] = problems(files)
    expect(first).toMatchObject({ code, line, column, parameter: 'files' })
    expect(first?.message).toContain(message)
  })

  it('are told all at once', () => {
    const all = problems(
      '- {path: a, store: nope, key: ../x}\n- {path: b, store: db, key: "k?x=1"}\n- {path: c, store: narrow, key: private}\n',
    )
    expect(all.map(({ code, line }) => [code, line])).toEqual([
      ['KEYFERRY_KEY', 1],
      ['KEYFERRY_UNKNOWN_STORE', 1],
      ['KEYFERRY_KEY', 2],
      ['KEYFERRY_KEY_DENIED', 3],
    ])
  })

  it('are told all at once, also where other entries have the wrong shape', () => {
    const all = problems(
      '- {path: a, store: nope, key: k}\n- {path: b, store: db, key: k, proprty: x}\n- {path: c, store: db, key: ../k}\n',
    )
    expect(all.map(({ code, line }) => [code, line])).toEqual([
      ['KEYFERRY_FILES', 2],
      ['KEYFERRY_UNKNOWN_STORE', 1],
      ['KEYFERRY_KEY', 3],
    ])
  })

  it.each<[string, string, string | undefined]>([
    ['{path: a, store: db, key: k, proprty: x}', 'proprty is not a known key', 'Is "property" meant?'],
    ['{path: a, store: db, key: k, ref: []}', 'ref is not a known key', 'Is "refs" meant?'],
    ['{path: a, store: db, key: k, whatever: x}', 'whatever is not a known key', undefined],
    [
      '{path: a, format: json, optional: true, refs: [{name: x, store: db, key: k}]}',
      'optional is not a key of this kind of entry',
      undefined,
    ],
    [
      '{path: a, store: db, key: k, template: {{ value }}}',
      'a key is not a text',
      'A text that begins with { needs quotes, or a block (|)',
    ],
  ])('%s: the remedy says what was meant', (entry, message, remedy) => {
    const [first] = problems(`- ${entry}`)
    expect(first?.message).toContain(message)
    expect(first?.remedy).toBe(remedy)
  })

  it('an operator who checks a class without any store is told that the configuration has none', () => {
    const operator = { stores: [], reader: 'operator' } as const
    const [first] = problems('[{path: a, store: db, key: k}]', {}, operator)
    expect(first?.code).toBe('KEYFERRY_UNKNOWN_STORE')
    expect(first?.remedy).toBe('The configuration has no stores: name that of your nodes (--config)')
  })

  it('a class without files is refused, and a misspelt parameter is told', () => {
    expect(problems(undefined)[0]?.message).toBe('the parameter files is missing')
    expect(plan('[{path: a, store: db, key: k}]', { flies: 'x', other: 'y' }).warnings).toEqual([
      'parameter "flies" is unknown and ignored; is "files" meant?',
    ])
  })

  it('T17 an alias cannot multiply objects without end', () => {
    const refs = Array.from({ length: 60 }, (_, i) => `{name: n${i}, store: db, key: k}`).join(', ')
    const files = [
      `- {path: f, format: json, refs: &r [${refs}]}`,
      ...Array.from({ length: 60 }, (_, i) => `- {path: g${i}, format: json, refs: *r}`),
    ]
    expect(problems(files.join('\n')).map(({ message }) => message)).toEqual([
      expect.stringContaining('is over the limit of 2000 objects'),
    ])
  })

  it('T16 any text ends in a plan or in problems with places', () => {
    const word = fc.constantFrom(
      'path',
      'store',
      'key',
      'db',
      'expand',
      'refs',
      'name',
      'format',
      'json',
      'mode',
      '0400',
      'nope',
    )
    const node = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: 'small' },
        word,
        fc.string({ maxLength: 5 }),
        fc.dictionary(word, tie('any')),
        fc.array(tie('any'), { maxLength: 3 }),
      ),
    })).any
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          node.map((data) => JSON.stringify(data)),
          fc.array(node).map((data) => JSON.stringify(data)),
        ),
        (files) => {
          try {
            expect(plan(files).outputs.length).toBeGreaterThan(0)
          } catch (error) {
            if (!(error instanceof PlanError)) throw error
            expect(error.problems.length).toBeGreaterThan(0)
            for (const { code, message } of error.problems) {
              expect(code).toMatch(/^(?:KEYFERRY_[A-Z_]+|ECHO_REF)$/)
              // The reader of YAML speaks of undefined tag handles.
              expect(message).not.toMatch(/undefined(?! handle)/)
            }
          }
        },
      ),
      { numRuns: 500 },
    )
  })
})

describe('who may use a store', () => {
  const one = (name: string, key = 'k'): readonly Problem[] =>
    problems(`[{path: a, store: ${name}, key: ${key}}]`)

  it.each(['sealed-off', 'secretive', 'nothing'])(
    'T1 %s: a store without a rule for the pod is the same as none',
    (name) => {
      expect(one(name)).toEqual([
        {
          code: 'KEYFERRY_UNKNOWN_STORE',
          message: `files[0].store "${name}" is no store for shop/web`,
          remedy:
            'Check the name, and ask the operator whether a rule of the store allows this service account',
          parameter: 'files',
          line: 1,
          column: 12,
        },
      ])
    },
  )

  it('T1 a typo names the store that was meant, but never one that the pod may not see', () => {
    expect(one('cluod')[0]?.remedy).toBe('Is "cloud" meant?')
    expect(one('secretiv')[0]?.remedy).not.toContain('secretive')
  })

  it('T1 a key outside the rules of the pod is denied; rules of other accounts do not add to them', () => {
    expect(plan('[{path: a, store: narrow, key: pub/x}]').outputs).toHaveLength(1)
    expect(one('narrow', 'priv/x')[0]).toMatchObject({ kind: 'denied', code: 'KEYFERRY_KEY_DENIED' })
  })

  it.each([
    'pub/../priv/x',
    'pub/.',
    '"pub/%2e%2e/x"',
    '"pub/x?list=true"',
    '"pub/x#y"',
    String.raw`'pub\x'`,
    'pub//x',
    'pub/',
    '"pub/\\u0007"',
  ])('T1 key %s, which could lead elsewhere than it says, is refused', (key) => {
    expect(one('narrow', key).map(({ code }) => code)).toContain('KEYFERRY_KEY')
  })

  it.each(['"../1"', 'a/b', '"1?x"', 'uuid/../x', '"1..2"'])('T1 version %s is refused', (version) => {
    expect(problems(`[{path: a, store: db, key: k, version: ${version}}]`)[0]?.code).toBe('KEYFERRY_KEY')
  })

  it('T1 no source is planned that the rules do not name, whatever the pod and the key', () => {
    const letters = fc
      .array(fc.constantFrom('a', 'b', '/', '.'), { minLength: 1, maxLength: 6 })
      .map((all) => all.join(''))
    const rules = [rule({ namespaces: ['a*'], serviceAccounts: ['b'], keys: ['a/*'] })]
    fc.assert(
      fc.property(letters, letters, letters, (namespace, serviceAccount, key) => {
        const dialect = keyferryDialect({
          stores: [store('s', { allow: rules })],
          inline: 'deny',
          maxFileBytes: 1024,
        })
        const asked = (): Plan =>
          planNow(dialect, {
            pod: { name: 'p', namespace, uid: 'u', serviceAccount },
            parameters: new Map([['files', JSON.stringify([{ path: 'f', store: 's', key }])]]),
            nodePublishKeys: new Set(),
            defaultMode: 0o644,
            provider: 'keyferry',
          })
        const allowed =
          /^a[^/]*$/.test(namespace) &&
          serviceAccount === 'b' &&
          /^a\/[^/]+$/.test(key) &&
          !/\/\.\.?$/.test(key)
        if (allowed) expect(asked().outputs).toHaveLength(1)
        else expect(asked).toThrow(PlanError)
      }),
      { numRuns: 1000 },
    )
  })
})

describe('stores of a class', () => {
  const files = '[{path: a, store: mine, key: k}]'
  const inline = new Map([['echo', echo('echo')]])

  it('T1 are refused where policy does not permit them', () => {
    const found = problems(files, { stores: 'mine: {backend: echo}' })
    expect(found).toMatchObject([{ kind: 'denied', code: 'KEYFERRY_INLINE_STORES' }])
  })

  it('are used with the identity of the pod, and bear no name of the operator', () => {
    const stores = 'mine:\n  backend: echo\n  settings: {region: eu, port: 0x10}\n'
    expect(plan(files, { stores }, { inline }).outputs[0]?.source).toEqual({
      backend: 'echo',
      store: { region: 'eu', port: 16 },
      identity: 'pod',
      ref: { key: 'k', podUid: 'u-1' },
    })
  })

  it.each<[string, string, number]>([
    [
      'mine:\n  backend: echo\n  identity: node\n',
      'stores.mine.identity can only be pod in a SecretProviderClass',
      3,
    ],
    ['mine:\n  backend: nope\n', 'stores.mine.backend is "nope"; there are echo', 2],
    [
      'mine:\n  backend: echo\n  settings:\n    regoin: x\n',
      'stores.mine.settings.regoin is not a known key',
      4,
    ],
    ['mine:\n  backend: echo\n  settings:\n    port: x\n', 'stores.mine.settings.port cannot be used: ', 4],
    ['mine: {backend: echo, allow: []}\n', 'stores.mine.allow is not a known key', 1],
    ['db: {backend: echo}\nmine: {backend: echo}\n', 'stores: "db" is a store of the operator', 0],
  ])('%j is told with its line, and once', (stores, message, line) => {
    const found = problems(files, { stores }, { inline })
    expect(found[0]?.message).toContain(message)
    expect(found[0]?.line ?? 0).toBe(line)
    expect(found).toHaveLength(1)
  })

  it('T1 may have the name of a store that the pod may not see, and do not become it', () => {
    const { outputs } = plan(
      '[{path: a, store: sealed-off, key: k}]',
      { stores: 'sealed-off: {backend: echo}' },
      { inline },
    )
    expect(outputs[0]?.source.store).toEqual({})
  })
})

describe('onRevoked', () => {
  const FILE = '- { path: a, store: db, key: a }'

  it('sops B5 is what the class says, or nothing', () => {
    expect(plan(FILE).onRevoked).toBeUndefined()
    expect(plan(FILE, { onRevoked: '' }).onRevoked).toBeUndefined()
    expect(plan(FILE, { onRevoked: 'remove' }).onRevoked).toBe('remove')
    expect(plan(FILE, { onRevoked: 'keep' }).onRevoked).toBe('keep')
    expect(problems(FILE, { onRevoked: 'Remove' })).toEqual([
      {
        code: 'KEYFERRY_ON_REVOKED',
        message: 'onRevoked: "Remove" is none of keep, remove',
        parameter: 'onRevoked',
      },
    ])
    expect(plan(FILE, { onrevoked: 'remove' }).warnings).toEqual([
      expect.stringContaining('is "onRevoked" meant?'),
    ])
  })

  /** Paths of what remains when the class names what it may not use; undefined when nothing may be removed. */
  function permitted(...parameters: Parameters<typeof plan>): readonly string[] | undefined {
    try {
      plan(...parameters)
    } catch (error) {
      if (!(error instanceof PlanError)) throw error
      return error.permitted?.outputs.map((output) => (output.kind === 'expand' ? output.into : output.path))
    }
    return expect.unreachable('it was accepted')
  }

  it.each([
    ['a key without a rule', '- { path: b, store: narrow, key: private }', ['a']],
    ['a store without a rule', '- { path: b, store: secretive, key: k }', ['a']],
    ['a store that is not there', '- { path: b, store: none, key: k }', ['a']],
    [
      'one of several refs',
      '- { path: b, format: json, refs: [{ name: x, store: db, key: k }, { name: y, store: narrow, key: k }] }',
      ['a'],
    ],
    ['a whole document', '- { store: secretive, expand: { key: k, into: b } }', ['a']],
    ['an unknown field', '- { path: b, store: db, key: k, colour: red }', undefined],
    [
      'a key without a rule beside a slip of the pen',
      '- { path: b, store: narrow, key: k }\n- { path: c, store: db, key: "x//y" }',
      undefined,
    ],
  ])('sops B5 %s: what is left of the plan', (_what, entry, left) => {
    expect(permitted(`${FILE}\n${entry}`)).toEqual(left)
  })

  it('sops B5 a class of which nothing is left, and one whose own stores are not permitted any more', () => {
    expect(permitted('- { path: b, store: secretive, key: k }', { onRevoked: 'remove' })).toEqual([])
    expect(
      permitted(`${FILE}\n- { path: b, store: mine, key: k }`, { stores: 'mine: { backend: echo }' }),
    ).toEqual(['a'])
  })

  it('T1 a store of others and no store at all leave the same behind', () => {
    const of = (store: string) => {
      const entry = `- { path: b, store: ${store}, key: k }`
      return [
        permitted(`${FILE}\n${entry}`),
        problems(`${FILE}\n${entry}`).map(({ kind, code }) => [kind, code]),
      ]
    }
    expect(of('secretive')).toEqual(of('nonesuch1'))
  })
})
