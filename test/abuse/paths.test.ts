/** Owns abuse of paths over the real process: names of files in a volume, and files on the node (T9, T10). */
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import type { TestNode, VolumeResult } from '../../src/driver/node.ts'
import { sopsNode, sopsVolume, type SopsNode } from '../support/sops-node.ts'

let here: SopsNode
let node: TestNode
let document: string
let pods = 0

beforeAll(async () => {
  here = await sopsNode()
  document = await here.sealed({ password: 'hunter2', user: 'app' })
  here.put('shop/db.yaml', document)
  // Without the cache, so that every mount opens its file.
  await here.serve({ config: here.config({ cache: { freshFor: '0' } }) })
  node = await here.node()
})
afterAll(() => here.close())

async function publish(parameters: Record<string, string>): Promise<VolumeResult> {
  pods += 1
  const pod = { name: `pod-${pods}`, namespace: 'shop', serviceAccount: 'web' }
  return node.publish(sopsVolume(parameters, { pod }))
}

/** Everything below the directory that is not a volume, with the time of its last change. */
function outside(): string[] {
  return readdirSync(here.directory, { recursive: true })
    .map(String)
    .filter((path) => !path.startsWith('kubelet'))
    .sort()
}

describe('T9 names of files in a volume', () => {
  const named = (...objectNames: string[]): Record<string, string> => ({
    sopsFile: 'shop/db.yaml',
    objects: JSON.stringify(objectNames.map((objectName) => ({ objectName, path: '/user' }))),
  })
  const long = 'n'.repeat(256)
  const refused: readonly [string, Record<string, string>][] = [
    ['to the parent', named('../escape')],
    ['to the parent from below', named('a/../../escape')],
    ['absolute', named('/tmp/keyferry-escape')],
    ['of the writer', named('..data')],
    ['of a timestamp directory', named('..2026_01_31_12_00_00.1/user')],
    ['empty', named('')],
    ['of the volume itself', named('.')],
    ['unclean', named('a//b')],
    ['with a dot', named('./a')],
    ['with a slash at the end', named('a/')],
    ['with NUL', named('a\u0000b')],
    ['with a line feed', named('a\nb')],
    ['with an escape sequence', named('\u001b[2Ja')],
    ['longer than a file name', named(long)],
    ['longer than a path', named(Array.from({ length: 20 }, () => 'd'.repeat(250)).join('/'))],
    ['twice', named('a', 'a')],
    ['as file and directory', named('a', 'a/b')],
    ['as directory and file', named('a/b', 'a')],
  ]
  test.each(refused)('T9 a name %s is refused before anything is opened', async (_what, parameters) => {
    const before = outside()
    const result = await publish(parameters)
    expect(result).toMatchObject({ code: 'InvalidArgument' })
    expect(result.message.split('desc = ').at(-1)).toMatch(/^[A-Z]+_[A-Z]+: /)
    expect(node.files(result.target).size).toBe(0)
    expect(outside()).toEqual(before)
    expect(existsSync('/tmp/keyferry-escape')).toBe(false)
  })

  it('T9 keys of a document and sections of INI that are no file names are refused as well', async () => {
    for (const key of ['..data', '../escape', 'a\\/b/../c', '/etc/passwd', '.', ' \u0001']) {
      const hostile = await here
        .sealed({ [JSON.stringify(key)]: 'x' }, ['shop/web'], 'json')
        .catch(() => undefined)
      const text = hostile ?? document.replace('"user"', JSON.stringify(key))
      const result = await publish({
        sopsDocument: text,
        sopsFormat: hostile === undefined ? 'yaml' : 'json',
      })
      expect(['InvalidArgument', 'DataLoss', 'OK']).toContain(result.code)
      for (const path of node.files(result.target).keys()) expect(path).not.toMatch(/^\.\.|^\/|\/\.\.\//)
    }
  })

  it('T9 __proto__, constructor and toString are names like any other', async () => {
    const result = await publish(named('__proto__', 'constructor', 'toString', 'hasOwnProperty/valueOf'))
    expect(result).toMatchObject({ code: 'OK' })
    expect([...node.files(result.target).keys()].sort()).toEqual([
      '__proto__',
      'constructor',
      'hasOwnProperty/valueOf',
      'toString',
    ])
  })

  test.each([
    '../keys/node.agekey',
    '/etc/passwd',
    'shop/../shop/db.yaml',
    './shop/db.yaml',
    'shop//db.yaml',
    'shop',
    'shop/db.yaml\u0000',
    '.sops.yaml',
    'shop/%2e%2e/db.yaml',
    'SHOP/db.yaml',
  ])('T9 sopsFile %j opens nothing', async (sopsFile) => {
    const result = await publish({ sopsFile, sopsFormat: 'binary', expand: 'whole' })
    expect(['InvalidArgument', 'NotFound', 'PermissionDenied']).toContain(result.code)
    expect(node.files(result.target).size).toBe(0)
  })
})

describe('T10 files on the node that are not what they seem', () => {
  const store = (name: string): string => join(here.store, 'shop', name)
  const outsideFile = (): string => {
    const path = join(here.directory, 'outside.yaml')
    writeFileSync(path, document)
    return path
  }
  const tricks: readonly [string, (path: string) => void][] = [
    ['a symbolic link to a document', (path) => symlinkSync(outsideFile(), path)],
    ['a symbolic link within the root', (path) => symlinkSync('db.yaml', path)],
    ['a symbolic link to a device', (path) => symlinkSync('/dev/zero', path)],
    ['a dangling link', (path) => symlinkSync('nowhere', path)],
    ['a hard link', (path) => linkSync(outsideFile(), path)],
    ['a FIFO', (path) => execFileSync('mkfifo', [path])],
    ['a directory', (path) => mkdirSync(path)],
    ['an empty file', (path) => writeFileSync(path, '')],
    [
      'two sparse gibibytes',
      (path) => {
        writeFileSync(path, '')
        truncateSync(path, 2 * 1024 ** 3)
      },
    ],
  ]
  test.each(tricks)('T10 %s is refused and delays nobody', async (_what, make) => {
    make(store('trick.yaml'))
    try {
      const [trick, other] = await Promise.all([
        publish({ sopsFile: 'shop/trick.yaml' }),
        publish({ sopsFile: 'shop/db.yaml' }),
      ])
      expect(['InvalidArgument', 'NotFound', 'PermissionDenied', 'OutOfRange']).toContain(trick.code)
      expect(node.files(trick.target).size).toBe(0)
      expect(other).toMatchObject({ code: 'OK' })
    } finally {
      rmSync(store('trick.yaml'), { recursive: true, force: true })
    }
  })

  it('T10 a namespace directory that is a link leads nowhere', async () => {
    const elsewhere = join(here.directory, 'elsewhere')
    mkdirSync(elsewhere)
    writeFileSync(join(elsewhere, 'db.yaml'), document)
    const kept = `${join(here.store, 'shop')}.kept`
    renameSync(join(here.store, 'shop'), kept)
    symlinkSync(elsewhere, join(here.store, 'shop'))
    try {
      const result = await publish({ sopsFile: 'shop/db.yaml' })
      expect(result.code).not.toBe('OK')
      expect(node.files(result.target).size).toBe(0)
    } finally {
      rmSync(join(here.store, 'shop'))
      renameSync(kept, join(here.store, 'shop'))
    }
    expect(await publish({ sopsFile: 'shop/db.yaml' })).toMatchObject({ code: 'OK' })
  })

  it('T10 a root whose ancestor everybody may write is not used', async () => {
    chmodSync(here.directory, 0o777)
    try {
      const result = await publish({ sopsFile: 'shop/db.yaml' })
      expect(result).toMatchObject({ code: 'PermissionDenied' })
      expect(result.message).toContain('writable by everyone')
    } finally {
      chmodSync(here.directory, 0o700)
    }
    expect(await publish({ sopsFile: 'shop/db.yaml' })).toMatchObject({ code: 'OK' })
  })

  it('T10 a racing renamer never gets a file from outside the root into a volume', async () => {
    // Both are bound to the pod, so that only the path rules can tell them apart.
    writeFileSync(store('raced.yaml'), await here.sealed({ where: 'inside' }))
    const evil = join(here.directory, 'evil.yaml')
    writeFileSync(evil, await here.sealed({ where: 'outside' }))
    const racer = join(here.directory, 'racer.mjs')
    writeFileSync(racer, RACER)
    const racing = spawn(process.execPath, [racer, store('raced.yaml'), evil], { stdio: 'ignore' })
    try {
      const results = []
      for (let round = 0; round < 25; round += 1) {
        results.push(
          ...(await Promise.all(Array.from({ length: 4 }, () => publish({ sopsFile: 'shop/raced.yaml' })))),
        )
      }
      const read = results.flatMap(({ target }) =>
        [...node.files(target).values()].map(({ contents }) => contents.toString()),
      )
      expect(read).not.toContain('outside')
      // The race was one: some mounts met the document, others the link.
      expect(read.length).toBeGreaterThan(0)
      expect(read.length).toBeLessThan(results.length)
      for (const { code } of results)
        expect(['OK', 'InvalidArgument', 'NotFound', 'PermissionDenied', 'DataLoss']).toContain(code)
    } finally {
      racing.kill('SIGKILL')
      rmSync(store('raced.yaml'), { force: true })
    }
  })
})

/** Puts a link to the second file in the place of the first, and the first back, without end. */
const RACER = `
import { copyFileSync, renameSync, symlinkSync, rmSync } from 'node:fs'
const [, , path, evil] = process.argv
const kept = path + '.kept'
copyFileSync(path, kept)
const link = path + '.link'
const fresh = path + '.fresh'
for (;;) {
  rmSync(link, { force: true })
  symlinkSync(evil, link)
  renameSync(link, path)
  copyFileSync(kept, fresh)
  renameSync(fresh, path)
}
`
