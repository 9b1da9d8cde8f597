/** Owns: 200 pods of one service account at once, 20 objects each out of two stores of `provider: keyferry`. */
import type { WireMountRequest } from '../src/rpc/contract.ts'
import { awsVendor } from './aws.ts'
import { row, type Scenario } from './scenario.ts'
import { mountCall, mountOnce, startGenerator } from './support/load.ts'
import { startBenchServer } from './support/server.ts'
import { checkFiles, mountRequest } from './support/sops.ts'
import { vaultVendor } from './vault.ts'
import type { VendorFake } from './vendor.ts'

const LATENCY_MS = 20
const PODS = 200
const OF_EACH = 10

export const keyferry: Scenario = {
  name: 'keyferry',
  title: `One volume from two stores: ${PODS} pods of one service account × ${2 * OF_EACH} objects at once`,
  run: async ({ directory, progress }) => {
    const values = new Map(
      Array.from({ length: OF_EACH }, (_, index) => [
        `object-${index}`,
        Buffer.alloc(1024, `${index}-value.`),
      ]),
    )
    const fakes = {
      aws: await awsVendor.start(values, ['web', 'warm']),
      vault: await vaultVendor.start(values, ['web', 'warm']),
    }
    const server = await startBenchServer({
      directory,
      config: JSON.stringify({
        kubernetes: 'off',
        backends: { ...backendsOf(fakes.aws), ...backendsOf(fakes.vault) },
        stores: {
          central: {
            backend: 'aws-secrets-manager',
            settings: { region: 'eu-central-1' },
            allow: [{ namespaces: ['bench'] }],
          },
          team: { backend: 'vault', settings: { role: 'bench' }, allow: [{ namespaces: ['bench'] }] },
        },
      }),
      dialects: ['keyferry'],
    })
    const generator = startGenerator()
    try {
      const request = (serviceAccount: string, index: number): WireMountRequest =>
        requestOf(fakes, serviceAccount, index, [...values.keys()])
      const socket = server.socket('keyferry')
      const right = await mountOnce(socket, request('warm', 0))
      checkFiles(
        right,
        new Map(
          [...values].flatMap(([name, bytes]) => [
            [`aws/${name}`, bytes],
            [`vault/${name}`, bytes],
          ]),
        ),
      )
      const calls = Array.from({ length: PODS }, (_, index) => mountCall(request('web', index), right))
      for (const fake of Object.values(fakes)) {
        fake.latency(LATENCY_MS)
        fake.forget()
      }
      progress(`keyferry: ${PODS} pods at once`)
      const { seconds } = await generator.run({ socket, calls, inFlight: PODS, total: PODS })
      const seen = Object.values(fakes).flatMap((fake) => fake.calls())
      const credentials = seen.filter((call) => call.isCredentials).length
      return [
        row({
          what: `${PODS} pods × ${2 * OF_EACH} objects of two stores: calls for objects`,
          value: seen.length - credentials,
          unit: '',
          target: { atMost: 2 * OF_EACH },
        }),
        row({
          what: '  calls for credentials, one for each store',
          value: credentials,
          unit: '',
          target: { atMost: 2 },
        }),
        row({
          what: '  time until all are answered',
          value: seconds,
          unit: 's',
          target: { atMost: 1 },
        }),
      ]
    } finally {
      await generator.stop()
      await server.stop()
      await Promise.all(Object.values(fakes).map((fake) => fake.stop()))
    }
  },
}

const backendsOf = ({ config }: VendorFake): object => config['backends'] as object

function requestOf(
  fakes: Readonly<Record<'aws' | 'vault', VendorFake>>,
  serviceAccount: string,
  index: number,
  names: readonly string[],
): WireMountRequest {
  const pod = { serviceAccount, pod: `${serviceAccount}-${index}`, uid: `uid-${serviceAccount}-${index}` }
  const tokens = Object.values(fakes).map((fake) => tokensOf(fake.request(pod, 0)))
  const files = names.flatMap((name) => [
    { path: `aws/${name}`, store: 'central', key: name },
    { path: `vault/${name}`, store: 'team', key: `secret/data/${name}`, property: 'value' },
  ])
  return mountRequest({
    ...pod,
    tokens: JSON.stringify(Object.assign({}, ...tokens)),
    parameters: { files: JSON.stringify(files) },
  })
}

/** The tokens that a vendor's request carries. */
function tokensOf({ attributes }: WireMountRequest): object {
  const text = (JSON.parse(attributes) as Record<string, string>)['csi.storage.k8s.io/serviceAccount.tokens']
  return JSON.parse(text ?? '{}') as object
}
