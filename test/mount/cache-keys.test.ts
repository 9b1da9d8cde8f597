/**
 * The proof that no cache key can collide across identities (threat model T7): every field of identity, store and
 * ref of every backend that ships, one row each; and texts made to run into each other.
 */
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { createSessionCache } from '../../src/identity/session-cache.ts'
import { createCallers } from '../../src/mount/host.ts'
import { decodeMountRequest } from '../../src/mount/request.ts'
import { sourceKey } from '../../src/mount/source-key.ts'
import type { Backend, Identity, RefItem, Source } from '../../src/providers/adapter.ts'
import { BUILT_IN, createRegistry } from '../../src/providers/registry.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { silentMeter } from '../../src/telemetry/metrics.ts'
import { backendContext } from '../support/backend-context.ts'

const K = 'csi.storage.k8s.io/'

/** Who mounts, as kubelet and the driver say it. */
interface Who {
  readonly namespace: string
  readonly serviceAccount: string
  readonly pod: string
  readonly podUid: string
  /** UID of the service account, in its token. */
  readonly accountUid: string | undefined
  /** What else makes the token's text. */
  readonly tokenId: string
  readonly audience: string
  /** Data of the node-publish Secret. */
  readonly secret: Readonly<Record<string, string>>
}

const WHO: Who = {
  namespace: 'shop',
  serviceAccount: 'web',
  pod: 'web-0',
  podUid: 'pod-uid',
  accountUid: 'account-uid',
  tokenId: 'first',
  audience: 'vault',
  secret: { clientid: 'app', clientsecret: 'canary' },
}

const callers = createCallers({
  http: backendContext().http,
  sessions: createSessionCache({ now: Date.now, meter: silentMeter }),
  log: silentLogger,
  now: () => new Date(),
  annotation: () => Promise.resolve(undefined),
  nodeLabel: () => Promise.resolve(undefined),
})

function tokenOf({ accountUid, tokenId }: Who): string {
  const claims = {
    jti: tokenId,
    ...(accountUid !== undefined && { 'kubernetes.io': { serviceaccount: { uid: accountUid } } }),
  }
  return `h.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.s`
}

function identityKey(who: Who, identity: Identity): string {
  const request = decodeMountRequest({
    attributes: JSON.stringify({
      [`${K}pod.name`]: who.pod,
      [`${K}pod.namespace`]: who.namespace,
      [`${K}pod.uid`]: who.podUid,
      [`${K}serviceAccount.name`]: who.serviceAccount,
      [`${K}serviceAccount.tokens`]: JSON.stringify({
        [who.audience]: { token: tokenOf(who), expirationTimestamp: '2099-01-01T00:00:00Z' },
      }),
    }),
    secrets: JSON.stringify(who.secret),
    target_path: '',
    permission: '420',
  })
  const context = { provider: 'd', signal: new AbortController().signal, deadline: Date.now() + 1000 }
  return callers(request, context, { name: 'd', needs: {}, plan: () => ({ outputs: [] }) }).identityKey(
    identity,
  )
}

const BACKEND = { kind: 'b', refKey: String } as unknown as Backend

function keyOf(source: Partial<Source>, who: Who = WHO, backend: Backend = BACKEND): string {
  const whole: Source = { backend: backend.kind, store: {}, identity: 'pod', ref: 'r', ...source }
  return sourceKey(whole, backend, { identityKey: (identity) => identityKey(who, identity) })
}

describe('T7 the identity in a cache key', () => {
  it.each<[string, Partial<Who>, 'separates' | 'shares']>([
    ['namespace', { namespace: 'bank' }, 'separates'],
    ['service account', { serviceAccount: 'other' }, 'separates'],
    ['uid of the service account: deleted and made anew it is another', { accountUid: 'new' }, 'separates'],
    ['no uid', { accountUid: undefined }, 'separates'],
    ['a value of the node-publish Secret', { secret: { ...WHO.secret, clientsecret: 'x' } }, 'separates'],
    ['one more value of it', { secret: { ...WHO.secret, more: '' } }, 'separates'],
    ['one value less', { secret: { clientid: 'app' } }, 'separates'],
    ['no node-publish Secret', { secret: {} }, 'separates'],
    ['values of it in turned roles', { secret: { clientid: 'canary', clientsecret: 'app' } }, 'separates'],
    // What replicas of one service account differ in: a hundred of them cost one call.
    ['pod name', { pod: 'web-1' }, 'shares'],
    ['pod uid', { podUid: 'other' }, 'shares'],
    ['a fresh token of the same service account', { tokenId: 'second' }, 'shares'],
    ['audience of the token', { audience: 'sts.amazonaws.com' }, 'shares'],
    ['order of the node-publish Secret', { secret: { clientsecret: 'canary', clientid: 'app' } }, 'shares'],
  ])('%s', (_name, change, outcome) => {
    expect(keyOf({}, { ...WHO, ...change }) === keyOf({})).toBe(outcome === 'shares')
  })

  it("the pod's identity and the node's never meet, whatever the pod is called", () => {
    const node = keyOf({ identity: 'node' })
    expect(node).not.toBe(keyOf({}))
    expect(keyOf({ identity: 'node' }, { ...WHO, namespace: 'bank' })).toBe(node)
    for (const namespace of ['node', 'pod', '"node"', '\nnode'])
      expect(keyOf({}, { ...WHO, namespace, serviceAccount: 'node' })).not.toBe(node)
  })

  it('T20 holds neither token nor node-publish Secret', () => {
    const key = keyOf({})
    expect(key).not.toContain('canary')
    expect(key).not.toContain(tokenOf(WHO))
  })
})

/** Texts that would run into each other if parts were merely joined. */
const hostile = fc.oneof(
  fc.string({
    unit: fc.constantFrom(
      'a',
      'b',
      '"',
      ',',
      '[',
      ']',
      '{',
      '}',
      '\\',
      '/',
      ':',
      '\n',
      '\0',
      '|',
      ' ',
      'ä',
      '\ud800',
    ),
    maxLength: 6,
  }),
  fc.constantFrom('null', 'undefined', 'node', 'pod', '__proto__', 'constructor', '","', '\n["pod"', '\\n'),
)
const mapping = fc
  .array(fc.tuple(hostile, hostile), { maxLength: 3 })
  .map((pairs) => Object.fromEntries(pairs.filter(([name]) => name !== '__proto__')))

const asked = fc.record({
  // Kubelet names both; without one the request is refused.
  namespace: hostile.filter((text) => text !== ''),
  serviceAccount: hostile.filter((text) => text !== ''),
  accountUid: hostile,
  secret: mapping,
  identity: fc.constantFrom<Identity>('pod', 'node'),
  backend: hostile,
  store: fc.record({ name: hostile, list: fc.array(hostile, { maxLength: 2 }), more: mapping }),
  ref: fc.array(hostile, { minLength: 1, maxLength: 3 }),
})
type Asked = typeof asked extends fc.Arbitrary<infer T> ? T : never

/** What must be equal for two fetches to share, in a form that cannot collide: it is compared, never joined. */
function meaning(one: Asked): unknown {
  const { namespace, serviceAccount, accountUid, secret, identity, backend, store, ref } = one
  const who = identity === 'pod' ? { namespace, serviceAccount, accountUid, secret } : 'node'
  return { identity, who, backend, store, ref }
}

function keyOfAsked(one: Asked): string {
  const backend = { kind: one.backend, refKey: (ref: unknown) => JSON.stringify(ref) } as unknown as Backend
  const who = { ...WHO, ...one, pod: 'p' }
  return keyOf({ store: one.store, identity: one.identity, ref: one.ref }, who, backend)
}

const equal = (a: unknown, b: unknown): boolean => {
  try {
    expect(a).toStrictEqual(b)
    return true
  } catch {
    return false
  }
}

describe('T7 texts that could run into each other', () => {
  it('two fetches have one key exactly when identity, backend, store and ref are equal', () => {
    fc.assert(
      fc.property(asked, asked, (one, other) => {
        expect(keyOfAsked(one) === keyOfAsked(other)).toBe(equal(meaning(one), meaning(other)))
        expect(keyOfAsked(one)).toBe(keyOfAsked(structuredClone(one)))
      }),
      { numRuns: 500 },
    )
  })

  it('one changed field is enough, whatever the others hold', () => {
    fc.assert(
      fc.property(
        asked,
        fc.constantFrom<keyof Asked>(
          'namespace',
          'serviceAccount',
          'accountUid',
          'secret',
          'identity',
          'backend',
          'store',
          'ref',
        ),
        asked,
        (one, field, source) => {
          const other: Asked = { ...one, [field]: source[field] }
          expect(keyOfAsked(one) === keyOfAsked(other)).toBe(equal(meaning(one), meaning(other)))
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('characters moved over the border of two fields make another key', () => {
    fc.assert(
      fc.property(fc.array(hostile, { minLength: 5, maxLength: 5 }), fc.nat(3), (parts, at) => {
        const [a = '', b = ''] = [parts[at], parts[at + 1]]
        fc.pre(b !== '')
        const moved = parts.with(at, a + b).with(at + 1, '')
        const keyOfParts = ([
          namespace = '',
          serviceAccount = '',
          accountUid = '',
          name = '',
          ref = '',
        ]: readonly string[]) =>
          keyOf(
            { store: { name }, ref },
            { ...WHO, namespace: `x${namespace}`, serviceAccount: `x${serviceAccount}`, accountUid },
          )
        expect(keyOfParts(moved)).not.toBe(keyOfParts(parts))
      }),
      { numRuns: 1000 },
    )
  })
})

/** For each backend that ships: a value for every field of its store, and refs that must all be told apart. */
interface Row {
  readonly store: Readonly<Record<string, unknown>>
  /** Field → another value. Every field of the schema must be here. */
  readonly fields: Readonly<Record<string, unknown>>
  readonly items: readonly RefItem[]
  /** Refs as dialects plan them, beyond what `ref()` makes. */
  readonly refs: readonly unknown[]
}

const AWS_FIELDS = {
  region: 'eu-west-1',
  failoverRegion: 'us-east-1',
  failoverMode: 'eager',
  auth: 'irsa',
  addressFamily: 'ipv6',
  roleArn: 'arn:aws:iam::111122223333:role/a',
  assumeRoleArn: 'arn:aws:iam::111122223333:role/b',
  assumeRoleExternalId: 'external',
  assumeRoleDurationSeconds: 900,
}

const sopsRef = (change: object = {}): object => ({
  source: { file: 'shop/db.yaml' },
  take: { what: 'value', path: '/a', document: 0, format: 'raw', encoding: 'utf-8' },
  keyIdentity: 'offline',
  allowCleartext: false,
  ...change,
})
const take = (change: object): object =>
  sopsRef({ take: { what: 'value', path: '/a', document: 0, format: 'raw', encoding: 'utf-8', ...change } })

const BACKENDS: Readonly<Record<string, Row>> = {
  'aws-secrets-manager': {
    store: {},
    fields: AWS_FIELDS,
    items: [
      { key: 'a' },
      { key: 'b' },
      { key: 'a', version: '1' },
      { key: 'a', args: { stage: '1' } },
      { key: 'a', args: { expand: 'json' } },
      { key: 'a', args: { expand: 'prefix' } },
    ],
    refs: [
      { id: 'a', failover: { id: 'a' } },
      { id: 'a', failover: { id: 'b' } },
      { id: 'a', failover: { id: 'b', versionId: '1' } },
      { id: 'a', failover: { id: 'b', stage: '1' } },
      { id: 'a","","",""' },
    ],
  },
  'aws-parameter-store': {
    store: {},
    fields: AWS_FIELDS,
    items: [
      { key: '/a' },
      { key: '/b' },
      { key: '/a', version: '1' },
      { key: '/a', args: { label: 'l' } },
      { key: '/a', args: { expand: 'json' } },
      { key: '/a', args: { expand: 'prefix' } },
    ],
    refs: [
      { name: '/a', failover: { name: '/a' } },
      { name: '/a', failover: { name: '/b' } },
      { name: '/a', failover: { name: '/b', selector: '1' } },
    ],
  },
  'azure-key-vault': {
    store: { vault: 'one-vault' },
    fields: {
      vault: 'other-vault',
      tenant: 'tenant',
      cloud: 'AzureUSGovernmentCloud',
      environmentFile: '/etc/a.json',
      auth: { mode: 'workload-identity', clientId: 'client' },
    },
    items: [
      { key: 'a' },
      { key: 'b' },
      { key: 'a', args: { type: 'key' } },
      { key: 'a', args: { type: 'cert' } },
      { key: 'a', version: '0'.repeat(32) },
    ],
    refs: [
      { type: 'secret', name: 'a', pfx: true },
      { type: 'secret', name: 'a', bagOrder: true },
      { type: 'secret', name: 'a', files: {} },
      { type: 'secret', name: 'a', files: { name: 'f' } },
      { type: 'secret', name: 'a', files: { history: 2 } },
      { type: 'secret', name: 'a', files: { split: true } },
      { type: 'secret', name: 'a', files: { encoding: 'hex' } },
      { type: 'secret', name: 'a', files: { encoding: 'base64' } },
    ],
  },
  'gcp-secret-manager': {
    store: {},
    fields: { project: 'p', location: 'europe-west3', auth: 'pod-adc' },
    items: [
      { key: 'a' },
      { key: 'b' },
      { key: 'a', version: '1' },
      { key: 'projects/p/secrets/a/versions/1' },
    ],
    refs: [{ name: 'secrets/a/versions/latest', parts: 'top-level' }],
  },
  'gcp-parameter-manager': {
    store: {},
    fields: { project: 'p', location: 'europe-west3', auth: 'pod-adc' },
    items: [
      { key: 'a', version: '1' },
      { key: 'b', version: '1' },
      { key: 'a', version: '2' },
    ],
    refs: [{ name: 'parameters/a/versions/1', parts: 'top-level' }],
  },
  vault: {
    store: { flavour: 'vault' },
    fields: {
      flavour: 'openbao',
      address: 'https://vault.example',
      namespace: 'team',
      role: 'web',
      authMount: 'jwt',
      audience: 'other',
      caFile: '/ca.pem',
      caDirectory: '/ca',
      clientCertFile: '/c.pem',
      clientKeyFile: '/k.pem',
      serverName: 'vault',
      skipVerify: true,
    },
    items: [
      { key: 'secret/data/a' },
      { key: 'secret/data/b' },
      { key: 'secret/data/a', version: '3' },
      // What issues something belongs to one pod.
      { key: 'database/creds/web', podUid: 'pod-1' },
      { key: 'database/creds/web', podUid: 'pod-2' },
    ],
    refs: [
      { path: '/v1/x', method: 'GET', shape: 'envelope' },
      { path: '/v1/x', method: 'LIST', shape: 'envelope' },
      { path: '/v1/x', method: 'GET', shape: 'data' },
      { path: '/v1/x', method: 'POST', shape: 'envelope', body: '{}' },
      { path: '/v1/x', method: 'POST', shape: 'envelope', body: '{"a":1}' },
      { path: '/v1/x', method: 'POST', shape: 'envelope', body: '{}', pod: 'u1' },
      { path: '/v1/x', method: 'POST', shape: 'envelope', body: '{}', pod: 'u2' },
      { path: '/v1/x', method: 'POST', shape: 'envelope', pod: '{}' },
    ],
  },
  sops: {
    store: {},
    fields: {},
    items: [
      { key: 'shop/a.yaml' },
      { key: 'shop/b.yaml' },
      { key: 'shop/a.yaml', args: { path: '/a' } },
      { key: 'shop/a.yaml', args: { path: '/a', document: '1' } },
      { key: 'shop/a.yaml', args: { path: '/a', encoding: 'hex' } },
      { key: 'shop/a.yaml', args: { path: '/a', format: 'json' } },
      { key: 'shop/a.yaml', args: { sopsFormat: 'json' } },
      { key: 'shop/a.yaml', args: { expand: 'topLevel' } },
      { key: 'shop/a.yaml', args: { allowCleartext: 'true' } },
    ],
    refs: [
      sopsRef(),
      sopsRef({ source: { text: 'shop/db.yaml' } }),
      sopsRef({ source: { text: 'file:shop/db.yaml' } }),
      sopsRef({ source: { base64: Buffer.from('another').toString('base64') } }),
      sopsRef({ format: 'yaml' }),
      sopsRef({ keyIdentity: 'pod' }),
      sopsRef({ keyIdentity: 'provider', caller: 'shop/web' }),
      sopsRef({ keyIdentity: 'provider', caller: 'bank/web' }),
      sopsRef({ allowCleartext: true }),
      take({ path: '/b' }),
      take({ document: 1 }),
      take({ format: 'json' }),
      take({ encoding: 'hex' }),
      sopsRef({ take: { what: 'whole' } }),
      sopsRef({ take: { what: 'expand' } }),
      sopsRef({ take: { what: 'expand', expansion: 'whole' } }),
    ],
  },
}

describe('T7 the stores and refs of every backend that ships', () => {
  const kinds = BUILT_IN.flatMap((entry) => entry.backends)
  const backends = new Map<string, Backend>()
  beforeAll(async () => {
    const { http } = backendContext()
    const options = { settings: {}, log: silentLogger, http, env: {}, meter: silentMeter }
    const registry = createRegistry({ entries: BUILT_IN, ...options })
    for (const kind of kinds) backends.set(kind, await registry.backend(kind))
  })

  it('are all in the table', () => {
    expect(Object.keys(BACKENDS).toSorted()).toEqual(kinds.toSorted())
  })

  it.each(Object.entries(BACKENDS))('%s: every field of a store makes another key', (kind, row) => {
    const backend = backends.get(kind)
    if (!backend) throw new Error(kind)
    const { entries } = backend.storeSchema as unknown as {
      readonly entries: Readonly<Record<string, unknown>>
    }
    expect(Object.keys(row.fields).toSorted()).toEqual(Object.keys(entries).toSorted())
    const keys = [
      row.store,
      ...Object.entries(row.fields).map(([name, value]) => ({ ...row.store, [name]: value })),
    ].map((store) => keyOf({ store }, WHO, { ...backend, refKey: () => 'r' }))
    expect(new Set(keys).size).toBe(1 + Object.keys(row.fields).length)
  })

  it.each(Object.entries(BACKENDS))(
    '%s: refs that ask for different things have different keys',
    (kind, row) => {
      const backend = backends.get(kind)
      if (!backend) throw new Error(kind)
      const refs = [...row.items.map((item) => backend.ref(item)), ...row.refs]
      const keys = refs.map((ref) => keyOf({ store: row.store, ref }, WHO, backend))
      for (const [index, key] of keys.entries())
        expect(
          keys.indexOf(key),
          `${JSON.stringify(refs[index])} and ${JSON.stringify(refs[keys.indexOf(key)])}`,
        ).toBe(index)
      // And each of them apart for another identity.
      const others = refs.map((ref) =>
        keyOf({ store: row.store, ref }, { ...WHO, namespace: 'bank' }, backend),
      )
      expect(new Set([...keys, ...others]).size).toBe(2 * refs.length)
    },
  )

  it('two backends never share, not even over equal stores and refs', () => {
    const keys = kinds.map((kind) => keyOf({}, WHO, { ...BACKEND, kind }))
    expect(new Set(keys).size).toBe(kinds.length)
  })
})
