/** Owns the Azure side of the vendor scenario: Key Vault and Entra ID over the project's fake, which verifies every assertion. */
import { FakeAzure } from '../test/providers/azure/fake-azure.ts'
import { mountRequest } from './support/sops.ts'
import { vendorScenario, type Vendor } from './vendor.ts'

const AUDIENCE = 'api://AzureADTokenExchange'
const VAULT = 'bench-kv'
const CLIENT = 'bench'

const vendor: Vendor = {
  dialect: 'azure',
  name: 'Azure 1.8.2',
  own: {
    roundTrips: '24',
    firstMount: '515 ms',
    calls: '4800',
    allAnswered: '4.7 s',
    rate: '216',
    processor: '2.4',
    memory: '29',
  },
  start: async (values, serviceAccounts) => {
    const fake = await new FakeAzure().start()
    const { issuer } = fake.cluster
    fake.entra.apps.set(CLIENT, {
      clientId: CLIENT,
      federated: serviceAccounts.map((name) => ({
        issuer,
        subject: `system:serviceaccount:bench:${name}`,
        audience: AUDIENCE,
      })),
    })
    const vault = fake.vault(`${VAULT}.vault.azure.net`)
    for (const [name, bytes] of values) vault.secret(name, bytes.toString())
    return {
      config: { backends: { 'azure-key-vault': { caFile: fake.caFile, proxy: fake.proxyUrl } } },
      request: ({ serviceAccount, pod, uid }, objects) => {
        const token = fake.cluster.token({ namespace: 'bench', serviceAccount, audience: AUDIENCE })
        const names = [...values.keys()].slice(0, objects)
        return mountRequest({
          serviceAccount,
          pod,
          uid,
          tokens: JSON.stringify({ [AUDIENCE]: token }),
          parameters: {
            keyvaultName: VAULT,
            tenantID: 't1',
            clientID: CLIENT,
            objects: `array:\n${names.map((name) => `  - |\n    objectName: ${name}\n    objectType: secret\n`).join('')}`,
          },
        })
      },
      latency: (ms) => {
        fake.delayMs = ms
      },
      calls: () => fake.calls.map(({ path, at }) => ({ isCredentials: path.endsWith('/token'), at })),
      forget: () => {
        fake.calls.length = 0
        fake.entra.calls.length = 0
        fake.connects.length = 0
      },
      stop: () => fake.stop(),
    }
  },
}

export const azure = vendorScenario(vendor)
