/**
 * Owns the JSON Schemas that editors read (`schemas/`): made of the very schemas and tables that the server
 * checks with, in the words of the pages that users read. `node scripts/schemas.ts` writes them.
 *
 * An editor takes more than the server does, never less: what takes code to check is the server's, and
 * `keyferry lint`'s, alone.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type * as v from 'valibot'
import type { SPEC_FIELDS } from '../src/commands/spc-files.ts'
import { ConfigSchema } from '../src/config.ts'
import { createHttpClient } from '../src/net/client.ts'
import { ON_REVOKED } from '../src/providers/adapter.ts'
import { keyferryDialect } from '../src/providers/keyferry/dialect.ts'
import { Files, InlineStores } from '../src/providers/keyferry/language.ts'
import { BUILT_IN, createRegistry } from '../src/providers/registry.ts'
import { EXPANSIONS, KEY_IDENTITIES } from '../src/providers/sops/ref.ts'
import { FORMATS } from '../src/providers/sops/stores/store.ts'
import { silentLogger } from '../src/telemetry/log.ts'
import { silentMeter } from '../src/telemetry/metrics.ts'
import { below, described, jsonSchemaOf, mapped, when, type JsonSchema } from './json-schema.ts'
import { commentsOf, tableOf, type Meanings } from './schema-words.ts'

const ROOT = join(import.meta.dirname, '..')
const DRAFT = 'http://json-schema.org/draft-07/schema#'

/** Backend or key service below `backends` → where its settings are commented, innermost last. */
const SETTINGS: Readonly<Record<string, readonly (readonly [file: string, name: string])[]>> = {
  'aws-kms': [
    ['aws/settings.ts', 'settingsSchema'],
    ['aws/kms.ts', 'kmsSettingsSchema'],
  ],
  aws: [['aws/settings.ts', 'settingsSchema']],
  'azure-key-vault-keys': [
    ['azure/settings.ts', 'settingsSchema'],
    ['azure/key-service.ts', 'keyServiceSettingsSchema'],
  ],
  azure: [['azure/settings.ts', 'settingsSchema']],
  'gcp-kms': [
    ['gcp/settings.ts', 'identityEntries'],
    ['gcp/kms.ts', 'kmsSettingsSchema'],
  ],
  gcp: [
    ['gcp/settings.ts', 'identityEntries'],
    ['gcp/settings.ts', 'settingsSchema'],
  ],
  'vault-transit': [['vault/transit.ts', 'transitSettingsSchema']],
  vault: [
    ['vault/settings.ts', 'layer'],
    ['vault/settings.ts', 'settingsSchema'],
  ],
  sops: [],
}
/** Vendor → the table for keys without a comment. */
const SETTINGS_TABLES: Readonly<Record<string, readonly [page: string, section: string]>> = {
  aws: ['aws.md', "The node's configuration"],
  gcp: ['gcp.md', "The node's configuration"],
  vault: ['vault.md', 'Configuration'],
}
/** Vendor → where a store's settings are commented. */
const STORES: Readonly<Record<string, string>> = {
  aws: 'aws/settings.ts',
  azure: 'azure/store.ts',
  gcp: 'gcp/settings.ts',
  vault: 'vault/store.ts',
}
const vendorOf = (kind: string): string => kind.split('-')[0] ?? kind

/** Every published schema by its file name. */
export async function publishedSchemas(): Promise<ReadonlyMap<string, JsonSchema>> {
  const http = createHttpClient({ rules: { refused: [] } })
  const registry = createRegistry({
    entries: BUILT_IN,
    settings: {},
    log: silentLogger,
    http,
    env: {},
    meter: silentMeter,
  })
  try {
    const settings = new Map<string, JsonSchema>()
    for (const entry of BUILT_IN) {
      const { backends = [], keyServices = [] } = (await entry.load()).adapter
      for (const { kind, settingsSchema } of backends)
        if (settingsSchema) settings.set(kind, settingsOf(kind, settingsSchema))
      for (const { settingsName, settingsSchema } of keyServices)
        settings.set(settingsName, settingsOf(settingsName, settingsSchema))
    }
    const stores = new Map<string, JsonSchema>()
    for (const kind of registry.backends)
      stores.set(kind, storeOf(kind, (await registry.backend(kind)).storeSchema))
    const dialects = new Map<string, readonly string[]>()
    for (const name of registry.providers) dialects.set(name, (await registry.dialect(name)).parameters ?? [])
    dialects.set(
      'keyferry',
      keyferryDialect({ stores: [], inline: 'deny', maxFileBytes: 0 }).parameters ?? [],
    )
    return new Map([
      ['keyferry-config.schema.json', configSchema(settings, stores)],
      ['secretproviderclass.schema.json', classSchema(dialects)],
      ['keyferry-files.schema.json', filesSchema()],
      ['keyferry-stores.schema.json', inlineStoresSchema(stores)],
    ])
  } finally {
    http.close()
    await registry.close()
  }
}

function settingsOf(kind: string, schema: v.GenericSchema): JsonSchema {
  const places = SETTINGS[kind] ?? SETTINGS[vendorOf(kind)]
  if (!places) throw new Error(`scripts/schemas.ts does not know where the settings of ${kind} are commented`)
  const page = SETTINGS_TABLES[vendorOf(kind)]
  const meanings = [...(page ? tableOf(...page) : []), ...commentsOf(places)]
  return described(jsonSchemaOf(schema), new Map(meanings))
}

function storeOf(kind: string, schema: v.GenericSchema): JsonSchema {
  const file = STORES[vendorOf(kind)]
  return described(jsonSchemaOf(schema), commentsOf(file === undefined ? [] : [[file, 'storeSchema']]))
}

/** Settings of a store follow from its kind. */
function settingsByKind(stores: ReadonlyMap<string, JsonSchema>): JsonSchema[] {
  return Array.from(stores, ([kind, settings]) => {
    // Without settings a store has the defaults, unless one of them is required.
    const needed = settings['required'] !== undefined && { required: ['settings'] }
    const isKind = { properties: { backend: { const: kind } }, required: ['backend'] }
    return when(isKind, { properties: { settings }, ...needed })
  })
}

function configSchema(
  settings: ReadonlyMap<string, JsonSchema>,
  stores: ReadonlyMap<string, JsonSchema>,
): JsonSchema {
  const config = described(jsonSchemaOf(ConfigSchema), tableOf('operations.md', 'Configuration'))
  const { policy, stores: named, backends } = config.properties ?? {}
  const rule = policy?.properties?.['allow']
  if (!policy || !rule?.items || typeof named?.additionalProperties !== 'object' || !backends)
    throw new Error('the configuration has another shape than scripts/schemas.ts thinks')
  rule.items = below(rule.items, tableOf('operations.md', 'Policy', 1))
  named.additionalProperties = {
    ...below(named.additionalProperties, tableOf('keyferry.md', 'Stores')),
    allOf: settingsByKind(stores),
  }
  backends.properties = Object.fromEntries(settings)
  backends.additionalProperties = true
  return {
    $schema: DRAFT,
    title: 'Configuration of Keyferry',
    ...config,
    // Adapters of one's own bring kinds of their own.
    ...when(
      { not: { required: ['adapters'] } },
      {
        properties: {
          backends: { propertyNames: { enum: [...settings.keys()].sort() } },
          stores: { additionalProperties: { properties: { backend: { enum: [...stores.keys()].sort() } } } },
        },
      },
    ),
  }
}

/** The page whose table of parameters describes a dialect. */
const PAGES: Readonly<Record<string, string>> = { gke: 'gcp', openbao: 'vault' }
/** Of our own dialects, what parameters may be. Others are read as the vendors' providers read them. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  sopsFormat: FORMATS,
  expand: EXPANSIONS,
  keyIdentity: KEY_IDENTITIES,
  allowCleartext: ['true', 'false'],
  onRevoked: ON_REVOKED,
}
const OURS: Readonly<Record<string, JsonSchema>> = {
  keyferry: { required: ['files'], additionalProperties: false },
  sops: {
    oneOf: ['sopsDocument', 'sopsDocumentBase64', 'sopsFile'].map((name) => ({ required: [name] })),
    additionalProperties: false,
  },
}
const TEXT = { type: 'string' }

function parametersOf(dialect: string, names: readonly string[]): JsonSchema {
  const page = PAGES[dialect] ?? dialect
  const meanings = dialect === 'keyferry' ? KEYFERRY_PARAMETERS : tableOf(`${page}.md`, 'Parameters')
  const properties = names.map((name) => {
    const meaning = meanings.get(name) ?? meanings.get(name.replace(/^(?:bao|openbao)(?=[A-Z])/, 'vault'))
    const words = OURS[dialect] ? WORDS[name] : undefined
    return [
      name,
      { ...TEXT, ...(words && { enum: words }), ...(meaning !== undefined && { description: meaning }) },
    ]
  })
  return {
    type: 'object',
    properties: Object.fromEntries(properties) as Record<string, JsonSchema>,
    additionalProperties: { ...TEXT, description: `provider ${dialect} does not know this parameter` },
    ...OURS[dialect],
  }
}

const KEYFERRY_PARAMETERS: Meanings = new Map([
  ['files', 'YAML list of files: docs/keyferry.md. Its schema is keyferry-files.schema.json.'],
  [
    'stores',
    'YAML mapping of stores of this class, where policy permits that. Its schema is keyferry-stores.schema.json.',
  ],
  [
    'onRevoked',
    "What becomes of the files of running pods when their objects are deleted or denied. Default: the node's policy.onRevoked.",
  ],
])

function classSchema(dialects: ReadonlyMap<string, readonly string[]>): JsonSchema {
  const spec: Record<(typeof SPEC_FIELDS)[number], JsonSchema> = {
    provider: {
      enum: [...dialects.keys()].sort(),
      description: 'Name of the provider; of ours each is a dialect.',
    },
    parameters: {
      type: 'object',
      minProperties: 1,
      additionalProperties: TEXT,
      description: 'Texts: numbers and booleans need quotes.',
    },
    secretObjects: {
      type: 'array',
      description: 'Kubernetes Secrets that the driver makes of files. Values are in etcd then.',
      items: {
        type: 'object',
        properties: {
          secretName: TEXT,
          type: TEXT,
          labels: { type: 'object', additionalProperties: TEXT },
          annotations: { type: 'object', additionalProperties: TEXT },
          data: {
            type: 'array',
            items: {
              type: 'object',
              properties: { objectName: TEXT, key: TEXT },
              additionalProperties: false,
            },
          },
        },
        additionalProperties: false,
      },
    },
  }
  return {
    $schema: DRAFT,
    title: 'SecretProviderClass, as Keyferry reads it',
    type: 'object',
    required: ['apiVersion', 'kind', 'metadata', 'spec'],
    properties: {
      apiVersion: { enum: ['secrets-store.csi.x-k8s.io/v1', 'secrets-store.csi.x-k8s.io/v1alpha1'] },
      kind: { const: 'SecretProviderClass' },
      metadata: { type: 'object', required: ['name'] },
      spec: {
        type: 'object',
        required: ['provider', 'parameters'],
        properties: spec,
        additionalProperties: false,
        allOf: Array.from(dialects, ([name, names]) =>
          when(
            { properties: { provider: { const: name } }, required: ['provider'] },
            { properties: { parameters: parametersOf(name, names) } },
          ),
        ),
      },
    },
  }
}

/** In `files` every scalar is text, so an editor may see a number or a boolean in its place. */
function filesSchema(): JsonSchema {
  const files = mapped(jsonSchemaOf(Files), (node) => {
    if (node['type'] !== 'string') return node
    const { enum: words } = node
    return {
      ...node,
      type: ['string', 'number', 'boolean'],
      ...(Array.isArray(words) && words.includes('true') && { enum: [...(words as string[]), true, false] }),
    }
  })
  const meanings = tableOf('keyferry.md', 'Files')
  return {
    $schema: DRAFT,
    title: 'Parameter files of provider keyferry',
    ...files,
    items: described(files.items ?? {}, meanings),
  }
}

function inlineStoresSchema(stores: ReadonlyMap<string, JsonSchema>): JsonSchema {
  const { additionalProperties: store, ...rest } = jsonSchemaOf(InlineStores)
  if (typeof store !== 'object') throw new Error('stores of a class have another shape than thought')
  return {
    $schema: DRAFT,
    title: 'Parameter stores of provider keyferry',
    ...rest,
    additionalProperties: {
      ...below(store, tableOf('keyferry.md', 'Stores')),
      allOf: settingsByKind(stores),
    },
  }
}

/** How a schema stands in its file. */
export function textOf(schema: JsonSchema): string {
  return `${JSON.stringify(schema, undefined, 2)}\n`
}

if (process.argv[1] === import.meta.filename) {
  mkdirSync(join(ROOT, 'schemas'), { recursive: true })
  for (const [name, schema] of await publishedSchemas())
    writeFileSync(join(ROOT, 'schemas', name), textOf(schema))
}
