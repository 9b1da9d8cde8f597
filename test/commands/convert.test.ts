/** `keyferry convert` as a user runs it: the evidence pipe, what it writes where, options, exit codes. */
import { spawnSync } from 'node:child_process'
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { CLI, ROOT, keyferry } from '../support/cli.ts'

const scratch = mkdtempSync(join(tmpdir(), 'keyferry-convert-'))
afterAll(() => rmSync(scratch, { recursive: true }))

interface Report {
  readonly counts: Readonly<Record<string, number>>
  readonly classes: readonly { readonly class: { readonly metadata: { readonly name: string } } }[]
  readonly configuration: Readonly<Record<string, Record<string, unknown>>>
  readonly notCarried: readonly Readonly<Record<string, unknown>>[]
}

const EXAMPLES = globSync('examples/eso/*.yaml', { cwd: ROOT }).sort()

/** Converted once for all that look at it. */
const converted = keyferry(['convert', ...EXAMPLES])

/** A SecretStore and an ExternalSecret of namespace `shop`. */
const SMALL = `
apiVersion: external-secrets.io/v1
kind: SecretStore
metadata: { name: aws, namespace: shop }
spec: { provider: { aws: { service: SecretsManager, region: eu-west-1 } } }
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: { name: db, namespace: shop }
spec:
  secretStoreRef: { name: aws }
  data: [{ secretKey: password, remoteRef: { key: shop/db, property: password } }]
`

describe('examples/eso', () => {
  it('keyferry convert examples/eso/*.yaml | keyferry lint - finds no fault', () => {
    const pipe = `"$0" "$1" convert examples/eso/*.yaml 2>"$2" | "$0" "$1" lint -`
    const list = join(scratch, 'list')
    const { status, stdout } = spawnSync('sh', ['-c', pipe, process.execPath, CLI, list], {
      cwd: ROOT,
      encoding: 'utf8',
    })
    const classes = parseAllDocuments(converted.stdout).filter(
      (one) => one.get('kind') === 'SecretProviderClass',
    )
    expect(classes.length).toBeGreaterThanOrEqual(7)
    expect(stdout).toBe(`${classes.length} classes in 1 file: no faults\n`)
    expect(status).toBe(0)
    expect(readFileSync(list, 'utf8')).toBe(converted.stderr)
  })

  it('what the rules of the stores do not name is denied by the same lint', () => {
    const made = converted.stdout.replaceAll('key: shop/token', 'key: shop/other')
    const { status, stdout } = keyferry(['lint', '-'], made)
    expect(stdout).toContain('KEYFERRY_KEY_DENIED')
    expect(status).toBe(1)
  })

  it('tells of every line that is left behind, with file, line, field and remedy, and prints no value', () => {
    const { stdout, stderr } = converted
    for (const field of [
      'spec.provider.aws.auth.secretRef',
      'spec.provider.fake',
      'spec.refreshInterval',
      'spec.target.creationPolicy',
      'spec.target.template.type',
      'spec.target.template.data.banner',
      'spec.data[1].remoteRef.decodingStrategy',
      'spec.data[2].sourceRef.storeRef',
      'spec.dataFrom[0].find',
      'spec.dataFrom[1].sourceRef.generatorRef',
    ])
      expect(stderr).toMatch(
        new RegExp(
          `examples/eso/left-behind.yaml:\\d+:\\d+ .*${field.replaceAll(/[.[\]]/g, '\\$&')}\n {4}\\S`,
        ),
      )
    expect(stderr).toContain('PushSecret legacy/backup')
    expect(stdout + stderr).not.toContain('not-to-be-printed')
    const lines = readFileSync(join(ROOT, 'examples/eso/left-behind.yaml'), 'utf8').split('\n')
    const [, line = '0'] = /left-behind\.yaml:(\d+):\d+ .*dataFrom\[0\]\.find/.exec(stderr) ?? []
    expect(lines[Number(line) - 2]).toContain('find:')
  })

  it('puts the list into the head of the class that it is about', () => {
    const { stdout } = converted
    const head = stdout.split('\n---\n').find((text) => text.includes('ExternalSecret legacy/everything'))
    expect(head).toMatch(/^# Converted by keyferry convert from ExternalSecret legacy\/everything \(examples/)
    expect(head).toContain('# - lost: spec.target.creationPolicy (line')
    expect(head).not.toContain('shop/orders')
  })
})

describe('the output', () => {
  it('is classes and the ConfigMap of the DaemonSet, under the same name and key', () => {
    const { stdout } = keyferry(['convert', '-'], SMALL)
    const [spc, configMap] = parseAllDocuments(stdout).map((one) => one.toJS() as Record<string, unknown>)
    expect(spc).toMatchObject({ kind: 'SecretProviderClass', metadata: { name: 'db', namespace: 'shop' } })
    const shipped = parseAllDocuments(readFileSync(join(ROOT, 'daemonset/keyferry.yaml'), 'utf8'))
      .map((one) => one.toJS() as Record<string, unknown>)
      .find(({ kind }) => kind === 'ConfigMap')
    expect(configMap?.['metadata']).toEqual(shipped?.['metadata'])
    expect(Object.keys(configMap?.['data'] ?? {})).toEqual(Object.keys(shipped?.['data'] ?? {}))
    const { 'config.yaml': text = '' } = (configMap?.['data'] ?? {}) as Record<string, string>
    expect(parse(text)).toEqual({
      stores: {
        'shop-aws': {
          backend: 'aws-secrets-manager',
          settings: { region: 'eu-west-1' },
          allow: [{ namespaces: ['shop'], keys: ['shop/db'] }],
        },
      },
    })
  })

  it('reads the standard input without a file, JSON and lists too', () => {
    const items = parseAllDocuments(SMALL).map((one) => one.toJS() as unknown)
    const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items })
    const plain = keyferry(['convert'], SMALL)
    const listed = keyferry(['convert'], list)
    expect(listed.status).toBe(0)
    expect(listed.stdout.replace(/stdin:\d+/, '')).toBe(plain.stdout.replace(/stdin:\d+/, ''))
  })

  it('goes into a file with -o, which lint reads', () => {
    const file = join(scratch, 'out.yaml')
    expect(keyferry(['convert', '-o', file, '-'], SMALL)).toMatchObject({ status: 0, stdout: '' })
    expect(keyferry(['lint', file])).toMatchObject({ status: 0, stdout: '1 class in 1 file: no faults\n' })
  })

  it('is data with --json: classes, configuration and the list', () => {
    const { status, stdout, stderr } = keyferry(['convert', '--json', ...EXAMPLES])
    const report = JSON.parse(stdout) as Report
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(report.counts['classes']).toBe(report.classes.length)
    expect((report.counts['lost'] ?? 0) + (report.counts['changed'] ?? 0)).toBe(report.notCarried.length)
    expect(Object.keys(report.configuration['stores'] ?? {})).toContain('shop-aws')
    for (const note of report.notCarried)
      expect(Object.keys(note).sort()).toEqual([
        'column',
        'field',
        'file',
        'line',
        'message',
        'object',
        'remedy',
        'severity',
      ])
  })

  it('has the stores in the classes with --inline-stores, and lint takes them', () => {
    const made = keyferry(['convert', '--inline-stores', '-'], SMALL)
    expect(made.stdout).toContain('stores: |')
    expect(made.stdout).toContain('inlineStores: allow')
    expect(keyferry(['lint', '-'], made.stdout)).toMatchObject({ status: 0 })
    const denied = keyferry(['lint', '-'], made.stdout.replace('inlineStores: allow', 'inlineStores: deny'))
    expect(denied.stdout).toContain('KEYFERRY_INLINE_STORES')
  })

  it('is for the namespace default where an object names none, which is listed, or for that of --namespace', () => {
    const nowhere = SMALL.replaceAll(', namespace: shop', '')
    const guessed = keyferry(['convert', '-'], nowhere)
    expect(guessed.stderr).toContain('Convert with --namespace')
    expect(guessed.stdout).toContain('namespaces: [default]')
    const told = keyferry(['convert', '--namespace', 'shop', '-'], nowhere)
    expect(told.stderr).toBe('')
    const bare = (text: string): string => text.replaceAll(/^ *# .*\n/gm, '')
    expect(bare(told.stdout)).toBe(bare(keyferry(['convert', '-'], SMALL).stdout))
  })
})

describe('exit codes', () => {
  const lost = SMALL.replace('property: password', 'decodingStrategy: Auto')

  it('0 with a list; 1 where nothing could be converted', () => {
    expect(
      keyferry(['convert', '-'], SMALL.replace('secretStoreRef', 'refreshInterval: 1h\n  secretStoreRef'))
        .status,
    ).toBe(0)
    const nothing = keyferry(['convert', '-'], lost)
    expect(nothing).toMatchObject({ status: 1, stdout: '' })
    expect(nothing.stderr).toContain('spec.data[0].remoteRef.decodingStrategy')
  })

  it('1 with --strict where something is lost, and not for what only works in another way', () => {
    expect(keyferry(['convert', '--strict', ...EXAMPLES]).status).toBe(1)
    const changed = SMALL.replace('secretStoreRef', 'refreshInterval: 1h\n  secretStoreRef')
    const { status, stderr } = keyferry(['convert', '--strict', '-'], changed)
    expect(stderr).toContain('1 not carried over as they were: 0 lost, 1 changed')
    expect(status).toBe(0)
  })

  it('2 for a file that is not there, that is no YAML, that has nothing to convert, and that cannot be written', () => {
    expect(keyferry(['convert', 'no-such.yaml'])).toMatchObject({ status: 2, stdout: '' })
    const broken = keyferry(['convert', '-'], 'a: [1\n')
    expect(broken.status).toBe(2)
    expect(broken.stderr).toMatch(/stdin:\d+:\d+: this is not YAML/)
    const helm = keyferry(['convert', '-'], '{{- if .Values.a }}\nkind: Secret\n{{ end }}\n')
    expect(helm.stderr).toContain('helm template')
    expect(keyferry(['convert', '-'], 'kind: Pod\napiVersion: v1\n')).toMatchObject({ status: 2 })
    expect(keyferry(['convert', '-o', join(scratch, 'no/such'), '-'], SMALL)).toMatchObject({ status: 2 })
    expect(keyferry(['convert', '--nonsense'])).toMatchObject({ status: 2 })
  })
})

describe('lint with a configuration in the stream', () => {
  const configMap = (config: string): string => `apiVersion: v1
kind: ConfigMap
metadata: { name: keyferry, namespace: keyferry }
data:
  config.yaml: |
${config
  .split('\n')
  .map((line) => `    ${line}`)
  .join('\n')}
---
`
  const spc = `apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: { name: web, namespace: shop }
spec:
  provider: keyferry
  parameters:
    files: |
      - { path: a, store: central, key: shop/a }
`
  const STORES = `stores:
  central:
    backend: aws-secrets-manager
    allow: [{ namespaces: [shop], keys: ['shop/*'] }]`
  const lint = (text: string, ...flags: readonly string[]) => {
    const { status, stdout, stderr } = keyferry(['lint', '--json', ...flags, '-'], text)
    return {
      status,
      stderr,
      findings: stdout === '' ? [] : (JSON.parse(stdout) as { findings: Record<string, unknown>[] }).findings,
    }
  }

  it('checks the classes against its stores, wherever it stands', () => {
    expect(lint(configMap(STORES) + spc)).toMatchObject({ status: 0, findings: [] })
    expect(lint(`${spc}---\n${configMap(STORES)}`)).toMatchObject({ status: 0, findings: [] })
    expect(lint(spc).findings).toMatchObject([{ code: 'KEYFERRY_UNKNOWN_STORE' }])
    const other = configMap(STORES.replace('shop/*', 'other/*')) + spc
    expect(lint(other).findings).toMatchObject([{ code: 'KEYFERRY_KEY_DENIED' }])
  })

  it.each([
    ['an unknown key', `${STORES}\nstore: {}`, 10, 'store is not a known key'],
    [
      'a backend that is not there',
      STORES.replace('aws-secrets-manager', 'aws'),
      8,
      'stores.central.backend is "aws"',
    ],
    [
      'a wrong setting',
      STORES.replace('backend:', 'settings: { regoin: x }\n    backend:'),
      8,
      'settings.regoin is not a known key',
    ],
    ['no YAML', 'stores: ]', 6, ''],
  ])('tells a fault of it with its line: %s', (_what, config, line, message) => {
    const { status, findings } = lint(configMap(config) + spc)
    expect(findings).toMatchObject([{ severity: 'fault', code: 'CONFIG_MAP', line }])
    expect(findings[0]?.['message']).toContain(message)
    expect(status).toBe(1)
  })

  it('gives way to --config', () => {
    const file = join(scratch, 'node.yaml')
    writeFileSync(file, 'stores: {}\n')
    expect(lint(configMap(STORES) + spc, '--config', file).findings).toMatchObject([
      { code: 'KEYFERRY_UNKNOWN_STORE' },
    ])
  })

  it('T21 loads no adapter and reads no file that it names', () => {
    const marker = join(scratch, 'loaded')
    const module = join(scratch, 'adapter.mjs')
    writeFileSync(
      module,
      `import { writeFileSync } from 'node:fs'\nwriteFileSync(${JSON.stringify(marker)}, '')\nexport const adapter = {}\n`,
    )
    const config = `adapters: [${JSON.stringify(module)}]\nbackends: { aws-secrets-manager: { caFile: /no/such/file } }\n${STORES}`
    const { status, findings } = lint(configMap(config) + spc)
    expect(findings).toMatchObject([{ severity: 'warning', code: 'CONFIG_MAP' }])
    expect(status).toBe(0)
    expect(() => readFileSync(marker)).toThrow('ENOENT')
  })

  it('says so where there are two', () => {
    const { findings } = lint(configMap(STORES) + configMap('stores: {}') + spc)
    expect(findings).toMatchObject([{ severity: 'warning', code: 'CONFIG_MAP' }])
  })

  it('takes the DaemonSet of the project, which has one and no class', () => {
    expect(keyferry(['lint', 'daemonset/keyferry.yaml'])).toMatchObject({ status: 0 })
  })
})
