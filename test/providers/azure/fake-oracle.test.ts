/** The fake is kept honest by Microsoft's own clients, which talk to it under a vault's real name with challenge verification on. */
import { createPublicKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Agent } from 'node:https'
import type { LookupFunction } from 'node:net'
import { join } from 'node:path'
import { CertificateClient } from '@azure/keyvault-certificates'
import { KeyClient } from '@azure/keyvault-keys'
import { SecretClient, type SecretClientOptions } from '@azure/keyvault-secrets'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { BASE, objects, startHarness, VAULT_HOST, type Harness } from './harness.ts'

const folder = join(import.meta.dirname, '../../vectors/pkcs12')

let harness: Harness
let url: string
let agent: Agent
beforeAll(async () => {
  harness = await startHarness()
  const { port } = new URL(harness.fake.tlsUrl)
  url = `https://${VAULT_HOST}:${port}`
  const lookup: LookupFunction = (_, options, callback) =>
    options.all ? callback(null, [{ address: '127.0.0.1', family: 4 }]) : callback(null, '127.0.0.1', 4)
  agent = new Agent({ ca: harness.fake.ca, keepAlive: true, lookup })
})
afterAll(async () => {
  agent.destroy()
  await harness.stop()
})

const asked: { scopes: string | string[]; tenantId: string | undefined }[] = []
const credential = {
  getToken: (scopes: string | string[], options?: { tenantId?: string }) => {
    asked.push({ scopes, tenantId: options?.tenantId })
    const { token, expiresOn } = harness.fake.entra.issue('sdk', 't1', 'https://vault.azure.net')
    return Promise.resolve({ token, expiresOnTimestamp: expiresOn * 1000 })
  },
}
function options(): Omit<SecretClientOptions, 'serviceVersion'> {
  return {
    retryOptions: { maxRetries: 0 },
    additionalPolicies: [
      {
        position: 'perCall',
        policy: {
          name: 'loopback',
          sendRequest: (request, next) => {
            const sent = request
            sent.agent = agent
            return next(sent)
          },
        },
      },
    ],
  }
}

test('@azure/keyvault-secrets: challenge, value, kid, versions over pages, refusals', async () => {
  const client = new SecretClient(url, credential, options())
  await client.setSecret('made', 'by the SDK', { contentType: 'text/plain' })
  const { value, properties } = await client.getSecret('made')
  expect([value, properties.contentType, properties.version]).toEqual(['by the SDK', 'text/plain', 'made0'])
  expect(asked[0]).toEqual({ scopes: ['https://vault.azure.net/.default'], tenantId: 't1' })
  const vault = harness.fake.vault(VAULT_HOST)
  vault.certificateSecret('site', 'x', 'application/x-pkcs12')
  expect((await client.getSecret('site')).properties.certificateKeyId).toBe(
    `https://${VAULT_HOST}/keys/site/k1`,
  )
  for (let index = 0; index < 30; index += 1) vault.secret('many', String(index), { version: `v${index}` })
  const versions: (string | undefined)[] = []
  for await (const one of client.listPropertiesOfSecretVersions('many')) versions.push(one.version)
  expect(versions).toHaveLength(30)
  await expect(client.getSecret('absent')).rejects.toMatchObject({ statusCode: 404, code: 'SecretNotFound' })
  vault.access = new Map()
  await expect(client.getSecret('made')).rejects.toMatchObject({ statusCode: 403, code: 'Forbidden' })
  vault.access = undefined
})

test('@azure/keyvault-keys: an RSA key, its public part, and what our provider mounts of it', async () => {
  const own = harness.fake.vault(VAULT_HOST).rsaKey('rsa')
  const { key, keyType } = await new KeyClient(url, credential, options()).getKey('rsa')
  const { n = '' } = own.export({ format: 'jwk' })
  expect([keyType, Buffer.from(key?.n ?? []).toString('base64url')]).toEqual(['RSA', n])
  const { files } = await harness.mount({
    ...BASE,
    objects: objects({ objectName: 'rsa', objectType: 'key' }),
  })
  expect(createPublicKey(files[0]?.text ?? '').export({ format: 'jwk' })['n']).toBe(n)
})

test('@azure/keyvault-certificates: a certificate, and what our provider mounts of it', async () => {
  const der = Buffer.from(
    readFileSync(join(folder, 'rsa.crt.pem'), 'utf8').replaceAll(/-----[A-Z ]+-----|\s/g, ''),
    'base64',
  )
  harness.fake.vault(VAULT_HOST).put('certificates', 'site', { cer: der.toString('base64'), x5t: 'AA' })
  const { cer } = await new CertificateClient(url, credential, options()).getCertificate('site')
  expect(Buffer.from(cer ?? [])).toEqual(der)
  const { files } = await harness.mount({
    ...BASE,
    objects: objects({ objectName: 'site', objectType: 'cert' }),
  })
  expect(files[0]?.text).toBe(readFileSync(join(folder, 'rsa.crt.pem'), 'utf8'))
})
