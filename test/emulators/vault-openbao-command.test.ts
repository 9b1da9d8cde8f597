/** `keyferry mount -f examples/vault/…` against a real OpenBao: the examples of the documentation, as a user runs them. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { PEER_PASSWORD, startPeer, type Peer } from '../peers/start.ts'
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
    writeFileSync(join(scratch, 'node.yaml'), `backends: { vault: { addresses: ["${bao.address}"] } }\n`)
    for (const audience of ['vault', 'openbao'])
      writeFileSync(join(scratch, audience), keys.token({ aud: audience }))
  })
  afterAll(async () => {
    await bao?.stop()
    rmSync(scratch, { recursive: true, force: true })
  })

  async function mount(
    example: string,
    attributes: readonly string[],
  ): Promise<{ target: string; output: string }> {
    const target = mkdtempSync(join(scratch, 'target-'))
    const options = {
      '-f': join(ROOT, 'examples/vault', example),
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
})
