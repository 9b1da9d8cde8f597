/** Conformance cases azure-01 to azure-24, azure-56 and azure-57: parameters, clouds, identities. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { decodeMountRequest } from '../../../src/mount/request.ts'
import { BASE, objects, startHarness, VAULT_HOST, type Harness, type Parameters } from './harness.ts'

let harness: Harness
beforeAll(async () => {
  harness = await startHarness()
})
afterAll(() => harness.stop())
beforeEach(() => {
  harness.fake.calls.length = 0
  harness.fake.entra.calls.length = 0
  harness.fake.vault(VAULT_HOST).secret('secret1', 'secret1value')
})

const secret1 = objects({ objectName: 'secret1', objectType: 'secret' })
const text = async (parameters: Parameters): Promise<string> => (await harness.failure(parameters)).message

function decoded(attributes: Readonly<Record<string, string>>): () => unknown {
  const wire = { secrets: 'null', target_path: '/t', permission: '420' }
  return () => decodeMountRequest({ ...wire, attributes: JSON.stringify(attributes) })
}

test('azure-01 no attributes: the missing pod name is named', () => {
  expect(decoded({})).toThrow(/POD_FACTS_MISSING: .*csi\.storage\.k8s\.io\/pod\.name/)
})

test('azure-02 only the pod name: the missing namespace is named', () => {
  const attempt = decoded({ 'csi.storage.k8s.io/pod.name': 'pod1' })
  expect(attempt).toThrow(/csi\.storage\.k8s\.io\/pod\.namespace/)
  expect(attempt).not.toThrow(/pod\.name,/)
})

test('azure-03 keyvaultName, then the tenant, are missed', async () => {
  expect(await text({})).toContain('keyvaultName is not provided')
  const withVault = await text({ keyvaultName: 'testkv' })
  expect(withVault).toContain('tenantId is not provided')
  expect(withVault).not.toContain('keyvaultName')
})

test.each(['usePodIdentity', 'useVMManagedIdentity'])(
  'azure-04 %s that is no boolean is reported in the words of Go, before a missing keyvaultName',
  async (name) => {
    const message = await text({ [name]: 'tru', tenantID: 't1' })
    const fault = `failed to parse ${name} flag, error: strconv.ParseBool: parsing "tru": invalid syntax`
    expect(message).toContain(fault)
    expect(message.indexOf(fault)).toBeLessThan(message.indexOf('keyvaultName is not provided'))
  },
)

test('azure-05 useAzureTokenProxy takes the booleans of Go, trimmed', async () => {
  const base = { keyvaultName: 'testkv', tenantID: 't1', objects: secret1 }
  expect(await text({ ...base, useAzureTokenProxy: 'invalid' })).toContain(
    'failed to parse useAzureTokenProxy flag, error: strconv.ParseBool: parsing "invalid": invalid syntax',
  )
  for (const isTrue of ['1', ' true ']) {
    expect(await text({ ...base, useAzureTokenProxy: isTrue })).toContain(
      'clientID is required for identity binding',
    )
  }
  expect(await text({ ...base, useAzureTokenProxy: 'FALSE' })).toContain('could not find clientid in secrets')
})

test('azure-06 two identity modes at once are refused', async () => {
  const message = await text({
    ...BASE,
    useVMManagedIdentity: 'false',
    usePodIdentity: 'true',
    useAzureTokenProxy: 'true',
  })
  expect(message).toContain(
    'only one identity mode can be enabled at a time: usePodIdentity, useVMManagedIdentity, or useAzureTokenProxy',
  )
})

test('azure-07 an unknown cloud is refused', async () => {
  expect(await text({ ...BASE, objects: secret1, cloudName: 'AzureCloud1' })).toContain(
    'cloudName AzureCloud1 is not valid, error: autorest/azure: There is no cloud environment matching the name "AZURECLOUD1"',
  )
})

test('azure-08 an environment file that is not there is named', async () => {
  const cloudEnvFileName = '/etc/kubernetes/akscustom.json'
  expect(await text({ ...BASE, objects: secret1, cloudName: 'AzureStackCloud', cloudEnvFileName })).toContain(
    'cloudName AzureStackCloud is not valid, error: open /etc/kubernetes/akscustom.json: no such file or directory',
  )
})

test.each([{}, { objects: '' }, { objects: ' \n ' }])(
  'azure-09 objects missing or blank: %j',
  async (given) => {
    expect(await text({ ...BASE, ...given })).toContain('objects is not set')
  },
)

test('azure-10 a bare list, of texts or of mappings, is read as if under array', async () => {
  for (const list of [
    '- |\n  objectName: secret1\n  objectType: secret\n',
    '- objectName: secret1\n  objectType: secret\n',
    'array:\n  - objectName: secret1\n    objectType: secret\n',
  ]) {
    const { files } = await harness.mount({ ...BASE, objects: list })
    expect(files.map((file) => [file.path, file.text])).toEqual([['secret1', 'secret1value']])
  }
  expect(await text({ ...BASE, objects: 'just a text' })).toContain(
    'failed to yaml unmarshal objects, error: yaml: unmarshal errors:',
  )
})

test.each(['array:', 'array: []', 'array: [null]'])(
  'azure-11 %s (no objects): one clear failure instead of an empty answer, which the driver refuses (driver.md 8.4)',
  async (given) => {
    const failure = await harness.failure({ ...BASE, objects: given })
    expect(failure.message).toMatch(/^NO_OBJECTS: the SecretProviderClass names no object \[config\]/)
  },
)

test('azure-18 names of vaults', async () => {
  const named = (keyvaultName: string): Parameters => ({ ...BASE, keyvaultName, objects: secret1 })
  expect(await text(named('kv'))).toContain('Invalid vault name: "kv", must be between 3 and 24 chars')
  expect(await text(named('a'.repeat(30)))).toContain('must be between 3 and 24 chars')
  expect(await text(named('kv_test'))).toContain(
    'Invalid vault name: "kv_test", must match [-a-zA-Z0-9]{3,24}',
  )
  await harness.mount(named('testkv'))
  // Without objects the name is not looked at.
  expect(await text({ ...named('kv'), objects: '' })).not.toContain('Invalid vault name')
})

test.each([
  ['', 'testkv.vault.azure.net', 'https://vault.azure.net'],
  ['AZUREPUBLICCLOUD', 'testkv.vault.azure.net', 'https://vault.azure.net'],
  ['AZURECHINACLOUD', 'testkv.vault.azure.cn', 'https://vault.azure.cn'],
  ['AZUREGERMANCLOUD', 'testkv.vault.microsoftazure.de', 'https://vault.microsoftazure.de'],
  ['AZUREUSGOVERNMENTCLOUD', 'testkv.vault.usgovcloudapi.net', 'https://vault.usgovcloudapi.net'],
])('azure-19 cloud "%s": host %s', async (cloudName, host) => {
  const vault = harness.fake.vault(host)
  vault.secret('here', 'from this cloud')
  const { files } = await harness.mount({
    ...BASE,
    cloudName,
    objects: objects({ objectName: 'here', objectType: 'secret' }),
  })
  expect(files[0]?.text).toBe('from this cloud')
  expect(harness.fake.calls.at(-1)?.host).toBe(host)
})

test('azure-20 a service principal needs its keys, in any case of letters', async () => {
  const parameters = { keyvaultName: 'testkv', tenantID: 't1', objects: secret1 }
  const failing = async (secrets?: Readonly<Record<string, string>>): Promise<string> =>
    (await harness.failure(parameters, secrets === undefined ? {} : { secrets })).message
  expect(await failing()).toContain(
    'failed to build auth config for mode None: failed to get credentials, nodePublishSecretRef secret is not set',
  )
  expect(await failing({})).toContain('could not find clientid in secrets')
  expect(await failing({ clientid: 'a' })).toContain('could not find clientsecret in secrets')
  harness.fake.entra.apps.set('a', { clientId: 'a', secret: ' b ' })
  const { files } = await harness.mount(parameters, { secrets: { ClientID: 'a', CLIENTSECRET: ' b ' } })
  expect(files[0]?.text).toBe('secret1value')
  expect(harness.fake.entra.calls.at(-1)?.form).toMatchObject({
    client_id: 'a',
    client_secret: ' b ',
    scope: 'https://vault.azure.net/.default',
  })
})

const workload = { keyvaultName: 'testkv', tenantID: 't1', clientID: 'c', objects: secret1 }

test('azure-21 clientID without tokens', async () => {
  const failure = await harness.failure(workload)
  expect(failure.message).toContain(
    'failed to build auth config for mode None: failed to parse workload identity tokens, error: service account tokens not found',
  )
  expect(failure.message).toContain('{audience: "api://AzureADTokenExchange"} under tokenRequests')
  expect(failure.kind).toBe('unauthenticated')
})

test('azure-22 tokens for another audience only, or of another type', async () => {
  expect((await harness.failure(workload, { audiences: ['vault'] })).message).toContain(
    'token for audience api://AzureADTokenExchange not found',
  )
  const number = JSON.stringify({
    'api://AzureADTokenExchange': { token: 5, expirationTimestamp: '2036-01-01T00:00:00Z' },
  })
  expect((await harness.failure(workload, { tokens: number })).message).toContain(
    'failed to parse workload identity tokens, error: service account tokens not found',
  )
  expect((await harness.failure(workload, { tokens: 'not json' })).message).toContain('TOKENS_MALFORMED')
})

test('azure-23 identity binding needs a client id and a token of its audience', async () => {
  const binding = { ...workload, useAzureTokenProxy: 'true' }
  const { clientID: _, ...anonymous } = binding
  expect(await text(anonymous)).toContain('clientID is required for identity binding')
  expect(await text(binding)).toContain('service account tokens are required for identity binding')
  expect((await harness.failure(binding, { audiences: ['api://AzureADTokenExchange'] })).message).toContain(
    'failed to parse service account token for identity binding, error: token for audience api://AKSIdentityBinding not found',
  )
})

const trustWeb = (audience = 'api://AzureADTokenExchange'): void => {
  harness.fake.entra.apps.set('c', {
    clientId: 'c',
    federated: [{ issuer: harness.fake.cluster.issuer, subject: 'system:serviceaccount:ns1:web', audience }],
  })
}

test('azure-24 tenantID wins over tenantId', async () => {
  trustWeb()
  harness.fake.entra.tenants.set('new', 't1').set('old', 't9')
  const { tenantID: _, ...rest } = workload
  await harness.mount(
    { ...rest, tenantId: 'old', tenantID: 'new' },
    { audiences: ['api://AzureADTokenExchange'] },
  )
  expect(harness.fake.entra.calls.map(({ path }) => path)).toEqual(['/new/oauth2/v2.0/token'])
})

test.each(['contoso.example', '11111111-2222-3333-4444-55555555ABCD'])(
  'azure-56 the challenge names another tenant than %s, and the token is asked of the one in the class',
  async (tenantID) => {
    trustWeb()
    harness.fake.entra.tenants.set(tenantID.toLowerCase(), 't1')
    // The vault asks for a resource that the cloud does not say, so that its challenge is looked at.
    const vault = harness.fake.vault('odd.vault.azure.net')
    vault.resource = 'https://azure.net'
    vault.secret('secret1', 'odd')
    const { files } = await harness.mount(
      { ...workload, keyvaultName: 'odd', tenantID },
      { audiences: ['api://AzureADTokenExchange'] },
    )
    expect(files[0]?.text).toBe('odd')
    expect(new Set(harness.fake.entra.calls.map(({ path }) => path))).toEqual(
      new Set([`/${tenantID}/oauth2/v2.0/token`]),
    )
  },
)

test('azure-57 attributes that are no JSON are refused; empty secrets and permission are taken for none (driver.md 8.2)', () => {
  const wire = { attributes: '', secrets: '', target_path: '', permission: '' }
  expect(() => decodeMountRequest(wire)).toThrow('BAD_REQUEST: attributes is not a JSON object of strings')
  const attributes = JSON.stringify(
    Object.fromEntries(
      ['pod.name', 'pod.namespace', 'pod.uid', 'serviceAccount.name'].map((key) => [
        `csi.storage.k8s.io/${key}`,
        'x',
      ]),
    ),
  )
  const request = decodeMountRequest({ ...wire, attributes })
  expect([request.defaultMode, request.nodePublishSecret.size]).toEqual([0o644, 0])
  expect(() => decodeMountRequest({ ...wire, attributes, permission: 'rw' })).toThrow('BAD_REQUEST')
  expect(() => decodeMountRequest({ ...wire, attributes, secrets: '[]' })).toThrow('BAD_REQUEST')
})

test('azure section 6: a custom environment file, read anew when it changes, and never of use to another class', async () => {
  const file = join(harness.fake.directory, 'stack.json')
  const describe = (name: string): void =>
    writeFileSync(
      file,
      JSON.stringify({
        name: 'AzureStackCloud',
        ACTIVEDIRECTORYENDPOINT: 'https://login.local.stack.test',
        keyVaultEndpoint: `https://${name}`,
        keyVaultDNSSuffix: name,
      }),
    )
  describe('vault.local.stack.test')
  trustWeb()
  const vault = harness.fake.vault('testkv.vault.local.stack.test')
  vault.secret('secret1', 'stack')
  const stack = { ...workload, cloudName: 'azurestackcloud', cloudEnvFileName: file }
  const pod = { audiences: ['api://AzureADTokenExchange'] }
  expect((await harness.mount(stack, pod)).files[0]?.text).toBe('stack')
  expect(harness.fake.entra.calls.at(-1)?.host).toBe('login.local.stack.test')
  // The file of one class leaks into the next in the vendor's provider.
  const { cloudEnvFileName: _, ...nameless } = stack
  expect((await harness.failure(nameless, pod)).message).toContain('error: no file describes it')
  describe('no suffix at all')
  expect((await harness.failure(stack, pod)).message).toContain('has no usable keyVaultDNSSuffix')
  const outside = { ...stack, cloudEnvFileName: '/etc/hostname' }
  expect((await harness.failure(outside, pod)).message).toContain(
    'it is outside of the directories for environment files',
  )
})
