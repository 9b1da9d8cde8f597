/**
 * Vendors' classes and what `keyferry convert` makes of them, mounted against the same fake store by the real
 * provider process and the driver's side: the same files, byte for byte, but for those that were listed.
 */
import { mkdtempSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { convertSources } from '../../src/commands/convert.ts'
import { yamlStream } from '../../src/commands/convert/output.ts'
import { createProviderProcess } from '../../src/commands/provider-process.ts'
import { loadConfig } from '../../src/config.ts'
import { silentAudit } from '../../src/telemetry/audit.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { silentMeter } from '../../src/telemetry/metrics.ts'
import { FakeAws } from '../providers/aws/fake-aws.ts'
import { FakeCluster } from '../providers/aws/fake-identity.ts'
import { ROLE, trustWeb } from '../providers/aws/web-role.ts'
import {
  AUDIENCE as AZURE_AUDIENCE,
  exampleAzure,
  type ExampleAzure,
} from '../providers/azure/example-azure.ts'
import { exampleGoogle } from '../providers/gcp/example-google.ts'
import { startFakeVault, type FakeVault } from '../providers/vault/fake-vault.ts'
import { sopsNode, type SopsNode } from '../support/sops-node.ts'

type Json = Readonly<Record<string, unknown>>

interface Class {
  readonly metadata: { readonly name: string; readonly namespace: string }
  readonly spec: { readonly provider: string; readonly parameters: Record<string, string> }
}

let scene: SopsNode
beforeAll(async () => {
  scene = await sopsNode()
})
afterAll(() => scene.close())

/** Path → `mode contents` (base64 where it is no text). */
type Files = Readonly<Record<string, string>>

interface Both {
  readonly vendor: Files
  readonly converted: Files
  /** `severity field` of each note. */
  readonly notes: readonly string[]
}

interface Scene {
  readonly config: Json
  readonly serviceAccount: string
  /** Audience → token. */
  readonly tokens: Readonly<Record<string, string>>
}

/** Mounts the class of a text as it is, and as it is converted; of what is no class, only the latter. */
async function both(text: string, { config, serviceAccount, tokens }: Scene): Promise<Both> {
  const conversion = await convertSources([{ file: 'spc.yaml', text }], {})
  const made = parseAllDocuments(yamlStream(conversion)).map((one) => one.toJS() as Json)
  const [source] = parseAllDocuments(text).map((one) => one.toJS() as Class)
  const [target] = made.filter(({ kind }) => kind === 'SecretProviderClass') as unknown as Class[]
  const configMap = made.find(({ kind }) => kind === 'ConfigMap') as
    | { data: Record<string, string> }
    | undefined
  const [stores] = parseAllDocuments(configMap?.data['config.yaml'] ?? '').map((one) => one.toJS() as Json)
  const provider = await createProviderProcess({
    loaded: await loadConfig(scene.config({ cache: { freshFor: 0 }, ...config, ...stores })),
    log: silentLogger,
    audit: silentAudit,
    meter: silentMeter,
    env: {},
  })
  const sockets = mkdtempSync(join(scene.directory, 'sockets-'))
  const server = await provider.listen({ directories: [{ path: sockets }], alsoSearched: [] })
  const node = await scene.node({ providerDirs: [sockets], root: join(sockets, 'kubelet') })
  const mount = async (spc: Class | undefined): Promise<Files> => {
    if (!spc) throw new Error('there is no class')
    const request = {
      pod: { name: `pod-${spc.spec.provider}`, namespace: spc.metadata.namespace, serviceAccount },
      spc: { name: spc.metadata.name, ...spc.spec },
      tokens: Object.fromEntries(
        Object.entries(tokens).map(([audience, token]) => [
          audience,
          { token, expirationTimestamp: new Date(Date.now() + 3_600_000).toISOString() },
        ]),
      ),
    }
    const result = await node.publish(request)
    expect(result, JSON.stringify(result)).toMatchObject({ code: 'OK' })
    return Object.fromEntries(
      Array.from(node.files(node.target(request)), ([path, { mode, contents }]) => [
        path,
        `${mode.toString(8)} ${contents.toString('latin1')}`,
      ]),
    )
  }
  try {
    const vendor = source?.spec.parameters ? await mount(source) : {}
    const converted = await mount(target)
    return { vendor, converted, notes: conversion.notes.map(({ severity, field }) => `${severity} ${field}`) }
  } finally {
    await server.close({ drainMs: 100 })
    await provider.close()
  }
}

const spc = (provider: string, parameters: string): string => `
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: { name: orders, namespace: shop }
spec:
  provider: ${provider}
  parameters:
${parameters}`

describe('a class of AWS', () => {
  let aws: FakeAws
  const cluster = new FakeCluster()
  let on: Scene
  beforeAll(async () => {
    aws = await new FakeAws().start()
    trustWeb(aws, cluster)
    const region = aws.region('eu-west-1')
    region.putSecret('shop/db', '{"user":"app","port":5432,"key":"aGk=","nested":{"a":[1,"x"]}}')
    region.putSecret('shop/token', 'old')
    region.putSecret('shop/token', 'new')
    region.putSecret('shop/binary', Buffer.from([0, 255, 1]))
    region.putParameter('/shop/flags', 'one')
    region.putParameter('/shop/flags', 'two')
    const settings = { endpoint: aws.endpoint, stsEndpoint: aws.endpoint, roleArn: ROLE }
    on = {
      config: { backends: { 'aws-secrets-manager': settings, 'aws-parameter-store': settings } },
      serviceAccount: 'web',
      tokens: {
        'sts.amazonaws.com': cluster.token({
          namespace: 'shop',
          serviceAccount: 'web',
          audience: 'sts.amazonaws.com',
        }).token,
      },
    }
  })
  afterAll(() => aws.stop())

  it('gives the same files: aliases, translated names, modes, fields, labels, versions, base64', async () => {
    const { vendor, converted, notes } = await both(
      spc(
        'aws',
        `
    region: eu-west-1
    objects: |
      - { objectName: shop/db, objectType: secretsmanager, filePermission: "0440", jmesPath: [
          { path: user, objectAlias: db-user }, { path: port, objectAlias: db/port, filePermission: "0400" },
          { path: key, objectAlias: db-key, objectEncoding: base64 }, { path: "nested.a[1]", objectAlias: x } ] }
      - { objectName: shop/token, objectType: secretsmanager, objectVersionLabel: AWSPREVIOUS, objectAlias: old }
      - { objectName: shop/token, objectType: secretsmanager, objectAlias: new }
      - { objectName: shop/binary, objectType: secretsmanager }
      - { objectName: /shop/flags, objectType: ssmparameter, objectVersion: "1" }
      - { objectName: "/shop/flags:2", objectType: ssmparameter, objectAlias: flags }
`,
      ),
      on,
    )
    expect(Object.keys(vendor).sort()).toEqual([
      '_shop_flags',
      'db-key',
      'db-user',
      'db_port',
      'flags',
      'new',
      'old',
      'shop_binary',
      'shop_db',
      'x',
    ])
    expect(converted).toEqual(vendor)
    expect(notes).toEqual([])
  })

  it('gives the same files with sub-directories, and all members of a document but those that are no text', async () => {
    const { vendor, converted, notes } = await both(
      spc(
        'aws',
        `
    region: eu-west-1
    pathTranslation: "False"
    objects: |
      - { objectName: shop/db, objectType: secretsmanager, jmesPath: [{ path: "*", objectAlias: all }] }
`,
      ),
      on,
    )
    expect(vendor).toMatchObject({ 'all/user': '644 app', 'all/port': '644 5432' })
    expect(converted).toEqual({ ...vendor, 'all/nested': '644 {"a":[1,"x"]}' })
    expect(notes).toEqual(['changed spec.parameters.objects[0]'])
  })
})

describe('an ExternalSecret', () => {
  it('gives files with what the operator would have put under its keys', async () => {
    const aws = await new FakeAws().start()
    const cluster = new FakeCluster()
    trustWeb(aws, cluster)
    const region = aws.region('eu-west-1')
    region.putSecret(
      'shop/db',
      '{"user":"a b","password":"p/w","a.b":"dotted","tls":{"crt":"UEVN"},"n":5,"list":["x","y"]}',
    )
    region.putSecret('shop/doc', '{"one":"1","two":"2"}')
    region.putSecret('shop/token', 'old')
    region.putSecret('shop/token', 'new')
    const token = cluster.token({
      namespace: 'shop',
      serviceAccount: 'web',
      audience: 'sts.amazonaws.com',
    }).token
    const settings = { endpoint: aws.endpoint, stsEndpoint: aws.endpoint, roleArn: ROLE }
    const on: Scene = {
      config: { backends: { 'aws-secrets-manager': settings } },
      serviceAccount: 'web',
      tokens: { 'sts.amazonaws.com': token },
    }
    const eso = (name: string, spec: string) => `
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: { name: ${name}, namespace: shop }
spec:
  secretStoreRef: { name: main }
${spec}---
apiVersion: external-secrets.io/v1
kind: SecretStore
metadata: { name: main, namespace: shop }
spec: { provider: { aws: { service: SecretsManager, region: eu-west-1 } } }
`
    const ref = (key: string, more = '') => `remoteRef: { key: ${key}${more} }`
    try {
      const plain = await both(
        eso(
          'plain',
          `  data:
    - { secretKey: whole, ${ref('shop/token')} }
    - { secretKey: old, ${ref('shop/token', ', version: AWSPREVIOUS')} }
    - { secretKey: number, ${ref('shop/db', ', property: n')} }
    - { secretKey: dotted, ${ref('shop/db', ', property: a.b')} }
    - { secretKey: second, ${ref('shop/db', ', property: list.1')} }
    - { secretKey: tls.crt, ${ref('shop/db', ', property: tls.crt, decodingStrategy: Base64')} }
  dataFrom: [{ extract: { key: shop/doc }, rewrite: [{ regexp: { source: ^one$, target: uno } }] }]
`,
        ),
        on,
      )
      expect(plain.converted).toEqual({
        whole: '644 new',
        old: '644 old',
        number: '644 5',
        dotted: '644 dotted',
        second: '644 y',
        'tls.crt': '644 PEM',
        uno: '644 1',
        two: '644 2',
      })
      const templated = await both(
        eso(
          'templated',
          `  target:
    template:
      data:
        url: 'pg://{{ .user | urlquery }}:{{ .password | urlquery }}@h/db'
        auth: '{{ .user | b64enc }}'
        quoted: 'x = {{ .password | quote }} {{- " " | trim }}'
        json: '{"u": {{ .user | toJson }}, "p": {{ index . "pass-word" | squote }}}{% x %}'
        pem: '{{ .crt | b64dec }}'
  data:
    - { secretKey: user, ${ref('shop/db', ', property: user')} }
    - { secretKey: password, ${ref('shop/db', ', property: password')} }
    - { secretKey: pass-word, ${ref('shop/db', ', property: password')} }
    - { secretKey: crt, ${ref('shop/db', ', property: tls.crt')} }
`,
        ),
        on,
      )
      expect(templated.converted).toEqual({
        url: '644 pg://a%20b:p%2Fw@h/db',
        auth: '644 YSBi',
        json: `644 {"u": "a b", "p": 'p/w'}{% x %}`,
        pem: '644 PEM',
      })
      expect(templated.notes.filter((note) => note.startsWith('lost'))).toEqual([
        'lost spec.target.template.data.quoted',
      ])
    } finally {
      await aws.stop()
    }
  })
})

describe('a class of Azure', () => {
  let azure: ExampleAzure
  beforeAll(async () => {
    azure = await exampleAzure()
    azure.fake.vault('shop-prod.vault.azure.net').secret('encoded', Buffer.from('plain').toString('base64'))
  })
  afterAll(() => azure.fake.stop())
  const scene = (): Scene => ({
    config: azure.config,
    serviceAccount: 'orders',
    tokens: { [AZURE_AUDIENCE]: azure.token },
  })

  it('gives the same files: secrets, a certificate as PEM, a version, a field, an encoding; keys and histories are listed', async () => {
    const { vendor, converted, notes } = await both(
      spc(
        'azure',
        `
    keyvaultName: shop-prod
    tenantID: 11111111-2222-3333-4444-555555555555
    clientID: 66666666-7777-8888-9999-000000000000
    objects: |
      array:
        - { objectName: db-password, objectType: secret, filePermission: "0400" }
        - { objectName: site-cert, objectType: secret, objectAlias: tls/site.pem }
        - { objectName: api-token, objectType: secret, objectVersion: v1, objectAlias: token }
        - { objectName: database, objectType: secret, jmesPath: [{ path: password, objectAlias: db/password }] }
        - { objectName: encoded, objectType: secret, objectEncoding: base64 }
        - { objectName: feature-flags, objectType: secret, keyvaultName: shop-shared }
        - { objectName: missing, objectType: secret, optional: true }
        - { objectName: signing, objectType: key }
        - { objectName: api-token, objectType: secret, objectVersionHistory: 2 }
`,
      ),
      scene(),
    )
    const { signing: _, 'api-token/0': __, 'api-token/1': ___, 'api-token/2': ____, ...kept } = vendor
    expect(Object.keys(vendor)).toHaveLength(Object.keys(kept).length + 4)
    expect(kept).toMatchObject({
      'db-password': '400 correct-horse',
      encoded: '644 plain',
      'db/password': '644 correct-horse',
    })
    expect(converted).toEqual(kept)
    expect(notes).toEqual(['lost spec.parameters.objects', 'lost spec.parameters.objects'])
  })
})

describe('a class of Google', () => {
  it.each(['secretproviderclass.yaml', 'fields.yaml'])(
    'gives the same files: examples/gcp/%s',
    async (name) => {
      const { google, config, token, audience } = await exampleGoogle()
      try {
        const text = readFileSync(join(import.meta.dirname, '../../examples/gcp', name), 'utf8')
        const { vendor, converted, notes } = await both(text, {
          config,
          serviceAccount: 'orders',
          tokens: { [audience]: token },
        })
        expect(Object.keys(vendor).length).toBeGreaterThan(2)
        expect(converted).toEqual(vendor)
        expect(notes.filter((note) => note.startsWith('lost'))).toEqual([])
      } finally {
        await google.stop()
      }
    },
  )
})

describe('a class of Vault', () => {
  let vault: FakeVault
  beforeAll(async () => {
    vault = await startFakeVault()
    const data = { password: 'p<&>w', pem: 'aGk=', hex: '6869', 'dotted.name': 'd', list: [1, 'a'] }
    const kv = (inner: object) => ({ json: { data: { data: inner, metadata: { version: 3 } } } })
    vault.on('GET /v1/secret/data/db', kv(data))
    vault.on('GET /v1/secret/data/db?version=2', kv({ password: 'older' }))
  })
  afterAll(() => vault.close())

  it.each(['vault', 'openbao'])('gives the same files: %s', async (provider) => {
    const { vendor, converted, notes } = await both(
      spc(
        provider,
        `
    roleName: web
    vaultAddress: ${vault.address}
    vaultAuthMountPath: cluster
    objects: |
      - { objectName: db/password, secretPath: secret/data/db, secretKey: password, filePermission: 0400 }
      - { objectName: older, secretPath: "v1/secret/data/db?version=2", secretKey: password }
      - { objectName: pem, secretPath: /v1/secret/data/db, secretKey: pem, encoding: base64 }
      - { objectName: hex, secretPath: secret/data/db, secretKey: hex, encoding: HEX }
      - { objectName: dotted, secretPath: secret/data/db, secretKey: dotted.name }
      - { objectName: list, secretPath: secret/data/db, secretKey: list }
      - { objectName: whole, secretPath: secret/data/db }
`,
      ),
      {
        config: { backends: { vault: { addresses: [vault.address] } } },
        serviceAccount: 'web',
        tokens: { [provider]: 'a.b.c' },
      },
    )
    const { whole: _, ...kept } = vendor
    expect(kept).toMatchObject({
      'db/password': '400 p<&>w',
      older: '644 older',
      pem: '644 hi',
      dotted: '644 d',
    })
    expect(converted).toEqual(kept)
    expect(notes).toEqual(['lost spec.parameters.objects[6]'])
  })
})

describe('a class of SOPS', () => {
  it('gives the same files of a document on the node', async () => {
    scene.put('shop/db.yaml', await scene.sealed({ password: 'correct horse', 'key.bin': 'aGk=' }))
    const { vendor, converted, notes } = await both(
      spc(
        'sops',
        `
    sopsFile: shop/db.yaml
    objects: |
      - { objectName: db/password, path: /password, filePermission: "0400" }
      - { objectName: key, path: '["key.bin"]', encoding: base64 }
      - { objectName: whole.yaml }
      - { objectName: gone, path: /gone, optional: true }
`,
      ),
      { config: {}, serviceAccount: 'web', tokens: {} },
    )
    expect(vendor).toMatchObject({ 'db/password': '400 correct horse', key: '644 hi' })
    expect(converted).toEqual(vendor)
    expect(notes).toEqual([])
  })
})
