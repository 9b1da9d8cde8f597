/** HashiCorp Vault CE 1.21.0 itself, on demand (`npm run test:vault-ce`): what it does unlike OpenBao. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { FINAL_CODE } from '../../src/mount/errors.ts'
import { admin, enableJwtAuth, issuer, type Admin } from '../emulators/openbao-client.ts'
import { PEER_PASSWORD, startPeer, type Peer } from '../peers/start.ts'
import { describeWithPeers } from '../peers/suite.ts'
import {
  createHarness,
  POD,
  testPodWatch,
  type Harness,
  type HarnessOptions,
} from '../providers/vault/harness.ts'
import { object } from '../providers/vault/set-up.ts'

describeWithPeers('HashiCorp Vault CE', { programs: ['vault-ce'] }, () => {
  const keys = issuer()
  let vault: Peer
  let root: Admin
  const open: Harness[] = []

  beforeAll(async () => {
    vault = await startPeer('vault-ce')
    root = admin(vault.address, PEER_PASSWORD)
    await enableJwtAuth(root, keys.publicKey, { bound_audiences: ['vault'] })
    await root.call('POST', 'secret/data/app', { data: { password: 's3cr3t' } })
    await root.call('POST', 'sys/mounts/pki', { type: 'pki' })
    await root.call('POST', 'pki/root/generate/internal', { common_name: 'test root', ttl: '24h' })
    const role = { allow_any_name: true, max_ttl: '1h', key_type: 'ec', key_bits: 256, generate_lease: true }
    await root.call('POST', 'pki/roles/leased', role)
  })
  afterAll(async () => {
    for (const h of open) await h.close()
    await vault?.stop()
  })

  function harness(options: HarnessOptions = {}): Harness {
    const h = createHarness({
      realTime: true,
      tokens: { vault: keys.token({ aud: 'vault' }) },
      ...options,
      settings: { addresses: [vault.address] },
    })
    open.push(h)
    return h
  }
  const spc = (objects: string, more: Readonly<Record<string, string>> = {}): Record<string, string> => ({
    roleName: 'web',
    vaultAddress: vault.address,
    vaultAuthMountPath: 'jwt',
    objects,
    ...more,
  })

  it('5.2 a whole response ends with mount_type and stays the same over polls', async () => {
    const h = harness()
    const first = await h.mount(spc(object('f', 'secret/data/app')))
    expect(first.files['f']).toMatch(/"warnings":null,"mount_type":"kv"\}$/)
    expect(await h.mount(spc(object('f', 'secret/data/app')))).toEqual(first)
  })

  it('the namespace header is ignored by this edition: the root namespace answers', async () => {
    const parameters = spc(object('f', 'secret/data/app', 'password'), { vaultNamespace: 'nowhere' })
    expect((await harness().mount(parameters)).files).toEqual({ f: 's3cr3t' })
  })

  it('4 a deleted version says when, with its nanoseconds', async () => {
    await root.call('POST', 'secret/data/gone', { data: { k: '1' } })
    await root.call('DELETE', 'secret/data/gone')
    const failure = await harness().failure(spc(object('f', 'secret/data/gone', 'k')))
    expect(failure.message).toMatch(/version 1 was deleted at \d{4}-\d\d-\d\dT[\d:]+\.\d+Z/)
    expect(failure.grpcCode).toBe(FINAL_CODE.NOT_FOUND)
  })

  it('7 a revoked token is refused as invalid and costs one more login', async () => {
    const h = harness()
    await h.mount(spc(object('f', 'secret/data/app', 'password')))
    await root.call('PUT', 'sys/leases/revoke-prefix/auth/jwt/login')
    expect((await h.mount(spc(object('f', 'secret/data/app', 'password')))).files).toEqual({ f: 's3cr3t' })
    expect(h.asked).toHaveLength(2)
  })

  it('9 a leased certificate is issued once in 20 polls and revoked with its pod', async () => {
    const watch = testPodWatch()
    const h = harness({ watch })
    const args = ['method: PUT', 'secretArgs: {common_name: web.shop.svc}']
    const objects = object('serial', 'pki/issue/leased', 'serial_number', args)
    const first = await h.mount(spc(objects))
    for (let poll = 0; poll < 20; poll += 1) expect(await h.mount(spc(objects))).toEqual(first)
    watch.gone(POD.uid)
    await h.backend.keeper.idle()
    const { data } = (await root.call('GET', `pki/cert/${first.files['serial']}`)) as {
      data: { revocation_time: number }
    }
    expect(data.revocation_time).toBeGreaterThan(0)
  })
})
