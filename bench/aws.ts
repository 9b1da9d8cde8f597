/** Owns the AWS side of the vendor scenario: Secrets Manager over the project's fake, which verifies every signature. */
import { FakeAws } from '../test/providers/aws/fake-aws.ts'
import { FakeCluster } from '../test/providers/aws/fake-identity.ts'
import { mountRequest } from './support/sops.ts'
import { vendorScenario, type Vendor } from './vendor.ts'

const ROLE = 'arn:aws:iam::111122223333:role/bench'
const REGION = 'eu-central-1'
const AUDIENCE = 'sts.amazonaws.com'

export const awsVendor: Vendor = {
  dialect: 'aws',
  name: 'AWS 3.1.1',
  own: {
    roundTrips: '22',
    firstMount: '460 ms',
    calls: '4400',
    allAnswered: '38 s',
    rate: '5 (112 without its limiter)',
    processor: '4.4',
    memory: '90 (150 unlimited)',
  },
  start: async (values, serviceAccounts) => {
    const fake = await new FakeAws().start()
    const cluster = new FakeCluster()
    fake.identity.clusters.set(cluster.issuer, cluster)
    fake.identity.roles.set(ROLE, {
      arn: ROLE,
      trust: {
        issuer: cluster.issuer,
        audience: AUDIENCE,
        subjects: serviceAccounts.map((name) => `system:serviceaccount:bench:${name}`),
      },
    })
    const region = fake.region(REGION)
    for (const [name, bytes] of values) region.putSecret(name, bytes.toString())
    const settings = { endpoint: fake.endpoint, stsEndpoint: fake.endpoint, roleArn: ROLE }
    return {
      config: { backends: { 'aws-secrets-manager': settings } },
      request: ({ serviceAccount, pod, uid }, objects) => {
        const token = cluster.token({ namespace: 'bench', serviceAccount, audience: AUDIENCE, podUid: uid })
        const names = [...values.keys()].slice(0, objects)
        return mountRequest({
          serviceAccount,
          pod,
          uid,
          tokens: JSON.stringify({ [AUDIENCE]: token }),
          parameters: {
            region: REGION,
            objects: names.map((name) => `- { objectName: ${name}, objectType: secretsmanager }\n`).join(''),
          },
        })
      },
      latency: (ms) => {
        fake.latencyMs = ms
      },
      calls: () => fake.calls.map(({ service, at }) => ({ isCredentials: service === 'sts', at })),
      forget: () => {
        fake.calls.length = 0
      },
      stop: () => fake.stop(),
    }
  },
}

export const aws = vendorScenario(awsVendor)
