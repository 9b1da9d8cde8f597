/** gcp.md, cases G35 to G49 and section 10: whose credentials are used, and what they cost. */
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import type { Route } from './fake-google.ts'
import { LATEST, POOL, SECRET, startHarness, WEB } from './harness.ts'
import type { Harness, HarnessOptions, Pod } from './harness.ts'

const directory = mkdtempSync(join(tmpdir(), 'kf-gcp-id-'))
afterAll(() => rmSync(directory, { recursive: true }))
let node: Harness
afterEach(() => node.stop())

async function start(options?: HarnessOptions): Promise<void> {
  node = await startHarness(options)
  node.google.stores.addSecret(SECRET, 'correct-horse', WEB)
}

const entries = [{ resourceName: LATEST, path: 'f' }]
const GSA = 'app@acme-prod.iam.gserviceaccount.com'
const AUDIENCE = `identitynamespace:${POOL}:https://container.googleapis.com/v1/projects/acme-prod/locations/europe-west3/clusters/c1`
const text = async (pod?: Pod, more?: Record<string, string>) =>
  (await node.mount(entries, pod, more)).files[0]?.text
const count = (...routes: readonly Route[]) => node.google.callsOf(...routes).length
const exchanges = () =>
  node.google.callsOf('exchange').map((call) => JSON.parse(call.body) as Record<string, string>)
const requested = () =>
  node.google.callsOf('token-request').map((call) => (JSON.parse(call.body) as { spec: unknown }).spec)

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })

/** A service-account key whose public half the fake knows. */
function keyJson(more: object = {}, email = 'key@acme-prod.iam.gserviceaccount.com'): string {
  node.google.identity.keys.set(email, publicKey)
  node.google.identity.grant(SECRET, `serviceAccount:${email}`)
  return JSON.stringify({
    type: 'service_account',
    client_email: email,
    private_key_id: 'kid-1',
    private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    token_uri: 'https://oauth2.googleapis.com/token',
    ...more,
  })
}

function credentialsFile(content: object | string): string {
  const file = join(directory, `${Math.random().toString(36).slice(2)}.json`)
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
  return file
}

const federation =
  '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/prov'

const ALLOW = { env: { ALLOW_NODE_PUBLISH_SECRET: 'true' } }

describe('the choice', () => {
  it('gcp-35 without auth and key.json the pod’s own identity is used', async () => {
    await start()
    expect(await text()).toBe('correct-horse')
    expect(exchanges().map(({ audience }) => audience)).toEqual([AUDIENCE])
  })

  it('gcp-36 auth: Pod-ADC is unknown', async () => {
    await start()
    const { grpcCode, message } = await node.failure(entries, {}, { auth: 'Pod-ADC' })
    expect(grpcCode).toBe(3)
    expect(message).toContain('unknown auth configuration: "Pod-ADC"')
    expect(count()).toBe(0)
  })

  it('gcp-37 key.json is used where it is allowed, and contradicts an explicit auth', async () => {
    await start(ALLOW)
    const secret = { 'key.json': keyJson() }
    expect(await text({ secret })).toBe('correct-horse')
    expect([count('oauth'), count('exchange')]).toEqual([1, 0])
    for (const auth of ['pod-adc', 'provider-adc']) {
      const { grpcCode, message } = await node.failure(entries, { secret }, { auth })
      expect(grpcCode).toBe(3)
      expect(message).toContain(`attempting to set both nodePublishSecretRef and ${auth} auth`)
    }
    expect(count('oauth')).toBe(1)
  })

  it('gcp-37 an empty key.json still selects the key', async () => {
    await start(ALLOW)
    const { grpcCode, message } = await node.failure(entries, { secret: { 'key.json': '' } })
    expect(grpcCode).toBe(7)
    expect(message).toContain('unable to obtain auth for mount: key.json')
    expect(count()).toBe(0)
  })

  it('gcp-38 key.json is ignored where it is not allowed, with a warning', async () => {
    await start()
    expect(await text({ secret: { 'key.json': keyJson() } })).toBe('correct-horse')
    expect([count('oauth'), count('exchange')]).toEqual([0, 1])
    expect(
      node.logs.filter((line) => line.includes('key.json of the node-publish Secret is ignored')),
    ).toHaveLength(1)
  })

  it('gcp-39 secrets that are null are no key; driver.md 8.2 says the same of an empty text', async () => {
    await start(ALLOW)
    for (const secret of ['null', '{}', '']) expect(await text({ secret })).toBe('correct-horse')
    for (const secret of ['x', '[]', '{"key.json":1}'])
      expect((await node.failure(entries, { secret })).grpcCode).toBe(3)
  })

  it('gcp section 11 a bad boolean in the environment is one clear failure, and the process lives', async () => {
    await start({ env: { ALLOW_NODE_PUBLISH_SECRET: 'yes please' } })
    for (let i = 0; i < 2; i += 1) {
      const { grpcCode, message } = await node.failure(entries)
      expect(grpcCode).toBe(3)
      expect(message).toContain('ALLOW_NODE_PUBLISH_SECRET is not a boolean')
    }
    expect(node.logs.some((line) => line.startsWith('error environment variable is not a boolean'))).toBe(
      true,
    )
  })

  it.each(['1', 't', 'T', 'true', 'TRUE', 'True'])('gcp section 10.1 %s is true', async (value) => {
    await start({ env: { ALLOW_NODE_PUBLISH_SECRET: value } })
    expect(await text({ secret: { 'key.json': keyJson() } })).toBe('correct-horse')
    expect(count('oauth')).toBe(1)
  })
})

describe('the pod’s token', () => {
  it('gcp-40 the driver’s token for the pool is exchanged, and none is requested', async () => {
    await start()
    await text({ audiences: ['sts.amazonaws.com', POOL] })
    expect([count('exchange'), count('token-request')]).toEqual([1, 0])
  })

  it('gcp-41 tokens for others only: one is requested, for 900 s and bound to the pod', async () => {
    await start()
    expect(await text({ audiences: ['sts.amazonaws.com'] })).toBe('correct-horse')
    expect(requested()).toEqual([
      {
        audiences: [POOL],
        expirationSeconds: 900,
        boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'web-0', uid: 'u1' },
      },
    ])
  })

  it('gcp-41 T21 where requesting tokens is off the failure names the audiences seen and wanted', async () => {
    await start({ tokenRequests: false })
    const { grpcCode, message } = await node.failure(entries, { audiences: ['sts.amazonaws.com'] })
    expect(count('exchange', 'token-request')).toBe(0)
    expect(grpcCode).toBe(7)
    expect(message).toContain(`for the audience "${POOL}"; there are "sts.amazonaws.com"`)
    expect(message).toContain('tokenRequests')
  })

  it('gcp section 10.4 a token under the empty audience is never used', async () => {
    await start()
    await text({ audiences: [''] })
    expect(count('token-request')).toBe(1)
  })
})

describe('the exchange and impersonation', () => {
  it('gcp-42 without a Google service account the federated token reads the secret', async () => {
    await start()
    await text()
    expect(count('impersonate')).toBe(0)
    expect(exchanges()[0]).toMatchObject({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      scope: 'https://www.googleapis.com/auth/cloud-platform',
    })
    expect(node.google.callsOf('exchange')[0]?.host).toBe('securetoken.googleapis.com')
  })

  it('gcp-43 a Google service account with two delegates is impersonated through them in order', async () => {
    await start()
    const [d1, d2] = ['one@x.iam.gserviceaccount.com', 'two@x.iam.gserviceaccount.com']
    node.google.cluster.accounts.set('shop/web', {
      'iam.gke.io/gcp-service-account': GSA,
      'iam.gke.io/gcp-service-account-delegates': JSON.stringify([d1, d2]),
    })
    node.google.identity.serviceAccounts
      .set(d1, new Set([WEB]))
      .set(d2, new Set([`serviceAccount:${d1}`]))
      .set(GSA, new Set([`serviceAccount:${d2}`]))
    // Only the account may read: were the pod's own token used, this would fail.
    node.google.stores.addSecret('projects/acme-prod/secrets/own', 'impersonated', `serviceAccount:${GSA}`)
    const resourceName = 'projects/acme-prod/secrets/own/versions/1'
    const { files } = await node.mount([{ resourceName, path: 'f' }])
    expect(files[0]?.text).toBe('impersonated')
    const [call] = node.google.callsOf('impersonate')
    expect(call?.path).toBe(`/v1/projects/-/serviceAccounts/${GSA}:generateAccessToken`)
    expect(JSON.parse(call?.body ?? '')).toEqual({
      scope: ['https://www.googleapis.com/auth/cloud-platform'],
      delegates: [d1, d2].map((email) => `projects/-/serviceAccounts/${email}`),
    })
  })

  it.each([
    [{ 'iam.gke.io/gcp-service-account': 'x/../y@z' }, 'gcp-service-account of'],
    [{ 'iam.gke.io/gcp-service-account': 'a@b:generateAccessToken?x=' }, 'gcp-service-account of'],
    [
      { 'iam.gke.io/gcp-service-account': GSA, 'iam.gke.io/gcp-service-account-delegates': 'a@b.c' },
      'gcp-service-account-delegates of',
    ],
    [
      { 'iam.gke.io/gcp-service-account': GSA, 'iam.gke.io/gcp-service-account-delegates': '[1]' },
      'gcp-service-account-delegates of',
    ],
  ])('T11 the annotations %j are refused before anything is sent to Google', async (annotations, words) => {
    await start()
    node.google.cluster.accounts.set('shop/web', annotations)
    const { grpcCode, message } = await node.failure(entries)
    expect(grpcCode).toBe(7)
    expect(message).toContain(words)
    expect(count('exchange', 'impersonate', 'access')).toBe(0)
  })

  it('gcp section 10.4 delegates alone are not read', async () => {
    await start()
    node.google.cluster.accounts.set('shop/web', { 'iam.gke.io/gcp-service-account-delegates': 'nonsense' })
    expect(await text()).toBe('correct-horse')
  })

  it('a refused impersonation says which role to grant to whom', async () => {
    await start()
    node.google.cluster.accounts.set('shop/web', { 'iam.gke.io/gcp-service-account': GSA })
    const { grpcCode, message } = await node.failure(entries)
    expect(grpcCode).toBe(7)
    expect(message).toContain(`impersonation of ${GSA}: PERMISSION_DENIED`)
    expect(message).toContain(`Grant roles/iam.workloadIdentityUser on ${GSA} to ${WEB}`)
  })

  it('a service account that does not exist is no missing secret, optional or not', async () => {
    await start()
    node.google.fault('impersonate', { status: 404 }, Infinity)
    node.google.cluster.accounts.set('shop/web', { 'iam.gke.io/gcp-service-account': GSA })
    expect((await node.failure([{ ...entries[0], optional: true }])).grpcCode).toBe(7)
    expect((await node.failure(entries, { serviceAccount: 'nobody' })).grpcCode).toBe(7)
  })

  it('gcp-48 an exchange that answers invalid_grant is told with its reason and without the token', async () => {
    await start()
    node.google.identity.pools.delete(POOL)
    node.google.fault('exchange', {
      status: 400,
      body: { error: 'invalid_grant', error_description: 'The pool is disabled.' },
    })
    const { grpcCode, message } = await node.failure(entries)
    expect(grpcCode).toBe(7)
    expect(message).toContain(
      'unable to obtain auth for mount: token exchange: HTTP 400 invalid_grant: The pool is disabled.',
    )
  })

  it('gcp-48 an endpoint that echoes the token does not get it into the event', async () => {
    await start()
    let sent = ''
    const original = node.google.identity.exchange.bind(node.google.identity)
    node.google.identity.exchange = (call, path) => {
      sent = (JSON.parse(call.body) as { subject_token: string }).subject_token
      original(call, path)
      return { status: 400, body: { error: 'invalid_grant', error_description: `bad ${sent}` } }
    }
    const { message } = await node.failure(entries)
    expect(sent.length).toBeGreaterThan(100)
    expect(message).toContain('bad [redacted]')
    expect(message).not.toContain(sent.slice(0, 20))
  })

  it.each([[{}], [{ access_token: '' }], [{ access_token: 'a b', expires_in: 1 }], [[]]])(
    'gcp section 10.4 a reply 200 %j without a usable token is a failure',
    async (body) => {
      await start()
      node.google.fault('exchange', { status: 200, body }, Infinity)
      const { message } = await node.failure(entries)
      expect(message).toContain('the reply has no access_token')
      expect(count('access')).toBe(0)
    },
  )

  it('an exchange that is down passes, a mount that waits for it ends in time', async () => {
    await start({ settings: { requestTimeoutMs: 300 } })
    node.google.fault('exchange', { status: 503 }, 1)
    expect(await text()).toBe('correct-horse')
    const other = { serviceAccount: 'other' }
    node.google.cluster.accounts.set('shop/other', {})
    node.google.fault('exchange', { hang: true }, Infinity)
    const began = performance.now()
    expect((await node.failure(entries, { ...other, budgetMs: 600 })).grpcCode).toBe(9)
    expect(performance.now() - began).toBeLessThan(1500)
  })
})

describe('the pool', () => {
  const fleet =
    'identitynamespace:fleet.svc.id.goog:https://gkehub.googleapis.com/projects/f/locations/global/memberships/m'

  async function startWithFile(content: object | string, more: HarnessOptions = {}) {
    const GOOGLE_APPLICATION_CREDENTIALS = credentialsFile(content)
    await start({ metadata: false, env: { GOOGLE_APPLICATION_CREDENTIALS }, ...more })
  }

  it('gcp-44 a fleet’s audience is sent unchanged; the token is for the fleet’s pool', async () => {
    await startWithFile({
      type: 'external_account',
      audience: fleet,
      token_url: 'https://evil.example/token',
    })
    node.google.identity.pools.add('fleet.svc.id.goog')
    node.google.identity.grant(SECRET, 'serviceAccount:fleet.svc.id.goog[shop/web]')
    expect(await text({ audiences: [] })).toBe('correct-horse')
    expect(exchanges().map(({ audience }) => audience)).toEqual([fleet])
    expect(requested()).toMatchObject([{ audiences: ['fleet.svc.id.goog'] }])
    expect(node.google.listeners.tunnels.join()).not.toContain('evil')
  })

  async function federated() {
    await startWithFile({ type: 'external_account', audience: federation })
    node.google.identity.pools.add(federation)
    node.google.identity.grant(SECRET, `principal:${federation}/subject/system:serviceaccount:shop:web`)
  }

  it('gcp-45 a federation’s audience is the token’s and the exchange’s, at STS', async () => {
    await federated()
    expect(await text({ audiences: [] })).toBe('correct-horse')
    expect(exchanges().map(({ audience }) => audience)).toEqual([federation])
    expect(requested()).toMatchObject([{ audiences: [federation] }])
    expect(node.google.callsOf('exchange')[0]?.host).toBe('sts.googleapis.com')
  })

  it('gcp section 10.4 a federation takes the driver’s token under the https form of its audience', async () => {
    await federated()
    expect(await text({ audiences: [`https:${federation}`] })).toBe('correct-horse')
    expect(count('token-request')).toBe(0)
  })

  it('gcp section 10.5 a federation’s token is the pod’s alone: it may speak of the pod', async () => {
    await federated()
    for (const podUid of ['u1', 'u2', 'u1']) await text({ audiences: [federation], podUid })
    expect(count('exchange')).toBe(2)
  })

  it('gcp section 10.4 metadata wins over the file', async () => {
    await start({
      env: { GOOGLE_APPLICATION_CREDENTIALS: credentialsFile({ type: 'external_account', audience: fleet }) },
    })
    await text()
    expect(exchanges().map(({ audience }) => audience)).toEqual([AUDIENCE])
  })

  it('gcp-46 neither metadata nor a file: both causes are named', async () => {
    await start({ metadata: false })
    const { grpcCode, message } = await node.failure(entries)
    expect(grpcCode).toBe(7)
    expect(message).toContain('unable to obtain auth for mount')
    expect(message).toContain('127.0.0.1:1 cannot be reached (ECONNREFUSED)')
    expect(message).toContain('GOOGLE_APPLICATION_CREDENTIALS is not set')
  })

  it.each([
    ['', 'is not a readable JSON file'],
    [{ type: 'service_account' }, 'is not of type external_account'],
    [{ type: 'external_account' }, 'has no audience'],
    ['null', 'is not of type external_account'],
  ])('gcp-46 the file %j is of no use: %s', async (content, words) => {
    await startWithFile(content)
    expect((await node.failure(entries)).message).toContain(words)
  })

  it('gcp-47 the three cluster variables make a metadata request unnecessary', async () => {
    await start({ env: { PROJECT: 'acme-prod', CLUSTER_NAME: 'c9', CLUSTER_LOCATION: 'europe-west1' } })
    expect(await text()).toBe('correct-horse')
    expect(count('metadata')).toBe(0)
    expect(exchanges()[0]?.['audience']).toBe(
      AUDIENCE.replace('europe-west3', 'europe-west1').replace('c1', 'c9'),
    )
  })

  it('gcp-47 an empty variable counts as unset', async () => {
    await start({ env: { PROJECT: 'acme-prod', CLUSTER_NAME: '', CLUSTER_LOCATION: 'europe-west3' } })
    await text()
    expect(exchanges()[0]?.['audience']).toBe(AUDIENCE)
  })

  it('gcp section 10.4 metadata is asked once, and must say whose it is', async () => {
    await start()
    for (const serviceAccount of ['web', 'a', 'b']) {
      node.google.cluster.accounts.set(`shop/${serviceAccount}`, {})
      node.google.identity.grant(SECRET, `serviceAccount:${POOL}[shop/${serviceAccount}]`)
      await text({ serviceAccount })
    }
    expect(count('metadata')).toBe(3)
    await node.stop()
    await start()
    node.google.fault('metadata', { status: 200, body: 'acme-prod' }, Infinity)
    expect((await node.failure(entries)).message).toContain('the metadata server is not Google')
  })

  it('gcp section 10.4 a metadata server that hangs is given up after two seconds, once for many mounts', async () => {
    await start()
    node.google.fault('metadata', { hang: true }, Infinity)
    const began = performance.now()
    await Promise.all(Array.from({ length: 5 }, () => node.failure(entries)))
    await node.failure(entries)
    expect(performance.now() - began).toBeLessThan(3500)
    expect(count('metadata')).toBe(3)
  })

  it('gcp section 11 the endpoint variables are honoured', async () => {
    const other = await startHarness()
    node = await startHarness({
      env: {
        GAIA_TOKEN_EXCHANGE_ENDPOINT: `${other.google.listeners.plain}/v1/identitybindingtoken`,
        GKE_WORKLOAD_IDENTITY_ENDPOINT: 'https://container.test/v1',
        USER_AGENT: 'shop-provider',
      },
    })
    await node.failure(entries)
    const [call] = other.google.callsOf('exchange')
    await other.stop()
    expect(call?.body).toContain('https://container.test/v1/projects/acme-prod')
    expect(call?.headers['user-agent']).toBe('shop-provider')
  })

  it.each([
    'endpoint',
    'regionalEndpoint',
    'tokenExchangeEndpoint',
    'iamCredentialsEndpoint',
    'oauthEndpoint',
  ])('T13 %s must not send a token in the clear', async (name) => {
    await start()
    await expect(startHarness({ settings: { [name]: 'http://10.0.0.1/' } })).rejects.toThrow(
      'is not an https address',
    )
  })
})

describe('what it costs', () => {
  it('gcp-49 ten mounts of one service account cost one exchange and one impersonation', async () => {
    await start()
    node.google.cluster.accounts.set('shop/web', { 'iam.gke.io/gcp-service-account': GSA })
    node.google.identity.serviceAccounts.set(GSA, new Set([WEB]))
    node.google.identity.grant(SECRET, `serviceAccount:${GSA}`)
    await Promise.all(Array.from({ length: 5 }, (_, i) => text({ podName: `p${i}`, podUid: `u${i}` })))
    for (let i = 5; i < 10; i += 1) await text({ podName: `p${i}`, podUid: `u${i}` })
    expect([count('exchange'), count('impersonate'), count('account')]).toEqual([1, 1, 1])
  })

  it('a mount of secrets and parameters exchanges once: the two backends share the session', async () => {
    await start()
    const parameter = 'projects/acme-prod/locations/global/parameters/web/versions/blue'
    node.google.stores.addParameter(parameter, 'p', WEB)
    const { files } = await node.mount([...entries, { resourceName: parameter, path: 'p' }])
    expect(files).toHaveLength(2)
    expect(count('exchange')).toBe(1)
  })

  it('T7 two service accounts never share a token, and neither reads what is the other’s', async () => {
    await start()
    node.google.cluster.accounts.set('shop/thief', {})
    expect(await text()).toBe('correct-horse')
    const { grpcCode } = await node.failure(entries, { serviceAccount: 'thief' })
    expect(grpcCode).toBe(7)
    expect(count('exchange')).toBe(2)
    expect(await text()).toBe('correct-horse')
  })

  it('gcp section 10.5 a token near its end is not used', async () => {
    await start()
    node.google.identity.lifetime = 100
    await text()
    await text()
    expect(count('exchange')).toBe(2)
  })

  it('a changed annotation is another identity', async () => {
    await start({ config: { kubernetes: 'off' }, settings: { impersonation: 'off' } })
    expect(await text()).toBe('correct-horse')
    expect([count('account'), count('impersonate')]).toEqual([0, 0])
  })
})

describe('provider-adc', () => {
  const provider = { auth: 'provider-adc' }
  const nodeMember = 'serviceAccount:node@acme-prod.iam.gserviceaccount.com'

  it('gcp section 10.3 the metadata server’s token is used, once for all pods', async () => {
    await start()
    node.google.identity.grant(SECRET, nodeMember)
    expect(await text({}, provider)).toBe('correct-horse')
    expect(await text({ serviceAccount: 'other' }, provider)).toBe('correct-horse')
    expect([count('exchange'), count('account'), count('metadata')]).toEqual([0, 0, 1])
  })

  it('T2 the node’s identity is never used for a pod whose own fails', async () => {
    await start()
    node.google.identity.grant(SECRET, nodeMember)
    node.google.identity.bindings.get(SECRET)?.delete(WEB)
    expect((await node.failure(entries)).grpcCode).toBe(7)
    node.google.fault('exchange', { status: 400, body: { error: 'invalid_grant' } }, Infinity)
    expect((await node.failure(entries, { serviceAccount: 'other' })).grpcCode).toBe(7)
    expect(node.google.callsOf('metadata').some(({ path }) => path.includes('/token'))).toBe(false)
  })

  it('T2 it can be switched off', async () => {
    await start({ settings: { allowProviderAdc: false } })
    const { grpcCode, message } = await node.failure(entries, {}, provider)
    expect(grpcCode).toBe(7)
    expect(message).toContain('provider-adc is switched off')
    expect(count()).toBe(0)
  })

  it('gcp section 10.3 a key file is used', async () => {
    await start()
    const key = JSON.parse(keyJson()) as { client_email: string; private_key: string }
    await node.stop()
    node = await startHarness({ env: { GOOGLE_APPLICATION_CREDENTIALS: credentialsFile(key) } })
    node.google.identity.keys.set(key.client_email, createPublicKey(key.private_key))
    node.google.stores.addSecret(SECRET, 'by file', `serviceAccount:${key.client_email}`)
    expect(await text({}, provider)).toBe('by file')
    expect(count('oauth')).toBe(1)
  })

  it('gcp section 10.3 an external account is left to Google’s library, which takes the same way out', async () => {
    const subject = join(directory, 'subject-token')
    const GOOGLE_APPLICATION_CREDENTIALS = credentialsFile({
      type: 'external_account',
      audience: federation,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: 'https://sts.googleapis.com/v1/token',
      credential_source: { file: subject },
    })
    await start({ env: { GOOGLE_APPLICATION_CREDENTIALS } })
    const { google } = node
    google.identity.pools.add(federation)
    const pod = { namespace: 'kube-system', serviceAccount: 'keyferry', podName: 'k', podUid: 'k' }
    writeFileSync(subject, google.cluster.token(pod, [federation]))
    google.identity.grant(
      SECRET,
      `principal:${federation}/subject/system:serviceaccount:kube-system:keyferry`,
    )
    expect(await text({}, provider)).toBe('correct-horse')
    expect(google.callsOf('exchange').map(({ host, status }) => [host, status])).toEqual([
      ['sts.googleapis.com', 200],
    ])
    expect(google.listeners.tunnels).toContain('sts.googleapis.com:443')
    google.fault('exchange', { status: 400, body: { error: 'invalid_grant' } }, Infinity)
    google.identity.revokeAll()
    const { grpcCode, message } = await node.failure(entries, {}, provider)
    expect(grpcCode).toBe(7)
    expect(message).toContain('token exchange: HTTP 400 invalid_grant')
    expect(message).not.toContain(readFileSync(subject, 'utf8'))
  })

  it('gcp section 10.3 a file that is of no use is one clear failure without its content', async () => {
    const file = credentialsFile('{"type":"service_account","private_key":"hunter2"}')
    await start({ env: { GOOGLE_APPLICATION_CREDENTIALS: file } })
    const { grpcCode, message } = await node.failure(entries, {}, provider)
    expect(grpcCode).toBe(7)
    expect(message).toContain(`provider-adc: ${file}: its client_email is not an e-mail address`)
    expect(message).not.toContain('hunter2')
  })

  it('a metadata server that is down is said to be', async () => {
    await start({ metadata: false })
    expect((await node.failure(entries, {}, provider)).message).toContain(
      'GOOGLE_APPLICATION_CREDENTIALS is not set, and the metadata server was asked',
    )
  })
})

describe('key.json', () => {
  const withKey = (document: string) => ({ secret: { 'key.json': document } })

  it('gcp section 10.2 the token of a key is kept for mounts with the same Secret', async () => {
    await start(ALLOW)
    const key = keyJson()
    for (let i = 0; i < 3; i += 1) expect(await text(withKey(key))).toBe('correct-horse')
    expect(count('oauth')).toBe(1)
    const other = keyJson({}, 'other@acme-prod.iam.gserviceaccount.com')
    expect(await text(withKey(other))).toBe('correct-horse')
    expect(count('oauth')).toBe(2)
  })

  it('gcp section 10.2 a user’s refresh token works', async () => {
    await start(ALLOW)
    node.google.identity.refreshTokens.set('r-1', 'user:dev@example.com')
    node.google.identity.grant(SECRET, 'user:dev@example.com')
    const user = { type: 'authorized_user', client_id: 'c', client_secret: 's', refresh_token: 'r-1' }
    expect(await text(withKey(JSON.stringify(user)))).toBe('correct-horse')
  })

  it.each([
    'https://evil.example/token',
    'http://169.254.169.254/x',
    'https://oauth2.googleapis.com.evil.example/',
    'file:///etc/passwd',
  ])('T11 a token_uri %s receives nothing', async (token_uri) => {
    await start(ALLOW)
    const { grpcCode, message } = await node.failure(entries, withKey(keyJson({ token_uri })))
    expect(grpcCode).toBe(7)
    expect(message).toContain('token_uri is not an address of Google')
    expect([node.google.calls, node.google.listeners.tunnels]).toEqual([[], []])
  })

  it.each([
    { credential_source: { file: '/var/run/secrets/kubernetes.io/serviceaccount/token' } },
    { credential_source: { url: 'http://169.254.169.254/' } },
    { credential_source: { executable: { command: '/bin/id' } } },
    { credential_source: { certificate: { use_default_certificate_config: true } } },
  ])('T11 an external account with %j is refused, whatever is allowed', async (more) => {
    await start({ ...ALLOW, settings: { keyTypes: ['service_account', 'impersonated_service_account'] } })
    const document = {
      type: 'external_account',
      audience: '//iam.googleapis.com/x',
      token_url: 'https://evil.example/',
      ...more,
    }
    const { grpcCode, message } = await node.failure(entries, withKey(JSON.stringify(document)))
    expect(grpcCode).toBe(7)
    expect(message).toContain('its type is not one that a Secret may bring')
    expect([node.google.calls, node.google.listeners.tunnels]).toEqual([[], []])
  })

  it('gcp section 10.2 an impersonating document needs the operator’s word, and Google’s address', async () => {
    await start(ALLOW)
    const document = (url: string) =>
      JSON.stringify({
        type: 'impersonated_service_account',
        service_account_impersonation_url: url,
        source_credentials: JSON.parse(keyJson()) as object,
      })
    const good = `https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/${GSA}:generateAccessToken`
    expect((await node.failure(entries, withKey(document(good)))).message).toContain(
      'is not allowed on this node',
    )
    await node.stop()
    await start({ ...ALLOW, settings: { keyTypes: ['service_account', 'impersonated_service_account'] } })
    const allowed = document(good)
    node.google.identity.serviceAccounts.set(
      GSA,
      new Set(['serviceAccount:key@acme-prod.iam.gserviceaccount.com']),
    )
    node.google.identity.grant(SECRET, `serviceAccount:${GSA}`)
    expect(await text(withKey(allowed))).toBe('correct-horse')
    const calls = node.google.calls.length
    const evil = document(good.replace('iamcredentials.googleapis.com', 'evil.example'))
    expect((await node.failure(entries, withKey(evil))).grpcCode).toBe(7)
    expect(node.google.calls).toHaveLength(calls)
  })

  it.each(['', 'no json', '[]', '{}', '{"type":"service_account"}', '{"type":"__proto__"}'])(
    'gcp section 10.2 the document %j is a failure without its content, and the process lives',
    async (document) => {
      await start(ALLOW)
      const { grpcCode, message } = await node.failure(entries, withKey(document))
      expect(grpcCode).toBe(7)
      expect(message).toContain('key.json of the node-publish Secret')
      expect(await text()).toBe('correct-horse')
    },
  )

  it('T22 a private key that cannot be read is not quoted', async () => {
    await start(ALLOW)
    const { message } = await node.failure(entries, withKey(keyJson({ private_key: '-----BEGIN hunter2' })))
    expect(message).toContain('is not an RSA key')
    expect(message).not.toContain('hunter2')
  })
})
