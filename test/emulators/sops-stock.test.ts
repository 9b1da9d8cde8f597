import { Buffer } from 'node:buffer'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { armor } from 'age-encryption'
import { afterAll, expect, it } from 'vitest'
import { openDocument } from '../../src/providers/sops/open.ts'
import { creationRulesText } from '../../src/providers/sops/store/creation-rules.ts'
import { SUFFIXES } from '../../src/providers/sops/store/directory.ts'
import type { Format } from '../../src/providers/sops/stores/store.ts'
import type { MapTree } from '../../src/providers/sops/tree.ts'
import { withBinding } from '../../src/providers/sops/write/binding.ts'
import { selectionOf } from '../../src/providers/sops/write/encryption-rule.ts'
import { mergeIntoDocument } from '../../src/providers/sops/write/merge.ts'
import { rekeyDocument } from '../../src/providers/sops/write/rekey.ts'
import { seal } from '../../src/providers/sops/write/seal.ts'
import { peerProgram } from '../peers/start.ts'
import { describeWithPeers, whyNot, type SuiteNeeds } from '../peers/suite.ts'
import { ENCRYPTION, map, ringOf, shown } from '../providers/sops/write/samples.ts'

/** Documents travel between us and the stock tools, both ways. */
const NEEDS: SuiteNeeds = { programs: ['sops', 'age', 'age-keygen'] }

const FORMATS = ['yaml', 'json', 'dotenv', 'ini', 'binary'] as const
const BYTES = Buffer.from([0, 1, 255, 10, 13, 128])

/** Where a value is put that was not there, as stock names it and as we do. */
const PLACE: Readonly<Record<Format, readonly [string, string]>> = {
  yaml: ['["deep"]["added"]', '/deep/added'],
  json: ['["deep"]["added"]', '/deep/added'],
  dotenv: ['["added"]', 'added'],
  ini: ['["s"]["added"]', '/s/added'],
  binary: ['["data"]', 'data'],
}

const directory = mkdtempSync(join(tmpdir(), 'keyferry-stock-'))
afterAll(() => rmSync(directory, { recursive: true }))

interface Key {
  readonly file: string
  readonly recipient: string
}

function run(tool: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Buffer {
  return execFileSync(peerProgram(tool), args, {
    cwd: directory,
    env: { PATH: process.env['PATH'] ?? '', HOME: directory, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

function newKey(name: string, ...options: readonly string[]): Key {
  const file = join(directory, `${name}.agekey`)
  run('age-keygen', [...options, '-o', file])
  return { file, recipient: run('age-keygen', ['-y', file]).toString().trim() }
}

function sample(format: Format): MapTree {
  if (format === 'binary') return map([['data', { type: 'str', bytes: BYTES }]])
  const flat = map([
    ['password', 'correct horse "battery" #staple;\\'],
    ['multi', 'line one\nline two\n'],
    ['empty', ''],
    ['note_unencrypted', 'in clear'],
  ])
  if (format === 'dotenv') return flat
  if (format === 'ini') {
    return map([
      ['DEFAULT', map([['top', 'level']])],
      ['s', flat],
    ])
  }
  const deep = map([
    ['10', 'integer-like'],
    ['null', 'word'],
    ['é"', 'odd key'],
    ['list', { type: 'list', items: [map([['x', 'in list']]), { type: 'list', items: [map([])] }] }],
    ['n', { type: 'int', value: -(2n ** 63n) }],
    ['f_unencrypted', { type: 'float', value: 1e21 }],
    ['t', { type: 'bool', value: true }],
    ['none', { type: 'null' }],
    ['odd_unencrypted', 'true \t\x07 😀 0x10'],
  ])
  return { type: 'map', entries: [...flat.entries, { key: 'deep', value: deep }] }
}

async function opened(format: Format, file: string, key: Key): Promise<unknown> {
  const ring = await ringOf(readFileSync(key.file))
  return (await openDocument(format, readFileSync(file), ring)).branches.map(shown)[0]
}

describeWithPeers('stock sops 3.13.3 and age 1.3.2', NEEDS, () => {
  // The body is read even when the suite is skipped.
  const keys = whyNot(NEEDS) === undefined ? [newKey('first'), newKey('second')] : []
  const [first = { file: '', recipient: '' }, second = first] = keys
  const encryption = { ...ENCRYPTION, recipients: [first.recipient] }

  function sops(...args: readonly string[]): Buffer {
    return run('sops', ['--disable-version-check', ...args], { SOPS_AGE_KEY_FILE: first.file })
  }
  function encrypt(file: string): void {
    sops('encrypt', '--in-place', '--age', first.recipient, file)
  }
  /** A document of ours in a file of its own. */
  async function written(format: Format, name: string, recipients = [first.recipient]): Promise<string> {
    const plain = sample(format)
    const isEncrypted = selectionOf(encryption.rule)
    const document = format === 'binary' ? plain : withBinding(plain, format, ['payments/api'], isEncrypted)
    const file = join(directory, `${name}-${format}${SUFFIXES[format]}`)
    const how = { ...encryption, recipients }
    writeFileSync(file, await seal({ format, documents: [document], encryption: how, now: new Date() }))
    return file
  }
  async function merge(format: Format, file: string, key: string, value: string): Promise<void> {
    const ring = await ringOf(readFileSync(first.file))
    const values = [{ key, bytes: Buffer.from(value) }]
    const document = readFileSync(file)
    writeFileSync(
      file,
      await mergeIntoDocument({ document, format, values, subjects: [], ring, now: new Date() }),
    )
  }

  it.each(FORMATS)('sops A20 %s: what we write, stock decrypts to the same', async (format) => {
    const file = await written(format, 'plain')
    const out = sops('decrypt', file)
    if (format === 'binary') expect(out).toEqual(BYTES)
    const again = join(directory, `again${SUFFIXES[format]}`)
    writeFileSync(again, out)
    encrypt(again)
    expect(await opened(format, again, first)).toEqual(await opened(format, file, first))
    if (format !== 'yaml' && format !== 'json') expect(sops('decrypt', again)).toEqual(out)
  })

  it.each(FORMATS)('sops A20 %s: our document survives rotate', async (format) => {
    const file = await written(format, 'rotate')
    const before = await opened(format, file, first)
    sops('rotate', '--in-place', '--add-age', second.recipient, file)
    expect(await opened(format, file, second)).toEqual(before)
  })

  it.each(FORMATS)(
    'sops A20 %s: our document survives updatekeys by the .sops.yaml that init writes',
    async (format) => {
      const file = await written(format, 'update')
      const before = await opened(format, file, first)
      const config = join(directory, '.sops.yaml')
      writeFileSync(config, creationRulesText([first.recipient, second.recipient]))
      try {
        sops('updatekeys', '--yes', file)
      } finally {
        rmSync(config)
      }
      expect(await opened(format, file, second)).toEqual(before)
    },
  )

  it.each(FORMATS.filter((format) => format !== 'binary'))(
    'sops A20 %s: our document survives set, then our merge, then unset',
    async (format) => {
      const file = await written(format, 'set')
      const before = await opened(format, file, first)
      const [stockPlace, ours] = PLACE[format]
      sops('set', file, stockPlace, '"by stock"')
      expect(JSON.stringify(await opened(format, file, first))).toContain('by stock')
      await merge(format, file, ours, 'by us')
      expect(sops('decrypt', '--extract', stockPlace, file).toString()).toBe('by us')
      sops('unset', file, stockPlace)
      expect(await opened(format, file, first)).toEqual(before)
    },
  )

  it.each(FORMATS)('sops A20 %s: our document survives edit', async (format) => {
    const file = await written(format, 'edit')
    const editor = join(directory, 'editor')
    writeFileSync(editor, '#!/bin/sh\nLC_ALL=C sed -i -e "s/correct horse/EDITED/" -e "1s/^\\x00/E/" "$1"\n')
    chmodSync(editor, 0o755)
    const env = { SOPS_AGE_KEY_FILE: first.file, EDITOR: editor }
    run('sops', ['--disable-version-check', 'edit', file], env)
    const after = JSON.stringify(await opened(format, file, first))
    expect(after).toContain(format === 'binary' ? 'str:E' : 'EDITED')
  })

  it.each(FORMATS)(
    'sops A20 %s: what stock wrote we merge into, and stock goes on with it',
    async (format) => {
      const file = join(directory, `stock${SUFFIXES[format]}`)
      writeFileSync(file, sops('decrypt', await written(format, 'source')))
      encrypt(file)
      const [stockPlace, ours] = PLACE[format]
      await merge(format, file, ours, 'by us')
      const out = format === 'binary' ? sops('decrypt', file) : sops('decrypt', '--extract', stockPlace, file)
      expect(out.toString()).toBe('by us')
      sops('rotate', '--in-place', file)
      expect(JSON.stringify(await opened(format, file, first))).toContain('by us')
    },
  )

  it.each(FORMATS)('sops A20 %s: after our rekey stock opens it with the new key only', async (format) => {
    const file = await written(format, 'rekey')
    const plain = sops('decrypt', file)
    const ring = await ringOf(readFileSync(first.file))
    writeFileSync(file, await rekeyDocument(format, readFileSync(file), [second.recipient], ring))
    expect(() => sops('decrypt', file)).toThrow(/data key/)
    const env = { SOPS_AGE_KEY_FILE: second.file }
    expect(run('sops', ['--disable-version-check', 'decrypt', file], env)).toEqual(plain)
  })

  it('sops A20 comments that stock encrypted stay through our merge', async () => {
    const file = join(directory, 'comments.yaml')
    writeFileSync(file, '# top\na: one # beside\nlist:\n    # in list\n    - x\nb: two\n')
    encrypt(file)
    const before = sops('decrypt', file).toString()
    expect(before).toContain('# in list')
    await merge('yaml', file, 'b', 'TWO')
    expect(sops('decrypt', file).toString()).toBe(before.replace('two', 'TWO'))
  })

  it('sops A20 line separators in keys and clear texts open in stock, which folds them only when it writes', async () => {
    const file = join(directory, 'separators.yaml')
    const documents = [
      map([
        ['a\u2028b', 'x'],
        ['c_unencrypted', 'y\u0085\u2029'],
      ]),
    ]
    writeFileSync(file, await seal({ format: 'yaml', documents, encryption, now: new Date() }))
    const out = sops('decrypt', '--output-type', 'json', file).toString()
    expect(JSON.parse(out)).toEqual({ 'a\u2028b': 'x', c_unencrypted: 'y\u0085\u2029' })
  })

  it('sops A20 several YAML documents of ours open in stock', async () => {
    const file = join(directory, 'several.yaml')
    const documents = [map([['a', 'one']]), map([['b', 'two']])]
    writeFileSync(file, await seal({ format: 'yaml', documents, encryption, now: new Date() }))
    expect(sops('decrypt', file).toString()).toBe('a: one\n---\nb: two\n')
  })

  it('T32 stock opens a document that we sealed to a hybrid recipient', async () => {
    const hybrid = newKey('hybrid', '-pq')
    const file = await written('yaml', 'hybrid', [hybrid.recipient])
    const env = { SOPS_AGE_KEY_FILE: hybrid.file }
    expect(run('sops', ['--disable-version-check', 'decrypt', file], env).toString()).toContain(
      'correct horse',
    )
  })

  it.each(['ssh-ed25519', 'ssh-rsa'])(
    'sops A10 stock opens a document that we sealed to %s',
    async (kind) => {
      const key = join(directory, kind)
      writeFileSync(key, readFileSync(`test/vectors/sops/keys/${kind}`), { mode: 0o600 })
      const file = await written('yaml', kind, [
        readFileSync(`test/vectors/sops/keys/${kind}.pub`, 'utf8').trim(),
      ])
      const env = { SOPS_AGE_SSH_PRIVATE_KEY_FILE: key }
      const out = run('sops', ['--disable-version-check', 'decrypt', file], env)
      expect(out.toString()).toContain('correct horse')
    },
  )

  it('sops A10 stock age opens our wrapped data key: 32 bytes', async () => {
    const document = JSON.parse(readFileSync(await written('json', 'wrapped'), 'utf8')) as {
      sops: { age: { enc: string }[] }
    }
    const enc = document.sops.age[0]?.enc ?? ''
    writeFileSync(join(directory, 'wrapped.age'), enc)
    expect(run('age', ['--decrypt', '-i', first.file, 'wrapped.age'])).toHaveLength(32)
    expect(armor.encode(armor.decode(enc))).toBe(enc)
  })
})
