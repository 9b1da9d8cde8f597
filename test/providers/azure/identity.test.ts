/** Every way of signing in, against an Entra ID and agents that verify what they are shown. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { sniOfCluster } from '../../../src/providers/azure/token-proxy.ts'
import { environmentProxy } from '../../../src/providers/azure/settings.ts'
import { exchangeAudience } from '../../../src/providers/azure/credentials.ts'
import { challengedResource } from '../../../src/providers/azure/vault-calls.ts'
import { BASE, objects, startHarness, VAULT_HOST, type Harness, type Pod } from './harness.ts'

const folder = join(import.meta.dirname, '../../vectors/pkcs12')
const vector = (name: string): string => readFileSync(join(folder, name), 'utf8')
const EXCHANGE = 'api://AzureADTokenExchange'
const BINDING = 'api://AKSIdentityBinding'

let harness: Harness
beforeAll(async () => {
  harness = await startHarness()
})
afterAll(() => harness.stop())
beforeEach(() => {
  harness.fake.calls.length = 0
  harness.fake.entra.calls.length = 0
  harness.fake.faults.length = 0
  harness.fake.entra.apps.clear()
  harness.fake.vault(VAULT_HOST).access = undefined
  harness.fake.vault(VAULT_HOST).secret('secret1', 'x')
  harness.annotations.clear()
})

const secret1 = objects({ objectName: 'secret1', objectType: 'secret' })
const spc = (more: Readonly<Record<string, string>> = {}) => ({
  keyvaultName: 'testkv',
  tenantID: 't1',
  objects: secret1,
  ...more,
})
let clients = 0
/** A client that no test before has used, so that no token of one is kept. */
function federated(audience = EXCHANGE, subject = 'system:serviceaccount:ns1:web'): string {
  clients += 1
  const clientId = `client-${clients}`
  const { issuer } = harness.fake.cluster
  harness.fake.entra.apps.set(clientId, { clientId, federated: [{ issuer, subject, audience }] })
  return clientId
}
const mounted = async (
  parameters: Readonly<Record<string, string>>,
  pod: Pod = {},
): Promise<string | undefined> => (await harness.mount(parameters, pod)).files[0]?.text

describe('workload identity', () => {
  test('one token request and one call to the vault, and never one without a token', async () => {
    expect(await mounted(spc({ clientID: federated() }), { audiences: [EXCHANGE] })).toBe('x')
    expect(harness.fake.calls.map(({ host, authorized }) => [host, authorized])).toEqual([
      ['login.microsoftonline.com', false],
      [VAULT_HOST, true],
    ])
  })

  test('the client id comes from the service account, in the annotation of Azure Workload Identity', async () => {
    const clientId = federated()
    harness.fake.entra.tenants.set('annotated', 't1')
    harness.annotations.set('ns1/web', {
      'azure.workload.identity/client-id': ` ${clientId} `,
      'azure.workload.identity/tenant-id': 'annotated',
    })
    const { tenantID: _, ...parameters } = spc({ clientIDFromServiceAccount: 'true' })
    expect(await mounted(parameters, { audiences: [EXCHANGE] })).toBe('x')
    expect(harness.fake.entra.calls[0]).toMatchObject({
      path: '/annotated/oauth2/v2.0/token',
      form: { client_id: clientId },
    })
    harness.annotations.clear()
    const failure = await harness.failure(parameters, { audiences: [EXCHANGE], serviceAccount: 'other' })
    expect(failure.message).toContain(
      'service account other in namespace ns1 has no usable annotation azure.workload.identity/client-id',
    )
  })

  test.each([
    ['unknown application', () => 'nobody', {}, 'unauthorized_client AADSTS700016'],
    [
      'a subject without federated credential',
      () => federated(EXCHANGE, 'system:serviceaccount:ns1:api'),
      {},
      'AADSTS700213',
    ],
    ['a tenant that does not exist', () => federated(), { tenantID: 'nowhere' }, 'AADSTS90002'],
  ])('Entra refuses %s: its number and one remedy, no trace id', async (_, client, more, words) => {
    const failure = await harness.failure(spc({ clientID: client(), ...more }), { audiences: [EXCHANGE] })
    expect(failure.kind).toBe('unauthenticated')
    expect(failure.message).toContain(words)
    expect(failure.message).not.toMatch(/Trace|Timestamp/)
    expect(harness.fake.vaultCalls()).toEqual([])
  })

  test('T4 a token of another cluster, and one that has expired, get nothing', async () => {
    const clientID = federated()
    const { token } = harness.fake.cluster.token({ audience: EXCHANGE, lifetimeSeconds: -10 })
    const tokens = (text: string): string =>
      JSON.stringify({ [EXCHANGE]: { token: text, expirationTimestamp: '2036-01-01T00:00:00Z' } })
    expect((await harness.failure(spc({ clientID }), { tokens: tokens(token) })).message).toContain(
      'AADSTS700024',
    )
    const [head = '', body = ''] = harness.fake.cluster.token({ audience: EXCHANGE }).token.split('.')
    const forged = `${head}.${body}.${Buffer.alloc(64).toString('base64url')}`
    expect((await harness.failure(spc({ clientID }), { tokens: tokens(forged) })).message).toContain(
      'AADSTS50027',
    )
    expect((await harness.failure(spc({ clientID }), { tokens: tokens('no token\r\n') })).message).toContain(
      'is not a token',
    )
  })

  test('T7 tokens are shared by pods of one service account and by nobody else', async () => {
    const clientID = federated()
    for (const name of ['a', 'b', 'c']) await mounted(spc({ clientID }), { name, audiences: [EXCHANGE] })
    expect(harness.fake.entra.calls).toHaveLength(1)
    const failure = await harness.failure(spc({ clientID }), {
      serviceAccount: 'thief',
      audiences: [EXCHANGE],
    })
    expect(failure.message).toContain('AADSTS700213')
  })

  test('sovereign clouds: the cloud’s own audience, or the only one that looks like it', async () => {
    const government = 'api://AzureADTokenExchangeUSGov'
    harness.fake.vault('testkv.vault.usgovcloudapi.net').secret('secret1', 'gov')
    const clientID = federated(government)
    expect(
      await mounted(spc({ clientID, cloudName: 'AzureUSGovernment' }), { audiences: [government] }),
    ).toBe('gov')
    expect(harness.fake.entra.calls[0]?.host).toBe('login.microsoftonline.us')
    const cloud = { authority: 'https://a/', resource: 'https://v', suffix: 'v', audience: government }
    expect(exchangeAudience(cloud, new Set([EXCHANGE, government]))).toBe(EXCHANGE)
    expect(exchangeAudience(cloud, new Set(['x', `${EXCHANGE}Stack`]))).toBe(`${EXCHANGE}Stack`)
    expect(exchangeAudience(cloud, new Set([`${EXCHANGE}A`, `${EXCHANGE}B`]))).toBe(EXCHANGE)
  })
})

describe('service principal', () => {
  const signIn = (secrets: Readonly<Record<string, string>>, tenantID = 't1'): Promise<string | undefined> =>
    mounted(spc({ tenantID }), { secrets })

  test('a wrong secret is refused and not quoted', async () => {
    harness.fake.entra.apps.set('sp', { clientId: 'sp', secret: 'right' })
    const secrets = { clientid: 'sp', clientsecret: 'a-wrong-secret' }
    const failure = await harness.failure(spc(), { secrets })
    expect(failure.message).toContain('invalid_client AADSTS7000215')
    expect(failure.message).not.toContain('a-wrong-secret')
    // The right one at once after it is not hidden by what went wrong.
    expect(await signIn({ clientid: 'sp', clientsecret: 'right' })).toBe('x')
  })

  test('T7 another secret for the same client is another identity', async () => {
    harness.fake.entra.apps.set('sp2', { clientId: 'sp2', secret: 'right' })
    expect(await signIn({ clientid: 'sp2', clientsecret: 'right' })).toBe('x')
    expect(
      (await harness.failure(spc(), { secrets: { clientid: 'sp2', clientsecret: 'guessed' } })).message,
    ).toContain('AADSTS7000215')
  })

  test('a certificate: PEM, PEM with an encrypted key, PKCS#12 with a password; the assertion is verified', async () => {
    const certificate = vector('rsa.crt.pem')
    harness.fake.entra.apps.set('sp3', { clientId: 'sp3', certificate })
    expect(await signIn({ clientid: 'sp3', clientcertificate: vector('rsa.key.pem') + certificate })).toBe(
      'x',
    )
    const { createPrivateKey } = await import('node:crypto')
    const encrypted = createPrivateKey(vector('rsa.key.pem'))
      .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'p' })
      .toString()
    expect(
      await signIn({
        clientid: 'sp3',
        clientcertificate: certificate + encrypted,
        clientcertificatepassword: 'p',
      }),
    ).toBe('x')
    const pfx = readFileSync(join(folder, 'password.pfx')).toString('base64')
    const secrets = { clientid: 'sp3', ClientCertificate: pfx, clientcertificatepassword: 'päss-wörd' }
    expect(await signIn(secrets)).toBe('x')
    expect(harness.fake.entra.calls).toHaveLength(3)
  })

  test('a certificate for AD FS, whose tenant is adfs', async () => {
    const file = join(harness.fake.directory, 'adfs.json')
    const suffix = 'vault.local.stack.test'
    writeFileSync(
      file,
      JSON.stringify({
        activeDirectoryEndpoint: 'https://login.local.stack.test/adfs',
        keyVaultDNSSuffix: suffix,
      }),
    )
    harness.fake.entra.tenants.set('adfs', 't1')
    harness.fake.vault(`testkv.${suffix}`).secret('secret1', 'stack')
    harness.fake.entra.apps.set('sp4', { clientId: 'sp4', certificate: vector('rsa.crt.pem') })
    const secrets = { clientid: 'sp4', clientcertificate: vector('rsa.key.pem') + vector('rsa.crt.pem') }
    const parameters = spc({ tenantID: 'adfs', cloudName: 'AzureStackCloud', cloudEnvFileName: file })
    expect(await mounted(parameters, { secrets })).toBe('stack')
    expect(harness.fake.entra.calls[0]).toMatchObject({
      host: 'login.local.stack.test',
      path: '/adfs/oauth2/token',
    })
  })

  test.each([
    ['junk', {}],
    [Buffer.from('junk').toString('base64'), {}],
    ['-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n', {}],
    ['only-certificate', {}],
    ['other-certificate', {}],
  ])('a certificate that cannot be used is one clear error: %s', async (kind) => {
    harness.fake.entra.apps.set('sp5', { clientId: 'sp5', certificate: vector('rsa.crt.pem') })
    const made: Readonly<Record<string, string>> = {
      'only-certificate': vector('rsa.crt.pem'),
      'other-certificate': vector('rsa.key.pem') + vector('root.crt.pem'),
    }
    const failure = await harness.failure(spc(), {
      secrets: { clientid: 'sp5', clientcertificate: made[kind] ?? kind },
    })
    expect(failure.message).toContain('clientcertificate of the nodePublishSecretRef Secret')
    expect(failure.kind).toBe('config')
  })
})

describe('managed identity of the node', () => {
  test('system-assigned, and user-assigned by client id', async () => {
    expect(await mounted({ ...BASE, objects: secret1 })).toBe('x')
    harness.fake.nodeIdentities.set('assigned-1', 'mi')
    harness.fake.vault(VAULT_HOST).access = new Map([['mi', new Set(['get'] as const)]])
    expect(await mounted({ ...BASE, userAssignedIdentityID: 'assigned-1', objects: secret1 })).toBe('x')
    const unknown = await harness.failure({ ...BASE, userAssignedIdentityID: 'assigned-9', objects: secret1 })
    expect(unknown.message).toContain('instance metadata answered HTTP 400')
    expect(unknown.message).toContain('Assign the managed identity to this node')
  })

  test('T2 it is a use of the node’s identity, which policy can refuse before any call', async () => {
    const strict = await startHarness({
      policy: ({ source }) =>
        source.identity === 'node'
          ? { allowed: false, reason: 'the node’s identity is not for this pod', remedy: 'Ask.' }
          : { allowed: true, marks: [] },
    })
    try {
      expect((await strict.failure({ ...BASE, objects: secret1 })).message).toMatch(/^POLICY_DENIED: /)
      expect(strict.fake.calls).toEqual([])
    } finally {
      await strict.stop()
    }
  })

  test('T2 a pod whose own identity fails is never served by the node’s', async () => {
    const failing: readonly (readonly [Readonly<Record<string, string>>, Pod])[] = [
      [spc({ clientID: 'nobody' }), { audiences: [EXCHANGE] }],
      [spc({ clientID: federated() }), {}],
      [spc(), { secrets: { clientid: 'nobody', clientsecret: 'x' } }],
    ]
    for (const [parameters, pod] of failing) {
      expect((await harness.failure(parameters, pod)).kind).toBe('unauthenticated')
    }
    expect(harness.fake.calls.filter(({ host }) => host === 'agent')).toEqual([])
    expect(harness.fake.vaultCalls()).toEqual([])
  })

  test('instance metadata that is being updated is asked again, a little', async () => {
    let refused = 0
    harness.fake.nodeIdentities.set('assigned-2', 'vm')
    harness.fake.faults.push(({ host }) =>
      host === 'agent' && ++refused <= 2 ? { status: 410, body: {} } : undefined,
    )
    expect(await mounted({ ...BASE, userAssignedIdentityID: 'assigned-2', objects: secret1 })).toBe('x')
    expect(refused).toBe(3)
  })

  test('Azure Arc: the content of the key file that the agent names, and of no other file', async () => {
    const arc = await startHarness({
      env: (fake) => ({ IMDS_ENDPOINT: fake.agentUrl, IDENTITY_ENDPOINT: `${fake.agentUrl}/arc/token` }),
    })
    try {
      arc.fake.vault(VAULT_HOST).secret('secret1', 'arc')
      expect((await arc.mount({ ...BASE, objects: secret1 })).files[0]?.text).toBe('arc')
      const assigned = await arc.failure({ ...BASE, userAssignedIdentityID: 'x1', objects: secret1 })
      expect(assigned.message).toContain('Azure Arc gives a node only its system-assigned identity')
    } finally {
      await arc.stop()
    }
    for (const realm of [
      '/etc/hostname',
      '/var/opt/azcmagent/tokens/absent.key',
      join(harness.fake.directory, 'ca.pem'),
    ]) {
      const hostile = await startHarness({
        env: (fake) => ({ IMDS_ENDPOINT: fake.agentUrl, IDENTITY_ENDPOINT: `${fake.agentUrl}/arc/token` }),
      })
      try {
        const headers = { 'www-authenticate': `Basic realm=${realm}` }
        hostile.fake.faults.push(({ host }) =>
          host === 'agent' ? { status: 401, headers, body: {} } : undefined,
        )
        const failure = await hostile.failure({ ...BASE, objects: secret1 })
        expect(failure.message).toContain("the key file that Azure Arc's agent names cannot be used")
        expect(hostile.fake.calls).toHaveLength(1)
      } finally {
        await hostile.stop()
      }
    }
  })
})

test('pod identity: the agent is told which pod asks, and two pods never share its token', async () => {
  const parameters = spc({ usePodIdentity: 'true' })
  harness.fake.vault(VAULT_HOST).access = new Map([['ns1/pod-a', new Set(['get'] as const)]])
  expect(await mounted(parameters, { name: 'pod-a' })).toBe('x')
  expect((await harness.failure(parameters, { name: 'pod-b' })).message).toContain(
    'HTTP 403 Forbidden, ForbiddenByRbac',
  )
  harness.fake.faults.push(({ path }) =>
    path.startsWith('/host/') ? { status: 403, body: 'secret words' } : undefined,
  )
  const failure = await harness.failure(parameters, { name: 'pod-c' })
  expect(failure.message).toContain('nmi response failed with status code: 403')
  expect(failure.message).not.toContain('secret words')
})

describe('identity binding', () => {
  test('the token request goes to the cluster’s proxy under its own TLS name, with the authority as Host', async () => {
    const clientID = federated(BINDING)
    const connected = harness.fake.connects.length
    expect(await mounted(spc({ clientID, useAzureTokenProxy: 'true' }), { audiences: [BINDING] })).toBe('x')
    expect(harness.fake.entra.calls[0]).toMatchObject({
      host: 'login.microsoftonline.com',
      path: '/t1/oauth2/v2.0/token',
      sni: sniOfCluster('c1-abc'),
    })
    // Only the vault went through the ordinary way.
    expect(harness.fake.connects.slice(connected).filter((host) => host.startsWith('login'))).toEqual([])
  })

  test('the TLS name is that of AKS', () => {
    expect(sniOfCluster('c1-abc')).toMatch(/^a[0-9a-v]{52}\.ests\.aks$/)
  })

  test('without a proxy in the cluster the reason is told', async () => {
    const none = await startHarness({
      settings: (fake) => ({
        tokenProxy: { url: fake.tlsUrl, apiServer: 'https://127.0.0.1:1', caFile: fake.caFile },
      }),
    })
    try {
      const parameters = spc({ clientID: 'c', useAzureTokenProxy: 'true' })
      expect((await none.failure(parameters, { audiences: [BINDING] })).message).toContain(
        'proxy transport not available: no TLS connection to the API server',
      )
    } finally {
      await none.stop()
    }
  })
})

test('HTTPS_PROXY and NO_PROXY are honoured where the configuration says so, as on Azure Arc', async () => {
  const variables = new Map([
    ['https_proxy', 'http://proxy.test:3128'],
    ['NO_PROXY', 'localhost,.internal, vault.azure.cn'],
  ])
  const proxy = (host: string): string | undefined => environmentProxy(host, (name) => variables.get(name))
  expect(proxy('kv.vault.azure.net')).toBe('http://proxy.test:3128')
  expect([proxy('kv.internal'), proxy('kv.vault.azure.cn'), proxy('LOCALHOST')]).toEqual([
    undefined,
    undefined,
    undefined,
  ])
  const arc = await startHarness({
    settings: () => ({ proxy: 'environment' }),
    env: (fake) => ({ HTTPS_PROXY: fake.proxyUrl }),
  })
  try {
    arc.fake.vault(VAULT_HOST).secret('secret1', 'x')
    await arc.mount({ ...BASE, objects: secret1 })
    expect(arc.fake.connects).toEqual([`${VAULT_HOST}:443`])
  } finally {
    await arc.stop()
  }
})

test('T11 a challenge leads to another resource only if the vault lies under it', () => {
  const asked = (challenge: string): string | undefined => challengedResource(challenge, 'kv.vault.azure.net')
  expect(asked('Bearer authorization="https://l/t", resource="https://vault.azure.net"')).toBe(
    'https://vault.azure.net',
  )
  expect(asked('Bearer scope="https://vault.azure.net/.default"')).toBe('https://vault.azure.net')
  for (const bad of [
    'Bearer resource="https://evil.example"',
    'Bearer resource="https://evil-vault.azure.net"',
    'Bearer resource="http://vault.azure.net"',
    'Bearer resource="https://vault.azure.net@evil.example"',
    'Basic realm="x"',
    'Bearer ',
    '',
  ]) {
    expect(asked(bad)).toBeUndefined()
  }
})
