import { Buffer } from 'node:buffer'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { generateHybridIdentity, identityToRecipient } from 'age-encryption'
import { describe, expect, it } from 'vitest'
import { openDocument, readDocument } from '../../../../src/providers/sops/open.ts'
import { entryOf, text, type MapTree } from '../../../../src/providers/sops/tree.ts'
import { withBinding } from '../../../../src/providers/sops/write/binding.ts'
import { selectionOf } from '../../../../src/providers/sops/write/encryption-rule.ts'
import { checkRecipient } from '../../../../src/providers/sops/write/recipients.ts'
import { seal } from '../../../../src/providers/sops/write/seal.ts'
import {
  ANY_BYTES,
  ANY_TEXT,
  ENCRYPTION,
  JSON_DOCUMENT,
  map,
  NOW,
  RECIPIENT,
  RING,
  ringOf,
  sealedAndOpened,
  shown,
  YAML_DOCUMENT,
} from './samples.ts'

const RUNS = { numRuns: 60 }

async function sealed(
  format: 'yaml' | 'json' | 'dotenv' | 'ini' | 'binary',
  document: MapTree,
): Promise<string> {
  return (await seal({ format, documents: [document], encryption: ENCRYPTION, now: NOW })).toString()
}

describe('round trips through the reader', () => {
  it('sops A20 any YAML tree is read back with its order, types and bytes', async () => {
    await fc.assert(
      fc.asyncProperty(YAML_DOCUMENT, async (document) => {
        expect(await sealedAndOpened('yaml', [document])).toEqual([shown(document)])
      }),
      RUNS,
    )
  })

  it('sops A20 several YAML documents in one file are read back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(YAML_DOCUMENT, { minLength: 2, maxLength: 3 }), async (documents) => {
        expect(await sealedAndOpened('yaml', documents)).toEqual(documents.map(shown))
      }),
      { numRuns: 15 },
    )
  })

  it('sops A20 any JSON tree is read back with its order, types and bytes', async () => {
    await fc.assert(
      fc.asyncProperty(JSON_DOCUMENT, async (document) => {
        expect(await sealedAndOpened('json', [document])).toEqual([shown(document)])
      }),
      RUNS,
    )
  })

  it('sops A20 any bytes survive a binary document, none at all included', async () => {
    await fc.assert(
      fc.asyncProperty(ANY_BYTES, async (bytes) => {
        const document = map([['data', { type: 'str', bytes }]])
        expect(await sealedAndOpened('binary', [document])).toEqual([shown(document)])
      }),
      RUNS,
    )
  })

  it('sops A20 dotenv: a clear text is read back or refused, an encrypted one always read back', async () => {
    await fc.assert(
      fc.asyncProperty(ANY_TEXT, async (value) => {
        const secret = map([['A', value]])
        expect(await sealedAndOpened('dotenv', [secret])).toEqual([shown(secret)])
        const clear = map([['A_unencrypted', value]])
        if (value.includes('\\n')) await expect(sealed('dotenv', clear)).rejects.toThrow(/backslash/)
        else expect(await sealedAndOpened('dotenv', [clear])).toEqual([shown(clear)])
      }),
      RUNS,
    )
  })

  it('sops A20 INI: a clear text is read back or refused, an encrypted one always read back', async () => {
    const awkward = fc.oneof(ANY_TEXT, fc.constantFrom('"a"', '`', "'", 'a;b', 'a\\', ' a', 'a\u0085', '"""'))
    await fc.assert(
      fc.asyncProperty(awkward, async (value) => {
        const secret = map([
          ['DEFAULT', map([['k', value]])],
          ['s', map([['k', value]])],
        ])
        expect(await sealedAndOpened('ini', [secret])).toEqual([shown(secret)])
        const clear = map([
          ['DEFAULT', map([])],
          ['s', map([['k_unencrypted', value]])],
        ])
        const result = await sealedAndOpened('ini', [clear]).catch((error: unknown) => error)
        if (result instanceof Error) expect(result.message).toMatch(/stands in clear/)
        else expect(result).toEqual([shown(clear)])
      }),
      { numRuns: 150 },
    )
  })

  it('sops A20 a document without any leaf is still a document, in every format', async () => {
    const empty = map([])
    for (const format of ['yaml', 'json', 'dotenv'] as const) {
      expect(await sealedAndOpened(format, [empty])).toEqual([[]])
    }
    expect(await sealedAndOpened('ini', [empty])).toEqual([[['DEFAULT', []]]])
  })

  it('sops A9 mac_only_encrypted is written and holds', async () => {
    const encryption = { ...ENCRYPTION, macOnlyEncrypted: true }
    const document = map([
      ['a', 'x'],
      ['b_unencrypted', 'y'],
    ])
    expect(await sealedAndOpened('yaml', [document], encryption)).toEqual([shown(document)])
  })
})

describe('what is written', () => {
  it('sops A20 metadata: sops last, explicit rule, UTC seconds, version of the rules we follow', async () => {
    const bytes = await seal({
      format: 'json',
      documents: [map([['a', 'x']])],
      encryption: ENCRYPTION,
      now: NOW,
    })
    const { block, metadata } = await readDocument('json', bytes)
    expect(Object.keys(JSON.parse(bytes.toString()) as object)).toEqual(['a', 'sops'])
    expect(metadata.lastModified).toBe('2026-05-01T10:00:00Z')
    expect(metadata.version).toBe('3.13.3')
    expect(entryOf(block, 'unencrypted_suffix')).toEqual(text('_unencrypted'))
  })

  it('sops A20 binary documents record no rule, whatever the creation rule says', async () => {
    const encryption = {
      ...ENCRYPTION,
      rule: { kind: 'encrypted_regex', text: '^x$' } as const,
      macOnlyEncrypted: true,
    }
    const documents = [map([['data', 'secret']])]
    const out = (await seal({ format: 'binary', documents, encryption, now: NOW })).toString()
    expect(out).not.toMatch(/regex|suffix|mac_only/)
    expect(out).not.toContain('"secret"')
  })

  it('sops A20 every nonce is 32 bytes and never used twice', async () => {
    const entries = Array.from({ length: 50 }, (_, i): readonly [string, string] => [`k${i}`, 'same'])
    const out = await sealed('yaml', map(entries))
    const ivs = Array.from(out.matchAll(/iv:([^,]+),/g), (match) => match[1] ?? '')
    expect(ivs).toHaveLength(51)
    expect(new Set(ivs).size).toBe(51)
    expect(ivs.every((iv) => Buffer.from(iv, 'base64').length === 32)).toBe(true)
  })

  it('sops A20 YAML is printable ASCII with quoted keys and texts on one line each', async () => {
    const out = await sealed(
      'yaml',
      map([
        ['é\u2028', 'x'],
        ['n_unencrypted', `a\u0085\u2029😀\t"\\${'long '.repeat(60)}`],
      ]),
    )
    expect(out).toMatch(/^[\x20-\x7e\n]*$/)
    expect(out).toContain('"\\xe9\\u2028": "ENC[')
    expect(out).toContain('\\x85\\u2029\\U0001f600\\t\\"\\\\long')
  })

  it('sops A6.4 empty text and null are not encrypted', async () => {
    const out = await sealed(
      'yaml',
      map([
        ['a', ''],
        ['b', { type: 'null' }],
      ]),
    )
    expect(out).toContain('"a": ""\n"b": null\n')
  })

  it('sops A20 the mac is a str token and armored keys begin on their header line', async () => {
    const { metadata } = await readDocument('yaml', Buffer.from(await sealed('yaml', map([['a', 'x']]))))
    expect(metadata.mac?.toString()).toMatch(/,type:str\]$/)
    const [key] = metadata.groups.flat()
    const lines = key?.enc.split('\n') ?? []
    expect(lines[0]).toBe('-----BEGIN AGE ENCRYPTED FILE-----')
    expect(Math.max(...lines.slice(1, -2).map((line) => line.length))).toBe(64)
  })
})

describe('what is refused', () => {
  const refusals: readonly (readonly [string, 'yaml' | 'json' | 'dotenv' | 'ini', MapTree, RegExp])[] = [
    ['a key "sops" in YAML', 'yaml', map([['sops', 'x']]), /key "sops"/],
    ['a key "sops" in JSON', 'json', map([['sops', 'x']]), /key "sops"/],
    ['a quoted YAML key over 1000 characters', 'yaml', map([['é'.repeat(300), 'x']]), /longer than 1000/],
    ['half a surrogate pair in a YAML key', 'yaml', map([['\ud800', 'x']]), /surrogate/],
    ['half a surrogate pair in a JSON key', 'json', map([['\ud800', 'x']]), /surrogate/],
    [
      'negative zero in clear',
      'yaml',
      map([['a_unencrypted', { type: 'float', value: -0 }]]),
      /negative zero/,
    ],
    [
      'infinity in clear JSON',
      'json',
      map([['a_unencrypted', { type: 'float', value: Infinity }]]),
      /finite/,
    ],
    [
      'clear text that is not UTF-8',
      'yaml',
      map([['a_unencrypted', { type: 'str', bytes: Buffer.from([255]) }]]),
      /UTF-8/,
    ],
    ['"=" in a dotenv key', 'dotenv', map([['a=b', 'x']]), /cannot express/],
    ['a line feed in a dotenv key', 'dotenv', map([['a\nb', 'x']]), /cannot express/],
    ['a dotenv key that is a comment', 'dotenv', map([['#a', 'x']]), /cannot express/],
    ['a dotenv key that is metadata', 'dotenv', map([['sops_mac', 'x']]), /cannot express/],
    ['a nested dotenv value', 'dotenv', map([['a', map([])]]), /text only/],
    ['a number in dotenv', 'dotenv', map([['a_unencrypted', { type: 'int', value: 1n }]]), /text only/],
    ['the INI section sops', 'ini', map([['sops', map([])]]), /key "sops"/],
    ['the INI key -', 'ini', map([['s', map([['-', 'x']])]]), /cannot be written/],
    ['an INI key with a blank', 'ini', map([['s', map([['a b', 'x']])]]), /cannot be written/],
    ['an INI section with a bracket', 'ini', map([['a]', map([['k', 'x']])]]), /cannot be written/],
    ['an INI value outside a section', 'ini', map([['k', 'x']]), /no section/],
    [
      'an INI clear text with a comment sign',
      'ini',
      map([['s', map([['k_unencrypted', 'a#b']])]]),
      /stands in clear/,
    ],
  ]
  it.each(refusals)('sops A20 %s', async (_name, format, document, message) => {
    await expect(sealed(format, document)).rejects.toThrow(message)
  })

  it('sops A20 several documents in a format that holds one', async () => {
    const documents = [map([]), map([])]
    for (const format of ['json', 'dotenv', 'ini', 'binary'] as const) {
      await expect(seal({ format, documents, encryption: ENCRYPTION, now: NOW })).rejects.toThrow(/only YAML/)
    }
  })
})

describe('recipients', () => {
  it.each(['ssh-ed25519', 'ssh-rsa'])(
    'sops A10 %s: the matching private key opens the document',
    async (kind) => {
      const recipient = readFileSync(`test/vectors/sops/keys/${kind}.pub`, 'utf8').trim()
      const ring = await ringOf(readFileSync(`test/vectors/sops/keys/${kind}`))
      const bytes = await seal({
        format: 'yaml',
        documents: [map([['a', 'x']])],
        encryption: { ...ENCRYPTION, recipients: [recipient] },
        now: NOW,
      })
      expect((await openDocument('yaml', bytes, ring)).branches.map(shown)).toEqual([[['a', 'str:x']]])
      await expect(openDocument('yaml', bytes, RING)).rejects.toThrow(/no key/)
    },
  )

  it('T32 a hybrid recipient is written as an entry of its own and opens', async () => {
    const identity = await generateHybridIdentity()
    const recipients = [RECIPIENT, await identityToRecipient(identity)]
    const encryption = { ...ENCRYPTION, recipients }
    const bytes = await seal({ format: 'yaml', documents: [map([['a', 'x']])], encryption, now: NOW })
    const opened = await openDocument('yaml', bytes, await ringOf(identity))
    expect(opened.branches.map(shown)).toEqual([[['a', 'str:x']]])
    expect(opened.metadata.groups.flat()).toHaveLength(2)
  })

  it.each([
    'age1plugin1qqqq',
    'age1tag1qqqq',
    'age16v07jna668e03nx4lfsklwvt23z9yxhyxrfy5p4497u5wkgxt56qmke6lz',
    'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA',
    'ssh-rsa AAAA',
    'ecdsa-sha2-nistp256 AAAA',
    '',
  ])('sops A10 %j is refused with the kinds that work', (recipient) => {
    expect(() => checkRecipient(recipient)).toThrow(expect.objectContaining({ kind: 'usage' }))
  })

  it('T22 an identity given as a recipient is refused without being quoted', () => {
    const identity = 'AGE-SECRET-KEY-15GDTSD40P5628V3W4DL2SWJL2HGNHHCLQ23GRDZESQD2HNNWTY8SSE2NTL'
    expect(() => checkRecipient(identity)).toThrow(/private age identity/)
    expect(() => checkRecipient(identity)).not.toThrow(/15GD/)
  })
})

describe('binding', () => {
  const isEncrypted = selectionOf(ENCRYPTION.rule)

  it('sops A11 the binding is the first key and encrypted', async () => {
    const document = withBinding(map([['a', 'x']]), 'yaml', ['payments/api', 'payments/worker'], isEncrypted)
    expect(shown(document)).toEqual([
      ['csi_bind', 'str:payments/api,payments/worker'],
      ['a', 'str:x'],
    ])
    expect(await sealed('yaml', document)).toMatch(/^"csi_bind": "ENC\[/)
  })

  it('sops A11 INI carries it in the section DEFAULT', () => {
    const document = withBinding(map([['s', map([['k', 'x']])]]), 'ini', ['n/a'], isEncrypted)
    expect(shown(document)).toEqual([
      ['DEFAULT', [['csi_bind', 'str:n/a']]],
      ['s', [['k', 'str:x']]],
    ])
  })

  it('sops A11 a rule that leaves it in clear, a binary document and a second binding are refused', () => {
    const clear = selectionOf({ kind: 'encrypted_regex', text: '^password$' })
    expect(() => withBinding(map([]), 'yaml', ['n/a'], clear)).toThrow(/in clear/)
    expect(() => withBinding(map([]), 'binary', ['n/a'], isEncrypted)).toThrow(/binary/)
    expect(() => withBinding(map([['csi_bind', 'x']]), 'yaml', ['n/a'], isEncrypted)).toThrow(/already/)
  })

  it.each(['payments', 'payments/', '/api', 'a/b/c', 'pay*/api', 'a,b/c', 'a/b c', 'A/b'])(
    'sops A11 %j is no subject',
    (subject) => {
      expect(() => withBinding(map([]), 'yaml', [subject], isEncrypted)).toThrow(/NAMESPACE\/SERVICEACCOUNT/)
    },
  )
})
