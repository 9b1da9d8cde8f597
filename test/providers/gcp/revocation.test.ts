/** Which refusals of Google may take a running pod's files away (threat model T25), and which may not. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { isDenial } from '../../../src/mount/revocation.ts'
import { SECRET, startHarness, WEB, type Harness } from './harness.ts'

let node: Harness
beforeEach(async () => {
  node = await startHarness()
  node.google.stores.addSecret(SECRET, 'correct-horse', WEB)
})
afterEach(() => node.stop())

const entry = { resourceName: `${SECRET}/versions/1`, path: 'f' }
const denials = async (): Promise<boolean[]> => (await node.failure([entry])).failures.map(isDenial)

it('T25 a version that is disabled, destroyed or absent is, and a secret that is denied', async () => {
  for (const state of ['DISABLED', 'DESTROYED'] as const) {
    node.google.stores.setState(SECRET, 1, state)
    expect(await denials()).toEqual([true])
  }
  const others = await node.failure([
    { resourceName: 'projects/acme-prod/secrets/none/versions/1', path: 'none' },
    { resourceName: `${SECRET}/versions/9`, path: 'nine' },
  ])
  expect(others.failures.map(isDenial)).toEqual([true, true])
  node.google.fault(
    'access',
    { status: 403, body: { error: { code: 403, status: 'PERMISSION_DENIED', message: 'm' } } },
    Infinity,
  )
  expect(await denials()).toEqual([true])
})

it('T25 the page of a proxy and an outage are not', async () => {
  for (const status of [403, 404, 503]) {
    node.google.fault('access', { status, body: '<html>no</html>' }, Infinity)
    expect(await denials()).toEqual([false])
    node.google.clearFaults()
  }
})

it('T25 of denials with a reason only the one about permissions is', async () => {
  const type = 'type.googleapis.com/google.rpc.ErrorInfo'
  for (const [reason, counts] of [
    ['IAM_PERMISSION_DENIED', true],
    ['SERVICE_DISABLED', false],
    ['BILLING_DISABLED', false],
    ['SECURITY_POLICY_VIOLATED', false],
  ] as const) {
    const details = [{ '@type': type, reason, domain: 'googleapis.com' }]
    const body = { error: { code: 403, status: 'PERMISSION_DENIED', message: 'm', details } }
    node.google.fault('access', { status: 403, body }, Infinity)
    expect([reason, await denials()]).toEqual([reason, [counts]])
    node.google.clearFaults()
  }
})

it('T25 an impersonation that is refused is not', async () => {
  node.google.cluster.accounts.set('shop/web', {
    'iam.gke.io/gcp-service-account': 'other@acme-prod.iam.gserviceaccount.com',
  })
  const { kind, failures } = await node.failure([entry])
  expect([kind, failures.map(isDenial)]).toEqual(['denied', [false]])
})

it('T25 a token exchange that is refused is not', async () => {
  node.google.identity.pools.clear()
  const { kind, failures } = await node.failure([entry])
  expect([kind, failures.map(isDenial)]).toEqual(['denied', [false]])
})
