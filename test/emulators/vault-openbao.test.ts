/** Mounts from a real OpenBao 2.4.0: engines, logins, namespaces, quotas, leases. */
import { X509Certificate } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { FINAL_CODE } from '../../src/mount/errors.ts'
import { transitKeyService } from '../../src/providers/vault/transit.ts'
import { PEER_PASSWORD, startPeer, type Peer } from '../peers/start.ts'
import { describeWithPeers } from '../peers/suite.ts'
import { createAuthority } from '../net/certificates.ts'
import {
  createHarness,
  POD,
  testPodWatch,
  type Harness,
  type HarnessOptions,
} from '../providers/vault/harness.ts'
import { object } from '../providers/vault/set-up.ts'
import { admin, enableJwtAuth, issuer, startReviewer, type Admin, type Reviewer } from './openbao-client.ts'
import { backendContext } from '../support/backend-context.ts'

describeWithPeers('OpenBao', { programs: ['bao'] }, () => {
  const keys = issuer()
  let bao: Peer
  let root: Admin
  let reviewer: Reviewer
  const open: Harness[] = []

  beforeAll(async () => {
    bao = await startPeer('bao')
    root = admin(bao.address, PEER_PASSWORD)
    reviewer = await startReviewer()
    await enableJwtAuth(root, keys.publicKey)
    await root.call('POST', 'sys/mounts/kv', { type: 'kv', options: { version: '1' } })
    await root.call('PUT', 'kv/app', { foo: 'bar', number: 10, list: [6, 'stilton', true] })
    await root.call('POST', 'secret/data/app', { data: { password: 's3cr3t', nested: { b: 1, a: '<&>' } } })
    await root.call('POST', 'sys/mounts/transit', { type: 'transit' })
    await root.call('POST', 'transit/keys/app')
    await root.call('POST', 'sys/mounts/pki', { type: 'pki' })
    await root.call('POST', 'pki/root/generate/internal', { common_name: 'test root', ttl: '24h' })
    const role = { allow_any_name: true, max_ttl: '1h', key_type: 'ec', key_bits: 256 }
    await root.call('POST', 'pki/roles/leased', { ...role, generate_lease: true })
    await root.call('POST', 'pki/roles/plain', role)
  })
  afterAll(async () => {
    for (const h of open) await h.close()
    await reviewer?.close()
    await bao?.stop()
  })

  function harness(options: HarnessOptions = {}): Harness {
    const h = createHarness({
      provider: 'openbao',
      realTime: true,
      tokens: { openbao: keys.token() },
      ...options,
      settings: { addresses: [bao.address], ...options.settings },
    })
    open.push(h)
    return h
  }
  const spc = (objects: string, more: Readonly<Record<string, string>> = {}): Record<string, string> => ({
    roleName: 'web',
    baoAddress: bao.address,
    baoAuthMountPath: 'jwt',
    objects,
    ...more,
  })

  it('KV v1 and v2, whole and by key, stay the same over polls', async () => {
    const h = harness()
    const objects =
      object('v1', 'kv/app', 'foo') +
      object('number', 'kv/app', 'number') +
      object('list', 'kv/app', 'list') +
      object('v2', 'secret/data/app', 'password', ['filePermission: 0600']) +
      object('nested', 'secret/data/app', 'nested') +
      object('whole', 'secret/data/app')
    const first = await h.mount(spc(objects))
    expect(first.files).toMatchObject({
      v1: 'bar',
      number: '10',
      list: '[6,"stilton",true]',
      v2: 's3cr3t',
      nested: '{"a":"\\u003c\\u0026\\u003e","b":1}',
    })
    expect(first.modes['v2']).toBe(0o600)
    expect(first.files['whole']).toMatch(
      /^\{"request_id":"[0-9a-f-]{36}","lease_id":"","lease_duration":0,"renewable":false,"data":\{"data":/,
    )
    expect(await h.mount(spc(objects))).toEqual(first)
    await root.call('POST', 'secret/data/app', { data: { password: 'changed', nested: {} } })
    const changed = await h.mount(spc(objects))
    expect(changed.files['v2']).toBe('changed')
    expect(changed.versions['v2']).not.toBe(first.versions['v2'])
    expect(changed.versions['v1']).toBe(first.versions['v1'])
    const old = await h.mount(spc(object('old', 'secret/data/app?version=1', 'password')))
    expect(old.files).toEqual({ old: 's3cr3t' })
  })

  it('a deleted and a destroyed version, a missing path and a wrong KV v2 path say what they are', async () => {
    const h = harness()
    await root.call('POST', 'secret/data/gone', { data: { k: '1' } })
    await root.call('POST', 'secret/data/gone', { data: { k: '2' } })
    await root.call('DELETE', 'secret/data/gone')
    const deleted = await h.failure(spc(object('f', 'secret/data/gone', 'k')))
    expect(deleted.message).toMatch(/version 2 was deleted at \d{4}-/)
    await root.call('PUT', 'secret/destroy/gone', { versions: [1] })
    const destroyed = await h.failure(spc(object('f', 'secret/data/gone?version=1', 'k')))
    expect(destroyed.message).toContain('version 1 is destroyed')
    const missing = await h.failure(spc(object('f', 'secret/data/never', 'k')))
    expect(missing.message).toContain('Code: 404')
    const wrong = await h.failure(spc(object('f', 'secret/app', 'k')))
    expect(wrong.message).toContain('Invalid path for a versioned K/V secrets engine')
    for (const failure of [deleted, destroyed, missing, wrong])
      expect(failure.grpcCode).toBe(FINAL_CODE.NOT_FOUND)
  })

  it('transit answers a write with arguments', async () => {
    const h = harness()
    const encrypt = await h.mount(
      spc(
        object('c', 'transit/encrypt/app', 'ciphertext', [
          'method: PUT',
          'secretArgs: {plaintext: aGVsbG8=}',
        ]),
      ),
    )
    const lines = ['method: POST', `secretArgs: {ciphertext: "${encrypt.files['c']}"}`, 'encoding: base64']
    expect((await h.mount(spc(object('p', 'transit/decrypt/app', 'plaintext', lines)))).files).toEqual({
      p: 'hello',
    })
  })

  it('sops A10 transit unwraps the data key of a SOPS document', async () => {
    const plaintext = Buffer.alloc(32, 7).toString('base64')
    const { data } = (await root.call('PUT', 'transit/encrypt/app', { plaintext })) as {
      data: { ciphertext: string }
    }
    const h = harness()
    const service = transitKeyService(
      backendContext({
        settings: { servers: [{ flavour: 'openbao', address: bao.address, role: 'web', authMount: 'jwt' }] },
        http: h.http,
      }),
    )
    const entry = {
      kind: 'hc_vault',
      vaultAddress: bao.address,
      enginePath: 'transit',
      keyName: 'app',
      enc: data.ciphertext,
    } as const
    expect(await service.unwrap(entry, h.host())).toEqual(Buffer.alloc(32, 7))
    await expect(service.unwrap({ ...entry, keyName: 'other' }, h.host())).rejects.toThrow(
      /encryption key not found|Code: 400/,
    )
  })

  it.each(['leased', 'plain'])(
    'a certificate of the role %s is issued once, as a matching pair, and kept',
    async (role) => {
      const h = harness({ watch: testPodWatch() })
      const args = ['method: PUT', 'secretArgs: {common_name: web.shop.svc, ttl: 1h}']
      const objects =
        object('tls.crt', `pki/issue/${role}`, 'certificate', args) +
        object('tls.key', `pki/issue/${role}`, 'private_key', ['method: PUT'])
      const first = await h.mount(spc(objects))
      const certificate = new X509Certificate(first.files['tls.crt'] ?? '')
      const { createPrivateKey } = await import('node:crypto')
      expect(certificate.checkPrivateKey(createPrivateKey(first.files['tls.key'] ?? ''))).toBe(true)
      for (let poll = 0; poll < 5; poll += 1) expect(await h.mount(spc(objects))).toEqual(first)
      expect(h.backend.keeper.counts().leases).toBe(role === 'leased' ? 1 : 0)
    },
  )

  it('a leased certificate is revoked with its pod', async () => {
    const watch = testPodWatch()
    const h = harness({ watch })
    const args = ['method: PUT', 'secretArgs: {common_name: gone.shop.svc}']
    const { files } = await h.mount(spc(object('serial', 'pki/issue/leased', 'serial_number', args)))
    const serial = files['serial'] ?? ''
    watch.gone(POD.uid)
    await h.backend.keeper.idle()
    const { data } = (await root.call('GET', `pki/cert/${serial}`)) as { data: { revocation_time: number } }
    expect(data.revocation_time).toBeGreaterThan(0)
  })

  it('one pod polled 50 times holds one token; after it is gone the token is no longer good', async () => {
    const watch = testPodWatch()
    const h = harness({ watch })
    const accessors = async (): Promise<readonly string[]> => {
      const { data } = (await root.call('GET', 'auth/token/accessors?list=true')) as {
        data: { keys: string[] }
      }
      return data.keys
    }
    const before = new Set(await accessors())
    for (let poll = 0; poll < 50; poll += 1) await h.mount(spc(object('f', 'kv/app', 'foo')))
    const added = (await accessors()).filter((accessor) => !before.has(accessor))
    expect(added).toHaveLength(1)
    watch.gone(POD.uid)
    await h.backend.keeper.idle()
    expect((await accessors()).filter((accessor) => !before.has(accessor))).toEqual([])
  })

  it('a token revoked by an administrator costs one more login', async () => {
    const h = harness()
    const { files } = await h.mount(spc(object('f', 'kv/app', 'foo')))
    await root.call('PUT', 'sys/leases/revoke-prefix/auth/jwt/login')
    expect((await h.mount(spc(object('f', 'kv/app', 'foo')))).files).toEqual(files)
    expect(h.asked).toHaveLength(2)
  })

  it.each([
    ['audience', { aud: 'other' }],
    ['subject', { sub: 'system:serviceaccount:shop:other' }],
    ['time', { exp: Math.floor(Date.now() / 1000) - 900, iat: 1, nbf: 1 }],
  ])('JWT auth refuses a token of another %s, in the server’s words', async (_what, claims) => {
    const h = harness({ tokens: { openbao: keys.token(claims) } })
    const failure = await h.failure(spc(object('f', 'kv/app', 'foo')))
    expect(failure.message).toMatch(
      /failed to login: POST \/v1\/auth\/jwt\/login: Code: 400\. Errors: \* error validating/,
    )
    expect(failure.grpcCode).toBe(FINAL_CODE.UNAUTHENTICATED)
  })

  it('an unknown role, a denied path and an unknown mount have kinds of their own', async () => {
    const h = harness()
    const codes = [
      (await h.failure(spc(object('f', 'kv/app', 'foo'), { roleName: 'nobody' }))).grpcCode,
      (await h.failure(spc(object('f', 'sys/mounts', 'foo')))).grpcCode,
      (await h.failure(spc(object('f', 'kv/app', 'foo'), { baoAuthMountPath: 'nowhere' }))).grpcCode,
    ]
    expect(codes).toEqual([
      FINAL_CODE.UNAUTHENTICATED,
      FINAL_CODE.PERMISSION_DENIED,
      FINAL_CODE.PERMISSION_DENIED,
    ])
  })

  it('Kubernetes auth sends the pod’s token to the reviewer and honours the bound namespace', async () => {
    await root.call('POST', 'sys/auth/kubernetes', { type: 'kubernetes' })
    await root.call('POST', 'auth/kubernetes/config', {
      kubernetes_host: reviewer.address,
      kubernetes_ca_cert: createAuthority().ca,
      disable_local_ca_jwt: true,
      token_reviewer_jwt: keys.token(),
    })
    const role = { bound_service_account_names: ['web'], token_policies: ['web'], token_ttl: '1h' }
    await root.call('POST', 'auth/kubernetes/role/web', {
      ...role,
      bound_service_account_namespaces: ['shop'],
    })
    await root.call('POST', 'auth/kubernetes/role/foreign', {
      ...role,
      bound_service_account_namespaces: ['other'],
    })
    const jwt = keys.token({
      aud: ['openbao'],
      'kubernetes.io': {
        namespace: 'shop',
        serviceaccount: { name: 'web', uid: 'sa-uid' },
        pod: { name: POD.name, uid: POD.uid },
      },
    })
    const h = harness({ tokens: { openbao: jwt } })
    const parameters = { roleName: 'web', baoAddress: bao.address, objects: object('f', 'kv/app', 'foo') }
    expect((await h.mount(parameters)).files).toEqual({ f: 'bar' })
    expect(reviewer.reviews).toMatchObject([{ spec: { token: jwt } }])
    const foreign = await h.failure({ ...parameters, roleName: 'foreign' })
    expect(foreign.grpcCode).toBe(FINAL_CODE.PERMISSION_DENIED)
    expect(foreign.message).toContain('namespace not authorized')
  })

  it('namespaces are entered by parameter, and by path', async () => {
    await root.call('POST', 'sys/namespaces/team')
    await root.call('POST', 'sys/mounts/kv', { type: 'kv', options: { version: '1' } }, 'team')
    await root.call('PUT', 'kv/app', { foo: 'of the team' }, 'team')
    await enableJwtAuth(root, keys.publicKey, {}, 'team')
    const h = harness()
    expect((await h.mount(spc(object('f', 'kv/app', 'foo'), { baoNamespace: 'team' }))).files).toEqual({
      f: 'of the team',
    })
    const byPath = spc(object('f', 'team/kv/app', 'foo'), { baoAuthMountPath: '' })
    expect((await h.failure(byPath)).grpcCode).not.toBe(FINAL_CODE.UNKNOWN)
  })

  it('a rate quota is told as throttled and passes', async () => {
    await root.call('POST', 'sys/quotas/rate-limit/slow', { path: 'kv', rate: 1, interval: '2s' })
    try {
      const h = harness()
      const objects = ['a', 'b', 'c'].map((name) => object(name, `kv/app?x=${name}`, 'foo')).join('')
      const outcome = await h.mount(spc(objects)).catch((error: unknown) => error)
      if (outcome instanceof Error) expect(outcome.message).toMatch(/Code: 429/)
      else expect(outcome).toMatchObject({ files: { a: 'bar', b: 'bar', c: 'bar' } })
      expect(h.figures.get('keyferry_backend_calls_total{vault,throttled}')).toBeGreaterThanOrEqual(1)
    } finally {
      await root.call('DELETE', 'sys/quotas/rate-limit/slow')
    }
  })

  it('a sealed server is unavailable, in its own words', async () => {
    const own = await startPeer('bao')
    try {
      const other = admin(own.address, PEER_PASSWORD)
      await enableJwtAuth(other, keys.publicKey)
      await other.call('PUT', 'sys/seal')
      const h = harness({ settings: { addresses: [own.address] } })
      const failure = await h.failure({ ...spc(object('f', 'kv/app', 'foo')), baoAddress: own.address })
      expect(failure.message).toMatch(/Code: 503.*sealed/)
      expect(failure.grpcCode).toBe(FINAL_CODE.FAILED_PRECONDITION)
    } finally {
      await own.stop()
    }
  })
})
