/** Owns the account that most AWS tests mount as: service account `web` of namespace `shop`, and the role that trusts it. */
import { testHost, type TestHost, type TestHostOptions } from '../../support/test-host.ts'
import type { FakeAws } from './fake-aws.ts'
import type { FakeCluster } from './fake-identity.ts'

export const ROLE = 'arn:aws:iam::111122223333:role/web'
const AUDIENCE = 'sts.amazonaws.com'

/** Lets the fake give {@link ROLE} to the tokens that `cluster` makes for `shop/web`. */
export function trustWeb(fake: FakeAws, cluster: FakeCluster): void {
  fake.identity.clusters.set(cluster.issuer, cluster)
  fake.identity.roles.set(ROLE, {
    arn: ROLE,
    trust: { issuer: cluster.issuer, audience: AUDIENCE, subjects: ['system:serviceaccount:shop:web'] },
  })
}

/** A host with the token and the annotation of `shop/web`. */
export function webHost(cluster: FakeCluster, options: TestHostOptions): TestHost {
  const token = cluster.token({ namespace: 'shop', serviceAccount: 'web', audience: AUDIENCE })
  return testHost({
    tokens: { [AUDIENCE]: token },
    annotations: { 'eks.amazonaws.com/role-arn': ROLE },
    ...options,
  })
}
