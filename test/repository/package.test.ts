/** What must be true of the package itself: licences, version, published files. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { METRICS } from '../../src/telemetry/metrics.ts'
import { VERSION } from '../../src/version.ts'

const ROOT = join(import.meta.dirname, '../..')
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
const json = (path: string): Record<string, unknown> => JSON.parse(read(path)) as Record<string, unknown>

interface Locked {
  readonly license?: string
  readonly dev?: boolean
  readonly peer?: boolean
  readonly hasInstallScript?: boolean
}

const locked = Object.entries((json('package-lock.json')['packages'] ?? {}) as Record<string, Locked>).filter(
  ([path]) => path !== '',
)

/** Licences that may be shipped; the second list only in tests, tools and optional peers. */
const SHIPPED = new Set([
  'MIT',
  'ISC',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  '0BSD',
  'BlueOak-1.0.0',
  'CC0-1.0',
])
const TOOLS = new Set([
  'MPL-2.0',
  'LGPL-3.0+',
  'LGPL-3.0-or-later',
  'CC-BY-4.0',
  'Python-2.0',
  '(MIT AND Zlib)',
])
/** Shipped under an exception that docs/dependencies.md explains. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  'node_modules/node-forge': '(BSD-3-Clause OR GPL-2.0)',
}

describe('the package', () => {
  it('every locked package has a licence that we may ship', () => {
    const wrong = locked
      .filter(([path, { license, dev, peer }]) => {
        const allowed =
          SHIPPED.has(license ?? '') ||
          EXCEPTIONS[path] === license ||
          ((dev || peer) && TOOLS.has(license ?? ''))
        return !allowed
      })
      .map(([path, { license }]) => `${path}: ${license}`)
    expect(wrong).toEqual([])
  })

  it('pins every dependency to one version', () => {
    const manifest = json('package.json')
    const pinned = ['dependencies', 'devDependencies', 'optionalDependencies'].flatMap((kind) =>
      Object.entries((manifest[kind] ?? {}) as Record<string, string>),
    )
    expect(pinned.length).toBeGreaterThan(10)
    expect(pinned.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([])
  })

  it('every direct dependency has its reason in docs/dependencies.md', () => {
    const text = read('docs/dependencies.md')
    const direct = Object.keys(json('package.json')['dependencies'] ?? {})
    expect(direct.filter((name) => !text.includes(name))).toEqual([])
  })

  it('names no registry host in the lock file', () => {
    expect(read('package-lock.json')).not.toMatch(
      /https?:\/\/(?!opencollective|github\.com|tidelift|www\.|paulmillr|eslint|dotenvx|feross|bevry|ko-fi|patreon|liberapay|polar)[^"]*\.tgz/,
    )
  })

  it('the version is one', () => {
    expect(VERSION).toBe(json('package.json')['version'])
  })

  it('what would be published is the bundle, its documentation and nothing else', () => {
    const packed = spawnSync(
      'npm',
      ['pack', '--dry-run', '--json', '--ignore-scripts', '--loglevel=silent'],
      { cwd: ROOT, encoding: 'utf8' },
    )
    const [{ files }] = JSON.parse(packed.stdout) as [{ files: { path: string }[] }]
    const odd = files
      .map(({ path }) => path)
      .filter(
        (path) => !/^(bin|dist|docs|examples|schemas)\/|^(README\.md|LICENSE|package\.json)$/.test(path),
      )
    expect(odd).toEqual([])
    expect(files.some(({ path }) => path === 'dist/cli.js')).toBe(true)
  })

  it('every metric is documented in docs/operations.md, and nothing else is', () => {
    const documented = [
      ...read('docs/operations.md').matchAll(/^\| `([a-z]+_[a-z_]+)` \| (?:counter|gauge|histogram) /gm),
    ].map((match) => match[1])
    expect(new Set(documented)).toEqual(new Set(Object.keys(METRICS)))
  })

  it('documentation links to pages that exist', () => {
    const pages = [
      'README.md',
      'CONTRIBUTING.md',
      'SECURITY.md',
      ...readdirSync(join(ROOT, 'docs'))
        .filter((name) => name.endsWith('.md'))
        .map((name) => `docs/${name}`),
    ]
    const broken = pages.flatMap((page) =>
      [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)]
        .map((match) => match[1] ?? '')
        .filter((link) => !existsSync(join(ROOT, page, '..', link)))
        .map((link) => `${page}: ${link}`),
    )
    expect(broken).toEqual([])
  })
})

describe('the bundle', () => {
  type Contents = Readonly<
    Record<string, { readonly from: readonly string[]; readonly loads: readonly string[] }>
  >
  const contents = (): Contents => JSON.parse(read('dist/contents.json')) as Contents

  /** A file and everything it loads without being asked. */
  function loadedWith(file: string, seen = new Set<string>()): Set<string> {
    if (seen.has(file)) return seen
    seen.add(file)
    for (const next of contents()[file]?.loads ?? []) loadedWith(next, seen)
    return seen
  }

  it('the bundle never imports node:http as an ES module, which would load fetch at every start', () => {
    const files = ['cli.js', ...readdirSync(join(ROOT, 'dist/chunks')).map((name) => join('chunks', name))]
    const importing = files.filter((file) => /from\s*["'](?:node:)?http["']/.test(read(join('dist', file))))
    expect(importing).toEqual([])
  })

  it('T21 the process that serves loads no vendor SDK and no key library until a mount needs it', () => {
    const made = Object.entries(contents())
    const fileOf = (source: string): string => {
      const [file] = made.find(([, { from }]) => from.includes(source)) ?? []
      expect(file, source).toBeDefined()
      return file ?? ''
    }
    // The stores of the configuration bring the dialect that plans over them.
    const entries = ['cli.js', 'src/commands/serve.ts', 'src/providers/keyferry/dialect.ts'].map((entry) =>
      entry === 'cli.js' ? entry : fileOf(entry),
    )
    const loaded = entries.flatMap((entry) => [...loadedWith(entry)])
    expect(loaded.length).toBeGreaterThan(3)
    const sources = loaded.flatMap((file) => contents()[file]?.from ?? [])
    for (const name of [
      '@aws-sdk',
      '@azure',
      'google-auth-library',
      'node-forge',
      'age-encryption',
      're2js',
      'liquidjs',
      'protobufjs',
      'prom-client',
      '@jmespath-community',
    ]) {
      expect(
        sources.filter((source) => source.startsWith(`node_modules/${name}`)),
        name,
      ).toEqual([])
    }
    expect(sources.some((source) => source.startsWith('node_modules/@grpc/grpc-js/'))).toBe(true)
  })
})
