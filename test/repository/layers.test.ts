/** The import rules of docs/design.md section 4, checked over the whole import graph. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { describe, expect, it } from 'vitest'

const ROOT = join(import.meta.dirname, '../..')
const SRC = join(ROOT, 'src')

/** Room → rooms it may import besides itself. A room is the first path segment below `src`, or beside it. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'cli.ts': ['commands', 'telemetry', 'version.ts'],
  commands: [
    'config.ts',
    'driver',
    'identity',
    'kubernetes',
    'mount',
    'net',
    'adapter',
    'registry',
    'schemas',
    'vendor',
    'server',
    'telemetry',
    'version.ts',
    'formats',
  ],
  'config.ts': ['telemetry'],
  server: ['mount', 'rpc', 'telemetry'],
  mount: ['identity', 'net', 'adapter', 'telemetry', 'formats'],
  adapter: ['net', 'telemetry'],
  registry: ['adapter', 'net', 'telemetry', 'vendor'],
  vendor: ['adapter', 'identity', 'kubernetes', 'formats', 'net', 'telemetry'],
  identity: ['adapter', 'net', 'telemetry', 'formats', 'kubernetes'],
  kubernetes: ['adapter', 'net', 'telemetry', 'formats'],
  driver: ['rpc'],
  rpc: [],
  formats: ['telemetry'],
  net: ['telemetry'],
  telemetry: [],
  'version.ts': [],
}

interface Import {
  readonly from: string
  readonly to: string
}

function sources(): string[] {
  return readdirSync(SRC, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
}

function imports(): Import[] {
  return sources().flatMap((file) => {
    const text = readFileSync(file, 'utf8')
    const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map(
      (match) => match[1] ?? '',
    )
    return specifiers.map((specifier) => ({
      from: relative(SRC, file),
      to: relative(SRC, join(dirname(file), specifier)),
    }))
  })
}

function roomOf(path: string): string {
  const [first = '', second = '', third] = path.split('/')
  if (first === '..') return second
  if (first !== 'providers') return first
  if (third !== undefined) return 'vendor'
  return second.replace(/\.ts$/, '')
}

describe('who may import whom', () => {
  const all = imports()

  it('design 4 every import goes to a room that its own room may use', () => {
    expect(all.length).toBeGreaterThan(100)
    const wrong = all.filter(
      ({ from, to }) => roomOf(from) !== roomOf(to) && !MAY_IMPORT[roomOf(from)]?.includes(roomOf(to)),
    )
    expect(wrong).toEqual([])
  })

  it('design 4 no vendor imports another', () => {
    const vendorOf = (path: string): string => path.split('/')[1] ?? ''
    const across = all.filter(
      ({ from, to }) =>
        roomOf(from) === 'vendor' && roomOf(to) === 'vendor' && vendorOf(from) !== vendorOf(to),
    )
    expect(across).toEqual([])
  })

  it('T21 nothing of ours evaluates code', () => {
    const guilty = sources().filter((file) =>
      /\beval\(|new Function\(|node:vm/.test(readFileSync(file, 'utf8')),
    )
    expect(guilty).toEqual([])
  })
})
