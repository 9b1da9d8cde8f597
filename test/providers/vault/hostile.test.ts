/** What crashes or betrays the vendor's provider: odd replies, redirects, addresses, file paths. One error each, and the process lives. */
import { describe, expect, it } from 'vitest'
import { FINAL_CODE } from '../../../src/mount/errors.ts'
import { errors, secret, type FakeReply } from './fake-vault.ts'
import { fakeVault, harness, object, setUp } from './set-up.ts'

const OBJECTS = object('f', 'kv/app', 'k')

describe('T14 replies that are large together', () => {
  it('are not fetched on and on; the text names none that happened to come first', async () => {
    const { vault, h, spc } = await setUp()
    const large = 'x'.repeat(2_000_000)
    const names = Array.from({ length: 60 }, (_, index) => `app${index}`)
    for (const name of names) vault.on(`GET /v1/kv/${name}`, () => secret({ k: large }))
    const objects = names.map((name) => object(name, `kv/${name}`, 'k')).join('')
    const error = await h.failure(spc(objects))
    expect(error.grpcCode).toBe(FINAL_CODE.OUT_OF_RANGE)
    expect(error.message).toContain('the secrets of this mount have more than 16777216 bytes together')
    expect(error.failures).toHaveLength(60)
    const asked = names.filter((name) => vault.callsTo(`GET /v1/kv/${name}`).length > 0)
    // Those that were under way, thirty-two at once, are still answered.
    expect(asked.length).toBeLessThan(50)
  })
})

describe('replies that crash the vendor’s provider', () => {
  const odd: readonly (readonly [string, FakeReply, RegExp])[] = [
    ['204', { status: 204 }, /empty response/],
    ['an empty 200', { text: '' }, /the reply is empty/],
    ['an errors-only 200', { json: { errors: ['upstream is down'] } }, /upstream is down/],
    [
      'a wrapped answer',
      { json: { data: null, wrap_info: { token: 's.wrapping', ttl: 60 } } },
      /the answer is wrapped/,
    ],
    [
      'a login as secret',
      { json: { data: null, auth: { client_token: 's.other' } } },
      /the answer is a login/,
    ],
    [
      'data of null',
      { json: { request_id: 'r', data: null, warnings: ['look here'] } },
      /warnings: \[look here\]/,
    ],
    ['text that is no JSON', { text: '-----BEGIN CERTIFICATE-----' }, /not JSON/],
    ['a JSON list', { text: '[1]' }, /not a JSON object/],
    [
      'a member of the wrong type',
      { json: { lease_duration: 'long', data: { k: 'v' } } },
      /lease_duration is not an integer/,
    ],
    ['nesting without end', { text: '{"data":{"k":'.repeat(5000) }, /nested too deeply/],
    ['a reply cut short', { text: '{"data":{"k":"v"}}', cut: true }, /cut short/],
  ]
  it.each(odd)('4.1 %s is an error of this mount only', async (_name, reply, text) => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => reply)
    const failure = await h.failure(spc(OBJECTS))
    expect(failure.message).toMatch(text)
    expect(failure.message).not.toMatch(/s\.wrapping|s\.other|BEGIN/)
    vault.on('GET /v1/kv/app', secret({ k: 'v' }))
    expect((await h.mount(spc(OBJECTS))).files).toEqual({ f: 'v' })
  })

  it.each([
    ['without a body', { text: '' }],
    ['without auth', { json: { data: {} } }],
    ['with auth but no token', { json: { auth: { policies: [] } } }],
    ['with a token that is no header', { json: { auth: { client_token: 'a\r\nX-Evil: 1' } } }],
  ] as const)('7 a login answer %s fails the mount without a read', async (_name, reply) => {
    const { vault, h, spc } = await setUp()
    vault.on('POST /v1/auth/kubernetes/login', () => reply)
    const failure = await h.failure(spc(OBJECTS))
    expect(failure.message).toContain('failed to login')
    expect(vault.callsTo('GET ')).toEqual([])
  })

  it('7 a login that wants MFA says so', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('POST /v1/auth/kubernetes/login', () => ({
      json: { auth: { mfa_requirement: { mfa_request_id: 'x' } } },
    }))
    expect((await h.failure(spc(OBJECTS))).message).toContain('the role demands MFA')
  })

  it('7 a failing login is tried once per mount, not once per object', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('POST /v1/auth/kubernetes/login', () => errors(403, 'service account name not authorized'))
    const failure = await h.failure(
      spc(Array.from({ length: 12 }, (_, i) => object(`f${i}`, `kv/${i}`, 'k')).join('')),
    )
    expect(vault.callsTo('POST ')).toHaveLength(1)
    expect(failure.message).toContain('service account name not authorized')
    expect(failure.grpcCode).toBe(FINAL_CODE.PERMISSION_DENIED)
  })

  it('4 a server that hangs is given up within its time', async () => {
    const { vault, h, spc } = await setUp({ settings: { timeoutSeconds: 0.05 } })
    const listed = harness({ settings: { addresses: [vault.address], timeoutSeconds: 0.05 } })
    vault.on('GET /v1/kv/app', () => ({ hang: true }))
    const failure = await listed.failure(spc(OBJECTS))
    expect(failure.grpcCode).toBe(FINAL_CODE.FAILED_PRECONDITION)
    expect(failure.message).toContain('did not answer in time')
    expect(h.logs.join()).not.toContain('jwt-of-pod')
  })

  it('4 what a hostile server echoes never carries the token or the JWT into an error', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('POST /v1/auth/kubernetes/login', ({ body }) => errors(400, `bad ${body}\u001b[31m`))
    const login = await h.failure(spc(OBJECTS))
    expect(login.message).toContain('failed to login')
    expect(login.message).not.toContain('jwt-of-pod')
    expect(login.message).not.toContain('\u001b')
    const other = await setUp()
    other.vault.on('GET /v1/kv/app', ({ headers }) => errors(400, `bad ${String(headers['x-vault-token'])}`))
    expect((await other.h.failure(other.spc(OBJECTS))).message).not.toContain('s.token-1')
  })

  it.each([
    [472, FINAL_CODE.FAILED_PRECONDITION],
    [473, FINAL_CODE.FAILED_PRECONDITION],
    [501, FINAL_CODE.FAILED_PRECONDITION],
    [502, FINAL_CODE.FAILED_PRECONDITION],
    [405, FINAL_CODE.INVALID_ARGUMENT],
    [400, FINAL_CODE.INVALID_ARGUMENT],
  ])('13 status %i becomes the code %i', async (status, code) => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => errors(status, 'why'))
    expect((await h.failure(spc(OBJECTS))).grpcCode).toBe(code)
  })

  it('4 a 412 that stays is tried three times and then waits for the next mount', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => errors(412, 'required index state not present'))
    const failure = await h.failure(spc(OBJECTS))
    expect(failure.grpcCode).toBe(FINAL_CODE.FAILED_PRECONDITION)
    expect(failure.message).toContain('required index state')
  })
})

describe('redirects', () => {
  it('3 a standby’s redirect to an address of the cluster is followed with method, body and token', async () => {
    const [standby, active] = [await fakeVault(), await fakeVault()]
    standby.on('PUT /v1/kv/app', () => ({
      status: 307,
      headers: { location: `${active.address}/v1/kv/app` },
    }))
    active.on('PUT /v1/kv/app', () => secret({ k: 'v' }))
    const h = harness({ settings: { addresses: [standby.address, active.address] } })
    const objects = object('f', 'kv/app', 'k', ['method: PUT', 'secretArgs: {a: 1}'])
    expect((await h.mount({ roleName: 'web', vaultAddress: standby.address, objects })).files).toEqual({
      f: 'v',
    })
    expect(active.calls[0]).toMatchObject({ method: 'PUT', body: '{"a":1}' })
    expect(active.calls[0]?.headers['x-vault-token']).toBe('s.token-1')
  })

  it('3 a relative redirect stays on the server', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => ({ status: 302, headers: { location: '/v1/kv/moved' } }))
    vault.on('GET /v1/kv/moved', secret({ k: 'v' }))
    expect((await h.mount(spc(OBJECTS))).files).toEqual({ f: 'v' })
  })

  it('T11 a redirect to another host never receives the token, nor the JWT', async () => {
    const elsewhere = await fakeVault()
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => ({
      status: 307,
      headers: { location: `${elsewhere.address}/v1/kv/app` },
    }))
    const read = await h.failure(spc(OBJECTS))
    expect(read.message).toContain('does not get the token')
    vault.on('POST /v1/auth/other/login', () => ({
      status: 307,
      headers: { location: `${elsewhere.address}/v1/auth/other/login` },
    }))
    expect((await h.failure(spc(OBJECTS, { vaultAuthMountPath: 'other' }))).message).toContain(
      'does not get the token',
    )
    expect(elsewhere.calls).toEqual([])
  })

  it.each([
    ['two redirects in a row', { status: 307, headers: { location: '/v1/kv/app' } }, /a second time/],
    [
      'a 308',
      { status: 308, headers: { location: '/v1/kv/other' } },
      /answers 308 without a usable redirect/,
    ],
    ['a redirect to nowhere', { status: 307 }, /without a usable redirect/],
  ] as const)('3 %s is an error', async (_name, reply, text) => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => reply)
    expect((await h.failure(spc(OBJECTS))).message).toMatch(text)
  })
})

describe('addresses', () => {
  it.each([
    'http://127.0.0.1:1',
    'https://127.0.0.1:1',
    'https://169.254.169.254',
    'https://2852039166',
    'https://[::ffff:169.254.169.254]',
    'http://vault.example.com:8200',
    'unix:///tmp/other.sock',
    'https://user:pass@vault.example.com',
    'ftp://vault.example.com',
    'vault.example.com:8200',
  ])('T11 %s in an SPC is refused, and no login is sent', async (vaultAddress) => {
    const { vault, h } = await setUp()
    const failure = await h.failure({ roleName: 'web', vaultAddress, objects: OBJECTS })
    expect(failure.grpcCode).toBe(FINAL_CODE.INVALID_ARGUMENT)
    expect(failure.message).toMatch(/VAULT_ADDRESS/)
    expect(vault.calls).toEqual([])
  })

  it('3 a path in the address comes before /v1', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /team%20a/v1/kv/app', () => secret({ k: 'v' }))
    vault.on('POST /team%20a/v1/auth/kubernetes/login', () => ({ json: { auth: { client_token: 's.x' } } }))
    const parameters = spc(OBJECTS, { vaultAddress: `${vault.address}/team%20a/` })
    expect((await h.mount(parameters)).files).toEqual({ f: 'v' })
  })

  it('7 an Agent’s address is the last resort and an environment token is never used for a pod', async () => {
    const { vault } = await setUp()
    vault.on('GET /v1/kv/app', secret({ k: 'v' }))
    const h = harness({
      env: { VAULT_AGENT_ADDR: vault.address, VAULT_TOKEN: 's.root', VAULT_WRAP_TTL: '60s' },
    })
    expect((await h.mount({ roleName: 'web', objects: OBJECTS })).files).toEqual({ f: 'v' })
    expect(vault.calls.map(({ headers }) => headers['x-vault-token'])).toEqual([undefined, 's.token-1'])
    expect(vault.calls.some(({ headers }) => 'x-vault-wrap-ttl' in headers)).toBe(false)
    expect(h.logs.filter((line) => line.startsWith('warn'))).toHaveLength(2)
  })

  it('T2 the node’s token is used for identity node only, and never revoked', async () => {
    const { vault, spc } = await setUp()
    vault.tokens.add('s.node')
    vault.on('GET /v1/kv/app', secret({ k: 'v' }))
    const node = harness({
      identity: 'node',
      env: { VAULT_TOKEN: 's.node' },
      settings: { addresses: [vault.address] },
    })
    expect((await node.mount(spc(OBJECTS))).files).toEqual({ f: 'v' })
    expect(vault.callsTo('POST ')).toEqual([])
    const without = harness({ identity: 'node', settings: { addresses: [vault.address] } })
    expect((await without.failure(spc(OBJECTS))).message).toContain("no token for the node's identity")
  })
})
