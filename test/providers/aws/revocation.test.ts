/** Which refusals of AWS may take a running pod's files away (threat model T25), and which may not. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { isDenial } from '../../../src/mount/revocation.ts'
import { BackendError } from '../../../src/providers/adapter.ts'
import { startHarness, type Harness } from './harness.ts'

let aws: Harness
beforeEach(async () => {
  aws = await startHarness()
  aws.annotations.set('shop/web', {
    'eks.amazonaws.com/role-arn': [...aws.fake.identity.roles.keys()][0] ?? '',
  })
  aws.fake.region('us-east-1').putSecret('plain', 's3cret')
  aws.fake.region('us-east-1').putParameter('/cfg/url', 'u')
})
afterEach(() => aws.stop())

const spc = (objectName: string, objectType: string, more = {}) => ({
  region: 'us-east-1',
  objects: JSON.stringify([{ objectName, objectType }]),
  ...more,
})
const secret = spc('plain', 'secretsmanager')

it('T25 a secret that is deleted, marked for deletion or denied is; a parameter likewise', async () => {
  const region = aws.fake.region('us-east-1')
  expect((await aws.mount(secret)).size).toBe(1)
  const outcomes: boolean[] = []
  const ask = async (parameters: Record<string, string>): Promise<void> => {
    const { failures } = await aws.failure(parameters)
    outcomes.push(failures.every(isDenial))
  }
  aws.fake.faults.push({ when: ({ service }) => service !== 'sts', code: 'AccessDeniedException' })
  await ask(secret)
  await ask(spc('/cfg/url', 'ssmparameter'))
  aws.fake.faults.length = 0
  const held = region.secrets.get('plain')
  if (held) held.deleted = true
  await ask(secret)
  region.secrets.delete('plain')
  region.parameters.delete('/cfg/url')
  await ask(secret)
  await ask(spc('/cfg/url', 'ssmparameter'))
  expect(outcomes).toEqual([true, true, true, true, true])
})

it('T25 a role that STS refuses, an annotation that cannot be read or an outage is not', async () => {
  aws.fake.faults.push({ when: ({ service }) => service === 'sts', code: 'AccessDenied' })
  const login = await aws.failure(secret)
  expect([login.kind, login.failures.some(isDenial)]).toEqual(['denied', false])
  aws.fake.faults.length = 0
  aws.kubernetesFailure = new BackendError({ kind: 'not-found', code: 'X', message: 'none' })
  expect((await aws.failure(secret)).failures.some(isDenial)).toBe(false)
  aws.kubernetesFailure = undefined
  aws.fake.faults.push({
    when: ({ service }) => service === 'secretsmanager',
    code: 'InternalServiceError',
    status: 500,
  })
  expect((await aws.failure(secret)).failures.some(isDenial)).toBe(false)
})

it('T25 denied in one region and down in the other is not', async () => {
  aws.fake.faults.push({
    when: ({ region, service }) => service !== 'sts' && region === 'us-east-1',
    code: 'AccessDeniedException',
  })
  aws.fake.faults.push({
    when: ({ region, service }) => service !== 'sts' && region === 'us-west-2',
    status: 503,
  })
  const { kind, failures } = await aws.failure({ ...secret, failoverRegion: 'us-west-2' })
  expect([kind, failures.some(isDenial)]).toEqual(['denied', false])
})
