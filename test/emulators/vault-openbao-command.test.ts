/** `keyferry mount -f examples/vault/…` against a real OpenBao: the examples of the documentation, as a user runs them. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { missing, PEER_PASSWORD, peerProgram, startPeer, type Peer } from '../peers/start.ts'
import { describeWithPeers } from '../peers/suite.ts'
import { admin, enableJwtAuth, issuer } from './openbao-client.ts'

const ROOT = join(import.meta.dirname, '../..')

describeWithPeers('keyferry mount with OpenBao', { programs: ['bao'] }, () => {
  const keys = issuer()
  const scratch = mkdtempSync(join(tmpdir(), 'keyferry-vault-'))
  let bao: Peer

  beforeAll(async () => {
    bao = await startPeer('bao')
    const root = admin(bao.address, PEER_PASSWORD)
    await enableJwtAuth(root, keys.publicKey, { bound_audiences: ['vault', 'openbao'] })
    await root.call('POST', 'secret/data/shop/db', { data: { password: 's3cr3t' } })
    await root.call('POST', 'secret/data/app', { data: { password: 's3cr3t' } })
    await root.call('POST', 'sys/mounts/transit', { type: 'transit' })
    await root.call('POST', 'transit/keys/sops')
    await root.call('POST', 'sys/mounts/pki', { type: 'pki' })
    await root.call('POST', 'pki/root/generate/internal', { common_name: 'test root', ttl: '48h' })
    await root.call('POST', 'pki/roles/web', {
      allow_any_name: true,
      max_ttl: '24h',
      key_type: 'ec',
      key_bits: 256,
    })
    await root.call('POST', 'sys/namespaces/team')
    await root.call('POST', 'sys/mounts/secret', { type: 'kv', options: { version: '2' } }, 'team')
    await root.call('POST', 'secret/data/shop/api', { data: { key: 'of the team' } }, 'team')
    await enableJwtAuth(root, keys.publicKey, {}, 'team')
    writeFileSync(join(scratch, 'version-key'), 'k'.repeat(32), { mode: 0o400 })
    writeFileSync(
      join(scratch, 'node.yaml'),
      JSON.stringify({
        backends: {
          vault: { addresses: [bao.address] },
          'vault-transit': { servers: [{ address: bao.address, role: 'web', authMount: 'jwt' }] },
        },
        node: { versionKeyFile: join(scratch, 'version-key') },
      }),
    )
    for (const audience of ['vault', 'openbao'])
      writeFileSync(join(scratch, audience), keys.token({ aud: audience }))
  })
  afterAll(async () => {
    await bao?.stop()
    rmSync(scratch, { recursive: true, force: true })
  })

  async function mount(
    file: string,
    attributes: readonly string[],
  ): Promise<{ target: string; output: string }> {
    const target = mkdtempSync(join(scratch, 'target-'))
    const options = {
      '-f': resolve(ROOT, 'examples/vault', file),
      '--target': target,
      '--config': join(scratch, 'node.yaml'),
      '--service-account': 'web',
    }
    const tokens = ['vault', 'openbao'].map((audience) => `${audience}=${join(scratch, audience)}`)
    const args = [
      join(ROOT, 'src/cli.ts'),
      'mount',
      '--json',
      ...Object.entries(options).flat(),
      ...tokens.flatMap((token) => ['--token', token]),
      ...attributes.flatMap((attribute) => ['--volume-attribute', attribute]),
    ]
    const { stdout } = await promisify(execFile)(process.execPath, args)
    return { target, output: stdout }
  }

  it('kv.yaml', async () => {
    const { target, output } = await mount('kv.yaml', [
      `vaultAddress=${bao.address}`,
      'vaultAuthMountPath=jwt',
    ])
    expect(readFileSync(join(target, 'db-password'), 'utf8')).toBe('s3cr3t')
    expect(statSync(join(target, 'db-password')).mode & 0o777).toBe(0o400)
    expect(JSON.parse(readFileSync(join(target, 'db.json'), 'utf8'))).toMatchObject({
      data: { data: { password: 's3cr3t' } },
    })
    expect(output).not.toContain('s3cr3t')
  })

  it('certificate.yaml', async () => {
    const { target } = await mount('certificate.yaml', [
      `vaultAddress=${bao.address}`,
      'vaultAuthMountPath=jwt',
    ])
    expect(readFileSync(join(target, 'tls.crt'), 'utf8')).toContain('BEGIN CERTIFICATE')
    expect(readFileSync(join(target, 'tls.key'), 'utf8')).toContain('PRIVATE KEY')
  })

  it('openbao.yaml', async () => {
    const { target } = await mount('openbao.yaml', [`baoAddress=${bao.address}`])
    expect(readFileSync(join(target, 'api-key'), 'utf8')).toBe('of the team')
  })

  it('vault-33 the first vector holds end to end with the key of node.versionKeyFile', async () => {
    const spc = join(scratch, 'vector.yaml')
    const objects =
      '- {objectName: db-pass, secretPath: secret/data/app, secretKey: password, filePermission: 0600}'
    writeFileSync(
      spc,
      JSON.stringify({
        apiVersion: 'secrets-store.csi.x-k8s.io/v1',
        kind: 'SecretProviderClass',
        metadata: { name: 'vector', namespace: 'shop' },
        spec: { provider: 'vault', parameters: { roleName: 'web', objects } },
      }),
    )
    const { output } = await mount(spc, [`vaultAddress=${bao.address}`, 'vaultAuthMountPath=jwt'])
    expect(JSON.parse(output)).toMatchObject({
      mounts: [{ versions: [{ id: 'db-pass', version: 'pcy3kGI8lId0I5s4WGV8HsO3zknjsJMQqSREclREkBI=' }] }],
    })
  })

  it.skipIf(missing(['sops']) !== undefined)(
    'sops A10 a document of stock sops opens through transit (needs sops)',
    async () => {
      const document = join(scratch, 'document.yaml')
      writeFileSync(document, 'csi_bind: shop/web\npassword: through transit\n')
      const env = { ...process.env, VAULT_ADDR: bao.address, VAULT_TOKEN: PEER_PASSWORD, HOME: scratch }
      const key = `${bao.address}/v1/transit/keys/sops`
      const { stdout } = await promisify(execFile)(
        peerProgram('sops'),
        ['encrypt', '--hc-vault-transit', key, document],
        { env },
      )
      const spc = join(scratch, 'sops.yaml')
      writeFileSync(
        spc,
        JSON.stringify({
          apiVersion: 'secrets-store.csi.x-k8s.io/v1',
          kind: 'SecretProviderClass',
          metadata: { name: 'sops', namespace: 'shop' },
          spec: {
            provider: 'sops',
            parameters: { sopsFormat: 'yaml', sopsDocument: stdout, keyIdentity: 'pod' },
          },
        }),
      )
      const { target } = await mount(spc, [])
      expect(readFileSync(join(target, 'password'), 'utf8')).toBe('through transit')
    },
  )
})
