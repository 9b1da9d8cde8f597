/** Which refusals of Vault may take a running pod's files away (threat model T25), and which may not. */
import { expect, it } from 'vitest'
import { isDenial } from '../../../src/mount/revocation.ts'
import { errors, secret, type FakeReply } from './fake-vault.ts'
import { object, setUp } from './set-up.ts'

const OBJECTS = object('f', 'kv/app', 'k')
const metadata = { version: 1, created_time: 'c', deletion_time: 'd', destroyed: true }

it.each<readonly [string, FakeReply, boolean]>([
  ['a policy withdrawn', errors(403, 'permission denied'), true],
  ['a secret deleted', errors(404), true],
  ['a version destroyed', { status: 404, json: { data: { data: null, metadata } } }, true],
  ['a member of it deleted', secret({ other: 'v' }), true],
  ['the 403 of a proxy', { status: 403, text: '<html>no</html>' }, false],
  ['the 404 of an ingress', { status: 404, text: 'default backend - 404' }, false],
  ['the 404 of another service', { status: 404, json: { message: 'no route' } }, false],
  ['a sealed server', errors(503, 'Vault is sealed'), false],
])('T25 %s: %o', async (_what, reply, denial) => {
  const { vault, h, spc } = await setUp()
  // A function answers whatever the token is.
  vault.on('GET /v1/kv/app', () => reply)
  expect((await h.failure(spc(OBJECTS))).failures.map(isDenial)).toEqual([denial])
})

it('T25 a login that is refused is not: it fails the same way while the cluster cannot be asked', async () => {
  const { vault, h, spc } = await setUp()
  vault.on('GET /v1/kv/app', secret({ k: 'v' }))
  vault.on('POST /v1/auth/kubernetes/login', () => errors(403, 'permission denied'))
  const { kind, failures } = await h.failure(spc(OBJECTS))
  expect([kind, failures.map(isDenial)]).toEqual(['denied', [false]])
})
