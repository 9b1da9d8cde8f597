/** The JSON Schemas for editors: as generated, and of one mind with the server over the repository's own files. */
import { spawnSync } from 'node:child_process'
import { globSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv, type ValidateFunction } from 'ajv'
import { describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import type { JsonSchema } from '../../scripts/json-schema.ts'
import { publishedSchemas, textOf } from '../../scripts/schemas.ts'
import { ConfigError, parseConfig } from '../../src/config.ts'
import { resultOf } from '../../src/formats/steps.ts'
import { readFiles, readStores } from '../../src/providers/keyferry/language.ts'

const ROOT = join(import.meta.dirname, '../..')
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')

const published = await publishedSchemas()
// Formats say what editors show; what counts is the server's.
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true })

function validator(name: string): ValidateFunction {
  const schema = published.get(name)
  if (!schema) throw new Error(`there is no ${name}`)
  return ajv.compile(schema)
}
const config = validator('keyferry-config.schema.json')
const spc = validator('secretproviderclass.schema.json')
const files = validator('keyferry-files.schema.json')
const stores = validator('keyferry-stores.schema.json')

/** What is wrong with a value, as places and reasons. */
function faults(validate: ValidateFunction, value: unknown): string[] {
  if (validate(value)) return []
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
}

it('are those in schemas/: node scripts/schemas.ts writes them', () => {
  expect(readdirSync(join(ROOT, 'schemas')).sort()).toEqual([...published.keys()].sort())
  for (const [name, schema] of published) expect(read(`schemas/${name}`), name).toBe(textOf(schema))
})

it.each([
  ['config', 'keyferry-config.schema.json'],
  ['spc', 'secretproviderclass.schema.json'],
  ['files', 'keyferry-files.schema.json'],
  ['stores', 'keyferry-stores.schema.json'],
])('keyferry schema %s prints it', (name, file) => {
  const { stdout, status } = spawnSync(process.execPath, ['src/cli.ts', 'schema', name], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  expect(stdout).toBe(read(`schemas/${file}`))
  expect(status).toBe(0)
})

/** Every object of the examples and manifests, with its file. */
const objects = globSync(['examples/**/*.yaml', 'daemonset/*.yaml'], { cwd: ROOT })
  .sort()
  .flatMap((file) =>
    parseAllDocuments(read(file)).map((document) => ({ file, object: document.toJS() as unknown })),
  )
const classes = objects.filter(({ object }) => kindOf(object) === 'SecretProviderClass')

function kindOf(object: unknown): unknown {
  return typeof object === 'object' && object !== null && 'kind' in object ? object.kind : undefined
}

describe('of a SecretProviderClass', () => {
  it('takes every class of the examples that is sound', () => {
    const sound = classes.filter(({ file }) => !file.startsWith('examples/bad/'))
    expect(sound.length).toBeGreaterThan(12)
    for (const { file, object } of sound) expect(faults(spc, object), file).toEqual([])
  })

  it.each([
    ['provider: vualt', '  parameters: { roleName: web }', '/spec/provider'],
    [
      'provider: vault',
      '  parameters: { vaultSkipTLSVerify: true }',
      '/spec/parameters/vaultSkipTLSVerify must be string',
    ],
    [
      'provider: aws',
      '  parameters: { objects: [{ objectName: a }] }',
      '/spec/parameters/objects must be string',
    ],
    ['provider: aws', '  parameters: {}', '/spec/parameters must NOT have fewer than 1'],
    ['provider: aws', '  parameter: { a: b }', "/spec must have required property 'parameters'"],
    [
      'provider: keyferry',
      '  parameters: { file: "[]" }',
      "/spec/parameters must have required property 'files'",
    ],
    [
      'provider: sops',
      '  parameters: { sopsFile: a.yaml, sopsDocument: b }',
      '/spec/parameters must match exactly one',
    ],
    [
      'provider: sops',
      '  parameters: { sopsFile: a.yaml, expand: all }',
      '/spec/parameters/expand must be equal to one',
    ],
    [
      'provider: sops',
      '  parameters: { sopsFile: a.yaml, objekts: b }',
      '/spec/parameters must NOT have additional',
    ],
    ['provider: gcp', '  parameters: { secrets: a }\n  secretObject: []', '/spec must NOT have additional'],
  ])('refuses %s with %s', (provider, rest, fault) => {
    const text = `apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: { name: a }\nspec:\n  ${provider}\n${rest}\n`
    expect(faults(spc, parse(text))).toContainEqual(expect.stringContaining(fault))
  })

  it('describes every parameter that a dialect knows, but for synonyms that no page has', () => {
    const rules = spec()['allOf'] as readonly {
      readonly if: { readonly properties: { readonly provider: { readonly const: string } } }
      readonly then: { readonly properties: { readonly parameters: JsonSchema } }
    }[]
    const without = rules.flatMap(({ if: { properties }, then }) =>
      Object.entries(then.properties.parameters.properties ?? {})
        .filter(([, parameter]) => parameter['description'] === undefined)
        .map(([name]) => `${properties.provider.const} ${name}`),
    )
    expect(rules.map((rule) => rule.if.properties.provider.const)).toEqual(
      expect.arrayContaining(['aws', 'azure', 'gcp', 'gke', 'keyferry', 'openbao', 'sops', 'vault']),
    )
    expect(without.filter((name) => !/ (?:bao|openbao)[A-Z]/.test(name))).toEqual([
      'azure resourceGroup',
      'azure subscriptionId',
      'azure resourceName',
      'openbao vaultKubernetesMountPath',
      'openbao vaultRoleName',
      'vault vaultKubernetesMountPath',
    ])
  })

  function spec(): JsonSchema {
    return published.get('secretproviderclass.schema.json')?.properties?.['spec'] ?? {}
  }
})

describe('of the configuration', () => {
  const own = objects.filter(({ file }) => file.endsWith('/node.yaml'))

  it('takes the examples and the ConfigMap of the manifest, as the server does', () => {
    const map = objects.find(({ object }) => kindOf(object) === 'ConfigMap')?.object as {
      readonly data: Readonly<Record<string, string>>
    }
    const texts = [...own.map(({ file }) => read(file)), map.data['config.yaml'] ?? '']
    expect(texts.length).toBeGreaterThan(3)
    for (const text of texts) {
      expect(faults(config, parse(text)), text).toEqual([])
      parseConfig('c.yaml', text)
    }
  })

  it.each([
    '{}',
    'cache: { freshFor: 0, staleIfError: "0", immutableFor: 250ms, maxBytes: 1048576 }',
    'limits: { budget: 1h, running: 1, fileBytes: 0 }',
    "kubernetes: 'off'",
    'kubernetes: { server: "https://10.0.0.1" }',
    "admin: { address: '[::1]:9090' }",
    'policy: { profile: hardened, allow: [{ identity: node, namespaces: ["*"] }] }',
    'stores: { a: { backend: sops } }',
    'stores: { a: { backend: azure-key-vault, settings: { vault: shop-vault } } }',
    'adapters: [./mine.mjs]\nbackends: { mine: { url: "https://a" } }\nstores: { a: { backend: mine, settings: { b: 1 } } }',
    'backends: { vault: { address: "https://v:8200", leases: { keep: false } }, vault-transit: { servers: [{ address: "https://v" }] } }',
    'backends: { sops: { identities: [{ path: /a.agekey, subjects: ["shop/*"] }], callerProof: { level: attributes } } }',
  ])('takes %s, as the server does', (text) => {
    parseConfig('c.yaml', text)
    expect(faults(config, parse(text))).toEqual([])
  })

  it.each([
    ['cache: { freshFro: 5s }', '/cache must NOT have additional'],
    ['cache: { freshFor: 5 }', '/cache/freshFor'],
    ['cache: { freshFor: 5 s }', '/cache/freshFor'],
    ['cache: { freshFor: 5KiB }', '/cache/freshFor'],
    ['cache: { maxBytes: 5s }', '/cache/maxBytes'],
    ['cache: { maxBytes: 1.5 }', '/cache/maxBytes'],
    ['log: { level: trace }', '/log/level'],
    ['limits: { running: 0 }', '/limits/running'],
    ["kubernetes: 'on'", '/kubernetes'],
    ['admin: { address: 9090 }', '/admin/address'],
    ['policy: { allow: [{ namespace: [a] }] }', '/policy/allow/0 must NOT have additional'],
    ['stores: { A: { backend: sops } }', '/stores'],
    ['stores: { a: { allow: [] } }', "/stores/a must have required property 'backend'"],
    ['stores: { a: { backend: sops, allow: [{ keys: [a] }] } }', '/stores/a/allow/0'],
    ['[]', ' must be object'],
  ])('refuses %s, as the server does', (text, fault) => {
    expect(() => parseConfig('c.yaml', text)).toThrow(ConfigError)
    expect(faults(config, parse(text))).toContainEqual(expect.stringContaining(fault))
  })

  it.each([
    ['backends: { vualt: {} }', '/backends property name must be valid'],
    ['backends: { vault: { adress: a } }', '/backends/vault must NOT have additional'],
    [
      'backends: { gcp-kms: { regionalEndpoint: "https://a" } }',
      '/backends/gcp-kms must NOT have additional',
    ],
    ['stores: { a: { backend: vualt } }', '/stores/a/backend must be equal to one'],
    [
      'stores: { a: { backend: vault, settings: { rol: b } } }',
      '/stores/a/settings must NOT have additional',
    ],
    ['stores: { a: { backend: azure-key-vault } }', "/stores/a must have required property 'settings'"],
  ])('refuses %s, which the server finds when it makes its backends', (text, fault) => {
    expect(faults(config, parse(text))).toContainEqual(expect.stringContaining(fault))
  })

  it('describes every key of its sections, of stores and rules, and of the settings of backends', () => {
    const without: string[] = []
    const look = (schema: JsonSchema, path: string): void => {
      for (const [key, below] of Object.entries(schema.properties ?? {})) {
        const described = below['description'] !== undefined || below.properties !== undefined
        if (!described) without.push(`${path}.${key}`)
        if (below.properties) look(below, `${path}.${key}`)
      }
    }
    const whole = published.get('keyferry-config.schema.json') ?? {}
    look(whole, '')
    const store = whole.properties?.['stores']?.additionalProperties
    look(typeof store === 'object' ? store : {}, '.stores.*')
    look(whole.properties?.['policy']?.properties?.['allow']?.items ?? {}, '.policy.allow')
    expect(without.filter((name) => !/^\.backends\.[\w-]+\.\w+\./.test(name))).toEqual([])
  })
})

describe('of the text in files', () => {
  const example = classes.find(({ file }) => file === 'examples/keyferry/secretproviderclass.yaml')
    ?.object as {
    readonly spec: { readonly parameters: { readonly files: string } }
  }

  it.each([
    example.spec.parameters.files,
    '- { path: a, store: s, key: k, version: 3, mode: 0400, optional: true }',
    '- { path: 1, store: s, key: 2, mode: "0400", optional: "false", format: yaml }',
    '- { path: a.env, format: dotenv, refs: [{ name: A, store: s, key: k, property: 1 }] }',
    '- { store: s, expand: { key: k, into: d, select: [a, 1], rename: { a: b } } }',
  ])('takes %s, as the dialect does', (text) => {
    expect(resultOf(readFiles(text)).problems).toEqual([])
    expect(faults(files, parse(text))).toEqual([])
  })

  it.each([
    '- { path: a, store: s }',
    '- { path: a, store: s, key: k, encodng: hex }',
    '- { path: a, store: s, key: k, encoding: rot13 }',
    '- { path: a, store: s, key: k, optional: maybe }',
    '- { path: a, store: s, key: k, mode: "999" }',
    '- { path: a.env, format: dotenv, refs: [] }',
    '- { path: a.env, format: raw, refs: [{ name: A, store: s, key: k }] }',
    '- { store: s, expand: { into: d } }',
    '{ path: a, store: s, key: k }',
    '[]',
  ])('refuses %s, as the dialect does', (text) => {
    expect(resultOf(readFiles(text)).problems).not.toEqual([])
    expect(faults(files, parse(text))).not.toEqual([])
  })
})

describe('of the text in stores', () => {
  it('takes what the dialect takes, and knows the settings of each backend', () => {
    const text = 'mine: { backend: gcp-secret-manager, settings: { project: my-project } }'
    expect(resultOf(readStores(text)).problems).toEqual([])
    expect(faults(stores, parse(text))).toEqual([])
    expect(faults(stores, parse(text.replace('project:', 'projekt:')))).toContainEqual(
      expect.stringContaining('/mine/settings must NOT have additional'),
    )
  })

  it.each([
    'mine: { backend: sops, identity: node }',
    'mine: { settings: {} }',
    'mine: { backend: sops, allow: [] }',
  ])('refuses %s, as the dialect does', (text) => {
    expect(resultOf(readStores(text)).problems).not.toEqual([])
    expect(faults(stores, parse(text))).not.toEqual([])
  })
})
