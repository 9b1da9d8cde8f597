/** Names, addresses, checksums and the refs of `provider: keyferry`: the pure parts on their own. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AgentPools } from '../../../src/net/agents.ts'
import { PlanError, type Host } from '../../../src/providers/adapter.ts'
import { crc32c, fitsChecksum } from '../../../src/providers/gcp/crc32c.ts'
import { baseUrl } from '../../../src/providers/gcp/fetching.ts'
import { isServiceAccountEmail, parseResourceName } from '../../../src/providers/gcp/names.ts'
import { secretManagerBackend } from '../../../src/providers/gcp/secret-manager.ts'
import { parameterManagerBackend } from '../../../src/providers/gcp/parameter-manager.ts'
import { isEndpoint } from '../../../src/providers/gcp/settings.ts'
import { SecretBytes } from '../../../src/telemetry/secret-bytes.ts'
import { backendContext } from '../../support/backend-context.ts'
import { checksum } from './fake-stores.ts'

describe('names', () => {
  it.each([
    ['projects/p/secrets/s/versions/latest', { kind: 'secret', location: undefined }],
    ['projects/example.com:p/secrets/s/versions/1', { kind: 'secret', location: undefined }],
    ['projects/p/locations/europe-west3/secrets/s/versions/1', { kind: 'secret', location: 'europe-west3' }],
    ['projects/1/locations/global/parameters/q/versions/blue', { kind: 'parameter', location: undefined }],
    ['projects/1/locations/us-east1/parameters/q/versions/v', { kind: 'parameter', location: 'us-east1' }],
  ])('gcp section 5 %s is read', (name, resource) => {
    expect(parseResourceName(name)).toEqual(resource)
  })

  it('T11 whatever the name, the host that a URL of it has is Google’s', () => {
    const segment = fc.oneof(
      fc.string(),
      fc.constantFrom('a', 'x@evil.example', 'evil#', '..', '%2e%2e', 'a?b', 'a\\b'),
    )
    const names = fc
      .tuple(segment, segment, segment, segment)
      .map(([p, l, s, v]) => `projects/${p}/locations/${l}/secrets/${s}/versions/${v}`)
    fc.assert(
      fc.property(fc.oneof(names, fc.string()), (name) => {
        const parsed = parseResourceName(name)
        if ('fault' in parsed) return
        const url = new URL(`${baseUrl('secretmanager', parsed, {})}/v1/${name}:access`)
        expect(url.hostname).toMatch(/^secretmanager(?:\.[a-z][a-z0-9-]*\.rep)?\.googleapis\.com$/)
        expect(url.pathname).toBe(`/v1/${name}:access`)
        expect(url.search + url.hash + url.username + url.port).toBe('')
      }),
      { numRuns: 2000 },
    )
  })

  it.each(['a@b.c', 'app-1@acme-prod.iam.gserviceaccount.com', '1-compute@developer.gserviceaccount.com'])(
    '%s is an address of a service account',
    (email) => expect(isServiceAccountEmail(email)).toBe(true),
  )

  it.each([
    '',
    'a',
    'a@',
    '@b',
    'a@b/c',
    'a/b@c',
    'a@b?c',
    'a@b:c',
    'a b@c',
    '../x@y',
    `${'a'.repeat(260)}@b`,
  ])('T11 %j is none', (email) => expect(isServiceAccountEmail(email)).toBe(false))

  it.each([
    ['https://secretmanager.{location}.p.example.com', true],
    ['http://127.0.0.1:8080', true],
    ['http://localhost', true],
    ['http://[::1]:1', true],
    ['http://127.0.0.1.evil.example', false],
    ['http://10.0.0.1', false],
    ['ftp://127.0.0.1', false],
    ['nonsense', false],
  ])('T13 %s may carry a token: %s', (url, good) => expect(isEndpoint(url)).toBe(good))
})

describe('CRC-32C', () => {
  it('gcp section 6 has its check value', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283)
    expect(crc32c(Buffer.from('correct-horse'))).toBe(2379042287)
    expect(crc32c(Buffer.alloc(0))).toBe(0)
  })

  it('agrees with a bit-by-bit one, and sees every changed byte', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.nat(), (bytes, at) => {
        expect(String(crc32c(bytes))).toBe(checksum(bytes))
        const changed = Uint8Array.from(bytes)
        const index = at % bytes.length
        changed[index] = (changed[index] ?? 0) ^ 1
        expect(fitsChecksum(checksum(bytes), changed)).toBe(false)
      }),
    )
  })

  it('a checksum that is no decimal text or number fits nothing', () => {
    for (const claimed of [null, {}, [], true, '', '0x0', ' 0'])
      expect(fitsChecksum(claimed, Buffer.alloc(0))).toBe(false)
    expect(fitsChecksum(undefined, Buffer.alloc(0))).toBe(true)
    expect(fitsChecksum('0', Buffer.alloc(0))).toBe(true)
  })
})

describe('refs of provider: keyferry', () => {
  const secrets = secretManagerBackend(backendContext())
  const parameters = parameterManagerBackend(backendContext())
  const store = { project: 'acme-prod', location: 'europe-west3' }

  it.each([
    [{ key: 'db' }, {}, 'projects/acme-prod/locations/europe-west3/secrets/db/versions/latest'],
    [{ key: 'db', version: '7' }, { location: 'global' }, 'projects/acme-prod/secrets/db/versions/7'],
    [{ key: 'projects/other/secrets/db', version: '7' }, {}, 'projects/other/secrets/db/versions/7'],
    [{ key: 'projects/other/secrets/db/versions/1' }, {}, 'projects/other/secrets/db/versions/1'],
  ])('%j of the store and %j is the resource %s', (item, more, url) => {
    expect(secrets.keys?.({ ...store, ...more }, secrets.ref(item))).toEqual([url])
  })

  it('a parameter needs its version', () => {
    expect(parameters.keys?.({ project: 'p' }, parameters.ref({ key: 'web', version: 'blue' }))).toEqual([
      'projects/p/locations/global/parameters/web/versions/blue',
    ])
    expect(() => parameters.ref({ key: 'web' })).toThrow(PlanError)
  })

  it('an unknown argument, or a version in both places, is refused', () => {
    expect(() => secrets.ref({ key: 'db', args: { stage: 'x' } })).toThrow('no argument "stage"')
    expect(() => secrets.ref({ key: 'projects/p/secrets/s/versions/1', version: '2' })).toThrow(PlanError)
  })

  it('a name without a project, and one of the other kind, cannot be fetched', () => {
    expect(() => secrets.keys?.({}, secrets.ref({ key: 'db' }))).toThrow('names no project')
    const parameter = secrets.ref({ key: 'projects/p/locations/global/parameters/q', version: 'v' })
    expect(() => secrets.keys?.({}, parameter)).toThrow('is a parameter, not a secret')
  })

  it('refs that differ have keys that differ', () => {
    const [one, two] = [secrets.ref({ key: 'a', version: '1' }), secrets.ref({ key: 'a', version: '2' })]
    expect(secrets.refKey(one)).not.toBe(secrets.refKey(two))
    expect(secrets.refKey({ name: 'a', parts: 'top-level' })).not.toBe(secrets.refKey({ name: 'a' }))
  })
})

describe('T18 turns', () => {
  it.each([
    ['a secret', secretManagerBackend, { key: 'db' }],
    ['a parameter', parameterManagerBackend, { key: 'web', version: 'blue' }],
  ])('%s is asked for in the turn of the namespace of its pod', async (_, make, item) => {
    const turns: (string | undefined)[] = []
    const backend = make(
      backendContext({
        http: {
          agents: (to) => new AgentPools({ rules: { refused: [] } }).get(to),
          send: ({ turn }) => {
            turns.push(turn)
            return Promise.resolve({ status: 404, headers: {}, body: Buffer.from('{}') })
          },
        },
      }),
    )
    const host = {
      pod: { namespace: 'shop', name: 'web-0', uid: 'u', serviceAccount: 'web' },
      identity: 'node',
      signal: AbortSignal.timeout(5000),
      audiences: new Set(),
      nodePublishSecret: () => undefined,
      serviceAccountAnnotation: () => Promise.resolve(undefined),
      session: () => Promise.resolve({ token: SecretBytes.copyOf('t'), member: 'm' }),
    } as unknown as Host
    await backend.resolve({ project: 'p', auth: 'provider-adc' }, [backend.ref(item)], host)
    expect(turns).toEqual(['shop'])
  })
})
