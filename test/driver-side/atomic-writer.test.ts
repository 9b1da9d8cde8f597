/** The atomic writer against examples and against an independent model (driver.md section 3.1). */
import * as fs from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { WriteError, writePayload, type PayloadFile } from '../../src/driver/atomic-writer.ts'
import { tree, visibleFiles } from '../../src/driver/tree.ts'
import { temporaryDir } from './fixture.ts'

const LONG_AGO = new Date(1_000_000_000_000)

function payload(files: Readonly<Record<string, string>>, mode = 0o644): Map<string, PayloadFile> {
  return new Map(Object.entries(files).map(([path, text]) => [path, { mode, contents: Buffer.from(text) }]))
}

/** Writes and tells what happened; `moved` is whether the root's mtime changed. */
function write(dir: string, files: ReadonlyMap<string, PayloadFile>) {
  fs.utimesSync(dir, LONG_AGO, LONG_AGO)
  let result: string
  try {
    result = writePayload(dir, files)
  } catch (error) {
    if (!(error instanceof WriteError)) throw error
    result = error.message
  }
  return { result, moved: fs.statSync(dir).mtimeMs !== LONG_AGO.getTime() }
}

const timestampDirs = (dir: string): string[] => fs.readdirSync(dir).filter((name) => /^\.\.\d/.test(name))

test('driver 3.1 a first write makes a timestamp directory, ..data, and a root link for each first component', () => {
  const dir = temporaryDir()
  expect(write(dir, payload({ b: '22', 'a/x': '1', 'a/y/z': '' }))).toEqual({
    result: 'written',
    moved: true,
  })
  const [stamp = ''] = timestampDirs(dir)
  expect(stamp).toMatch(/^\.\.\d{4}(_\d\d){5}\.\d+$/)
  expect(
    Math.abs(
      Date.parse(`${stamp.slice(2, 12).replaceAll('_', '-')}T${stamp.slice(13, 21).replaceAll('_', ':')}Z`) -
        Date.now(),
    ),
  ).toBeLessThan(60_000)
  const entries = tree(dir).filter(({ path }) => path !== '.')
  expect(entries).toEqual([
    { path: stamp, kind: 'directory', mode: '0755', size: 0 },
    { path: `${stamp}/a`, kind: 'directory', mode: '0755', size: 0 },
    { path: `${stamp}/a/x`, kind: 'file', mode: '0644', size: 1 },
    { path: `${stamp}/a/y`, kind: 'directory', mode: '0755', size: 0 },
    { path: `${stamp}/a/y/z`, kind: 'file', mode: '0644', size: 0 },
    { path: `${stamp}/b`, kind: 'file', mode: '0644', size: 2 },
    { path: '..data', kind: 'link', mode: '0777', size: 0, link: stamp },
    { path: 'a', kind: 'link', mode: '0777', size: 0, link: '..data/a' },
    { path: 'b', kind: 'link', mode: '0777', size: 0, link: '..data/b' },
  ])
})

test('driver 3.1 modes are exact whatever the umask, for the timestamp directory and for files', () => {
  const before = process.umask(0o077)
  try {
    const dir = temporaryDir()
    write(dir, payload({ 'd/f': 'x' }, 0o666))
    const modes = tree(dir)
      .filter(({ kind, path }) => kind !== 'link' && path !== '.')
      .map(({ mode }) => mode)
    expect(modes).toEqual(['0755', '0700', '0666'])
  } finally {
    process.umask(before)
  }
})

test('driver 3 the low nine bits of a mode count, and bits 20, 22, 23 of Go’s own', () => {
  const wanted = new Map([
    [0o1644, '0644'],
    [0o4755, '0755'],
    [0, '0000'],
    [0o400, '0400'],
    [0o644 | (1 << 20), '1644'],
    [0o644 | (1 << 22), '2644'],
    [0o644 | (1 << 23), '4644'],
    [-1, '7777'],
  ])
  for (const [mode, text] of wanted) {
    const dir = temporaryDir()
    write(dir, payload({ f: 'x' }, mode))
    expect(tree(dir).find(({ kind }) => kind === 'file')?.mode, `mode ${mode}`).toBe(text)
  }
})

test('driver 3.1 equal contents touch nothing, and neither does a changed mode', () => {
  const dir = temporaryDir()
  write(dir, payload({ a: '1', 'b/c': '2' }))
  const before = tree(dir)
  expect(write(dir, payload({ 'b/c': '2', a: '1' }))).toEqual({ result: 'unchanged', moved: false })
  expect(write(dir, payload({ a: '1', 'b/c': '2' }, 0o600))).toEqual({ result: 'unchanged', moved: false })
  expect(tree(dir)).toEqual(before)
  write(dir, payload({ a: '1', 'b/c': '3' }, 0o600))
  expect([...visibleFiles(dir)].map(([, { mode }]) => mode)).toEqual([0o600, 0o600])
})

test('driver 3.1 a file nobody may read is still compared', () => {
  const dir = temporaryDir()
  write(dir, payload({ a: '1' }, 0))
  expect(write(dir, payload({ a: '1' }, 0))).toEqual({ result: 'unchanged', moved: false })
  expect(write(dir, payload({ a: '2' }, 0))).toEqual({ result: 'written', moved: true })
  expect(visibleFiles(dir).get('a')).toEqual({ mode: 0, contents: Buffer.from('2') })
})

test('driver 3.1 a file left out is deleted, with its root link', () => {
  const dir = temporaryDir()
  write(dir, payload({ a: '1', 'b/c': '2', 'b/d': '3' }))
  expect(write(dir, payload({ 'b/c': '2' }))).toEqual({ result: 'written', moved: true })
  expect([...visibleFiles(dir).keys()]).toEqual(['b/c'])
  expect(fs.readdirSync(dir).filter((name) => !name.startsWith('..'))).toEqual(['b'])
  expect(timestampDirs(dir)).toHaveLength(1)
})

test('driver 3.1 a root entry that is no link is deleted first', () => {
  const dir = temporaryDir()
  fs.mkdirSync(join(dir, 'a'))
  fs.writeFileSync(join(dir, 'a', 'old'), 'x')
  fs.writeFileSync(join(dir, 'other'), 'stays')
  write(dir, payload({ 'a/new': '1' }))
  expect([...visibleFiles(dir).keys()]).toEqual(['a/new', 'other'])
})

test('driver 3.1 a file that became a directory, or the reverse, is refused for ever', () => {
  const dir = temporaryDir()
  write(dir, payload({ a: '1' }))
  const data = join(dir, fs.readlinkSync(join(dir, '..data')))
  for (let i = 0; i < 2; i++) {
    expect(write(dir, payload({ 'a/b': '1' }))).toEqual({
      result: `open ${data}/a/b: not a directory`,
      moved: false,
    })
  }
  const other = temporaryDir()
  write(other, payload({ 'a/b': '1' }))
  const otherData = join(other, fs.readlinkSync(join(other, '..data')))
  expect(write(other, payload({ a: '1' }))).toEqual({
    result: `read ${otherData}/a: is a directory`,
    moved: false,
  })
  expect([...visibleFiles(other).keys()]).toEqual(['a/b'])
})

test('driver 3.1 with another changed file it depends on which is looked at first', () => {
  const dir = temporaryDir()
  write(dir, payload({ a: '1', z: '1' }))
  expect(write(dir, payload({ 'a/b': '1', z: '2' })).result).toMatch(/not a directory$/)
  expect(write(dir, payload({ z: '2', 'a/b': '1' })).result).toBe('written')
  expect([...visibleFiles(dir).keys()]).toEqual(['a/b', 'z'])
})

test('driver 3 a and a/b together fail half-way and leak a timestamp directory each time', () => {
  const dir = temporaryDir()
  write(dir, payload({ x: '1' }))
  expect(write(dir, payload({ a: '1', 'a/b': '2' })).result).toMatch(
    /^mkdir .*\/\.\.[\d_.]+\/a\/: file exists$/,
  )
  expect(write(dir, payload({ 'a/b': '2', a: '1' }))).toEqual({
    result: expect.stringMatching(/^open .*\/a: is a directory$/),
    moved: true,
  })
  expect(timestampDirs(dir)).toHaveLength(3)
  expect([...visibleFiles(dir).keys()]).toEqual(['x'])
})

test('driver 3 the path . empties the volume and fails', () => {
  const dir = temporaryDir()
  write(dir, payload({ a: '1', b: '2' }))
  expect(write(dir, payload({ '.': '1' })).result).toBe(
    `cleanup failure: unlinkat ${dir}: device or resource busy`,
  )
  expect(fs.readdirSync(dir)).toEqual([])
})

test('driver 3.1 a left ..data_tmp makes every later write fail, and the new directory is taken back', () => {
  const dir = temporaryDir()
  write(dir, payload({ a: '1' }))
  fs.symlinkSync('nowhere', join(dir, '..data_tmp'))
  for (let i = 0; i < 2; i++) {
    expect(write(dir, payload({ a: '2' })).result).toMatch(
      /^symlink \.\.[\d_.]+ .*\/\.\.data_tmp: file exists$/,
    )
  }
  expect(timestampDirs(dir)).toHaveLength(1)
  expect(visibleFiles(dir).get('a')?.contents.toString()).toBe('1')
})

test('driver 3.1 texts name the directory as its owner knows it', () => {
  const dir = temporaryDir()
  expect(() => writePayload(dir, payload({ '.': '' }), '/var/lib/kubelet/v')).toThrow(
    'unlinkat /var/lib/kubelet/v: device',
  )
})

/** The model: what the pod sees is the last accepted set; nothing else is remembered. */
type Model = ReadonlyMap<string, PayloadFile>

const isBelow = (path: string, parent: string): boolean => path.startsWith(`${parent}/`)

function modelStep(before: Model | undefined, files: Model): 'written' | 'unchanged' | 'refused' {
  if (before === undefined) return 'written'
  let changed = false
  for (const [path, { contents }] of files) {
    const old = before.get(path)
    if (old !== undefined && Buffer.compare(old.contents, contents) === 0) continue
    const flipped = [...before.keys()].some((one) => isBelow(path, one) || isBelow(one, path))
    if (flipped) return 'refused'
    changed = true
    break
  }
  const vanished = [...before.keys()].some((path) => !files.has(path))
  return changed || vanished ? 'written' : 'unchanged'
}

function modelTree(files: Model): string[] {
  const entries = new Set<string>()
  for (const [path, { mode, contents }] of files) {
    const parts = path.split('/')
    entries.add(`${parts[0]} -> ..data/${parts[0]}`)
    for (let i = 1; i < parts.length; i++) entries.add(`DATA/${parts.slice(0, i).join('/')}/ 0755`)
    entries.add(`DATA/${path} ${mode.toString(8).padStart(4, '0')} ${contents.length}`)
  }
  return [...entries, '..data -> DATA', 'DATA/ 0755'].sort()
}

function realTree(dir: string): string[] {
  const data = fs.readlinkSync(join(dir, '..data'))
  return tree(dir)
    .filter(({ path }) => path !== '.')
    .map(({ path, kind, mode, size, link }) => {
      const name = path.startsWith(data) ? `DATA${path.slice(data.length)}` : path
      if (kind === 'link') return `${name} -> ${link === data ? 'DATA' : link}`
      return kind === 'directory' ? `${name}/ ${mode}` : `${name} ${mode} ${size}`
    })
    .sort()
}

const somePath = fc.constantFrom('a', 'b', 'c', 'd', 'a/b', 'd/x', 'd/y', 'd/e/z', 'd/e', 'é', 'a-b')
const someFile = fc.record({
  mode: fc.constantFrom(0o644, 0o600, 0o400, 0o777),
  contents: fc.constantFrom('', '1', '2', '22').map((text) => Buffer.from(text)),
})
const someFiles = fc
  .array(fc.tuple(somePath, someFile), { minLength: 1, maxLength: 5 })
  .map((entries) => new Map(entries))
  .filter((files) => ![...files.keys()].some((one) => [...files.keys()].some((other) => isBelow(other, one))))

test('driver 3.1 tree, modes, links and “mtime changed” agree with the model over random steps', () => {
  fc.assert(
    fc.property(fc.array(someFiles, { minLength: 1, maxLength: 10 }), (steps) => {
      const dir = temporaryDir()
      let model: Model | undefined
      for (const files of steps) {
        const expected = modelStep(model, files)
        const { result, moved } = write(dir, files)
        expect(result === 'written' || result === 'unchanged' ? result : 'refused').toBe(expected)
        expect(moved).toBe(expected === 'written')
        if (expected === 'written') model = files
        expect(realTree(dir)).toEqual(modelTree(model ?? new Map()))
        const seen = [...visibleFiles(dir)].map(([path, { contents }]) => [path, contents.toString()])
        expect(new Map(seen as [string, string][])).toEqual(
          new Map([...(model ?? [])].map(([path, { contents }]) => [path, contents.toString()])),
        )
      }
    }),
    { numRuns: 60 },
  )
})
