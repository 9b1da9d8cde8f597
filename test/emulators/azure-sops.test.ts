/** Stock sops with azure_kv keys, against the fake Key Vault; and our reader of what it wrote. */
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { azureKeyService } from '../../src/providers/azure/key-service.ts'
import { DEFAULT_LIMITS } from '../../src/providers/sops/limits.ts'
import { closeDocument, openDocument } from '../../src/providers/sops/open.ts'
import { peerProgram } from '../peers/start.ts'
import { describeWithPeers } from '../peers/suite.ts'
import { startHarness, VAULT_HOST, type Harness } from '../providers/azure/harness.ts'

const run = promisify(execFile)
const EXCHANGE = 'api://AzureADTokenExchange'

describeWithPeers('stock sops with azure_kv keys', { programs: ['sops'] }, () => {
  let harness: Harness
  beforeAll(async () => {
    harness = await startHarness()
    harness.fake.vault(VAULT_HOST).rsaKey('sops')
    const { issuer } = harness.fake.cluster
    const federated = [{ issuer, subject: 'system:serviceaccount:ns1:web', audience: EXCHANGE }]
    harness.fake.entra.apps.set('web', { clientId: 'web', federated })
  })
  afterAll(() => harness.stop())

  /** The real vault name goes through the CONNECT proxy, the token comes from a fake managed identity. */
  async function sops(...args: readonly string[]): Promise<string> {
    const { fake } = harness
    const { stdout } = await run(peerProgram('sops'), ['--disable-version-check', ...args], {
      cwd: fake.directory,
      env: {
        PATH: process.env['PATH'],
        HOME: fake.directory,
        HTTPS_PROXY: fake.proxyUrl,
        SSL_CERT_FILE: fake.caFile,
        IDENTITY_ENDPOINT: `${fake.agentUrl}/msi/token`,
        IDENTITY_HEADER: 'msi-header',
      },
    })
    return stdout
  }

  test('sops A10 it encrypts and decrypts through the fake, and our key service opens what it wrote', async () => {
    const { fake } = harness
    writeFileSync(join(fake.directory, 'plain.yaml'), 'password: from stock sops\n')
    const key = `https://${VAULT_HOST}/keys/sops/v1`
    const encrypted = await sops('encrypt', '--azure-kv', key, 'plain.yaml')
    expect(encrypted).toContain('azure_kv:')
    expect(encrypted).not.toContain('from stock sops')
    writeFileSync(join(fake.directory, 'encrypted.yaml'), encrypted)
    expect(await sops('decrypt', 'encrypted.yaml')).toBe('password: from stock sops\n')
    expect(fake.vaultCalls()).toContain('POST /keys/sops/v1/decrypt')

    fake.calls.length = 0
    const service = azureKeyService(harness.context({ tenant: 't1', clientId: 'web' }))
    const host = harness.host('pod', { audiences: [EXCHANGE] })
    const bytes = readFileSync(join(fake.directory, 'encrypted.yaml'))
    const ring = { identities: [], services: { of: () => Promise.resolve(service), host } }
    const opened = await openDocument('yaml', bytes, ring, DEFAULT_LIMITS)
    expect(JSON.stringify([...opened.branches])).toContain('password')
    closeDocument(opened)
    expect(fake.vaultCalls()).toEqual(['POST /keys/sops/v1/decrypt'])
  })
})
