/** SOPS entries of the kind azure_kv: unwrapped with the mounting pod's identity, sent nowhere else. */
import { constants, publicEncrypt, randomBytes } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import {
  azureKeyService,
  type AzureKeyEntry,
  type AzureKeyService,
} from '../../../src/providers/azure/key-service.ts'
import { startHarness, VAULT_HOST, type Harness, type Pod } from './harness.ts'

const EXCHANGE = 'api://AzureADTokenExchange'
const dataKey = randomBytes(32)

let harness: Harness
let key: KeyObject
beforeAll(async () => {
  harness = await startHarness()
  key = harness.fake.vault(VAULT_HOST).rsaKey('sops')
  const { issuer } = harness.fake.cluster
  const federated = [{ issuer, subject: 'system:serviceaccount:ns1:web', audience: EXCHANGE }]
  harness.fake.entra.apps.set('web', { clientId: 'web', federated })
})
afterAll(() => harness.stop())
beforeEach(() => {
  harness.fake.calls.length = 0
})

function entry(more: Partial<AzureKeyEntry> = {}): AzureKeyEntry {
  const how = { key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }
  const enc = publicEncrypt(how, dataKey).toString('base64url')
  return { kind: 'azure_kv', vaultUrl: `https://${VAULT_HOST}`, name: 'sops', version: 'v1', enc, ...more }
}
const service = (settings: Readonly<Record<string, unknown>> = {}): AzureKeyService =>
  azureKeyService(harness.context({ tenant: 't1', clientId: 'web', ...settings }))
const pod: Pod = { audiences: [EXCHANGE] }

test('sops A10 the data key comes back, by the pod’s own identity', async () => {
  expect(await service().unwrap(entry(), harness.host('pod', pod), '3.13.3')).toEqual(dataKey)
  expect(harness.fake.entra.calls.at(-1)?.form['client_id']).toBe('web')
  expect(harness.fake.vaultCalls()).toEqual(['POST /keys/sops/v1/decrypt'])
})

test('sops A11.4 with the node’s identity where the operator says so', async () => {
  expect(await service().unwrap(entry(), harness.host('node'), '')).toEqual(dataKey)
  expect(harness.fake.calls[0]?.host).toBe('agent')
})

test('T2 a pod without token is not served by the node', async () => {
  await expect(service().unwrap(entry(), harness.host('pod'), '')).rejects.toMatchObject({
    kind: 'unauthenticated',
    code: 'AZURE_TOKENS_MISSING',
  })
  expect(harness.fake.calls).toEqual([])
})

test.each([
  'https://evil.example',
  'https://testkv.vault.azure.net.evil.example',
  'https://evil.example/.vault.azure.net',
  'http://testkv.vault.azure.net',
  'https://testkv.vault.azure.net:8443',
  'https://user:x@testkv.vault.azure.net',
  'https://a.b.vault.azure.net',
  'https://vault.azure.net',
  'https://169.254.169.254',
  '',
])('T11 the vault %s of a document is refused before anything is sent', async (vaultUrl) => {
  await expect(service().unwrap(entry({ vaultUrl }), harness.host('pod', pod), '')).rejects.toMatchObject({
    kind: 'config',
  })
  expect(harness.fake.calls).toEqual([])
})

test('T11 only vaults that the operator lists, where there is a list', async () => {
  await expect(service({ vaults: ['other'] }).unwrap(entry(), harness.host('pod', pod), '')).rejects.toThrow(
    'the document names the vault testkv, which is not allowed',
  )
  expect(await service({ vaults: ['TestKV'] }).unwrap(entry(), harness.host('pod', pod), '')).toEqual(dataKey)
})

test.each([
  { name: '../secrets/x' },
  { version: 'v1/decrypt?x=' },
  { version: '' },
  { enc: 'not base64url!' },
  { enc: '' },
])('T11 an entry that is no key of a vault is refused: %j', async (more) => {
  await expect(service().unwrap(entry(more), harness.host('pod', pod), '')).rejects.toMatchObject({
    code: 'AZURE_REQUEST',
  })
  expect(harness.fake.vaultCalls()).toEqual([])
})

test('a ciphertext of another key, and a vault that is down, are told apart', async () => {
  const wrong = randomBytes(256).toString('base64url')
  await expect(service().unwrap(entry({ enc: wrong }), harness.host('pod', pod), '')).rejects.toThrow(
    'HTTP 400 BadParameter',
  )
  harness.fake.faults.push(({ host }) => (host === VAULT_HOST ? { status: 503, body: '' } : undefined))
  await expect(service().unwrap(entry(), harness.host('pod', pod), '')).rejects.toMatchObject({
    kind: 'unavailable',
  })
  harness.fake.faults.length = 0
})
