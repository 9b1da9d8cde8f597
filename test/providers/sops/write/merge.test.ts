import { Buffer } from 'node:buffer'
import fc from 'fast-check'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { describe, expect, it } from 'vitest'
import { openDocument, readDocument } from '../../../../src/providers/sops/open.ts'
import type { Format } from '../../../../src/providers/sops/stores/store.ts'
import type { MapTree } from '../../../../src/providers/sops/tree.ts'
import { parseKeyPath } from '../../../../src/providers/sops/write/key-path.ts'
import { mergeIntoDocument } from '../../../../src/providers/sops/write/merge.ts'
import { rekeyDocument } from '../../../../src/providers/sops/write/rekey.ts'
import { seal } from '../../../../src/providers/sops/write/seal.ts'
import { bytesOf, identities, vectors, type Vector } from '../vectors.ts'
import { ENCRYPTION, map, NOW, RECIPIENT, RING, ringOf, shown, YAML_DOCUMENT } from './samples.ts'

const LATER = new Date('2026-06-01T00:00:00Z')

async function sealed(format: Format, document: MapTree): Promise<string> {
  return (await seal({ format, documents: [document], encryption: ENCRYPTION, now: NOW })).toString()
}

async function merged(
  format: Format,
  document: string,
  values: Readonly<Record<string, string>>,
): Promise<string> {
  const named = Object.entries(values).map(([key, value]) => ({ key, bytes: Buffer.from(value) }))
  const request = {
    document: Buffer.from(document),
    format,
    values: named,
    subjects: [],
    ring: RING,
    now: LATER,
  }
  return (await mergeIntoDocument(request)).toString()
}

async function opened(format: Format, document: string | Buffer): Promise<unknown> {
  return (await openDocument(format, Buffer.from(document), RING)).branches.map(shown)[0]
}

/** Documents that follow a comment rule, hold `-0.0` in clear or have key groups: what we say no to. */
function mergeRefusal(v: Vector): RegExp | undefined {
  if (v.id.includes('comment') && v.id.startsWith('yaml-rule')) return /comment_regex/
  if (v.id === 'yaml-mac-only-comment') return /comment_regex/
  return v.id === 'json-clear-lexemes' ? /negative zero/ : undefined
}

function rekeyRefusal(v: Vector): RegExp | undefined {
  if (v.id.startsWith('shamir-') || v.id === 'key-groups-ignored') return /key groups/
  return v.id === 'json-clear-lexemes' ? /negative zero/ : undefined
}

const LINE_FORMATS: readonly Format[] = ['yaml', 'dotenv', 'ini']
const openVectors = vectors.filter((v) => v.outcome === 'opens')

describe('put --merge on every published document', () => {
  it.each(openVectors.map((v) => [v.id, v] as const))('sops A20 %s', async (_id, v) => {
    const document = bytesOf(v)
    const ring = { identities: await identities(v.identities) }
    const key = v.format === 'ini' ? '/added/key' : 'added_key'
    const request = {
      document,
      format: v.format,
      values: [{ key, bytes: Buffer.from('new') }],
      subjects: [],
      ring,
      now: LATER,
    }
    const refusal = mergeRefusal(v)
    if (refusal !== undefined) {
      await expect(mergeIntoDocument(request)).rejects.toThrow(refusal)
      return
    }
    const result = await mergeIntoDocument(request)
    const after = await openDocument(v.format, result, ring)
    expect(after.metadata.lastModified).toBe('2026-06-01T00:00:00Z')
    // Every token but that of the MAC is there as before.
    const tokens = (bytes: Buffer): readonly string[] =>
      bytes.toString('latin1').match(/ENC\[[^\]]*\]/g) ?? []
    const { metadata } = await readDocument(v.format, document)
    const kept = tokens(document).filter((token) => token !== metadata.mac?.toString())
    const now = new Set(tokens(result))
    if (v.format !== 'binary') expect(kept.filter((token) => !now.has(token))).toEqual([])
    if (!LINE_FORMATS.includes(v.format)) return
    // Every line stays, comments too, but those that hold the MAC and the time.
    const lines = new Set(result.toString().split('\n'))
    const gone = document
      .toString()
      .split('\n')
      .filter(
        (line) => !lines.has(line) && !/mac|lastmodified|^ "sops": \{$|^\s*ENC\[|^\s*"?\d{4}-/.test(line),
      )
    expect(gone).toEqual([])
  })
})

describe('rekey on every published document', () => {
  it.each(openVectors.map((v) => [v.id, v] as const))('sops A20 %s', async (_id, v) => {
    const document = bytesOf(v)
    const ring = { identities: await identities(v.identities) }
    const identity = await generateX25519Identity()
    const recipients = [await identityToRecipient(identity)]
    const refusal = rekeyRefusal(v)
    if (refusal !== undefined) {
      await expect(rekeyDocument(v.format, document, recipients, ring)).rejects.toThrow(refusal)
      return
    }
    const result = await rekeyDocument(v.format, document, recipients, ring)
    const before = await openDocument(v.format, document, ring)
    const after = await openDocument(v.format, result, await ringOf(identity))
    expect(after.branches.map(shown)).toEqual(before.branches.map(shown))
    expect(after.metadata.mac).toEqual(before.metadata.mac)
    expect(after.metadata.lastModified).toBe(before.metadata.lastModified)
  })
})

describe('put --merge', () => {
  it('sops A20 replaces one value and leaves comments, order and other tokens', async () => {
    const plain = await sealed(
      'yaml',
      map([
        ['b', 'one'],
        [
          'a',
          map([
            ['x', 'two'],
            ['y', 'three'],
          ]),
        ],
        ['l', 'four'],
      ]),
    )
    const commented = plain
      .replace('"b":', '# above b\n"b":')
      .replace(/("x": "[^"]*")/, '$1   # beside x')
      .replace('"sops":', '# above sops\n"sops":\n    "foreign": [1, {"k": v}]   # kept')
    const result = await merged('yaml', commented, { '/a/x': 'TWO' })
    expect(await opened('yaml', result)).toEqual([
      ['b', 'str:one'],
      [
        'a',
        [
          ['x', 'str:TWO'],
          ['y', 'str:three'],
        ],
      ],
      ['l', 'str:four'],
    ])
    const strip = (document: string): string =>
      document.replace(/("(?:x|mac)": )"[^"]*"/g, '$1').replace(/"lastmodified": "[^"]*"/, '')
    expect(strip(result)).toBe(strip(commented))
  })

  it('sops A20 adds keys at the top, below a mapping, below a new mapping and into {}', async () => {
    const plain = await sealed(
      'yaml',
      map([
        ['a', map([['x', map([['deep', 'v']])]])],
        ['e', map([])],
        ['n', { type: 'null' }],
      ]),
    )
    const result = await merged('yaml', plain, {
      top: '1',
      '/a/y': '2',
      '/a/x/more': '3',
      '/new/er/key': '4',
      '/e/k': '5',
      n: '6',
      '/w~1eird/~0': '7',
      'a:b': '8',
    })
    expect(await opened('yaml', result)).toEqual([
      [
        'a',
        [
          [
            'x',
            [
              ['deep', 'str:v'],
              ['more', 'str:3'],
            ],
          ],
          ['y', 'str:2'],
        ],
      ],
      ['e', [['k', 'str:5']]],
      ['n', 'str:6'],
      ['top', 'str:1'],
      ['new', [['er', [['key', 'str:4']]]]],
      ['w/eird', [['~', 'str:7']]],
      ['a:b', 'str:8'],
    ])
  })

  it('sops A20 edits flow mappings, values over lines and Windows line ends', async () => {
    const plain = await sealed(
      'yaml',
      map([
        ['f', map([['x', 'one']])],
        ['g', 'two'],
      ]),
    )
    const token = /"g": "([^"]*)"/.exec(plain)?.[1] ?? ''
    const other = /"x": "([^"]*)"/.exec(plain)?.[1] ?? ''
    const rewritten = plain
      .replace(/"f":\n {4}"x": "[^"]*"/, `f: { x: "${other}" } # flow`)
      .replace(/"g": "[^"]*"/, `g: |-\n    ${token}\nh:`)
      .replaceAll('\n', '\r\n')
    expect(await opened('yaml', rewritten)).toEqual([
      ['f', [['x', 'str:one']]],
      ['g', 'str:two'],
      ['h', 'null:'],
    ])
    const result = await merged('yaml', rewritten, { '/f/y': 'added', g: 'G', h: 'H' })
    expect(await opened('yaml', result)).toEqual([
      [
        'f',
        [
          ['x', 'str:one'],
          ['y', 'str:added'],
        ],
      ],
      ['g', 'str:G'],
      ['h', 'str:H'],
    ])
    expect(result).toContain('# flow')
  })

  it('sops A20 refuses to replace a mapping, and to go below a value', async () => {
    const plain = await sealed(
      'yaml',
      map([
        ['a', map([['x', 'v']])],
        ['s', 'v'],
      ]),
    )
    await expect(merged('yaml', plain, { a: 'v' })).rejects.toThrow(/name the value below it/)
    await expect(merged('yaml', plain, { '/s/x': 'v' })).rejects.toThrow(/no mapping/)
  })

  it('sops A20 keeps comments, order and foreign fields of dotenv', async () => {
    const plain = await sealed(
      'dotenv',
      map([
        ['A', '1'],
        ['B', '2'],
        ['C_unencrypted', 'c'],
      ]),
    )
    const commented = `# first\n${plain.replace('\nB=', '\n\n#B\nB=')}sops_foreign=kept\n`
    const result = await merged('dotenv', commented, { B: 'two\nlines', D: '4', C_unencrypted: 'C' })
    expect(await opened('dotenv', result)).toEqual([
      ['A', 'str:1'],
      ['B', 'str:two\nlines'],
      ['C_unencrypted', 'str:C'],
      ['D', 'str:4'],
    ])
    expect(result).toMatch(/^# first\nA=.*\n\n#B\nB=/)
    expect(result).toContain('sops_foreign=kept\n')
  })

  it('sops A20 keeps comments, order and foreign fields of INI', async () => {
    const plain = await sealed(
      'ini',
      map([
        ['DEFAULT', map([['d', '1']])],
        ['s', map([['k', '2']])],
      ]),
    )
    const commented = `; first\n${plain.replace('[s]', '# s\n[s]').replace('[sops]', '[sops]\nforeign = kept')}`
    const result = await merged('ini', commented, {
      d: 'one',
      '/s/k': 'two',
      '/s/n': 'three',
      '/t/x': 'four',
      e: 'five',
    })
    expect(await opened('ini', result)).toEqual([
      [
        'DEFAULT',
        [
          ['d', 'str:one'],
          ['e', 'str:five'],
        ],
      ],
      [
        's',
        [
          ['k', 'str:two'],
          ['n', 'str:three'],
        ],
      ],
      ['t', [['x', 'str:four']]],
    ])
    expect(result).toMatch(/^; first\n/)
    expect(result).toContain('# s\n[s]')
    expect(result).toContain('foreign = kept')
  })

  it('sops A20 keeps foreign fields of JSON, and integer-like keys in their order', async () => {
    const plain = await sealed(
      'json',
      map([
        ['b', 'x'],
        ['10', 'y'],
        ['2', 'z'],
      ]),
    )
    const foreign = plain.replace('"sops": {', '"sops": {"foreign": [1, {"k": 2.50}],')
    const result = await merged('json', foreign, { '10': 'Y' })
    expect(await opened('json', result)).toEqual([
      ['b', 'str:x'],
      ['10', 'str:Y'],
      ['2', 'str:z'],
    ])
    expect(result).toMatch(/"foreign": \[\s*1,\s*\{\s*"k": 2\.5\s*\}\s*\]/)
  })

  it('sops A11 --bind of a merge changes the binding; a value for csi_bind is refused', async () => {
    const plain = await sealed(
      'yaml',
      map([
        ['csi_bind', 'n/a'],
        ['x', 'v'],
      ]),
    )
    const request = {
      document: Buffer.from(plain),
      format: 'yaml' as const,
      values: [],
      ring: RING,
      now: LATER,
    }
    const result = await mergeIntoDocument({ ...request, subjects: ['n/b', 'm/*'] })
    expect(await opened('yaml', result)).toEqual([
      ['csi_bind', 'str:n/b,m/*'],
      ['x', 'str:v'],
    ])
    await expect(merged('yaml', plain, { csi_bind: '*/*' })).rejects.toThrow(/holds the binding/)
  })

  it('sops A20 a document that does not open, or whose MAC fails, is not touched', async () => {
    const plain = await sealed(
      'yaml',
      map([
        ['x', 'v'],
        ['y', 'w'],
      ]),
    )
    const cut = plain.replace(/"y": .*\n/, '')
    await expect(merged('yaml', cut, { x: 'z' })).rejects.toThrow(
      expect.objectContaining({ code: 'MAC_MISMATCH' }),
    )
    const request = {
      document: Buffer.from(plain),
      format: 'yaml' as const,
      values: [],
      subjects: [],
      now: LATER,
    }
    const ring = await ringOf(await generateX25519Identity())
    await expect(mergeIntoDocument({ ...request, ring })).rejects.toThrow(
      expect.objectContaining({ code: 'NO_KEY_OPENED' }),
    )
  })

  it('sops A20 any YAML document takes a new and a changed top-level value', async () => {
    await fc.assert(
      fc.asyncProperty(YAML_DOCUMENT, async (random) => {
        const entries = random.entries.filter(({ key }) => key !== 'one' && key !== 'two')
        const document: MapTree = { type: 'map', entries: [...map([['one', '1']]).entries, ...entries] }
        const result = await merged('yaml', await sealed('yaml', document), { one: 'ONE', two: 'TWO' })
        const expected = [['one', 'str:ONE'], ...(shown({ type: 'map', entries }) as []), ['two', 'str:TWO']]
        expect(await opened('yaml', result)).toEqual(expected)
      }),
      { numRuns: 40 },
    )
  })
})

describe('rekey', () => {
  it('sops A20 touches the key list only', async () => {
    const identity = await generateX25519Identity()
    const recipients = [RECIPIENT, await identityToRecipient(identity)]
    for (const format of ['yaml', 'json', 'dotenv', 'ini', 'binary'] as const) {
      const value = map([[format === 'binary' ? 'data' : 'k', 'v']])
      const plain = await sealed(format, format === 'ini' ? map([['s', value]]) : value)
      const result = (await rekeyDocument(format, Buffer.from(plain), recipients, RING)).toString()
      const rest = (document: string): readonly string[] =>
        document.split('\n').filter((line) => !/recipient|enc"?\s*[:=]|[{}\]],?$/.test(line))
      expect(rest(result)).toEqual(rest(plain))
      const after = await openDocument(format, Buffer.from(result), await ringOf(identity))
      expect(after.metadata.groups.flat()).toHaveLength(2)
    }
  })

  it('sops A20 leaves a document alone that is encrypted to these recipients, in whatever order', async () => {
    const other = await identityToRecipient(await generateX25519Identity())
    const encryption = { ...ENCRYPTION, recipients: [RECIPIENT, other] }
    const document = await seal({ format: 'yaml', documents: [map([['k', 'v']])], encryption, now: NOW })
    expect(await rekeyDocument('yaml', document, [other, RECIPIENT], RING)).toBe(document)
  })

  it('sops A20 adds an age list to a document that has other kinds of keys only, and keeps those', async () => {
    const v = vectors.find(({ id }) => id === 'key-pgp-rsa')
    if (v === undefined) throw new Error('no vector key-pgp-rsa')
    const ring = { identities: await identities(v.identities) }
    const result = await rekeyDocument(v.format, bytesOf(v), [RECIPIENT], ring)
    const after = await openDocument(v.format, result, RING)
    expect(after.metadata.groups.flat().map(({ kind }) => kind)).toEqual(['age', 'pgp'])
  })
})

describe('names of values', () => {
  it.each([
    ['a', 'yaml', ['a']],
    ['/a/b', 'yaml', ['a', 'b']],
    ['/a~1b/~0c', 'json', ['a/b', '~c']],
    ['k', 'ini', ['DEFAULT', 'k']],
    ['/s/k', 'ini', ['s', 'k']],
    ['a/b', 'dotenv', ['a/b']],
  ] as const)('%s of %s', (key, format, path) => {
    expect(parseKeyPath(key, format)).toEqual(path)
  })

  it.each([
    ['', 'yaml'],
    ['/', 'yaml'],
    ['/a//b', 'yaml'],
    ['/a', 'ini'],
    ['/a/b/c', 'ini'],
    ['/a/b', 'dotenv'],
  ] as const)('%j is none of %s', (key, format) => {
    expect(() => parseKeyPath(key, format)).toThrow(expect.objectContaining({ kind: 'usage' }))
  })
})
