/** The SOPS key service `hc_vault` (sops A10, A11.3) against the scripted server. */
import { randomBytes } from 'node:crypto'
import { afterAll, describe, expect, it } from 'vitest'
import { createHttpClient } from '../../../src/net/client.ts'
import { BackendError, type Host } from '../../../src/providers/adapter.ts'
import { transitKeyService, type TransitEntry } from '../../../src/providers/vault/transit.ts'
import { silentLogger } from '../../../src/telemetry/log.ts'
import { SecretBytes } from '../../../src/telemetry/secret-bytes.ts'
import { errors, secret, type FakeVault } from './fake-vault.ts'
import { POD } from './harness.ts'
import { fakeVault } from './set-up.ts'
import { backendContext } from '../../support/backend-context.ts'

const http = createHttpClient({ rules: { refused: [] } })
afterAll(() => http.close())
const DATA_KEY = randomBytes(32)

/** A host with one session slot, as the real one keeps it per identity. */
function testHost(more: Partial<Host> = {}): Host {
  const sessions = new Map<string, unknown>()
  return {
    pod: POD,
    identity: 'pod',
    signal: AbortSignal.timeout(10_000),
    log: silentLogger,
    http,
    now: () => new Date(),
    audiences: new Set(['vault']),
    token: () =>
      Promise.resolve({ token: SecretBytes.copyOf('jwt'), expiresAt: new Date(Date.now() + 3_600_000) }),
    nodePublishSecret: () => undefined,
    serviceAccountAnnotation: () => Promise.resolve(undefined),
    nodeLabel: () => Promise.resolve(undefined),
    async session<S>(key: readonly string[], open: () => Promise<{ session: S }>): Promise<S> {
      const name = key.join()
      if (!sessions.has(name)) sessions.set(name, (await open()).session)
      return sessions.get(name) as S
    },
    dropSession: (key) => void sessions.delete(key.join()),
    ...more,
  }
}

const service = (vault: FakeVault, more: Record<string, unknown> = {}) =>
  transitKeyService(
    backendContext({
      settings: { servers: [{ address: vault.address, role: 'sops' }], ...more },
      http,
    }),
  )

const entry = (vault: FakeVault, more: Partial<TransitEntry> = {}): TransitEntry => ({
  kind: 'hc_vault',
  vaultAddress: vault.address,
  enginePath: 'sops',
  keyName: 'payments',
  enc: 'vault:v1:AAAA',
  ...more,
})

const refusal = (promise: Promise<unknown>): Promise<BackendError> =>
  promise.then(
    () => expect.unreachable('it succeeded'),
    (error: unknown) => {
      expect(error).toBeInstanceOf(BackendError)
      return error as BackendError
    },
  )

async function transit(): Promise<FakeVault> {
  const vault = await fakeVault()
  vault.on('PUT /v1/sops/decrypt/payments', secret({ plaintext: DATA_KEY.toString('base64') }))
  return vault
}

describe('sops A10 hc_vault', () => {
  it('the transit engine unwraps the data key with the pod’s login, once for many documents', async () => {
    const vault = await transit()
    const keys = service(vault)
    const host = testHost()
    expect(await keys.unwrap(entry(vault), host)).toEqual(DATA_KEY)
    expect(await keys.unwrap(entry(vault, { vaultAddress: `${vault.address}/` }), host)).toEqual(DATA_KEY)
    expect(vault.callsTo('POST ').map(({ body }) => body)).toEqual(['{"jwt":"jwt","role":"sops"}'])
    expect(vault.callsTo('PUT ')[0]?.body).toBe('{"ciphertext":"vault:v1:AAAA"}')
  })

  it('a revoked token costs one more login', async () => {
    const vault = await transit()
    const keys = service(vault)
    const host = testHost()
    await keys.unwrap(entry(vault), host)
    vault.tokens.clear()
    expect(await keys.unwrap(entry(vault), host)).toEqual(DATA_KEY)
    expect(vault.callsTo('POST ')).toHaveLength(2)
  })

  it('T11 an address that the operator has not listed gets nothing', async () => {
    const [vault, other] = [await transit(), await transit()]
    for (const vaultAddress of [
      other.address,
      `${vault.address}/prefix`,
      'unix:///tmp/x',
      '',
      'https://vault',
    ]) {
      const error = await refusal(service(vault).unwrap(entry(vault, { vaultAddress }), testHost()))
      expect(error.code).toBe('VAULT_TRANSIT_ADDRESS')
    }
    expect([vault.calls, other.calls]).toEqual([[], []])
  })

  it.each([
    { enginePath: '../sys' },
    { enginePath: 'a?b' },
    { enginePath: '' },
    { keyName: '../../sys/seal' },
    { keyName: 'a/b' },
    { keyName: '..' },
    { enc: 'AAAA' },
    { enc: 'vault:v1:<script>' },
    { enc: `vault:v1:${'A'.repeat(5000)}` },
  ])('T11 a hostile entry %j is refused before anything is sent', async (more) => {
    const vault = await transit()
    const error = await refusal(service(vault).unwrap(entry(vault, more), testHost()))
    expect(error.code).toBe('VAULT_TRANSIT_ENTRY')
    expect(vault.calls).toEqual([])
  })

  it('failures keep their kind, and an answer without plaintext is malformed', async () => {
    const vault = await transit()
    vault.on('PUT /v1/sops/decrypt/payments', () => errors(403, 'permission denied'))
    expect((await refusal(service(vault).unwrap(entry(vault), testHost()))).kind).toBe('denied')
    vault.on('PUT /v1/sops/decrypt/payments', () => errors(503, 'Vault is sealed'))
    expect((await refusal(service(vault).unwrap(entry(vault), testHost()))).kind).toBe('unavailable')
    vault.on('PUT /v1/sops/decrypt/payments', secret({ plaintext: 12 }))
    expect((await refusal(service(vault).unwrap(entry(vault), testHost()))).kind).toBe('malformed')
  })

  it('the node’s token is used with the node’s identity only', async () => {
    const vault = await transit()
    const error = await refusal(service(vault).unwrap(entry(vault), testHost({ identity: 'node' })))
    expect(error.code).toBe('VAULT_NO_NODE_TOKEN')
    expect(vault.calls).toEqual([])
  })
})
