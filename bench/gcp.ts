/** Owns the Google side of the vendor scenario: Secret Manager over the project's fake, which verifies every token. */
import { FakeGoogle } from '../test/providers/gcp/fake-google.ts'
import { mountRequest } from './support/sops.ts'
import { vendorScenario, type Vendor } from './vendor.ts'

const POOL = 'acme-prod.svc.id.goog'
const CREDENTIALS: ReadonlySet<string> = new Set(['exchange', 'impersonate', 'metadata', 'oauth'])

const vendor: Vendor = {
  dialect: 'gcp',
  name: 'GCP 1.15.0',
  own: {
    roundTrips: '3',
    firstMount: '85 ms',
    calls: '4400',
    allAnswered: '38 s',
    rate: '5 (178)',
    processor: '2.5',
    memory: '49',
  },
  start: async (values, serviceAccounts) => {
    const fake = await new FakeGoogle().start()
    fake.identity.pools.add(POOL)
    const members = serviceAccounts.map((name) => `serviceAccount:${POOL}[bench/${name}]`)
    for (const [name, bytes] of values)
      fake.stores.addSecret(`projects/acme-prod/secrets/${name}`, bytes, ...members)
    const { plain } = fake.listeners
    const settings = {
      project: 'acme-prod',
      clusterName: 'c1',
      clusterLocation: 'europe-west3',
      impersonation: 'off',
      endpoint: plain,
      tokenExchangeEndpoint: `${plain}/v1/identitybindingtoken`,
    }
    return {
      config: { backends: { 'gcp-secret-manager': settings } },
      request: ({ serviceAccount, pod, uid }, objects) => {
        const token = fake.cluster.token({ namespace: 'bench', serviceAccount, podName: pod, podUid: uid }, [
          POOL,
        ])
        const expirationTimestamp = new Date(Date.now() + 3_600_000).toISOString()
        const names = [...values.keys()].slice(0, objects)
        return mountRequest({
          serviceAccount,
          pod,
          uid,
          tokens: JSON.stringify({ [POOL]: { token, expirationTimestamp } }),
          parameters: {
            secrets: names
              .map(
                (name) =>
                  `- { resourceName: projects/acme-prod/secrets/${name}/versions/latest, path: ${name} }\n`,
              )
              .join(''),
          },
        })
      },
      latency: (ms) => {
        fake.latencyMs = ms
      },
      calls: () => fake.calls.map(({ route, at }) => ({ isCredentials: CREDENTIALS.has(route), at })),
      forget: () => {
        fake.calls.length = 0
      },
      stop: () => fake.stop(),
    }
  },
}

export const gcp = vendorScenario(vendor)
