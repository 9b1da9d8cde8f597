/** The backend `aws-secrets-manager` by itself: concurrency, batching, expansion, node identity. */
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import type { Backend, RefItem, Value } from '../../../src/providers/adapter.ts'
import { BackendError, PlanError } from '../../../src/providers/adapter.ts'
import { secretsManagerBackend } from '../../../src/providers/aws/secrets-manager.ts'
import type { SecretRef } from '../../../src/providers/aws/secrets-manager.ts'
import type { AwsStore } from '../../../src/providers/aws/settings.ts'
import { backendContext } from '../../support/backend-context.ts'
import { testHttp } from '../../support/test-host.ts'
import type { TestHostOptions } from '../../support/test-host.ts'
import { FakeAws } from './fake-aws.ts'
import { FakeCluster } from './fake-identity.ts'
import { ROLE, trustWeb, webHost } from './web-role.ts'

const http = testHttp()
const fake = await new FakeAws().start()
const cluster = new FakeCluster()
const STORE: AwsStore = { region: 'eu-central-1' }

beforeEach(() => {
  fake.reset()
  fake.regions.clear()
  trustWeb(fake, cluster)
})
afterAll(async () => {
  http.close()
  await fake.stop()
})

const host = (options: TestHostOptions = {}) => webHost(cluster, { http, ...options })

function backend(settings: Record<string, unknown> = {}): Backend<AwsStore, SecretRef> {
  return secretsManagerBackend(
    backendContext({ settings: { endpoint: fake.endpoint, stsEndpoint: fake.endpoint, ...settings }, http }),
  )
}

/** Names `s0`, `s1`, …, each a secret with its name as text. */
function secrets(count: number): SecretRef[] {
  return Array.from({ length: count }, (_, i) => {
    fake.region('eu-central-1').putSecret(`s${i}`, `text of s${i}`)
    return { id: `s${i}` }
  })
}

const texts = (answers: readonly (Value | BackendError)[]): string[] =>
  answers.map((answer) => (answer instanceof BackendError ? answer.code : answer.bytes.reveal().toString()))

describe('fetching', () => {
  it('twenty secrets are fetched at once, after one call to STS', async () => {
    const refs = secrets(20)
    fake.latencyMs = 400
    const answers = await backend().resolve(STORE, refs, host())
    expect(texts(answers)).toEqual(refs.map(({ id }) => `text of ${id}`))
    expect(fake.callsTo('sts')).toHaveLength(1)
    expect(fake.callsTo('secretsmanager')).toHaveLength(20)
    expect(fake.peak.get('secretsmanager')).toBe(20)
  })

  it('aws 11 no more than 32 calls of a mount and 64 of the process are in flight', async () => {
    const refs = secrets(80)
    fake.latencyMs = 300
    const one = backend()
    await one.resolve(STORE, refs, host())
    expect(fake.peak.get('secretsmanager')).toBeGreaterThan(20)
    expect(fake.peak.get('secretsmanager')).toBeLessThanOrEqual(32)
    fake.peak.clear()
    await Promise.all([1, 2, 3].map(() => one.resolve(STORE, refs, host())))
    expect(fake.peak.get('secretsmanager')).toBeLessThanOrEqual(64)
    expect(fake.peak.get('secretsmanager')).toBeGreaterThan(32)
  })

  it('answers stand in the order of the refs, errors among them', async () => {
    const [first, second] = secrets(2)
    const answers = await backend().resolve(STORE, [first!, { id: 'gone' }, second!], host())
    expect(texts(answers)).toEqual(['text of s0', 'AWS_NOT_FOUND', 'text of s1'])
  })

  it('a pinned version may be kept longer, a stage may not', async () => {
    const id = fake.region('eu-central-1').putSecret('pin', 'x')
    const [pinned, plain] = await backend().resolve(
      STORE,
      [{ id: 'pin', versionId: id }, { id: 'pin' }],
      host(),
    )
    expect(pinned).toMatchObject({ immutable: true, version: id })
    expect(plain).not.toHaveProperty('immutable')
  })

  it('ends when the mount’s time is over', async () => {
    const refs = secrets(3)
    fake.faults.push({ when: ({ service }) => service === 'secretsmanager', delayMs: 30_000 })
    const answers = await backend().resolve(STORE, refs, host({ signal: AbortSignal.timeout(300) }))
    expect(answers.map((answer) => (answer instanceof BackendError ? answer.kind : ''))).toEqual([
      'timeout',
      'timeout',
      'timeout',
    ])
  })

  it('two refs have equal keys exactly when they ask for the same', () => {
    const one = backend()
    const refKey = (ref: SecretRef): string => one.refKey(ref)
    const refs: SecretRef[] = [
      { id: 'a' },
      { id: 'a', versionId: 'b' },
      { id: 'a', stage: 'b' },
      { id: 'a', expand: 'json' },
      { id: 'a', expand: 'prefix' },
      { id: 'a', failover: { id: 'a' } },
      { id: 'a', failover: { id: 'b' } },
      { id: 'a","b' },
    ]
    expect(new Set(refs.map(refKey)).size).toBe(refs.length)
    expect(refKey({ id: 'a' })).toBe(refKey({ id: 'a' }))
  })
})

describe('batching', () => {
  it('is off by default', async () => {
    await backend().resolve(STORE, secrets(5), host())
    expect(fake.callsTo('secretsmanager').map(({ action }) => action)).toEqual(
      Array(5).fill('GetSecretValue'),
    )
  })

  it('aws 13 fetches twenty a call, each ref with its own answer', async () => {
    const refs = [...secrets(25), { id: 'gone' }]
    const answers = await backend({ batch: true }).resolve(STORE, refs, host())
    expect(texts(answers)).toEqual([...refs.slice(0, 25).map(({ id }) => `text of ${id}`), 'AWS_NOT_FOUND'])
    expect(fake.callsTo('secretsmanager').map(({ action }) => action)).toEqual([
      'BatchGetSecretValue',
      'BatchGetSecretValue',
    ])
  })

  it('aws 13 leaves pinned and labelled secrets, and fewer than four, to single calls', async () => {
    const refs = secrets(5)
    const answers = await backend({ batch: true }).resolve(
      STORE,
      [...refs.slice(0, 3), { ...refs[3]!, stage: 'AWSCURRENT' }],
      host(),
    )
    expect(texts(answers)).toHaveLength(4)
    expect(fake.callsTo('secretsmanager').every(({ action }) => action === 'GetSecretValue')).toBe(true)
  })

  it('aws 13 a role without the permission falls back, and is not asked again', async () => {
    fake.identity.roles.set(ROLE, {
      ...fake.identity.roles.get(ROLE)!,
      allows: (action) => action !== 'secretsmanager:BatchGetSecretValue',
    })
    const one = backend({ batch: true })
    const refs = secrets(5)
    const pod = host()
    expect(texts(await one.resolve(STORE, refs, pod))).toHaveLength(5)
    await one.resolve(STORE, refs, pod)
    const actions = fake.callsTo('secretsmanager').map(({ action }) => action)
    expect(actions.filter((action) => action === 'BatchGetSecretValue')).toHaveLength(1)
    expect(actions.filter((action) => action === 'GetSecretValue')).toHaveLength(10)
  })

  it('aws 13 throttling of the batch call falls back at once', async () => {
    fake.faults.push({ when: ({ action }) => action === 'BatchGetSecretValue', code: 'ThrottlingException' })
    const refs = secrets(5)
    expect(texts(await backend({ batch: true }).resolve(STORE, refs, host()))).toEqual(
      refs.map(({ id }) => `text of ${id}`),
    )
  })

  it('aws 13 matches full and partial ARNs', async () => {
    secrets(4)
    const arns = [...fake.region('eu-central-1').secrets.values()].map(({ arn }) => arn)
    const refs = arns.map((arn, i) => ({ id: i % 2 === 0 ? arn : arn.slice(0, -7) }))
    const answers = await backend({ batch: true }).resolve(STORE, refs, host())
    expect(texts(answers)).toEqual(['text of s0', 'text of s1', 'text of s2', 'text of s3'])
    expect(fake.callsTo('secretsmanager')).toHaveLength(1)
  })
})

describe('for the keyferry dialect', () => {
  it('key, version and stage become a ref; anything else is refused', () => {
    const one = backend()
    const ref = (item: RefItem): SecretRef => one.ref(item)
    expect(ref({ key: 'a', version: 'v', args: { stage: 's' } })).toEqual({
      id: 'a',
      versionId: 'v',
      stage: 's',
    })
    expect(() => ref({ key: 'a', args: { satge: 's' } })).toThrow(PlanError)
    expect(() => ref({ key: '' })).toThrow(PlanError)
    expect(() => ref({ key: 'a', args: { expand: 'yaml' } })).toThrow(PlanError)
    expect(() => ref({ key: 'a', version: 'v', args: { expand: 'prefix' } })).toThrow(PlanError)
  })

  it('expand json gives the top-level texts, numbers and booleans', async () => {
    fake.region('eu-central-1').putSecret('doc', '{"a":"x","n":1.50,"b":false,"o":{},"z":null}', 'v1')
    const [value] = await backend().resolve(STORE, [{ id: 'doc', expand: 'json' }], host())
    if (value instanceof BackendError || value === undefined) throw new Error('no value')
    expect(value.parts?.map(({ name, bytes }) => [name, bytes.reveal().toString()])).toEqual([
      ['a', 'x'],
      ['n', '1.50'],
      ['b', 'false'],
    ])
    expect(value.version).toBe('v1')
  })

  it.each(['not json', '[1]', '{}'])('expand json of %j is an error without the value', async (text) => {
    fake.region('eu-central-1').putSecret('doc', text)
    const [answer] = await backend().resolve(STORE, [{ id: 'doc', expand: 'json' }], host())
    expect(answer).toMatchObject({ code: 'AWS_JMES_JSON', kind: 'malformed' })
    expect((answer as BackendError).message).not.toContain(text)
  })

  it('expand prefix gives every secret whose name begins with the key, over pages', async () => {
    for (let i = 0; i < 45; i += 1) fake.region('eu-central-1').putSecret(`team/s${i}`, `t${i}`, `v${i}`)
    fake.region('eu-central-1').putSecret('other', 'x')
    const [value] = await backend().resolve(STORE, [{ id: 'team/', expand: 'prefix' }], host())
    if (value instanceof BackendError || value === undefined) throw new Error('no value')
    expect(value.parts).toHaveLength(45)
    const part = value.parts?.find(({ name }) => name === 's7')
    expect([part?.bytes.reveal().toString(), part?.version]).toEqual(['t7', 'v7'])
    expect(fake.callsTo('secretsmanager')).toHaveLength(3)
    const [none] = await backend().resolve(STORE, [{ id: 'none/', expand: 'prefix' }], host())
    expect(none).toMatchObject({ kind: 'not-found' })
  })
})

describe('identity node', () => {
  it('uses the provider’s own credentials, and only then', async () => {
    const before = { ...process.env }
    const key = fake.identity.issue('arn:aws:iam::1:role/node', 'node', Date.now())
    Object.assign(process.env, {
      AWS_ACCESS_KEY_ID: key.accessKeyId,
      AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
      AWS_SESSION_TOKEN: key.sessionToken,
    })
    try {
      const refs = secrets(1)
      expect(texts(await backend().resolve(STORE, refs, host({ identity: 'node' })))).toEqual(['text of s0'])
      expect(fake.callsTo('secretsmanager').map(({ role }) => role)).toEqual(['arn:aws:iam::1:role/node'])
      expect(fake.callsTo('sts')).toEqual([])
    } finally {
      for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
    }
  })
})
