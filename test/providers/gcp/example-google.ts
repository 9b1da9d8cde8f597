/** Owns a fake Google that holds what examples/gcp mounts, and the configuration that leads to it. */
import { FakeGoogle } from './fake-google.ts'

const POOL = 'acme-prod.svc.id.goog'

export async function exampleGoogle() {
  const google = await new FakeGoogle().start()
  const member = `serviceAccount:${POOL}[shop/orders]`
  const secret = (name: string, content: string): void =>
    google.stores.addSecret(`projects/acme-prod/secrets/${name}`, content, member)
  google.identity.pools.add(POOL)
  secret('orders-db', '{"user":"orders","password":"correct-horse","port":5432}')
  secret('orders-settings', '{"pools":[{"size":8}]}')
  secret('orders-keystore', Buffer.from([0, 1, 2, 255]).toString('base64'))
  google.identity.grant('projects/acme-prod/secrets/orders-extra', member)
  google.stores.addParameter(
    'projects/acme-prod/locations/europe-west3/parameters/orders/versions/blue',
    'password: correct-horse\n',
    member,
  )
  const { plain } = google.listeners
  const settings = {
    project: 'acme-prod',
    clusterName: 'c1',
    clusterLocation: 'europe-west3',
    endpoint: plain,
    regionalEndpoint: plain,
    tokenExchangeEndpoint: `${plain}/v1/identitybindingtoken`,
    impersonation: 'off',
  }
  const config = {
    kubernetes: 'off',
    backends: { 'gcp-secret-manager': settings, 'gcp-parameter-manager': settings },
  }
  const pod = { namespace: 'shop', serviceAccount: 'orders', podName: 'orders', podUid: 'u' }
  return { google, config, token: google.cluster.token(pod, [POOL]), audience: POOL }
}
