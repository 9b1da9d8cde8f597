/** The SOPS key service `gcp_kms` (sops A10, A11.3): against the fake, alone and through a mount. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { BackendError } from '../../../src/providers/adapter.ts'
import { gcpKmsKeyService } from '../../../src/providers/gcp/kms.ts'
import type { GcpKmsEntry, GcpKmsKeyService } from '../../../src/providers/gcp/kms.ts'
import { backendContext } from '../../support/backend-context.ts'
import { testHost, testHttp } from '../../support/test-host.ts'
import type { TestHostOptions } from '../../support/test-host.ts'
import { FakeGoogle } from './fake-google.ts'
import { POOL, WEB } from './harness.ts'

const KEY = 'projects/acme-prod/locations/global/keyRings/ring/cryptoKeys/docs'
const DATA_KEY = randomBytes(32)
const http = testHttp()
const directory = mkdtempSync(join(tmpdir(), 'kf-gcp-kms-'))
let google: FakeGoogle
let service: GcpKmsKeyService

beforeAll(async () => {
  google = await new FakeGoogle().start()
  google.identity.pools.add(POOL)
  google.cluster.accounts.set('shop/web', {})
  google.kms.addKey(KEY, WEB)
  const caFile = join(directory, 'ca.pem')
  writeFileSync(caFile, google.listeners.ca)
  service = gcpKmsKeyService(
    backendContext({
      settings: { proxy: google.listeners.proxy, caFile },
      http,
      env: { GCE_METADATA_HOST: google.listeners.plainHost },
    }),
  )
})
afterAll(async () => {
  http.close()
  await google.stop()
  rmSync(directory, { recursive: true })
})
beforeEach(() => {
  google.calls.length = 0
  google.clearFaults()
})

function host(more: Partial<TestHostOptions> = {}) {
  const pod = { namespace: 'shop', serviceAccount: 'web', podName: 'web-0', podUid: 'u1' }
  const token = google.cluster.token(pod, [POOL])
  const expirationTimestamp = new Date(Date.now() + 3_600_000).toISOString()
  return testHost({ http, tokens: { [POOL]: { token, expirationTimestamp } }, ...more })
}

const entry = (more: Partial<GcpKmsEntry> = {}): GcpKmsEntry => ({
  kind: 'gcp_kms',
  resourceId: KEY,
  enc: google.kms.encrypt(KEY, DATA_KEY),
  ...more,
})

async function refusal(promise: Promise<unknown>): Promise<BackendError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof BackendError) return error
  throw new Error('it was not refused')
}

describe('sops A10 gcp_kms', () => {
  it('the pod’s own identity unwraps the data key, with one exchange for many documents', async () => {
    const one = host()
    for (let i = 0; i < 3; i += 1) expect(await service.unwrap(entry(), one)).toEqual(DATA_KEY)
    expect(google.callsOf('exchange')).toHaveLength(1)
    expect(google.callsOf('kms').map((call) => [call.host, call.path])).toEqual(
      Array.from({ length: 3 }, () => ['cloudkms.googleapis.com', `/v1/${KEY}:decrypt`]),
    )
  })

  it('a token that is no longer accepted is renewed once', async () => {
    const one = host()
    await service.unwrap(entry(), one)
    google.identity.revokeAll()
    expect(await service.unwrap(entry(), one)).toEqual(DATA_KEY)
    expect(google.callsOf('exchange')).toHaveLength(2)
  })

  it('another key’s ciphertext and another pod are refused, the latter with the role to grant', async () => {
    google.kms.addKey(`${KEY}2`)
    expect((await refusal(service.unwrap(entry({ resourceId: `${KEY}2` }), host()))).remedy).toBe(
      `Grant roles/cloudkms.cryptoKeyDecrypter on the key to ${WEB}.`,
    )
    const foreign = entry({ enc: Buffer.alloc(60).toString('base64') })
    expect((await refusal(service.unwrap(foreign, host()))).message).toContain('Decryption failed')
  })

  it.each([
    { resourceId: '' },
    { resourceId: `${KEY}/cryptoKeyVersions/1` },
    { resourceId: 'projects/p/locations/l/keyRings/r/cryptoKeys/..' },
    { resourceId: 'projects/p/locations/l#/keyRings/r/cryptoKeys/k' },
    { resourceId: `x/${KEY}` },
    { resourceId: `//evil.example/${KEY}` },
    { enc: '' },
    { enc: '<script>' },
    { enc: 'A'.repeat(20_000) },
  ])('T11 the hostile entry %j is refused before anything is sent', async (more) => {
    expect((await refusal(service.unwrap(entry(more), host()))).code).toBe('GCP_KMS_ENTRY')
    expect(google.calls).toEqual([])
  })

  it.each([
    [{ status: 503 }, 'unavailable'],
    [{ status: 429 }, 'throttled'],
    [{ change: () => ({}) }, 'malformed'],
    [{ change: () => ({ plaintext: '%' }) }, 'malformed'],
    [{ change: (body: object) => ({ ...body, plaintextCrc32c: '1' }) }, 'malformed'],
  ])('of the answer %j the kind is %s', async (fault, kind) => {
    google.fault('kms', fault, Infinity)
    expect((await refusal(service.unwrap(entry(), host()))).kind).toBe(kind)
  })

  it('sops A11.4 the provider’s identity is used only when the host says node', async () => {
    google.identity.grant(KEY, google.metadata.node)
    const metadata = () => google.callsOf('metadata').filter(({ path }) => path.includes('/token')).length
    await service.unwrap(entry(), host())
    expect(metadata()).toBe(0)
    expect(await service.unwrap(entry(), host({ identity: 'node' }))).toEqual(DATA_KEY)
    expect([metadata(), google.callsOf('exchange').length]).toEqual([1, 1])
  })
})
