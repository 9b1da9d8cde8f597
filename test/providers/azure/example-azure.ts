/** Owns a fake Azure that holds what examples/azure mounts, and the configuration that leads there. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { FakeAzure } from './fake-azure.ts'

const CLIENT = '66666666-7777-8888-9999-000000000000'
const TENANT = '11111111-2222-3333-4444-555555555555'
export const AUDIENCE = 'api://AzureADTokenExchange'

export interface ExampleAzure {
  readonly fake: FakeAzure
  /** For `--config`. */
  readonly config: Readonly<Record<string, unknown>>
  /** A token of `shop/orders`. */
  readonly token: string
}

export async function exampleAzure(): Promise<ExampleAzure> {
  const fake = await new FakeAzure().start()
  fake.entra.tenants.set(TENANT, 't1')
  const { issuer } = fake.cluster
  fake.entra.apps.set(CLIENT, {
    clientId: CLIENT,
    secret: 'a-client-secret',
    federated: [{ issuer, subject: 'system:serviceaccount:shop:orders', audience: AUDIENCE }],
  })
  const vault = fake.vault('shop-prod.vault.azure.net')
  vault.secret('db-password', 'correct-horse')
  const pfx = readFileSync(join(import.meta.dirname, '../../vectors/pkcs12/aes256-sha256.pfx'))
  vault.certificateSecret('site-cert', pfx.toString('base64'), 'application/x-pkcs12')
  vault.rsaKey('signing')
  for (const index of [0, 1, 2, 3, 4]) vault.secret('api-token', `token ${index}`, { version: `v${index}` })
  vault.secret('database', '{"user":"orders","password":"correct-horse"}')
  fake.vault('shop-shared.vault.azure.net').secret('feature-flags', 'a,b')
  return {
    fake,
    config: {
      kubernetes: 'off',
      backends: { 'azure-key-vault': { caFile: fake.caFile, proxy: fake.proxyUrl } },
    },
    token: fake.cluster.token({ namespace: 'shop', serviceAccount: 'orders', audience: AUDIENCE }).token,
  }
}
