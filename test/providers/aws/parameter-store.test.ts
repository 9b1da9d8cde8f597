/** The backend `aws-parameter-store` by itself: names, selectors, expansion, what belongs to which answer. */
import { afterAll, beforeEach, expect, it } from 'vitest'
import type { Backend, Value } from '../../../src/providers/adapter.ts'
import { BackendError, PlanError } from '../../../src/providers/adapter.ts'
import { parameterStoreBackend } from '../../../src/providers/aws/parameter-store.ts'
import type { ParameterRef } from '../../../src/providers/aws/parameter-store.ts'
import type { AwsStore } from '../../../src/providers/aws/settings.ts'
import { backendContext } from '../../support/backend-context.ts'
import { testHttp } from '../../support/test-host.ts'
import { FakeAws } from './fake-aws.ts'
import { FakeCluster } from './fake-identity.ts'
import { ROLE, trustWeb, webHost } from './web-role.ts'

const http = testHttp()
const fake = await new FakeAws().start()
const cluster = new FakeCluster()
const STORE: AwsStore = { region: 'eu-central-1' }
const region = () => fake.region('eu-central-1')

beforeEach(() => {
  fake.reset()
  fake.regions.clear()
  trustWeb(fake, cluster)
})
afterAll(async () => {
  http.close()
  await fake.stop()
})

const host = () => webHost(cluster, { http })

const backend: Backend<AwsStore, ParameterRef> = parameterStoreBackend(
  backendContext({ settings: { endpoint: fake.endpoint, stsEndpoint: fake.endpoint }, http }),
)
const told = (answers: readonly (Value | BackendError)[]): unknown[] =>
  answers.map((answer) =>
    answer instanceof BackendError ? answer.code : [answer.bytes.reveal().toString(), answer.version],
  )

it('aws 7 equal requests in one call are sent once and answer every ref', async () => {
  region().putParameter('/a', 'one')
  const answers = await backend.resolve(
    STORE,
    [{ name: '/a' }, { name: '/a', selector: '1' }, { name: '/a' }],
    host(),
  )
  expect(told(answers)).toEqual([
    ['one', '1'],
    ['one', '1'],
    ['one', '1'],
  ])
  expect(fake.callsTo('ssm').map(({ input }) => input['Names'])).toEqual([['/a', '/a:1']])
})

it('aws 7 an ARN, plain and with a version, is matched', async () => {
  region().putParameter('/a', 'old')
  region().putParameter('/a', 'new')
  region().putParameter('flat', 'f')
  const arn = 'arn:aws:ssm:eu-central-1:111122223333:parameter'
  const answers = await backend.resolve(
    STORE,
    [{ name: `${arn}/a` }, { name: `${arn}/a`, selector: '1' }, { name: `${arn}/flat` }],
    host(),
  )
  expect(told(answers)).toEqual([
    ['new', '2'],
    ['old', '1'],
    ['f', '1'],
  ])
})

it('one ARN of another region fails alone', async () => {
  region().putParameter('/a', 'one')
  const far = 'arn:aws:ssm:us-east-1:1:parameter/x'
  expect(told(await backend.resolve(STORE, [{ name: far }, { name: '/a' }], host()))).toEqual([
    'AWS_ARN_REGION',
    ['one', '1'],
  ])
})

it('a denied call fails every parameter of it, with the reason', async () => {
  region().putParameter('/a', 'one')
  fake.identity.roles.set(ROLE, { ...fake.identity.roles.get(ROLE)!, allows: () => false })
  const [answer] = await backend.resolve(STORE, [{ name: '/a' }], host())
  expect(answer).toMatchObject({ kind: 'denied', code: 'AWS_ACCESS_DENIED' })
  expect((answer as BackendError).message).toContain('is not authorized to perform: ssm:GetParameters')
})

it('an answer without Value or Version is an error', async () => {
  region().putParameter('/a', 'one')
  for (const missing of ['Value', 'Version']) {
    fake.faults.push({
      when: ({ service }) => service === 'ssm',
      times: 1,
      edit: () => ({ Parameters: [{ Name: '/a', Value: 'one', Version: 1, [missing]: undefined }] }),
    })
    const [answer] = await backend.resolve(STORE, [{ name: '/a' }], host())
    expect((answer as BackendError).message).toContain(`no ${missing}`)
  }
})

it('a version that is not the one asked for is not delivered', async () => {
  fake.faults.push({
    when: ({ service }) => service === 'ssm',
    edit: () => ({ Parameters: [{ Name: '/a', Value: 'wrong', Version: 5 }] }),
  })
  expect(told(await backend.resolve(STORE, [{ name: '/a', selector: '4' }], host()))).toEqual([
    'AWS_INCOMPLETE',
  ])
})

it('the version of a reference to a secret is 0', async () => {
  region().putParameter('/aws/reference/secretsmanager/x', 's', { version: 0 })
  expect(told(await backend.resolve(STORE, [{ name: '/aws/reference/secretsmanager/x' }], host()))).toEqual([
    ['s', '0'],
  ])
})

it('for keyferry: key, version, label or selector become a ref; two of them are refused', () => {
  expect(backend.ref({ key: '/a' })).toEqual({ name: '/a' })
  expect(backend.ref({ key: '/a', version: '3' })).toEqual({ name: '/a', selector: '3' })
  expect(backend.ref({ key: '/a', args: { label: 'prod' } })).toEqual({ name: '/a', selector: 'prod' })
  expect(backend.ref({ key: '/a:prod' })).toEqual({ name: '/a', selector: 'prod' })
  expect(() => backend.ref({ key: '/a:prod', version: '3' })).toThrow(PlanError)
  expect(() => backend.ref({ key: '/a', args: { stage: 'x' } })).toThrow(PlanError)
})

it('for keyferry: expand prefix gives every parameter below a path, over pages', async () => {
  for (let i = 0; i < 23; i += 1) region().putParameter(`/app/sub/p${i}`, `v${i}`)
  region().putParameter('/apple', 'no')
  const [value] = await backend.resolve(STORE, [{ name: '/app', expand: 'prefix' }], host())
  if (value instanceof BackendError || value === undefined) throw new Error('no value')
  expect(value.parts).toHaveLength(23)
  expect(
    value.parts
      ?.find(({ name }) => name === 'sub/p7')
      ?.bytes.reveal()
      .toString(),
  ).toBe('v7')
  expect(fake.callsTo('ssm')).toHaveLength(3)
  const [relative] = await backend.resolve(STORE, [{ name: 'app', expand: 'prefix' }], host())
  expect(relative).toMatchObject({ kind: 'config' })
})

it('for keyferry: expand json gives the top-level keys with the parameter’s version', async () => {
  region().putParameter('/doc', '{"user":"u","n":7}', { version: 4 })
  const [value] = await backend.resolve(STORE, [{ name: '/doc', expand: 'json' }], host())
  if (value instanceof BackendError || value === undefined) throw new Error('no value')
  expect(value.version).toBe('4')
  expect(value.parts?.map(({ name, bytes }) => [name, bytes.reveal().toString()])).toEqual([
    ['user', 'u'],
    ['n', '7'],
  ])
})
