/** The policy by itself, and through the real pipeline over a store in memory: identities, addresses, no fallback. */
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config.ts'
import { createSessionCache } from '../../src/identity/session-cache.ts'
import { MountFailure } from '../../src/mount/errors.ts'
import { createCallers } from '../../src/mount/host.ts'
import { createPipeline, DEFAULT_LIMITS } from '../../src/mount/pipeline.ts'
import { compatPolicy, createPolicy, policyHash, type PolicyQuestion } from '../../src/mount/policy.ts'
import { createResolver } from '../../src/mount/resolver.ts'
import type { Backend, Dialect, Host, PodFacts } from '../../src/providers/adapter.ts'
import type { AuditRecord } from '../../src/telemetry/audit.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { silentMeter, type Meter } from '../../src/telemetry/metrics.ts'
import { SecretBytes } from '../../src/telemetry/secret-bytes.ts'
import { backendContext } from '../support/backend-context.ts'
import { memoryStore, type Held } from '../support/memory-adapter.ts'

const podOf = (namespace: string, serviceAccount = 'web'): PodFacts => ({
  name: 'web-0',
  namespace,
  uid: `uid-of-${namespace}`,
  serviceAccount,
})

/** The settings of a configuration file, so that what is tested is what an operator writes. */
const settings = (policy: string) => parseConfig('c.yaml', `policy: {${policy}}`).config.policy
const hardened = (...rules: string[]) =>
  createPolicy(settings(`profile: hardened, allow: [${rules.join(', ')}]`))

function question(changes: Partial<PolicyQuestion> & { readonly identity?: 'pod' | 'node' }): PolicyQuestion {
  const { identity = 'pod', ...others } = changes
  return {
    pod: podOf('shop'),
    provider: 'memory',
    source: { backend: 'memory', store: {}, identity, ref: 'db' },
    addresses: [],
    keys: ['shop/db'],
    ...others,
  }
}

describe('a fetch that only the store decides', () => {
  it.each([
    ['compat', compatPolicy],
    ['hardened', hardened()],
  ])(
    'is allowed without a mark under %s: the identity of the pod at an address of the operator',
    (_, policy) => {
      expect(policy(question({}))).toEqual({ allowed: true, marks: [] })
    },
  )
})

describe('compat', () => {
  it.each([
    [{ identity: 'node' as const }, ['node-identity'], /^memory is asked for the node's identity; /],
    [
      { addresses: ['https://vault.example.org:8200/x'] },
      ['spc-address'],
      /an address that the class gives \(vault\.example\.org\); /,
    ],
    [
      { identity: 'node' as const, addresses: ['vault'] },
      ['node-identity', 'spc-address'],
      /the node's identity and an address .*identity: node, addresses: \[vault\]\}$/,
    ],
  ])('T2 T11 allows %j with its marks, and a warning that names the rule', (changes, marks, warning) => {
    expect(compatPolicy(question(changes))).toEqual({
      allowed: true,
      marks,
      warning: expect.stringMatching(warning),
    })
  })

  it('a rule that covers the use silences the warning, not the marks', () => {
    const policy = createPolicy(settings('allow: [{namespaces: [shop], identity: node}]'))
    expect(policy(question({ identity: 'node' }))).toEqual({ allowed: true, marks: ['node-identity'] })
  })
})

describe('a store of the configuration', () => {
  const source = { backend: 'memory', store: {}, ref: 'db', name: 'central' } as const
  it.each([
    ['compat', compatPolicy],
    ['hardened', hardened()],
  ])('T2 T11 needs no rule under %s, and only the identity of the node is marked', (_, policy) => {
    const addresses = ['https://vault.example.org']
    expect(policy(question({ addresses, source: { ...source, identity: 'node' } }))).toEqual({
      allowed: true,
      marks: ['node-identity'],
    })
    expect(policy(question({ addresses, source: { ...source, identity: 'pod' } }))).toEqual({
      allowed: true,
      marks: [],
    })
  })

  it('T11 has that from its name alone: without one the same settings are the word of the class', () => {
    const { name: _, ...own } = source
    const addresses = ['https://vault.example.org']
    expect(hardened()(question({ addresses, source: { ...own, identity: 'pod' } })).allowed).toBe(false)
  })
})

describe('hardened', () => {
  const NODE = { identity: 'node' as const }
  it.each([
    ['{identity: node}', NODE, true],
    ['{identity: node, namespaces: [shop]}', NODE, true],
    ['{identity: node, namespaces: [sho, shopping]}', NODE, false],
    ["{identity: node, namespaces: ['sh*']}", NODE, true],
    ['{identity: node, serviceAccounts: [web]}', NODE, true],
    ['{identity: node, serviceAccounts: [api]}', NODE, false],
    ['{identity: node, backends: [memory], providers: [memory]}', NODE, true],
    ['{identity: node, backends: [vault]}', NODE, false],
    ['{identity: node, providers: [aws]}', NODE, false],
    ["{identity: node, keys: ['shop/*']}", NODE, true],
    ["{identity: node, keys: ['pay/*']}", NODE, false],
    ["{identity: node, keys: ['shop/*']}", { ...NODE, keys: ['shop/db', 'pay/db'] }, false],
    ["{identity: node, keys: ['**']}", { ...NODE, keys: [] }, false],
    ['{identity: node}', { ...NODE, pod: podOf('') }, false],
    ["{namespaces: ['**'], addresses: [vault.example.org]}", NODE, false],
    ['{addresses: [vault.example.org]}', { addresses: ['https://vault.example.org:8200'] }, true],
    ['{addresses: [vault.example.org]}', { addresses: ['https://VAULT.example.org./v1'] }, true],
    ["{addresses: ['VAULT.example.org:8200']}", { addresses: ['https://vault.example.org:8200'] }, true],
    ["{addresses: ['vault.example.org:8200']}", { addresses: ['https://vault.example.org'] }, false],
    ["{addresses: ['vault.example.org:443']}", { addresses: ['https://vault.example.org'] }, true],
    ["{addresses: ['*.example.org']}", { addresses: ['https://vault.example.org.evil.test'] }, false],
    ["{addresses: ['*.example.org']}", { addresses: ['https://vault.example.org@evil.test/'] }, false],
    ["{addresses: ['*.example.org']}", { addresses: ['https://evil.test/vault.example.org'] }, false],
    ["{addresses: ['10.*.*.*']}", { addresses: ['https://167772161'] }, true],
    ["{addresses: ['**']}", { addresses: ['unix:///run/agent.sock'] }, false],
    ["{addresses: ['**']}", { addresses: ['not a host'] }, false],
    ["{addresses: ['a.test']}", { addresses: ['https://a.test', 'https://b.test'] }, false],
    ["{addresses: ['**']}", { ...NODE, addresses: ['https://a.test'] }, false],
    ['{identity: node}', { ...NODE, addresses: ['https://a.test'] }, false],
    ["{identity: node, addresses: ['**']}", { ...NODE, addresses: ['https://a.test'] }, true],
    ["{identity: node, addresses: ['**']}", { addresses: ['https://a.test'] }, false],
  ])('T2 T11 with the rule %s, %j is allowed: %j', (rule, changes, allowed) => {
    expect(hardened(rule)(question(changes)).allowed).toBe(allowed)
  })

  it('two rules do not add up: one has to cover the fetch whole', () => {
    const policy = hardened('{identity: node}', "{addresses: ['**']}")
    expect(policy(question({ identity: 'node', addresses: ['https://a.test'] })).allowed).toBe(false)
  })

  it('a denial names what was asked for, the rule and the way out, and no more of an address than its host', () => {
    const answer = hardened()(
      question({ identity: 'node', addresses: ['https://user:canary@a.test/canary?canary'] }),
    )
    expect(answer).toEqual({
      allowed: false,
      reason:
        "memory is asked for the node's identity and an address that the class gives (a.test), which needs the rule " +
        '{backends: [memory], namespaces: [shop], serviceAccounts: [web], identity: node, addresses: [a.test]}',
      remedy:
        "Have the operator add that rule to policy.allow, or use the pod's identity and leave the address out of the class",
    })
  })

  it('the rule that a denial names is one that allows it', () => {
    for (const changes of [NODE, { addresses: ['a.test'] }, { ...NODE, addresses: ['https://a.test'] }]) {
      const answer = hardened()(question(changes))
      const rule = /the rule (\{.*\})$/.exec('reason' in answer ? answer.reason : '')?.[1] ?? ''
      expect(hardened(rule)(question(changes)).allowed, rule).toBe(true)
    }
  })
})

describe('the hash of a policy', () => {
  it('T28 is equal for equal rules however they are written, and differs when anything is changed', () => {
    const hash = (policy: string): string => policyHash(settings(policy))
    const rules = 'allow: [{namespaces: [shop], identity: node}]'
    expect(hash(rules)).toMatch(/^[0-9a-f]{16}$/)
    expect(hash('profile: compat, allow: [{identity: node, namespaces: [shop]}]')).toBe(hash(rules))
    const others = [
      '',
      `profile: hardened, ${rules}`,
      `verifyParameters: spc, ${rules}`,
      'allow: [{namespaces: [shop]  , identity: node, keys: [a]}]',
    ]
    expect(new Set([rules, ...others].map(hash)).size).toBe(5)
  })
})

const FUTURE = '2099-01-01T00:00:00Z'

/** The real pipeline, resolver, hosts and sessions over a store in memory. */
function setUp(
  policy: string,
  held: Record<string, Held> = { 'shop/db': { text: 'S' }, 'pay/db': { text: 'P' } },
) {
  const store = memoryStore(held)
  const records: AuditRecord[] = []
  const counted: string[] = []
  const warnings: string[] = []
  const meter: Meter = {
    ...silentMeter,
    count: (name, labels = {}) => counted.push([name, ...Object.values(labels)].join(' ')),
  }
  const log = {
    ...silentLogger,
    warn: (_: string, fields: { readonly warning?: unknown } = {}) => warnings.push(String(fields.warning)),
  }
  const dialect = store.adapter.dialects?.[0] as Dialect
  const backend = store.adapter.backends?.[0]?.create(backendContext()) as Backend
  const pipeline = createPipeline({
    dialect: () => Promise.resolve(dialect),
    resolver: createResolver({
      backend: () => Promise.resolve(backend),
      cache: { freshForMs: 60_000, staleIfErrorMs: 60_000, immutableForMs: 0, maxBytes: 1 << 20 },
      meter: silentMeter,
      now: Date.now,
      random: () => 0,
    }),
    caller: createCallers({
      http: backendContext().http,
      sessions: createSessionCache({ now: Date.now, meter: silentMeter }),
      log: silentLogger,
      now: () => new Date(),
      annotation: () => Promise.resolve(undefined),
      nodeLabel: () => Promise.resolve(undefined),
    }),
    addresses: (source) => Promise.resolve(backend.addresses?.(source.store, source.ref) ?? []),
    keys: (source) => Promise.resolve([backend.refKey(source.ref)]),
    policy: createPolicy(settings(policy)),
    versionKey: Buffer.alloc(32, 7),
    limits: DEFAULT_LIMITS,
    audit: (record) => records.push(record),
    meter,
    log,
    now: Date.now,
  })
  const mount = async (
    objects: string,
    pod = podOf('shop'),
    more: { readonly parameters?: Record<string, string>; readonly tokens?: object } = {},
  ): Promise<string> => {
    const answer = await pipeline(
      {
        pod,
        secretProviderClass: 'db',
        parameters: new Map(Object.entries({ objects, ...more.parameters })),
        tokens: more.tokens && SecretBytes.copyOf(JSON.stringify(more.tokens)),
        nodePublishSecret: new Map(),
        defaultMode: 0o644,
        targetPath: '',
      },
      { provider: 'memory', signal: AbortSignal.timeout(5000), deadline: Date.now() + 1000 },
    ).catch((error: unknown) => error)
    if (answer instanceof MountFailure) return answer.message
    if (answer instanceof Error) throw answer
    const { files } = answer as { files: readonly { contents: Buffer }[] }
    return files.map(({ contents }) => contents.toString()).join()
  }
  return { store, mount, records, counted, warnings }
}

describe('two namespaces and one identity of the node', () => {
  const own =
    "allow: [{namespaces: [shop], keys: ['shop/*'], identity: node}, {namespaces: [pay], keys: ['pay/*'], identity: node}]"
  it.each([
    ['compat', '', 'shop', 'shop/db', true],
    ['compat', '', 'shop', 'pay/db', true],
    ['hardened without rules', 'profile: hardened', 'shop', 'shop/db', false],
    ['hardened without rules', 'profile: hardened', 'shop', 'pay/db', false],
    ['hardened, each its own', `profile: hardened, ${own}`, 'shop', 'shop/db', true],
    ['hardened, each its own', `profile: hardened, ${own}`, 'shop', 'pay/db', false],
    ['hardened, each its own', `profile: hardened, ${own}`, 'pay', 'pay/db', true],
    ['hardened, each its own', `profile: hardened, ${own}`, 'pay', 'shop/db', false],
    ['hardened, each its own', `profile: hardened, ${own}`, 'other', 'shop/db', false],
  ])('T2 %s: from %3$s', async (_, policy, namespace, key, allowed) => {
    const { mount, store, counted } = setUp(policy)
    const text = await mount(`f=${key}!`, podOf(namespace))
    expect(text.startsWith(`POLICY_DENIED: object "${key}": memory is asked for the node's identity`)).toBe(
      !allowed,
    )
    expect(store.calls.length).toBe(allowed ? 1 : 0)
    expect(counted.includes('keyferry_node_identity_total memory')).toBe(allowed)
  })

  it('T2 what one namespace fetched is no way around the policy for the other', async () => {
    const { mount } = setUp(`profile: hardened, ${own}`)
    expect(await mount('f=shop/db!', podOf('shop'))).toBe('S')
    expect(await mount('f=shop/db!', podOf('pay'))).toContain('POLICY_DENIED')
  })

  it('T2 the name that a class gives an object is not what a rule looks at', async () => {
    const { mount } = setUp(`profile: hardened, ${own}`)
    expect(await mount('shop/db=pay/db!')).toContain('POLICY_DENIED')
  })
})

describe('marks', () => {
  it('T2 T11 are in the audit record, in metrics, and once per class in the log', async () => {
    const { mount, records, counted, warnings } = setUp('')
    const parameters = { address: 'https://store.example.org' }
    for (const objects of ['a=shop/db', 'a=shop/db', 'a=shop/db\nb=pay/db!'])
      expect(await mount(objects, podOf('shop'), { parameters })).not.toContain('DENIED')
    expect(records.map(({ object, marks }) => [object, marks])).toEqual([
      ['shop/db', ['spc-address']],
      ['shop/db', ['spc-address']],
      ['shop/db', ['spc-address']],
      ['pay/db', ['node-identity', 'spc-address']],
    ])
    const policyCounts = counted.filter((line) => !line.startsWith('keyferry_objects_total'))
    expect(policyCounts.toSorted()).toEqual([
      'keyferry_node_identity_total memory',
      ...Array<string>(4).fill('keyferry_spc_addresses_total memory'),
    ])
    expect(warnings).toHaveLength(2)
    expect(warnings[0]).toContain('store.example.org')
  })

  it('T27 a denial is on record', async () => {
    const { mount, records } = setUp('profile: hardened')
    await mount('a=shop/db\nb=pay/db!')
    expect(records).toMatchObject([
      { object: 'pay/db', outcome: 'failed', kind: 'denied', code: 'POLICY_DENIED', from: 'none' },
    ])
  })
})

describe('credentials of the pod that do not work', () => {
  const good = { memory: { token: 'pod-token', expirationTimestamp: FUTURE } }
  const expired = { memory: { token: 'pod-token', expirationTimestamp: '2020-01-01T00:00:00Z' } }
  const logIn = async (host: Host): Promise<void> => {
    await host.session(['memory'], async () => ({
      session: (await host.token('memory')).token,
      expiresAt: new Date(FUTURE),
    }))
  }

  describe.each(['', "profile: hardened, allow: [{identity: node, addresses: ['**']}, {identity: node}]"])(
    'with the policy {%s}',
    (policy) => {
      it.each([
        ['missing', undefined, {}, 'TOKEN_MISSING'],
        ['for somebody else', { other: good.memory }, {}, 'TOKEN_MISSING'],
        ['expired', expired, {}, 'TOKEN_EXPIRED'],
        ['denied by the store', good, { fails: 'denied' as const }, 'FAULT'],
        ['not accepted by the store', good, { fails: 'unauthenticated' as const }, 'FAULT'],
        ['good, and the store is down', good, { fails: 'unavailable' as const }, 'FAULT'],
      ])('T2 %s: the mount fails, and the node’s identity is not used', async (_, tokens, held, code) => {
        const { mount, store, records, counted } = setUp(policy, { 'shop/db': { text: 'S', ...held } })
        store.before = async (_keys, host) => {
          if (host.identity === 'pod') await logIn(host)
          else
            await host.session(['memory'], () =>
              Promise.resolve({ session: 'node', expiresAt: new Date(FUTURE) }),
            )
        }
        // A session of the node is there already.
        await mount('node=shop/db!', podOf('shop'))
        const before = { hosts: store.hosts.length, counted: counted.length, records: records.length }
        expect(await mount('f=shop/db', podOf('shop'), tokens && { tokens })).toContain(
          `${code}: object "shop/db"`,
        )
        const hosts = store.hosts.slice(before.hosts)
        expect(hosts.length).toBeGreaterThan(0)
        expect(hosts.map(({ identity }) => identity)).toEqual(hosts.map(() => 'pod'))
        expect(counted.slice(before.counted).filter((line) => line.includes('node_identity'))).toEqual([])
        expect(records.slice(before.records)).toMatchObject([
          { identity: 'pod', marks: [], outcome: 'failed' },
        ])
      })
    },
  )

  it('T2 the pod’s mount works as soon as its token does', async () => {
    const { mount, store } = setUp('profile: hardened')
    store.before = (_keys, host) => logIn(host)
    expect(await mount('f=shop/db')).toContain('TOKEN_MISSING')
    expect(await mount('f=shop/db', podOf('shop'), { tokens: good })).toBe('S')
  })
})
