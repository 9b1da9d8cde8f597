/** What the pages for operators promise, against the code: configuration keys, error codes, audit fields. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ConfigSchema, parseConfig } from '../../src/config.ts'
import { CODE_OF_KIND } from '../../src/mount/errors.ts'

const ROOT = join(import.meta.dirname, '../..')
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')

/** Cells of every table row of a page, or of one of its sections. */
function rows(page: string, section?: string): string[][] {
  const text = read(page)
  const part = section === undefined ? text : (text.split(`\n## ${section}\n`)[1] ?? '').split('\n## ')[0]
  return (part ?? '')
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.slice(2, -2).split(' | '))
}

/** As much of a schema's shape as is needed to list its keys. */
interface Shape {
  readonly entries?: Readonly<Record<string, Shape>>
  readonly wrapped?: Shape
  readonly getter?: (input: unknown) => Shape
  readonly default?: unknown
}

/** Every key with its default; a key with keys below it is not listed itself, unless it can be something else. */
function keysOf(schema: Shape, path: readonly string[] = []): [string, unknown][] {
  const inner = schema.wrapped ?? schema
  const name = path.join('.')
  if (inner.getter) return [[name, undefined], ...keysOf(inner.getter({}), path)]
  if (!inner.entries) return [[name, schema.default]]
  return Object.entries(inner.entries).flatMap(([key, below]) => keysOf(below, [...path, key]))
}

describe('docs/operations.md', () => {
  const keys = new Map(keysOf(ConfigSchema as unknown as Shape))
  const documented = rows('docs/operations.md', 'Configuration').flatMap(([key = '', , value = '']) =>
    key.startsWith('`') ? [{ name: key.replaceAll('`', ''), value }] : [],
  )

  it('lists every configuration key once, and no other', () => {
    expect(keys.size).toBeGreaterThan(20)
    expect(documented.map(({ name }) => name).toSorted()).toEqual([...keys.keys()].toSorted())
  })

  it('gives the default that the schema gives', () => {
    const plain = documented.filter(({ name }) => {
      const value = keys.get(name)
      return value !== undefined && typeof value !== 'object'
    })
    expect(plain.length).toBeGreaterThan(12)
    for (const { name, value } of plain) expect(value, name).toBe(`\`${String(keys.get(name))}\``)
  })

  it('writes durations and sizes as the configuration reads them', () => {
    const config = parseConfig(
      'c.yaml',
      'cache: {freshFor: 250ms, maxBytes: 1GiB}\nlimits: {budget: 1h, drain: 0}',
    ).config
    expect(config.cache.maxBytes).toBe(1024 ** 3)
    expect(config.limits).toMatchObject({ budget: 3_600_000, drain: 0 })
  })

  it('T27 names every field of an audit record', () => {
    const [, record = ''] =
      /export interface AuditRecord \{([^]*?)\n\}/.exec(read('src/telemetry/audit.ts')) ?? []
    const fields = [...record.matchAll(/readonly (\w+):/g)].map((match) => match[1] ?? '')
    expect(fields.length).toBeGreaterThan(12)
    const named = rows('docs/operations.md').flatMap(([cell = '']) =>
      [...cell.matchAll(/`(\w+)`/g)].map((match) => match[1]),
    )
    expect(fields.filter((field) => !named.includes(field))).toEqual([])
  })

  it('speaks of every flag of keyferry serve', () => {
    const [, serve = ''] = /\.command\('serve'\)([^]*?)\.action/.exec(read('src/cli.ts')) ?? []
    const flags = [...serve.matchAll(/'(--[a-z-]+)/g)].map((match) => match[1] ?? '')
    expect(flags).toContain('--takeover')
    expect(flags.filter((flag) => !read('docs/operations.md').includes(`\`${flag}`))).toEqual([])
  })
})

describe('error codes', () => {
  /** Codes by the places where a code is written: a field, an error's maker, a table of codes. */
  const WRITTEN = [
    /\bcode: '([A-Z][A-Z0-9_]*)'/g,
    /\b(?:sopsError|fail|failed|failure|problem|refuse|report)\(\s*'([A-Z][A-Z0-9_]*)'/g,
    /MountFailure\.of\(\s*'[a-z-]+',\s*'([A-Z][A-Z0-9_]*)'/g,
    /^ {2}([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+): '(?:config|unauthenticated|denied|not-found|gone|throttled|unavailable|timeout|malformed|too-large|internal)',$/gm,
  ]
  /** In a vendor's folder: everything with the vendor's prefix, which is a code or an environment variable. */
  const VENDORS = /'((?:AWS|AZURE|GCP|VAULT|BAO|ALIBABA|CONJUR|KEYFERRY)_[A-Z0-9_]*[A-Z0-9])'/g
  /** System errors that are made up for a caller of ours, never sent. */
  const NOT_SENT = new Set(['ENOTFOUND'])

  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => !file.includes('/src/driver/'))
  const codes = new Set(
    sources
      .flatMap((file) => {
        const text = readFileSync(file, 'utf8')
        const patterns = file.includes('/src/providers/') ? [...WRITTEN, VENDORS] : WRITTEN
        return patterns.flatMap((pattern) => [...text.matchAll(pattern)].map((match) => match[1] ?? ''))
      })
      .filter((code) => !NOT_SENT.has(code)),
  )

  it('every code in the sources is explained on a page', () => {
    expect([...codes]).toEqual(
      expect.arrayContaining(['TOKEN_MISSING', 'MAC_MISMATCH', 'SHUTTING_DOWN', 'INTERNAL', 'NO_FILES']),
    )
    const pages = readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md'))
    const explained = new Set(
      pages.flatMap((page) =>
        [...read(`docs/${page}`).matchAll(/`([A-Z][A-Z0-9_]*)[`: ]/g)].map((match) => match[1]),
      ),
    )
    expect([...codes].filter((code) => !explained.has(code))).toEqual([])
  })

  it('docs/errors.md explains no code that is never sent', () => {
    const explained = rows('docs/errors.md').flatMap(
      ([cell = '']) => /^`([A-Z][A-Z0-9_]+)`$/.exec(cell)?.[1] ?? [],
    )
    expect(explained.length).toBeGreaterThan(20)
    expect(explained.filter((code) => !codes.has(code))).toEqual([])
    expect(explained).toEqual(explained.toSorted())
  })

  it('driver 8.3 docs/errors.md gives each kind the code it has', () => {
    const kinds = new Set(
      rows('docs/errors.md').flatMap(([cell = '', grpc = '']) =>
        [...cell.matchAll(/`([a-z-]+)`/g)].map((match) => `${match[1]} ${grpc}`),
      ),
    )
    const NAMES: Readonly<Record<number, string>> = {
      3: 'INVALID_ARGUMENT',
      5: 'NOT_FOUND',
      7: 'PERMISSION_DENIED',
      9: 'FAILED_PRECONDITION',
      11: 'OUT_OF_RANGE',
      13: 'INTERNAL',
      15: 'DATA_LOSS',
      16: 'UNAUTHENTICATED',
    }
    expect(kinds).toEqual(
      new Set(Object.entries(CODE_OF_KIND).map(([kind, code]) => `${kind} ${NAMES[code]}`)),
    )
  })
})
