/** The SOPS key service `kms` (sops A10, A11.3): our own signature is checked by the fake. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeEach, expect, it } from 'vitest'
import type { BackendError, KeyService } from '../../../src/providers/adapter.ts'
import type { KmsEntry } from '../../../src/providers/aws/kms.ts'
import { kmsKeyService } from '../../../src/providers/aws/kms.ts'
import { backendContext } from '../../support/backend-context.ts'
import { testHttp } from '../../support/test-host.ts'
import { FakeAws } from './fake-aws.ts'
import { FakeCluster } from './fake-identity.ts'
import { ROLE, trustWeb, webHost } from './web-role.ts'

const http = testHttp()
const fake = await new FakeAws().start()
const cluster = new FakeCluster()
const OTHER = 'arn:aws:iam::999988887777:role/keys'
const KEY = 'arn:aws:kms:eu-west-3:111122223333:key/0f2a'
const plaintext = randomBytes(32)

beforeEach(() => {
  fake.reset()
  trustWeb(fake, cluster)
  fake.identity.roles.set(OTHER, { arn: OTHER, trustedRoles: [ROLE] })
})
afterAll(async () => {
  http.close()
  await fake.stop()
})

const host = () => webHost(cluster, { http })

/** The type is the one that SOPS asks for. */
const service = (settings: Record<string, unknown> = {}): KeyService =>
  kmsKeyService(
    backendContext({ settings: { endpoint: fake.endpoint, stsEndpoint: fake.endpoint, ...settings }, http }),
  )

function entry(context: Record<string, string> = {}, more: Partial<KmsEntry> = {}): KmsEntry {
  const enc = fake.region('eu-west-3').seal(KEY, plaintext, context)
  return { kind: 'kms', arn: KEY, role: '', context: new Map(Object.entries(context)), enc, ...more }
}

const refused = async (promise: Promise<unknown>): Promise<BackendError> =>
  promise.then(
    () => {
      throw new Error('it succeeded')
    },
    (error: unknown) => error as BackendError,
  )

it('sops A10 unwraps a data key in the region of the ARN, with the pod’s own role', async () => {
  expect(await service().unwrap(entry({ team: 'pay' }), host(), '3.13.2')).toEqual(plaintext)
  const [call] = fake.callsTo('kms')
  expect(call).toMatchObject({
    region: 'eu-west-3',
    role: ROLE,
    input: { KeyId: KEY, EncryptionContext: { team: 'pay' } },
  })
})

it('sops A10 a wrong context is an error, tried once', async () => {
  const wrong = { ...entry({ team: 'pay' }), context: new Map([['team', 'ops']]) }
  const error = await refused(service().unwrap(wrong, host(), '3.13.2'))
  expect(error).toMatchObject({ kind: 'malformed' })
  expect(error.message).toContain('InvalidCiphertextException')
  expect(fake.callsTo('kms')).toHaveLength(1)
})

it('sops A10 a document of SOPS before 3.3.0 may have every context key set to one of the values', async () => {
  const sealed = entry({ a: 'two', b: 'two' })
  const asWritten = {
    ...sealed,
    context: new Map([
      ['a', 'one'],
      ['b', 'two'],
    ]),
  }
  expect(await service().unwrap(asWritten, host(), '3.2.0')).toEqual(plaintext)
  expect(await refused(service().unwrap(asWritten, host(), '3.3.0'))).toMatchObject({ kind: 'malformed' })
})

it('sops A10 a role in the document is honoured only if the operator lists it', async () => {
  const error = await refused(service().unwrap(entry({}, { role: OTHER }), host(), '3.13.2'))
  expect(error).toMatchObject({ kind: 'denied', code: 'AWS_ROLE_NOT_LISTED' })
  expect(fake.calls).toEqual([])
  expect(await service({ roles: [OTHER] }).unwrap(entry({}, { role: OTHER }), host(), '3.13.2')).toEqual(
    plaintext,
  )
  expect(fake.callsTo('kms').at(-1)?.role).toBe(OTHER)
})

it.each([
  'arn:aws:kms:evil.com/:1:key/x',
  'arn:aws:kms:eu-west-3:1:key/../x',
  'arn:aws:s3:eu-west-3:1:key/x',
  'arn:evil:kms:eu-west-3:1:key/x',
  'arn:aws:kms:eu-west-3:1:alias/x:y',
  'alias/x',
])('T11 key ARN %s is refused before any call', async (arn) => {
  expect(await refused(service().unwrap(entry({}, { arn }), host(), ''))).toMatchObject({
    code: 'AWS_BAD_KEY_ARN',
  })
  expect(fake.calls).toEqual([])
})

it('a refused, throttled or broken Decrypt is classified', async () => {
  fake.faults.push({ when: ({ service }) => service === 'kms', code: 'ThrottlingException', times: 1 })
  expect(await refused(service().unwrap(entry(), host(), ''))).toMatchObject({ kind: 'throttled' })
  fake.faults.push({ when: ({ service }) => service === 'kms', code: 'AccessDeniedException', times: 1 })
  expect(await refused(service().unwrap(entry(), host(), ''))).toMatchObject({ kind: 'denied' })
  fake.faults.push({
    when: ({ service }) => service === 'kms',
    raw: { status: 502, type: 'text/html', body: '<html>' },
    times: 1,
  })
  expect(await refused(service().unwrap(entry(), host(), ''))).toMatchObject({ kind: 'unavailable' })
  fake.faults.push({ when: ({ service }) => service === 'kms', edit: () => ({}), times: 1 })
  expect(await refused(service().unwrap(entry(), host(), ''))).toMatchObject({ kind: 'malformed' })
})

it('a clock that differs from AWS’s costs one more call', async () => {
  fake.clockOffsetMs = 20 * 60_000
  expect(await service().unwrap(entry(), host(), '')).toEqual(plaintext)
  expect(fake.callsTo('kms')).toHaveLength(2)
})
