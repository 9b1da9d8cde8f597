/** Owns the Vault side of the vendor scenario: KV version 2 over the project's fake, which checks every token. */
import { secretV2, startFakeVault } from '../test/providers/vault/fake-vault.ts'
import { delay } from './support/server.ts'
import { mountRequest } from './support/sops.ts'
import { vendorScenario, type SeenCall, type Vendor } from './vendor.ts'

export const vaultVendor: Vendor = {
  dialect: 'vault',
  name: 'Vault 1.7.4',
  own: {
    roundTrips: '22',
    firstMount: '460 ms',
    calls: '4400',
    allAnswered: '38 s',
    rate: '5 (249 without its limiter)',
    processor: '1.8',
    memory: '52',
  },
  start: async (values) => {
    const fake = await startFakeVault()
    const seen: SeenCall[] = []
    let latencyMs = 0
    fake.gate = async ({ path }) => {
      seen.push({ isCredentials: path.startsWith('/v1/auth/'), at: performance.now() })
      if (latencyMs > 0) await delay(latencyMs)
    }
    for (const [name, bytes] of values)
      fake.on(`GET /v1/secret/data/${name}`, secretV2({ value: bytes.toString() }))
    return {
      config: { backends: { vault: { address: fake.address } } },
      request: ({ serviceAccount, pod, uid }, objects) => {
        const names = [...values.keys()].slice(0, objects)
        return mountRequest({
          serviceAccount,
          pod,
          uid,
          parameters: {
            roleName: 'bench',
            objects: names
              .map((name) => `- { objectName: ${name}, secretPath: secret/data/${name}, secretKey: value }\n`)
              .join(''),
          },
        })
      },
      latency: (ms) => {
        latencyMs = ms
      },
      calls: () => seen,
      forget: () => {
        seen.length = 0
        fake.calls.length = 0
      },
      stop: () => fake.close(),
    }
  },
}

export const vault = vendorScenario(vaultVendor)
