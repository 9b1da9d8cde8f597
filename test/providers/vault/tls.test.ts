/** Certificates, sockets and the files an SPC may name (vault sections 2.2 and 8; T12, T13). */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { FINAL_CODE } from '../../../src/mount/errors.ts'
import { createAuthority } from '../../net/certificates.ts'
import { secret, type FakeVault } from './fake-vault.ts'
import type { Harness, HarnessOptions } from './harness.ts'
import { fakeVault, harness, object } from './set-up.ts'

const authority = createAuthority()
const server = authority.issue(['127.0.0.1', 'vault.internal'])
const client = authority.issue(['client'])
const scratch = mkdtempSync(join(tmpdir(), 'vault-tls-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const OBJECTS = object('f', 'kv/app', 'k')
let folder: string
let count = 0
beforeEach(() => {
  folder = join(scratch, String((count += 1)))
  mkdirSync(folder)
})

function file(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

async function tlsVault(options: { requestCert?: boolean } = {}): Promise<FakeVault> {
  const vault = await fakeVault({ tls: { cert: server.cert, key: server.key, ca: authority.ca, ...options } })
  vault.on('GET /v1/kv/app', secret({ k: 'v' }))
  return vault
}

function withRoots(
  vault: FakeVault,
  more: Readonly<Record<string, unknown>> = {},
  options: HarnessOptions = {},
): Harness {
  return harness({ ...options, settings: { addresses: [vault.address], tlsDirectories: [folder], ...more } })
}

describe('trust', () => {
  it('2.2 vaultCACertPath is the trust for this server; without it the certificate is refused', async () => {
    const vault = await tlsVault()
    const h = withRoots(vault)
    const base = { roleName: 'web', vaultAddress: vault.address, objects: OBJECTS }
    expect((await h.mount({ ...base, vaultCACertPath: file('ca.pem', authority.ca) })).files).toEqual({
      f: 'v',
    })
    const failure = await h.failure(base)
    expect(failure.message).toContain('VAULT_TLS')
    expect(failure.grpcCode).toBe(FINAL_CODE.INVALID_ARGUMENT)
  })

  it('2.2 openbao adds its CA to the system’s roots', async () => {
    const vault = await tlsVault()
    const h = withRoots(vault, {}, { provider: 'openbao' })
    const parameters = {
      roleName: 'web',
      baoAddress: vault.address,
      objects: OBJECTS,
      baoCACertPath: file('ca.pem', authority.ca),
    }
    expect((await h.mount(parameters)).files).toEqual({ f: 'v' })
  })

  it('2.2 a CA directory of a Kubernetes volume works: links are followed, ..data is not', async () => {
    const vault = await tlsVault()
    const volume = join(folder, 'volume')
    mkdirSync(join(volume, '..2026_01_01'), { recursive: true })
    writeFileSync(join(volume, '..2026_01_01', 'ca.crt'), authority.ca)
    writeFileSync(join(volume, '..2026_01_01', 'README'), 'no certificate')
    symlinkSync('..2026_01_01', join(volume, '..data'))
    symlinkSync('..data/ca.crt', join(volume, 'ca.crt'))
    symlinkSync('..data/README', join(volume, 'README'))
    symlinkSync('.', join(volume, 'loop'))
    const h = withRoots(vault)
    const parameters = {
      roleName: 'web',
      vaultAddress: vault.address,
      objects: OBJECTS,
      vaultCADirectory: volume,
    }
    expect((await h.mount(parameters)).files).toEqual({ f: 'v' })
    expect(h.logs.join()).toContain('without a certificate')
  })

  it('2.2 vaultTLSServerName is the name that is verified', async () => {
    const vault = await tlsVault()
    const h = withRoots(vault, { caFile: file('ca.pem', authority.ca) })
    const base = { roleName: 'web', vaultAddress: vault.address, objects: OBJECTS }
    expect((await h.mount({ ...base, vaultTLSServerName: 'vault.internal' })).files).toEqual({ f: 'v' })
    expect((await h.failure({ ...base, vaultTLSServerName: 'other.internal' })).message).toContain(
      'VAULT_TLS',
    )
  })

  it('T13 vaultSkipTLSVerify counts only for addresses that the operator allows', async () => {
    const vault = await tlsVault()
    const parameters = {
      roleName: 'web',
      vaultAddress: vault.address,
      objects: OBJECTS,
      vaultSkipTLSVerify: 'true',
    }
    expect((await withRoots(vault).failure(parameters)).message).toContain(
      'vaultSkipTLSVerify is not allowed',
    )
    expect(vault.calls).toEqual([])
    const allowed = withRoots(vault, { skipVerifyAddresses: [vault.address] })
    expect((await allowed.mount(parameters)).files).toEqual({ f: 'v' })
  })
})

describe('client certificates', () => {
  it('vault-42 one half is an error about both; both mount; replaced files are used by the next mount', async () => {
    const vault = await tlsVault({ requestCert: true })
    const h = withRoots(vault, { caFile: file('ca.pem', authority.ca) })
    const cert = file('client.pem', client.cert)
    const key = file('client.key', client.key)
    const base = { roleName: 'web', vaultAddress: vault.address, objects: OBJECTS }
    const half = await h.failure({ ...base, vaultTLSClientCertPath: cert })
    expect(half.message).toContain('both client cert and client key must be provided')
    const none = await h.failure(base)
    expect(none.grpcCode).not.toBe(FINAL_CODE.UNKNOWN)
    const both = { ...base, vaultTLSClientCertPath: cert, vaultTLSClientKeyPath: key }
    expect((await h.mount(both)).files).toEqual({ f: 'v' })
    const stranger = createAuthority().issue(['client'])
    writeFileSync(cert, stranger.cert)
    writeFileSync(key, stranger.key)
    await h.clock.advance(11_000)
    expect((await h.failure(both)).message).toMatch(/VAULT_(?:TLS|UNREACHABLE)/)
    const next = authority.issue(['client'])
    writeFileSync(cert, next.cert)
    writeFileSync(key, next.key)
    await h.clock.advance(11_000)
    expect((await h.mount(both)).files).toEqual({ f: 'v' })
  })
})

describe('files an SPC may name', () => {
  const secrets = 'SECRET-CONTENT-OF-A-FILE'
  it.each([
    ['a file elsewhere', () => '/proc/self/environ'],
    ['a directory', () => folder],
    ['a file that is missing', () => join(folder, 'missing.pem')],
    ['a file that is no PEM', () => file('x.pem', secrets)],
    [
      'a link that leads out',
      () => {
        symlinkSync('/etc/hostname', join(folder, 'link.pem'))
        return join(folder, 'link.pem')
      },
    ],
    ['a path with ..', () => `${folder}/../../../etc/hostname`],
    ['a huge file', () => file('huge.pem', `-----BEGIN CERTIFICATE-----${'x'.repeat(1 << 20)}`)],
  ])('T12 %s is refused without its content', async (_name, path) => {
    const vault = await tlsVault()
    const failure = await withRoots(vault).failure({
      roleName: 'web',
      vaultAddress: vault.address,
      objects: OBJECTS,
      vaultCACertPath: path(),
    })
    expect(failure.grpcCode).toBe(FINAL_CODE.INVALID_ARGUMENT)
    expect(failure.message).toContain('cannot be used')
    expect(failure.message).not.toContain(secrets)
    expect(vault.calls).toEqual([])
  })

  it('T12 missing and unreadable files outside the operator’s directories look alike', async () => {
    const vault = await tlsVault()
    const hidden = join(scratch, 'hidden.pem')
    writeFileSync(hidden, authority.ca)
    chmodSync(hidden, 0)
    const h = withRoots(vault)
    const text = async (vaultCACertPath: string): Promise<string> => {
      const failure = await h.failure({
        roleName: 'web',
        vaultAddress: vault.address,
        objects: OBJECTS,
        vaultCACertPath,
      })
      return failure.message.replaceAll(vaultCACertPath, 'PATH')
    }
    expect(await text(hidden)).toBe(await text(join(scratch, 'missing.pem')))
  })
})

describe('an Agent behind a unix socket', () => {
  it('vault-39 is called in plain HTTP with the same path and headers', async () => {
    const socketPath = join(folder, 'a.sock')
    const vault = await fakeVault({ socketPath })
    vault.on('GET /v1/kv/app', secret({ k: 'v' }))
    const h = harness({ settings: { addresses: [`unix://${socketPath}`] } })
    const parameters = { roleName: 'web', vaultAddress: `unix://${socketPath}`, objects: OBJECTS }
    expect((await h.mount(parameters)).files).toEqual({ f: 'v' })
    expect(vault.calls.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'POST /v1/auth/kubernetes/login',
      'GET /v1/kv/app',
    ])
    expect(vault.calls[1]?.headers).toMatchObject({
      'x-vault-request': 'true',
      'x-vault-token': 's.token-1',
      host: 'localhost',
    })
  })

  it('8 is left to renew: we only ask it again at two thirds', async () => {
    const socketPath = join(folder, 'a.sock')
    const vault = await fakeVault({ socketPath })
    const reply = {
      request_id: 'r',
      lease_id: 'l',
      lease_duration: 3600,
      renewable: true,
      data: { username: 'u' },
    }
    vault.on('GET /v1/database/creds/r', () => ({ json: reply }))
    const h = harness({ settings: { address: `unix://${socketPath}` } })
    const parameters = { roleName: 'web', objects: object('u', 'database/creds/r', 'username') }
    for (let poll = 0; poll < 40; poll += 1) {
      await h.mount(parameters)
      await h.clock.advance(75_000)
    }
    expect(vault.callsTo('PUT /v1/sys/leases/renew')).toEqual([])
    expect(vault.callsTo('GET ')).toHaveLength(2)
  })
})
