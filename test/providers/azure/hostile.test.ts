/** What vaults refuse, what they must never be believed, and how they are spared. */
import { gzipSync } from 'node:zlib'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { vaultPaces } from '../../../src/providers/azure/throttle.ts'
import { makePkcs12 } from '../../formats/make-pkcs12.ts'
import type { Fault } from './fake-azure.ts'
import { vaultError } from './fake-vault.ts'
import { BASE, objects, startHarness, VAULT_HOST, type Harness } from './harness.ts'

let harness: Harness
beforeEach(async () => {
  harness = await startHarness()
})
afterEach(() => harness.stop())

const CANARY = 'canary-4711-value'
const spc = (...list: readonly Readonly<Record<string, string | number>>[]) => ({
  ...BASE,
  objects: objects(...list),
})
const secret1 = spc({ objectName: 'secret1', objectType: 'secret' })
/** Answers of the vault are replaced. */
const vaultFault = (fault: Fault): void =>
  void harness.fake.faults.push((call) => (call.host === VAULT_HOST ? fault(call) : undefined))
const answers = (body: unknown): void => vaultFault(() => ({ status: 200, body }))
const id = `https://${VAULT_HOST}/secrets/secret1/v1`

describe('answers that are none', () => {
  test.each([
    ['no value', 'secret', { id }, 'secret value is nil'],
    ['a value that is no text', 'secret', { id, value: 5 }, 'secret value is nil'],
    ['no id', 'secret', { value: CANARY }, 'secret id is nil'],
    ['an id that is no address', 'secret', { value: CANARY, id: CANARY }, 'secret id is nil'],
    ['null', 'secret', null, 'the answer is not a secret'],
    ['a list', 'secret', [CANARY], 'the answer is not a secret'],
    ['no JSON', 'secret', `<html>${CANARY}`, 'the answer is not a secret'],
    [
      'a certificate’s secret without contentType',
      'secret',
      { id, value: CANARY, kid: 'k' },
      "unknown content type ''",
    ],
    [
      'a contentType that is hostile',
      'secret',
      { id, value: 'x', kid: 'k', contentType: `\u001b[31m${CANARY}` },
      "unknown content type '?'",
    ],
    ['no key', 'key', {}, 'key value is nil'],
    ['a key without kid', 'key', { key: { kty: 'RSA' } }, 'key id is nil'],
    [
      'a key without kty',
      'key',
      { key: { kid: id } },
      "failed to get key. key type '?' currently not supported",
    ],
    [
      'an EC key without crv',
      'key',
      { key: { kid: id, kty: 'EC', x: 'AA', y: 'AA' } },
      'failed to get key. the key has no curve',
    ],
    ['a key of numbers', 'key', { key: { kid: 5 } }, 'the answer is not a key'],
    ['no cer', 'cert', { id }, 'certificate value is nil'],
    ['a certificate without id', 'cert', { cer: 'AA==' }, 'certificate id is nil'],
    [
      'a cer that is no base64',
      'cert',
      { id, cer: CANARY },
      'the certificate is not base64: illegal base64 data',
    ],
  ])('%s (%s) is one plain error that quotes nothing', async (_, objectType, body, words) => {
    answers(body)
    const failure = await harness.failure(spc({ objectName: 'secret1', objectType }))
    expect(failure.message).toContain(words)
    expect(failure.message).toContain(
      `failed to get objectType:${objectType}, objectName:secret1, objectVersion:: `,
    )
    expect(failure.kind).toBe('malformed')
    expect(failure.message + JSON.stringify(harness.logged)).not.toContain(CANARY)
  })

  test.each([
    ['a null item', { value: [null] }],
    ['an item without id', { value: [{ attributes: { enabled: true } }] }],
    [
      'an id without version',
      { value: [{ id: `https://${VAULT_HOST}/secrets/secret1`, attributes: { enabled: true } }] },
    ],
    [
      'a version that is a path',
      { value: [{ id: `https://${VAULT_HOST}/secrets/secret1/..%2f..`, attributes: { enabled: true } }] },
    ],
    ['no list', { value: 'x' }],
  ])('a list of versions with %s is a plain error', async (_, body) => {
    answers(body)
    const failure = await harness.failure(
      spc({ objectName: 'secret1', objectType: 'secret', objectVersionHistory: 3 }),
    )
    expect(failure.message).toMatch(/the (?:answer is not a list|list of versions holds one without id)/)
    expect(failure.kind).toBe('malformed')
  })

  test('T11 a nextLink to another host is not followed, and nobody there sees the token', async () => {
    const other = harness.fake.vault('thief.vault.azure.net')
    for (const nextLink of [
      `https://${other.host}/secrets/secret1/versions`,
      'http://169.254.169.254/',
      '//thief.vault.azure.net/x',
    ]) {
      harness.fake.faults.length = 0
      answers({ value: [], nextLink })
      const failure = await harness.failure(
        spc({ objectName: 'secret1', objectType: 'secret', objectVersionHistory: 3 }),
      )
      expect(failure.message).toContain('vault testkv names another host to go on with')
    }
    expect(harness.fake.calls.filter(({ host }) => host === other.host)).toEqual([])
  })

  test('a nextLink to itself for ever ends', async () => {
    answers({ value: [], nextLink: `https://${VAULT_HOST}/secrets/secret1/versions` })
    const failure = await harness.failure(
      spc({ objectName: 'secret1', objectType: 'secret', objectVersionHistory: 3 }),
    )
    expect(failure.message).toContain('the object has more than 5000 versions')
    expect(failure.kind).toBe('too-large')
  })

  test('T11 a redirect is not followed', async () => {
    vaultFault(() => ({ status: 307, headers: { location: 'https://thief.vault.azure.net/' }, body: '' }))
    expect((await harness.failure(secret1)).message).toContain('vault testkv answered HTTP 307')
    expect(harness.fake.calls.filter(({ host }) => host.startsWith('thief'))).toEqual([])
  })

  test('T14 a PFX that asks for 2147483647 iterations costs nothing', async () => {
    const pfx = makePkcs12({ safes: [], mac: { digestOid: '1.3.14.3.2.26', iterations: 2 ** 31 - 1 } })
    harness.fake
      .vault(VAULT_HOST)
      .certificateSecret('secret1', pfx.toString('base64'), 'application/x-pkcs12')
    expect((await harness.failure(secret1)).message).toContain('ask for more than 1000000 iterations')
  })

  test('T14 an answer that unpacks to 64 MiB is cut off', async () => {
    const bomb = gzipSync(Buffer.alloc(64 << 20, 0x20))
    vaultFault(() => ({
      status: 200,
      headers: { 'content-encoding': 'gzip' },
      body: bomb.toString('latin1'),
    }))
    const failure = await harness.failure(secret1)
    expect(['too-large', 'malformed']).toContain(failure.kind)
  })
})

describe('refusals', () => {
  test.each([
    [403, 'Forbidden', 'ForbiddenByRbac', 'AZURE_DENIED', 'denied', 'Give the identity the get permission'],
    [403, 'Forbidden', 'AccessDenied', 'AZURE_DENIED', 'denied', 'Give the identity the get permission'],
    [403, 'Forbidden', 'ForbiddenByFirewall', 'AZURE_NETWORK', 'denied', 'firewall'],
    [403, 'Forbidden', 'ForbiddenByConnection', 'AZURE_NETWORK', 'denied', 'private endpoint'],
    [403, 'Forbidden', 'SecretDisabled', 'AZURE_DISABLED', 'denied', 'Enable the object'],
    [404, 'SecretNotFound', undefined, 'AZURE_NOT_FOUND', 'not-found', 'Check objectName'],
    [400, 'BadParameter', undefined, 'AZURE_REQUEST', 'config', 'Check objectName and objectVersion'],
    [503, 'ServiceUnavailable', undefined, 'AZURE_UNREACHABLE', 'unavailable', 'health of Key Vault'],
  ] as const)('azure section 8: %i %s %s', async (status, code, inner, ours, kind, remedy) => {
    vaultFault(() => vaultError(status, code, inner))
    const failure = await harness.failure(secret1)
    const names = inner === undefined ? code : `${code}, ${inner}`
    expect(failure.message).toContain(`vault testkv answered HTTP ${status} ${names} [${kind}]`)
    expect(failure.message).toContain(remedy)
    expect(failure.message).not.toContain('sensitive-looking')
    expect(failure.failures[0]?.code).toBe(ours)
  })

  test('a 404 that is not Key Vault’s does not make an optional object disappear', async () => {
    harness.fake.vault(VAULT_HOST).secret('other', 'x')
    vaultFault(({ path }) =>
      path.includes('secret1') ? { status: 404, body: '<html>proxy</html>' } : undefined,
    )
    const failure = await harness.failure(
      spc(
        { objectName: 'secret1', objectType: 'secret', optional: 'true' },
        { objectName: 'other', objectType: 'secret' },
      ),
    )
    expect(failure.message).toContain('vault testkv answered HTTP 404 [malformed]')
  })

  test('a token that the vault no longer takes is renewed once, by all objects together', async () => {
    const vault = harness.fake.vault(VAULT_HOST)
    const names = ['a', 'b', 'c', 'd']
    for (const name of names) vault.secret(name, name)
    const all = spc(...names.map((objectName) => ({ objectName, objectType: 'secret' })))
    await harness.mount(all)
    harness.fake.entra.issued.clear()
    harness.fake.calls.length = 0
    expect((await harness.mount(all)).files.map(({ text }) => text)).toEqual(names)
    expect(harness.fake.calls.filter(({ host }) => host === 'agent')).toHaveLength(1)
    // A vault of another tenant takes no token at all: two calls, not a loop.
    vault.tenant = 'elsewhere'
    harness.fake.calls.length = 0
    expect((await harness.failure(secret1)).message).toContain('HTTP 401 Unauthorized [unauthenticated]')
    expect(harness.fake.vaultCalls()).toHaveLength(2)
  })

  test('objects that fail for one cause of the vault are told together', async () => {
    vaultFault(() => vaultError(403, 'Forbidden', 'ForbiddenByFirewall'))
    const list = ['a', 'b', 'c'].map((objectName) => ({ objectName, objectType: 'secret' }))
    expect((await harness.failure(spc(...list))).message).toMatch(
      /^AZURE_NETWORK: objects "a", "b", "c": vault testkv answered HTTP 403 Forbidden, ForbiddenByFirewall \[denied\]\. /,
    )
  })

  test('a vault that never answers: a final failure when the mount’s time is over', async () => {
    vaultFault(() => 'hang')
    const failure = await harness.failure(secret1, { signal: AbortSignal.timeout(500) })
    expect(failure.kind).toBe('timeout')
    expect(failure.grpcCode).toBe(9)
  })

  test('a token endpoint that never answers: the same', async () => {
    harness.fake.faults.push(({ host }) => (host === 'agent' ? 'hang' : undefined))
    const failure = await harness.failure(secret1, { signal: AbortSignal.timeout(500) })
    expect(failure.kind).toBe('timeout')
  })
})

describe('restraint', () => {
  test('azure section 14: a 429 with Retry-After is waited for, then the mount goes on', async () => {
    harness.fake.vault(VAULT_HOST).secret('secret1', 'x')
    let refused = 0
    vaultFault(() =>
      ++refused === 1 ? vaultError(429, 'Throttled', undefined, { 'retry-after': '1' }) : undefined,
    )
    const started = performance.now()
    expect((await harness.mount(secret1)).files[0]?.text).toBe('x')
    expect(performance.now() - started).toBeGreaterThan(950)
  })

  test('azure section 14: a 429 without Retry-After is waited for too', async () => {
    harness.fake.vault(VAULT_HOST).secret('secret1', 'x')
    let refused = 0
    vaultFault(() => (++refused === 1 ? vaultError(429, 'Throttled') : undefined))
    const started = performance.now()
    expect((await harness.mount(secret1)).files[0]?.text).toBe('x')
    expect(performance.now() - started).toBeGreaterThan(450)
  })

  test('azure section 14: while a vault asks for a pause nobody calls it, another identity neither', async () => {
    vaultFault(() => vaultError(429, 'Throttled', undefined, { 'retry-after': '60' }))
    expect((await harness.failure(secret1)).message).toContain(
      'vault testkv answered HTTP 429 Throttled [throttled]',
    )
    const calls = harness.fake.vaultCalls().length
    harness.fake.entra.apps.set('sp', { clientId: 'sp', secret: 's' })
    const { useVMManagedIdentity: _, ...parameters } = secret1
    const failure = await harness.failure(parameters, { secrets: { clientid: 'sp', clientsecret: 's' } })
    expect(failure.message).toContain('HTTP 429')
    expect(harness.fake.vaultCalls()).toHaveLength(calls)
    // Another vault is not concerned.
    harness.fake.vault('other.vault.azure.net').secret('secret1', 'x')
    expect((await harness.mount({ ...secret1, keyvaultName: 'other' })).files[0]?.text).toBe('x')
  })

  test('pauses double, are one for calls refused together, and end with an answer', () => {
    const pace = vaultPaces(() => 1)('kv')
    const at = (seconds: number): Date => new Date(seconds * 1000)
    expect(pace.throttled(at(0), undefined)).toBe(1000)
    expect(pace.throttled(at(0.5), undefined)).toBe(1000)
    expect(pace.throttled(at(2), undefined)).toBe(2000)
    expect(pace.throttled(at(10), undefined)).toBe(4000)
    expect(pace.pausedFor(at(11))).toBe(3000)
    pace.answered()
    expect(pace.throttled(at(20), undefined)).toBe(1000)
    expect(pace.throttled(at(30), 86_400_000)).toBe(600_000)
  })

  test('T7 100 pods of one service account with 10 objects: one token request, 10 calls to the vault', async () => {
    const cached = await startHarness({ cache: { freshForMs: 30_000 } })
    try {
      const { fake } = cached
      const names = Array.from({ length: 10 }, (_, index) => `s${index}`)
      for (const name of names) fake.vault(VAULT_HOST).secret(name, name)
      const audience = 'api://AzureADTokenExchange'
      const subject = 'system:serviceaccount:ns1:web'
      fake.entra.apps.set('c', {
        clientId: 'c',
        federated: [{ issuer: fake.cluster.issuer, subject, audience }],
      })
      const parameters = {
        keyvaultName: 'testkv',
        tenantID: 't1',
        clientID: 'c',
        objects: objects(...names.map((objectName) => ({ objectName, objectType: 'secret' }))),
      }
      const pods = Array.from({ length: 100 }, (_, index) => ({
        name: `web-${index}`,
        audiences: [audience],
      }))
      const seen = await Promise.all(pods.map((pod) => cached.mount(parameters, pod)))
      expect(seen.every(({ files }) => files.length === 10 && files[9]?.text === 's9')).toBe(true)
      expect(fake.entra.calls).toHaveLength(1)
      expect(fake.vaultCalls()).toHaveLength(10)
    } finally {
      await cached.stop()
    }
  })

  test('20 objects are asked for at once, not one after the other', async () => {
    const names = Array.from({ length: 20 }, (_, index) => `s${index}`)
    for (const name of names) harness.fake.vault(VAULT_HOST).secret(name, name)
    harness.fake.delayMs = 500
    await harness.mount(spc(...names.map((objectName) => ({ objectName, objectType: 'secret' }))))
    expect(harness.fake.mostAtOnce).toBe(20)
  })
})

test('nothing of a secret, key or token is in any log line of a day of failures', async () => {
  const folder = join(import.meta.dirname, '../../vectors/pkcs12')
  const vault = harness.fake.vault(VAULT_HOST)
  vault.secret('plain', CANARY)
  vault.certificateSecret(
    'cert',
    readFileSync(join(folder, 'rc2-40.pfx')).toString('base64'),
    'application/x-pkcs12',
  )
  await harness.mount(
    spc({ objectName: 'plain', objectType: 'secret' }, { objectName: 'cert', objectType: 'secret' }),
  )
  await harness.failure(spc({ objectName: 'plain', objectType: 'secret', objectEncoding: 'hex' }))
  await harness.failure(spc({ objectName: 'absent', objectType: 'secret' }))
  const logged = JSON.stringify(harness.logged)
  expect(logged).not.toContain(CANARY)
  expect(logged).not.toContain('PRIVATE KEY')
  for (const token of harness.fake.entra.issued.keys()) expect(logged).not.toContain(token)
})
