/** Whose word a store is, in the assembled process: the configuration's needs no rule, a class's own does. */
import { beforeEach, expect, it } from 'vitest'
import { createProviderProcess } from '../../../src/commands/provider-process.ts'
import { parseConfig } from '../../../src/config.ts'
import { MountFailure } from '../../../src/mount/errors.ts'
import type { AuditRecord } from '../../../src/telemetry/audit.ts'
import { silentLogger, type Logger } from '../../../src/telemetry/log.ts'
import { createMeter } from '../../../src/telemetry/metrics.ts'
import { memory, MEMORY_MODULE } from '../../support/memory-module.ts'

beforeEach(() => {
  memory.held.set('db', { text: 'abc' })
  memory.calls.length = 0
})

const STORE = 'https://store.example.org'

interface Store {
  readonly identity?: 'node'
  readonly settings: { readonly name: string; readonly address?: string }
}

const ONE_FILE = '[{path: db, store: one, key: db}]'

async function mount(
  profile: string,
  stores: Readonly<Record<string, Store>>,
  own = '',
  wanted: string = ONE_FILE,
) {
  const records: AuditRecord[] = []
  const warnings: string[] = []
  const log: Logger = { ...silentLogger, warn: (message) => void warnings.push(message) }
  const meter = await createMeter()
  const configured = Object.entries(stores).map(([name, store]) => [
    name,
    { backend: 'memory', ...store, allow: [{ namespaces: ['shop'] }] },
  ])
  const process = await createProviderProcess({
    loaded: parseConfig(
      'c.yaml',
      JSON.stringify({
        kubernetes: 'off',
        adapters: [MEMORY_MODULE],
        policy: { profile, inlineStores: 'allow' },
        stores: Object.fromEntries(configured) as object,
      }),
    ),
    log,
    audit: (record) => records.push(record),
    meter,
    env: {},
  })
  try {
    const { files } = await process.pipeline(
      {
        pod: { name: 'web-0', namespace: 'shop', uid: 'u', serviceAccount: 'web' },
        secretProviderClass: 'db',
        parameters: new Map([
          ['files', wanted],
          ['stores', own],
        ]),
        tokens: undefined,
        nodePublishSecret: new Map(),
        defaultMode: 0o644,
        targetPath: '',
      },
      { provider: 'keyferry', signal: AbortSignal.timeout(5000), deadline: Date.now() + 5000 },
    )
    return { text: files.map(({ contents }) => contents.toString()).join(), records, warnings, meter }
  } catch (error) {
    if (!(error instanceof MountFailure)) throw error
    return { text: error.message, records, warnings, meter }
  } finally {
    await process.close()
  }
}

it.each(['compat', 'hardened'])(
  'T2 T11 %s: a store of the configuration needs no rule for identity and address, and nobody is warned',
  async (profile) => {
    const settings = { name: 'a', address: STORE }
    const { text, records, warnings, meter } = await mount(profile, { one: { identity: 'node', settings } })
    expect(text).toBe('abc')
    expect(records).toMatchObject([{ store: 'one', identity: 'node', marks: ['node-identity'] }])
    expect(warnings).toEqual([])
    const figures = await meter.text()
    expect(figures).toContain('keyferry_node_identity_total{backend="memory"} 1')
    expect(figures).not.toContain('keyferry_spc_addresses_total{')
  },
)

const OWN = `one: { backend: memory, settings: { name: a, address: '${STORE}' } }`

it('T11 hardened: an address that a class gives its own store needs a rule', async () => {
  const { text } = await mount('hardened', {}, OWN)
  expect(text).toMatch(/^POLICY_DENIED: .* an address that the class gives \(store\.example\.org\)/)
  expect(memory.calls).toEqual([])
})

it('T11 compat: it is marked and warned about', async () => {
  const { text, records, warnings } = await mount('compat', {}, OWN)
  expect(text).toBe('abc')
  expect(records).toMatchObject([{ identity: 'pod', marks: ['spc-address'] }])
  expect(warnings).toEqual(['SecretProviderClass warning'])
})

it('T2 a store of a class can neither have the identity of the node nor take the name of one of the configuration', async () => {
  const node = await mount('compat', {}, 'one: { backend: memory, identity: node, settings: { name: a } }')
  expect(node.text).toContain('KEYFERRY_STORES')
  const taken = await mount('compat', { one: { identity: 'node', settings: { name: 'a' } } }, OWN)
  expect(taken.text).toContain('is a store of the operator')
  expect(memory.calls).toEqual([])
})

it('T2 T27 each member of a gathered file is counted and marked for itself', async () => {
  const one: Store = { settings: { name: 'a' } }
  const two: Store = { identity: 'node', settings: { name: 'a' } }
  const files = `
- { path: all.json, format: json, refs: [{ name: a, store: one, key: db }, { name: b, store: two, key: db }] }
- { path: db, store: two, key: db }`
  const { records, meter } = await mount('hardened', { one, two }, '', files)
  expect(records.map(({ marks }) => marks)).toEqual([[], ['node-identity'], ['node-identity']])
  expect(await meter.text()).toContain('keyferry_node_identity_total{backend="memory"} 2')
})
