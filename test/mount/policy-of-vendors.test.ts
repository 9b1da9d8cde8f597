/** Policy over real adapters in the assembled process: SOPS with the node's identity, Vault at a class's address. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createProviderProcess } from '../../src/commands/provider-process.ts'
import { parseConfig } from '../../src/config.ts'
import { MountFailure } from '../../src/mount/errors.ts'
import type { AuditRecord } from '../../src/telemetry/audit.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { createMeter } from '../../src/telemetry/metrics.ts'
import { SecretBytes } from '../../src/telemetry/secret-bytes.ts'
import { secretV2, startFakeVault, type FakeVault } from '../providers/vault/fake-vault.ts'
import { sopsNode, type SopsNode } from '../support/sops-node.ts'

let node: SopsNode
let vault: FakeVault
beforeAll(async () => {
  node = await sopsNode()
  for (const namespace of ['shop', 'pay'])
    node.put(`${namespace}/db.yaml`, await node.sealed({ password: namespace }, [`${namespace}/web`]))
  vault = await startFakeVault()
  vault.on('GET /v1/secret/data/app', secretV2({ k: 'from-vault' }))
})
afterAll(async () => {
  await vault.close()
  await node.close()
})

interface Outcome {
  /** Contents of the only file, or the error's text. */
  readonly text: string
  readonly records: readonly AuditRecord[]
  readonly metrics: string
}

interface Mount {
  readonly provider: string
  readonly parameters: Readonly<Record<string, string>>
  readonly namespace?: string
  readonly policy: object
  readonly backends: object
  readonly kubernetes?: object
}

async function mount({
  provider,
  parameters,
  namespace = 'shop',
  policy,
  backends,
  kubernetes,
}: Mount): Promise<Outcome> {
  const records: AuditRecord[] = []
  const meter = await createMeter()
  const process = await createProviderProcess({
    loaded: parseConfig(
      'c.yaml',
      readFileSync(node.config({ policy, backends, ...(kubernetes && { kubernetes }) }), 'utf8'),
    ),
    log: silentLogger,
    audit: (record) => records.push(record),
    meter,
    env: {},
  })
  const tokens = JSON.stringify({ vault: { token: 'jwt', expirationTimestamp: '2099-01-01T00:00:00Z' } })
  try {
    const { files } = await process.pipeline(
      {
        pod: { name: 'web-0', namespace, uid: 'u', serviceAccount: 'web' },
        secretProviderClass: 'db',
        parameters: new Map(Object.entries(parameters)),
        tokens: SecretBytes.copyOf(tokens),
        nodePublishSecret: new Map(),
        defaultMode: 0o644,
        targetPath: '',
      },
      { provider, signal: AbortSignal.timeout(5000), deadline: Date.now() + 1000 },
    )
    const text = files.map(({ contents }) => contents.toString()).join()
    return { text, records, metrics: await meter.text() }
  } catch (error) {
    if (error instanceof MountFailure) return { text: error.message, records, metrics: await meter.text() }
    throw error
  } finally {
    await process.close()
  }
}

describe('provider sops with keyIdentity provider', () => {
  const sops = (file: string, policy: object, namespace = 'shop'): Promise<Outcome> =>
    mount({
      provider: 'sops',
      namespace,
      policy,
      backends: {
        sops: {
          roots: [{ path: node.store }],
          identities: [{ path: node.identity, shared: true }],
          providerIdentity: { subjects: ['*/web'] },
        },
      },
      parameters: {
        sopsFile: file,
        keyIdentity: 'provider',
        objects: '- objectName: password\n  path: /password\n',
      },
    })

  it('T2 compat: works, counted and marked', async () => {
    const { text, records, metrics } = await sops('shop/db.yaml', {})
    expect(text).toBe('shop')
    expect(records).toMatchObject([{ identity: 'node', marks: ['node-identity'], outcome: 'delivered' }])
    expect(metrics).toContain('keyferry_node_identity_total{backend="sops"} 1')
    expect(metrics).toMatch(/keyferry_policy_info\{hash="[0-9a-f]{16}",profile="compat"\} 1/)
  })

  const allow = [{ namespaces: ['shop'], backends: ['sops'], keys: ['shop/*'], identity: 'node' }]
  it.each([
    ['shop', 'shop/db.yaml', [], false],
    ['shop', 'shop/db.yaml', allow, true],
    ['pay', 'pay/db.yaml', allow, false],
  ])(
    'T2 hardened: from %s for %s with the rules %j is allowed: %3$j',
    async (namespace, file, rules, allowed) => {
      const { text, metrics } = await sops(file, { profile: 'hardened', allow: rules }, namespace)
      if (allowed) expect(text).toBe(namespace)
      else expect(text).toMatch(/^POLICY_DENIED: object "password": sops is asked for the node's identity/)
      expect(metrics.includes('keyferry_node_identity_total{backend="sops"} 1')).toBe(allowed)
      expect(metrics).toContain('profile="hardened"')
    },
  )

  it('T2 a rule of policy does not replace the store’s own list', async () => {
    const { text } = await mount({
      provider: 'sops',
      policy: { profile: 'hardened', allow: [{ identity: 'node' }] },
      backends: {},
      parameters: { sopsFile: 'shop/db.yaml', keyIdentity: 'provider', expand: 'topLevel' },
    })
    expect(text).toContain('IDENTITY_NOT_ALLOWED')
  })
})

describe('provider vault with an address in the class', () => {
  const OBJECTS = '- objectName: f\n  secretPath: secret/data/app\n  secretKey: k\n'
  const read = (address: string | undefined, policy: object, settings: object): Promise<Outcome> =>
    mount({
      provider: 'vault',
      policy,
      backends: { vault: settings },
      parameters: { roleName: 'web', objects: OBJECTS, ...(address && { vaultAddress: address }) },
    })
  const hardened = { profile: 'hardened' }

  it.each([
    ['lists it', () => ({ addresses: [vault.address] }), () => vault.address],
    ['has it as its own', () => ({ address: vault.address }), () => `${vault.address}/`],
    ['gives it, and the class none', () => ({ address: vault.address }), () => undefined],
  ])('T11 hardened: works without a rule where the operator %s', async (_, settings, address) => {
    const { text, records, metrics } = await read(address(), hardened, settings())
    expect(text).toBe('from-vault')
    expect(records).toMatchObject([{ identity: 'pod', marks: [] }])
    expect(metrics).not.toContain('keyferry_spc_addresses_total{')
  })

  it.each([
    'https://vault.evil.test',
    'https://127.0.0.1:1',
    'https://169.254.169.254',
    'nonsense',
    'unix:///x',
  ])('T11 hardened: %s is denied before anybody is called', async (address) => {
    const before = vault.calls.length
    const { text, metrics } = await read(address, hardened, { addresses: [vault.address] })
    expect(text).toMatch(/^POLICY_DENIED: object "f": vault is asked for an address that the class gives/)
    expect(text).toContain('[denied]')
    expect(metrics).not.toContain('keyferry_backend_calls_total{')
    expect(vault.calls.length).toBe(before)
  })

  it.each([
    ['compat', {}],
    ['hardened with a rule', { ...hardened, allow: [{ namespaces: ['shop'], addresses: ['127.*.*.*'] }] }],
  ])(
    'T11 %s: policy lets it pass, marked and counted, and the address guard still refuses loopback',
    async (_, policy) => {
      const before = vault.calls.length
      const { text, records, metrics } = await read('https://127.0.0.1:1', policy, {})
      expect(text).not.toContain('POLICY_DENIED')
      expect(text).toContain('loopback')
      expect(records).toMatchObject([{ marks: ['spc-address'], outcome: 'failed' }])
      expect(metrics).toContain('keyferry_spc_addresses_total{backend="vault"} 1')
      expect(vault.calls.length).toBe(before)
    },
  )

  it.each(['https://api.example.test', 'https://API.example.test.:6443/x'])(
    'T11 the API server of the configuration is no place for a token either: %s',
    async (address) => {
      const { text } = await mount({
        provider: 'vault',
        policy: {},
        backends: {},
        kubernetes: { server: 'https://api.example.test:6443' },
        parameters: { roleName: 'web', objects: OBJECTS, vaultAddress: address },
      })
      expect(text).toContain('a name of the cluster itself')
    },
  )
})
