/** gcp.md, cases G30 to G34 and G50 to G52, and sections 6, 8, 9: fetching, failures, metrics, what is logged. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { REGIONS } from './fake-servers.ts'
import { LATEST, POOL, SECRET, startHarness, WEB } from './harness.ts'
import type { Harness } from './harness.ts'

let node: Harness
beforeEach(async () => {
  node = await startHarness()
  node.google.stores.addSecret(SECRET, 'correct-horse', WEB)
})
afterEach(() => node.stop())

const entry = { resourceName: LATEST, path: 'f' }

/** Three entries of which one is disabled and one denied. */
function broken() {
  const { stores } = node.google
  stores.addSecret('projects/acme-prod/secrets/off', 'x', WEB)
  stores.setState('projects/acme-prod/secrets/off', 1, 'DISABLED')
  stores.addSecret('projects/acme-prod/secrets/foreign', 'x')
  return [
    entry,
    { resourceName: 'projects/acme-prod/secrets/off/versions/latest', path: 'off' },
    { resourceName: 'projects/acme-prod/secrets/foreign/versions/1', path: 'foreign' },
  ]
}

describe('failures', () => {
  it('gcp-30 of three entries one disabled and one denied: both are told, and there are no files', async () => {
    const { grpcCode, message, failures } = await node.failure(broken())
    // driver.md 8.3: denied is PERMISSION_DENIED; Google's provider says Internal for everything.
    expect(grpcCode).toBe(7)
    expect(failures.map(({ code, kind, object }) => [code, kind, object])).toEqual([
      ['GCP_FAILED_PRECONDITION', 'gone', 'projects/acme-prod/secrets/off/versions/latest'],
      ['GCP_PERMISSION_DENIED', 'denied', 'projects/acme-prod/secrets/foreign/versions/1'],
    ])
    expect(message).toContain('Secret Version [projects/8142/secrets/off/versions/1] is in DISABLED state.')
    expect(message).toContain("Permission 'secretmanager.versions.access' denied")
    expect(message).toContain(`Grant roles/secretmanager.secretAccessor on the secret to ${WEB}`)
    expect(node.google.callsOf('access')).toHaveLength(3)
  })

  it('gcp-31 the same failure has the same text twenty times', async () => {
    const entries = broken()
    const texts = new Set<string>()
    for (let i = 0; i < 20; i += 1) texts.add((await node.failure(entries)).message)
    expect(texts.size).toBe(1)
  })

  it('gcp-32 503 twice and then an answer is a success with three calls', async () => {
    node.google.fault('access', { status: 503 }, 2)
    expect((await node.mount([entry])).files[0]?.text).toBe('correct-horse')
    expect(node.google.callsOf('access').map(({ status }) => status)).toEqual([503, 503, 200])
  })

  it('gcp-33 429 and then an answer is a success after a pause', async () => {
    node.google.fault('access', {
      status: 429,
      headers: { 'retry-after': '1' },
      body: { error: { code: 429, status: 'RESOURCE_EXHAUSTED', message: 'Quota exceeded' } },
    })
    const began = performance.now()
    expect((await node.mount([entry])).files[0]?.text).toBe('correct-horse')
    expect(performance.now() - began).toBeGreaterThan(950)
    expect(node.google.callsOf('access')).toHaveLength(2)
  })

  const wrongSum = (body: Record<string, unknown>) => ({
    ...body,
    payload: { ...(body['payload'] as object), dataCrc32c: '1' },
  })

  it('gcp-34 a wrong checksum once costs one more call', async () => {
    node.google.fault('access', { change: wrongSum })
    expect((await node.mount([entry])).files[0]?.text).toBe('correct-horse')
    expect(node.google.callsOf('access')).toHaveLength(2)
  })

  it('gcp-34 a wrong checksum always is DATA_LOSS', async () => {
    node.google.fault('access', { change: wrongSum }, Infinity)
    const { grpcCode, message } = await node.failure([entry])
    expect(grpcCode).toBe(15)
    expect(message).toContain('DATA_LOSS')
    expect(node.google.callsOf('access')).toHaveLength(2)
  })

  it('gcp-34 no checksum is fine', async () => {
    const change = (body: Record<string, unknown>) => ({
      ...body,
      payload: { data: (body['payload'] as { data: string }).data },
    })
    node.google.fault('access', { change })
    expect((await node.mount([entry])).files[0]?.text).toBe('correct-horse')
  })

  it.each([
    ['without payload', { change: ({ name }: Record<string, unknown>) => ({ name }) }],
    ['with a payload that is no object', { change: () => ({ name: 'n', payload: 'x' }) }],
    ['that is a list', { change: () => [] }],
    ['that is null', { change: () => null }],
    ['that is HTML', { status: 200, body: '<html>secret</html>' }],
    ['with a payload that is no base64', { change: () => ({ name: 'n', payload: { data: '%%%' } }) }],
    ['without name', { change: ({ payload }: Record<string, unknown>) => ({ payload }) }],
    ['with a name that is no name', { change: (b: object) => ({ ...b, name: 'a\nb <script>' }) }],
    ['with a member __proto__', { status: 200, body: '{"__proto__":{"payload":{"data":""}},"name":"n"}' }],
  ])('gcp section 6 an answer %s is an error of the entry, and the next mount works', async (_, fault) => {
    node.google.fault('access', fault)
    const { grpcCode, message } = await node.failure([entry])
    expect(grpcCode).toBe(15)
    expect(message).toContain('GCP_REPLY')
    expect(message).not.toContain('script')
    expect((await node.mount([entry])).files).toHaveLength(1)
  })

  it('gcp section 15 an error page that is not Google’s is told by its number only', async () => {
    node.google.fault('access', { status: 404, body: '<html>hunter2</html>' })
    const { grpcCode, message } = await node.failure([entry])
    expect(grpcCode).toBe(5)
    expect(message).toContain('HTTP 404 without an error of Google')
    expect(message).not.toContain('hunter2')
  })

  it.each([
    [400, 'INVALID_ARGUMENT', 3],
    [401, 'UNAUTHENTICATED', 16],
    [403, 'PERMISSION_DENIED', 7],
    [404, 'NOT_FOUND', 5],
    [409, 'ABORTED', 9],
    [429, 'RESOURCE_EXHAUSTED', 9],
    [500, 'INTERNAL', 9],
    [503, 'UNAVAILABLE', 9],
    [504, 'DEADLINE_EXCEEDED', 9],
  ])(
    'driver 8.3 an answer %i %s ends as code %i, never as one that is not final',
    async (status, name, code) => {
      node.google.fault(
        'access',
        { status, body: { error: { code: status, status: name, message: 'm' } } },
        Infinity,
      )
      const { grpcCode, message } = await node.failure([entry])
      expect(grpcCode).toBe(code)
      expect(message).toContain(name)
    },
  )

  it('a destroyed and a missing version are NOT_FOUND, latest included', async () => {
    node.google.stores.addSecret(SECRET, 'new')
    node.google.stores.setState(SECRET, 2, 'DESTROYED')
    expect(await node.failure([entry])).toMatchObject({ grpcCode: 5, kind: 'gone' })
    const absent = await node.failure([{ ...entry, resourceName: `${SECRET}/versions/9` }])
    expect(absent).toMatchObject({ grpcCode: 5, kind: 'not-found' })
  })

  it('a server that hangs ends the mount inside its budget, with a final code', async () => {
    node.google.fault('access', { hang: true }, Infinity)
    const began = performance.now()
    expect((await node.failure([entry], { budgetMs: 700 })).grpcCode).toBe(9)
    expect(performance.now() - began).toBeLessThan(1500)
    node.google.clearFaults()
    expect((await node.mount([entry])).files).toHaveLength(1)
  })

  it('a connection that is reset is tried again', async () => {
    node.google.fault('access', { reset: true }, 2)
    expect((await node.mount([entry])).files).toHaveLength(1)
  })
})

describe('fetching', () => {
  it('gcp-50 64 KiB with NUL and 0xFF arrive as they are', async () => {
    const bytes = Buffer.alloc(65_536, Buffer.from([0, 0xff, 0x80, 0x0a, 0x41]))
    node.google.stores.addSecret(SECRET, bytes)
    const { files } = await node.mount([entry])
    expect(files[0]?.bytes.equals(bytes)).toBe(true)
  })

  it('gcp section 6 two fields of one secret come from one version while it is rotated', async () => {
    const fields = ['user', 'password'].map((key) => ({
      resourceName: LATEST,
      path: key,
      extractJSONKey: key,
    }))
    for (let i = 0; i < 20; i += 1) {
      node.google.stores.addSecret(SECRET, JSON.stringify({ user: `u${i}`, password: `p${i}` }))
      const mounting = node.mount(fields)
      const at = setTimeout(
        () => node.google.stores.addSecret(SECRET, JSON.stringify({ user: 'later', password: 'later' })),
        i % 4,
      )
      const texts = (await mounting).files.map(({ text }) => text.replace(/^[up](?=\d)/, ''))
      clearTimeout(at)
      expect(texts[0]).toBe(texts[1])
    }
  })

  it('gcp section 6 two hundred first mounts at once, of twenty regions each, all succeed at the right hosts', async () => {
    const names = REGIONS.map((region) => `projects/acme-prod/locations/${region}/secrets/s`)
    for (const name of names) node.google.stores.addSecret(name, name, WEB)
    const secrets = names.map((name, index) => ({ resourceName: `${name}/versions/1`, path: `f${index}` }))
    const mounts = await Promise.all(Array.from({ length: 200 }, () => node.mount(secrets)))
    for (const { files } of mounts) expect(files.map(({ text }) => text)).toEqual(names)
    expect(node.google.callsOf('access').every(({ status }) => status === 200)).toBe(true)
    expect(node.google.callsOf('exchange')).toHaveLength(1)
  })

  it('gcp section 10.5 a token that is no longer accepted is renewed once', async () => {
    await node.mount([entry])
    node.google.identity.revokeAll()
    expect((await node.mount([entry])).files[0]?.text).toBe('correct-horse')
    expect(node.google.callsOf('exchange')).toHaveLength(2)
    expect(node.google.callsOf('access').map(({ status }) => status)).toEqual([200, 401, 200])
  })
})

describe('metrics and logs', () => {
  it('gcp-51 the vendor’s own metrics count the refusal', async () => {
    await node.failure(broken())
    const text = await node.metrics()
    expect(text).toContain(
      'outbound_rpc_count{kind="secretmanager_access_secret_version_requests",status="PermissionDenied"} 1',
    )
    expect(text).toContain(
      'outbound_rpc_count{kind="secretmanager_access_secret_version_requests",status="ok"} 1',
    )
    expect(text).toContain('outbound_rpc_count{kind="gcp_iam_get_id_bind_token_requests",status="ok"} 1')
    expect(text).toMatch(/outbound_rpc_latency_count\{.*kind="secretmanager_access/)
  })

  it('gcp-52 with DEBUG and everything logged there is no token, key or payload in the logs', async () => {
    await node.stop()
    node = await startHarness({ env: { DEBUG: 'true', ALLOW_NODE_PUBLISH_SECRET: 'false' } })
    const gsa = 'app@acme-prod.iam.gserviceaccount.com'
    const { google } = node
    google.cluster.accounts.set('shop/web', { 'iam.gke.io/gcp-service-account': gsa })
    google.identity.serviceAccounts.set(gsa, new Set([WEB]))
    google.stores.addSecret(SECRET, 'correct-horse', `serviceAccount:${gsa}`)
    const secret = { 'key.json': '{"private_key":"KEY-MATERIAL"}' }
    const good = await node.mount([entry], { secret })
    const bad = await node.failure([{ ...entry, extractJSONKey: 'x' }], { secret })
    google.fault('access', { status: 403, body: 'denied' })
    const denied = await node.failure([entry], { secret })
    const told = [...node.logs, bad.message, denied.message, JSON.stringify(good.versions)].join('\n')
    expect(node.logs.length).toBeGreaterThan(3)
    for (const token of tokensSeen()) expect(told).not.toContain(token)
    for (const word of ['correct-horse', Buffer.from('correct-horse').toString('base64'), 'KEY-MATERIAL'])
      expect(told).not.toContain(word)
  })

  /** Every token that went over the wire. */
  function tokensSeen(): string[] {
    const bearers = node.google.calls.map((call) =>
      String(call.headers['authorization'] ?? '').replace('Bearer ', ''),
    )
    const subjects = node.google
      .callsOf('exchange')
      .map((call) => String((JSON.parse(call.body) as Record<string, unknown>)['subject_token']))
    const all = [...bearers, ...subjects].filter((token) => token !== '')
    expect(all.length).toBeGreaterThan(3)
    return all
  }

  it('T23 versions say nothing about the content, and ids are names', async () => {
    const { versions } = await node.mount([entry])
    expect(versions).toEqual([{ id: LATEST, version: 'projects/8142/secrets/db/versions/1' }])
    expect(POOL).toBe('acme-prod.svc.id.goog')
  })
})
