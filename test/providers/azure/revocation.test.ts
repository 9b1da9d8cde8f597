/** Which refusals of Azure may take a running pod's files away (threat model T25), and which may not. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { isDenial } from '../../../src/mount/revocation.ts'
import { vaultError } from './fake-vault.ts'
import { BASE, objects, startHarness, VAULT_HOST, type Harness } from './harness.ts'

let harness: Harness
beforeEach(async () => {
  harness = await startHarness()
})
afterEach(() => harness.stop())

const secret1 = { ...BASE, objects: objects({ objectName: 'secret1', objectType: 'secret' }) }

it.each([
  ['a right withdrawn', vaultError(403, 'Forbidden', 'ForbiddenByRbac'), true],
  ['a secret disabled', vaultError(403, 'Forbidden', 'SecretDisabled'), true],
  ['a secret deleted', vaultError(404, 'SecretNotFound'), true],
  ['a firewall', vaultError(403, 'Forbidden', 'ForbiddenByFirewall'), false],
  ['a private endpoint', vaultError(403, 'Forbidden', 'ForbiddenByConnection'), false],
  ['the 403 of a proxy', { status: 403, body: '<html>no</html>' }, false],
  ['the 404 of a proxy', { status: 404, body: '<html>no</html>' }, false],
  ['a token that is not taken', vaultError(401, 'Unauthorized'), false],
  ['an outage', vaultError(503, 'ServiceUnavailable'), false],
])('T25 %s: %o', async (_what, reply, denial) => {
  harness.fake.faults.push(({ host }) => (host === VAULT_HOST ? reply : undefined))
  expect((await harness.failure(secret1)).failures.map(isDenial)).toEqual([denial])
})
