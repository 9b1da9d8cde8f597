/**
 * Google's own library against the fake, so that the fake cannot agree with nobody but us
 * (test-peers.md section 6).
 */
import { generateKeyPairSync } from 'node:crypto'
import type { Agent as HttpsAgent } from 'node:https'
import { GoogleAuth, IdentityPoolClient, Impersonated, JWT, UserRefreshClient } from 'google-auth-library'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createHttpClient } from '../../../src/net/client.ts'
import type { ClosableHttpClient } from '../../../src/net/client.ts'
import { FakeGoogle } from './fake-google.ts'
import { SCOPE } from './fake-identity.ts'

const SECRET = 'projects/acme-prod/secrets/db'
const federation =
  '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/prov'
const principal = `principal:${federation}/subject/system:serviceaccount:shop:web`
const email = 'key@acme-prod.iam.gserviceaccount.com'

let google: FakeGoogle
let http: ClosableHttpClient
let agent: HttpsAgent
const saved = process.env['GCE_METADATA_HOST']

beforeAll(async () => {
  google = await new FakeGoogle().start()
  google.stores.addSecret(SECRET, 'correct-horse')
  const { plainHost, proxy, ca } = google.listeners
  process.env['GCE_METADATA_HOST'] = plainHost
  http = createHttpClient({ rules: { refused: [] } })
  agent = http.agents({ origin: 'operator', proxy, tls: { ca: [ca] } }).https
})
afterAll(async () => {
  if (saved === undefined) delete process.env['GCE_METADATA_HOST']
  else process.env['GCE_METADATA_HOST'] = saved
  http.close()
  await google.stop()
})

/** Status of an access with a token, as the member that it is for. */
async function access(token: string | null | undefined, member: string): Promise<number> {
  google.identity.grant(SECRET, member)
  const { proxy, ca } = google.listeners
  const reply = await http.send({
    method: 'GET',
    url: `https://secretmanager.googleapis.com/v1/${SECRET}/versions/latest:access`,
    headers: { authorization: `Bearer ${token ?? ''}` },
    to: { origin: 'operator', proxy, tls: { ca: [ca] } },
    signal: AbortSignal.timeout(5000),
  })
  return reply.status
}

describe('google-auth-library', () => {
  it('finds the metadata server and gets a token that Secret Manager accepts', async () => {
    const token = await new GoogleAuth({ scopes: [SCOPE] }).getAccessToken()
    expect(await access(token, google.metadata.node)).toBe(200)
    expect(await access('ya29.made-up', google.metadata.node)).toBe(401)
    expect(google.callsOf('metadata').some(({ path }) => path.includes('/token'))).toBe(true)
  })

  it('gets a token for a service-account key', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    google.identity.keys.set(email, publicKey)
    const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    const client = new JWT({ email, key, scopes: [SCOPE], transporterOptions: { agent } })
    expect(await access((await client.getAccessToken()).token, `serviceAccount:${email}`)).toBe(200)
  })

  it('gets a token for a refresh token', async () => {
    google.identity.refreshTokens.set('r', 'user:dev@example.com')
    const client = new UserRefreshClient({
      refreshToken: 'r',
      clientId: 'c',
      clientSecret: 's',
      transporterOptions: { agent },
    })
    expect(await access((await client.getAccessToken()).token, 'user:dev@example.com')).toBe(200)
    const wrong = new UserRefreshClient({
      refreshToken: 'x',
      clientId: 'c',
      clientSecret: 's',
      transporterOptions: { agent },
    })
    await expect(wrong.getAccessToken()).rejects.toThrow('invalid_grant')
  })

  const pod = { namespace: 'shop', serviceAccount: 'web', podName: 'p', podUid: 'u' }
  const federated = (audience: string) =>
    new IdentityPoolClient({
      audience: federation,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: `${google.listeners.plain}/v1/token`,
      subject_token_supplier: {
        getSubjectToken: () => Promise.resolve(google.cluster.token(pod, [audience])),
      },
    })

  it('exchanges a token by a form at STS, and is refused with another audience', async () => {
    google.identity.pools.add(federation)
    expect(await access((await federated(federation).getAccessToken()).token, principal)).toBe(200)
    expect(google.callsOf('exchange').at(-1)?.headers['content-type']).toContain(
      'application/x-www-form-urlencoded',
    )
    await expect(federated('sts.amazonaws.com').getAccessToken()).rejects.toThrow('invalid_grant')
  })

  it('impersonates through a delegate, and is refused without it', async () => {
    const [delegate, target] = ['d@x.iam.gserviceaccount.com', 't@x.iam.gserviceaccount.com']
    google.identity.serviceAccounts
      .set(delegate, new Set([principal]))
      .set(target, new Set([`serviceAccount:${delegate}`]))
    const impersonated = (delegates: string[]) =>
      new Impersonated({
        sourceClient: federated(federation),
        targetPrincipal: target,
        targetScopes: [SCOPE],
        delegates: delegates.map((one) => `projects/-/serviceAccounts/${one}`),
        endpoint: google.listeners.plain,
      })
    const { token } = await impersonated([delegate]).getAccessToken()
    expect(await access(token, `serviceAccount:${target}`)).toBe(200)
    await expect(impersonated([]).getAccessToken()).rejects.toThrow('iam.serviceAccounts.getAccessToken')
  })
})
