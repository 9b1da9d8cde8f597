/**
 * Volumes of `provider: keyferry` from end to end: the configuration file, the real provider process, the
 * driver's side, SOPS documents on the node and a scripted AWS Secrets Manager.
 */
import { mkdtempSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { createProviderProcess, type ProviderProcess } from '../../../src/commands/provider-process.ts'
import { loadConfig, parseConfig } from '../../../src/config.ts'
import type { TestNode, VolumeResult } from '../../../src/driver/node.ts'
import type { AuditRecord } from '../../../src/telemetry/audit.ts'
import { silentLogger } from '../../../src/telemetry/log.ts'
import { silentMeter } from '../../../src/telemetry/metrics.ts'
import { sopsNode, type SopsNode } from '../../support/sops-node.ts'
import { FakeAws } from '../aws/fake-aws.ts'
import { FakeCluster } from '../aws/fake-identity.ts'
import { ROLE, trustWeb } from '../aws/web-role.ts'

const AUDIENCE = 'sts.amazonaws.com'

let scene: SopsNode
let aws: FakeAws
const cluster = new FakeCluster()
let node: TestNode
const records: AuditRecord[] = []

function start(text: string): Promise<ProviderProcess> {
  return createProviderProcess({
    loaded: parseConfig('c.yaml', text),
    log: silentLogger,
    audit: (record) => records.push(record),
    meter: silentMeter,
    env: {},
  })
}

beforeAll(async () => {
  scene = await sopsNode()
  aws = await new FakeAws().start()
  trustWeb(aws, cluster)
  const region = aws.region('eu-west-1')
  region.putSecret('shop.token', 'old')
  region.putSecret('shop.token', 'abc')
  region.putSecret('shop.db', '{"user":"app","port":5432,"tls.crt":"PEM"}')
  scene.put('shop/db.yaml', await scene.sealed({ password: 'correct horse', 'key.bin': 'aGk=' }))
  node = await started({
    stores: {
      documents: { backend: 'sops', allow: [{ namespaces: ['shop'] }] },
      central: {
        backend: 'aws-secrets-manager',
        allow: [{ namespaces: ['shop'], serviceAccounts: ['web'], keys: ['shop.*'] }],
      },
      finance: { backend: 'aws-secrets-manager', allow: [{ namespaces: ['finance'] }] },
    },
  })
}, 30_000)

/** A provider with these changes to the configuration, and a driver that reaches it. */
async function started(changes: Readonly<Record<string, unknown>>): Promise<TestNode> {
  const config = scene.config({
    cache: { freshFor: 0 },
    ...changes,
    backends: {
      'aws-secrets-manager': {
        endpoint: aws.endpoint,
        stsEndpoint: aws.endpoint,
        region: 'eu-west-1',
        roleArn: ROLE,
      },
    },
  })
  const provider = await createProviderProcess({
    loaded: await loadConfig(config),
    log: silentLogger,
    audit: (record) => records.push(record),
    meter: silentMeter,
    env: {},
  })
  const sockets = mkdtempSync(join(scene.directory, 'sockets-'))
  const server = await provider.listen({ directories: [{ path: sockets }], alsoSearched: [] })
  scene.afterwards(async () => {
    await server.close({ drainMs: 1000 })
    await provider.close()
  })
  return scene.node({ providerDirs: [sockets], root: join(sockets, 'kubelet') })
}

afterAll(async () => {
  await scene.close()
  await aws.stop()
})

let classes = 0
async function mount(
  files: string,
  pod: { namespace?: string; serviceAccount?: string } = {},
  on: TestNode = node,
) {
  classes += 1
  records.length = 0
  const request = {
    pod: { name: `web-${classes}`, namespace: 'shop', serviceAccount: 'web', ...pod },
    spc: { name: `class-${classes}`, provider: 'keyferry', parameters: { files } },
    tokens: {
      [AUDIENCE]: cluster.token({ namespace: 'shop', serviceAccount: 'web', audience: AUDIENCE }),
    },
  }
  const result: VolumeResult = await on.publish(request)
  const seen = result.code === 'OK' ? on.files(on.target(request)) : new Map<string, never>()
  return {
    result,
    files: Object.fromEntries(
      Array.from(seen, ([path, { mode, contents }]) => [path, `${mode.toString(8)} ${contents.toString()}`]),
    ),
  }
}

describe('a volume of two stores', () => {
  it('holds whole values, properties, decoded values, a gathered document and an expanded one', async () => {
    const { result, files } = await mount(`
- { path: db/password, store: documents, key: shop/db.yaml, property: password, mode: 0400 }
- { path: db/key, store: documents, key: shop/db.yaml, property: key.bin, decode: base64 }
- { path: token, store: central, key: shop.token }
- { path: old, store: central, key: shop.token, version: AWSPREVIOUS }
- { path: gone, store: central, key: shop.gone, optional: true }
- path: app.env
  format: dotenv
  refs:
    - { name: DB_PASSWORD, store: documents, key: shop/db.yaml, property: password }
    - { name: DB_USER, store: central, key: shop.db, jmesPath: user }
    - { name: GONE, store: central, key: shop.gone, optional: true }
- { path: db.yaml, store: central, key: shop.db, format: yaml }
- { store: central, expand: { key: shop.db, into: db, select: [user, tls.crt], rename: { user: name } } }
`)
    expect(result).toMatchObject({ code: 'OK' })
    expect(files).toEqual({
      'db/password': '400 correct horse',
      'db/key': '644 hi',
      token: '644 abc',
      old: '644 old',
      'app.env': "644 DB_PASSWORD='correct horse'\nDB_USER=app\n",
      'db.yaml': '644 "user": "app"\n"port": 5432\n"tls.crt": "PEM"\n',
      'db/name': '644 app',
      'db/tls.crt': '644 PEM',
    })
  })

  it('holds templates of values of both, and a document of the node as JSON', async () => {
    const { result, files } = await mount(`
- path: db/url
  mode: 0400
  template: postgres://{{ user }}:{{ password | url }}@db/shop
  refs:
    - { name: user, store: central, key: shop.db, property: user }
    - { name: password, store: documents, key: shop/db.yaml, property: password }
- path: app.json
  escape: json
  template: '{"port":{{ db.port }},"tls":{{ db["tls.crt"] }},"old":{{ gone | default: "none" }}}'
  refs:
    - { name: db, store: central, key: shop.db }
    - { name: gone, store: central, key: shop.gone, optional: true }
- { path: document, store: documents, key: shop/db.yaml, template: 'P={{ value.password | shell }}' }
- { path: gone, store: central, key: shop.gone, optional: true, template: 'x{{ value }}' }
`)
    expect(result).toMatchObject({ code: 'OK' })
    expect(files).toEqual({
      'db/url': '400 postgres://app:correct%20horse@db/shop',
      'app.json': '644 {"port":5432,"tls":"PEM","old":"none"}',
      document: "644 P='correct horse'",
    })
  })

  it('T27 is recorded object by object, under the names of its stores', async () => {
    await mount(`
- path: app.json
  format: json
  refs:
    - { name: a, store: documents, key: shop/db.yaml, property: password }
    - { name: b, store: central, key: shop.token }
`)
    expect(records.map(({ store, backend, object, outcome }) => [store, backend, object, outcome])).toEqual([
      ['documents', 'sops', 'documents/shop/db.yaml#password', 'delivered'],
      ['central', 'aws-secrets-manager', 'central/shop.token', 'delivered'],
    ])
  })

  it('asks a store once for what several files want of one key', async () => {
    aws.calls.length = 0
    await mount(`
- { path: a, store: central, key: shop.db, property: user }
- { path: b, store: central, key: shop.db, property: port }
- { path: c, format: json, refs: [{ name: x, store: central, key: shop.db, property: user }] }
`)
    const asked = aws.calls.filter(({ service }) => service === 'secretsmanager')
    expect(asked.map(({ input }) => JSON.stringify(input))).toEqual([expect.stringContaining('shop.db')])
  })

  it('T1 the binding of a document still holds: another service account of the namespace is refused', async () => {
    const { result } = await mount('[{path: a, store: documents, key: shop/db.yaml}]', {
      serviceAccount: 'other',
    })
    expect(result).toMatchObject({ code: 'PermissionDenied', message: expect.stringContaining('NOT_BOUND') })
  })
})

describe('a volume that is refused', () => {
  it('T1 names every fault with its line, asks no store, and says nothing of stores of others', async () => {
    aws.calls.length = 0
    const { result } = await mount(`
- { path: a, store: finance, key: shop.token }
- { path: b, store: centrl, key: shop.token }
- { path: c, store: central, key: finance.token }
`)
    expect(result.message).toContain('files[0].store "finance" is no store for shop/web (line 2 of files)')
    expect(result.message).toContain('files[1].store "centrl" is no store for shop/web (line 3 of files)')
    expect(result.message).toContain('Is "central" meant?')
    expect(result.message).toContain('KEYFERRY_KEY_DENIED: files[2].key is not among the keys')
    expect(aws.calls).toEqual([])
  })

  it('T1 is PermissionDenied when only a rule is in the way', async () => {
    const { result } = await mount('[{path: c, store: central, key: finance.token}]')
    expect(result.code).toBe('PermissionDenied')
  })

  it.each([
    ['[{path: a, store: central, key: shop.gone}]', 'NotFound', 'object "central/shop.gone" (a)'],
    [
      '[{path: a, store: central, key: shop.db, property: nope}]',
      'NotFound',
      'KEYFERRY_NO_PROPERTY: object "central/shop.db#nope" (a)',
    ],
    ['[{path: a, store: central, key: shop.token, property: x}]', 'DataLoss', 'KEYFERRY_NOT_JSON'],
    [
      '[{path: a, format: json, refs: [{name: n, store: central, key: shop.gone}]}]',
      'NotFound',
      'object "central/shop.gone" (a)',
    ],
    [
      "[{path: a, store: central, key: shop.db, template: 'u={{ value.pasword }}'}]",
      'DataLoss',
      'KEYFERRY_TEMPLATE_NAME: object "a": template line 1: "value.pasword" is not there',
    ],
    [
      "[{path: a, store: central, key: shop.db, template: '{{ vaule }}'}]",
      'InvalidArgument',
      'files[0].template line 1: "vaule" is not the name of a value (file "a") (line 1 of files)',
    ],
    [
      "[{path: a, store: central, key: shop.token, template: '{{ value.x }}'}]",
      'DataLoss',
      'KEYFERRY_NOT_JSON: object "a": template line 1: "value"',
    ],
    ['[{path: ../a, store: central, key: shop.token}]', 'InvalidArgument', 'INVALID_PATH'],
  ])('%s is %s and names the object, never a value', async (files, code, text) => {
    const { result } = await mount(files)
    expect(result.code).toBe(code)
    expect(result.message).toContain(text)
    expect(result.message).not.toMatch(/abc|5432|correct/)
  })
})

describe('stores of the configuration', () => {
  it.each([
    ['stores:\n  db:\n    backend: spos\n', /^c\.yaml:3:14: stores\.db\.backend is "spos"; there are aws-/],
    [
      'stores:\n  db:\n    backend: aws-secrets-manager\n    settings:\n      regoin: eu-west-1\n',
      'c.yaml:5:15: stores.db.settings.regoin is not a known key',
    ],
    [
      'stores:\n  db:\n    backend: sops\n    identity: node\n',
      'c.yaml:4:15: stores.db.identity cannot be node: documents are bound to the service account of the pod',
    ],
  ])('%j stops the start with file and line', async (text, message) => {
    await expect(start(text)).rejects.toThrow(message)
  })

  it.each([
    ['stores: {Db: {backend: sops}}', 'is not a name'],
    ['stores: {db: {backend: sops, alow: []}}', 'stores.db.alow is not a known key'],
    ['stores: {db: {backend: sops, allow: [{serviceAccounts: [a]}]}}', 'namespaces'],
    ['stores: {db: {backend: sops, allow: [{namespaces: []}]}}', 'stores.db.allow.0.namespaces'],
  ])('T28 %s is an error', (text, message) => {
    expect(() => parseConfig('c.yaml', text)).toThrow(message)
  })

  it('an SPC may define stores only where the configuration says so', async () => {
    for (const [word, code] of [
      ['deny', 7],
      ['allow', 3],
    ] as const) {
      const provider = await start(`kubernetes: 'off'\npolicy: {inlineStores: ${word}}`)
      const mounted = provider.pipeline(
        {
          pod: { name: 'p', namespace: 'shop', uid: 'u', serviceAccount: 'web' },
          secretProviderClass: 'c',
          parameters: new Map([
            ['stores', 'mine: {backend: aws-secrets-manager, settings: {region: eu-west-1}}'],
            ['files', word === 'deny' ? '[]' : '[{path: a, store: mine, key: ""}]'],
          ]),
          tokens: undefined,
          nodePublishSecret: new Map(),
          defaultMode: 0o644,
          targetPath: '',
        },
        { provider: 'keyferry', signal: AbortSignal.timeout(5000), deadline: Date.now() + 5000 },
      )
      await expect(mounted).rejects.toMatchObject(
        word === 'deny'
          ? { message: expect.stringContaining('KEYFERRY_INLINE_STORES') }
          : { grpcCode: code, message: expect.stringContaining('files[0].key is empty') },
      )
      await provider.close()
    }
  })
})

describe('the example', () => {
  const example = (name: string): string =>
    readFileSync(join(import.meta.dirname, '../../../examples/keyferry', name), 'utf8')

  it('mounts with the stores of its configuration', async () => {
    const { stores } = parse(example('node.yaml')) as { stores: Record<string, object> }
    const spc = parse(example('secretproviderclass.yaml')) as { spec: { parameters: { files: string } } }
    const region = aws.region('eu-west-1')
    region.putSecret('shop/db', '{"user":"app"}')
    region.putSecret('shop/token', 'one')
    region.putSecret('shop/tls', '{"certificate":"CERT","privateKey":"KEY"}')
    expect(parseConfig('node.yaml', example('node.yaml')).config.stores).toHaveProperty('central')
    const { files } = await mount(spc.spec.parameters.files, {}, await started({ stores }))
    expect(files).toEqual({
      'db/password': '400 correct horse',
      'app.env': "644 DB_USER=app\nDB_PASSWORD='correct horse'\n",
      'db/url': '400 postgres://app:correct%20horse@db.shop.svc:5432/shop?sslmode=verify-full',
      'config.json': expect.stringMatching(/^644 \{/),
      'tls/tls.crt': '644 CERT',
      'tls/tls.key': '644 KEY',
    })
    expect(JSON.parse(files['config.json']?.slice('644 '.length) ?? '')).toEqual({
      database: { user: 'app', password: 'correct horse' },
      basicAuth: Buffer.from('app:correct horse').toString('base64'),
    })
  })
})
