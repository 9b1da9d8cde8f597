/** The conformance cases of vault.md (C1–C42), end to end: SPC parameters in, files, modes, versions or one error out. */
import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { FINAL_CODE } from '../../../src/mount/errors.ts'
import { objectVersion } from '../../../src/providers/vault/objects.ts'
import { errors, leased, secret, secretV2, type FakeVault } from './fake-vault.ts'
import { fakeVault, harness, object, setUp } from './set-up.ts'

const reads = (vault: FakeVault) => vault.calls.filter((call) => !call.path.endsWith('/login'))

describe('file contents', () => {
  it('vault-01 a key of a KV v2 secret is written with its filePermission', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/secret/data/app', secretV2({ bar1: 'hello1' }))
    const { files, modes } = await h.mount(
      spc(object('bar', 'secret/data/app', 'bar1', ['filePermission: 0624'])),
    )
    expect(files).toEqual({ bar: 'hello1' })
    expect(modes).toEqual({ bar: 404 })
  })

  it("vault-02 without filePermission a file has the mount's mode", async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/secret/data/app', secretV2({ bar1: 'hello1' }))
    expect((await h.mount(spc(object('bar', 'secret/data/app', 'bar1')))).modes).toEqual({ bar: 420 })
  })

  it('vault-03 a key of a KV v1 secret is found in data itself', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', secret({ foo: 'bar' }))
    expect((await h.mount(spc(object('f', 'kv/app', 'foo')))).files).toEqual({ f: 'bar' })
  })

  it('vault-04 values that are no strings are written as JSON', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', secret({ foo: 10, values: [6, 'stilton', true] }))
    const { files } = await h.mount(spc(object('a', 'kv/app', 'foo') + object('b', 'kv/app', 'values')))
    expect(files).toEqual({ a: '10', b: '[6,"stilton",true]' })
  })

  it('vault-05 the keys of an object value are sorted at every level', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/secret/data/app', secretV2({ foo: { b: 1, a: { d: 9, c: '8' } } }))
    expect((await h.mount(spc(object('f', 'secret/data/app', 'foo')))).files).toEqual({
      f: '{"a":{"c":"8","d":9},"b":1}',
    })
  })

  it('vault-06 a string under data does not count as the inner data of KV v2', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', secret({ data: 'hello', foo: 'bar' }))
    const { files } = await h.mount(spc(object('a', 'kv/app', 'data') + object('b', 'kv/app', 'foo')))
    expect(files).toEqual({ a: 'hello', b: 'bar' })
  })

  it('vault-07 an object under data hides its siblings', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', secret({ data: { x: '1' }, y: '2' }))
    const failure = await h.failure(spc(object('f', 'kv/app', 'y')))
    expect(failure.message).toContain('{kv/app}: {key "y" does not exist at the secret path}')
    expect(failure.grpcCode).toBe(FINAL_CODE.NOT_FOUND)
  })

  it('vault-08 null, true, long integers and 1.0 keep their spelling', async () => {
    const { vault, h, spc } = await setUp()
    const data = '{"data":{"n":null,"t":true,"big":12345678901234567890,"one":1.0}}'
    vault.on('GET /v1/kv/app', () => ({ text: data }))
    const objects = ['n', 't', 'big', 'one'].map((key) => object(key, 'kv/app', key)).join('')
    const { files } = await h.mount(spc(objects))
    expect(files).toEqual({ n: 'null', t: 'true', big: '12345678901234567890', one: '1.0' })
  })

  const envelope =
    '{"wrap_info":null,"renewable":false,"data":{"z":1.0,"h":"<a&b>","a":{"y":1}},"auth":null,"lease_duration":2764800,"request_id":"r1","lease_id":"","warnings":null'
  const written =
    '{"request_id":"r1","lease_id":"","lease_duration":2764800,"renewable":false,"data":{"a":{"y":1},"h":"\\u003ca\\u0026b\\u003e","z":1.0},"warnings":null'

  it('vault-09 without secretKey the envelope is written in its fixed member order', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => ({ text: `${envelope}}` }))
    expect((await h.mount(spc(object('f', 'kv/app')))).files).toEqual({ f: `${written}}` })
  })

  it('vault-10 mount_type is kept by vault and dropped by openbao', async () => {
    for (const [provider, tail] of [
      ['vault', ',"mount_type":"kv"}'],
      ['openbao', '}'],
    ] as const) {
      const { vault, h, spc } = await setUp({ provider })
      vault.on('GET /v1/kv/app', () => ({ text: `${envelope},"mount_type":"kv"}` }))
      expect((await h.mount(spc(object('f', 'kv/app')))).files).toEqual({ f: written + tail })
    }
  })

  it('vault-11 base64 is decoded, whatever the case of its name', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', secret({ v: 'aGVsbG8tc3luYzM=' }))
    expect((await h.mount(spc(object('f', 'kv/app', 'v', ['encoding: BASE64'])))).files).toEqual({
      f: 'hello-sync3',
    })
  })

  it('vault-12 unpadded base64, odd hex and unknown encodings fail', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', secret({ b: 'aGVsbG8', x: '686' }))
    const base64 = await h.failure(spc(object('f', 'kv/app', 'b', ['encoding: base64'])))
    const hex = await h.failure(spc(object('f', 'kv/app', 'x', ['encoding: hex'])))
    const unknown = await h.failure(spc(object('f', 'kv/app', 'b', ['encoding: utf8'])))
    expect(base64.message).toContain('is not base64')
    expect(hex.message).toContain('is not hex')
    expect(unknown.message).toContain('Should be utf-8, base64, or hex')
    expect([base64.grpcCode, unknown.grpcCode]).toEqual([FINAL_CODE.DATA_LOSS, FINAL_CODE.INVALID_ARGUMENT])
    for (const { message } of [base64, hex, unknown]) expect(message).not.toMatch(/aGVsbG8|686/)
  })

  it('vault-13 encoding is ignored for a whole response', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', secret({ a: 'b' }))
    const { files } = await h.mount(spc(object('f', 'kv/app', undefined, ['encoding: rot13'])))
    expect(files['f']).toContain('"data":{"a":"b"}')
  })
})

describe('requests', () => {
  it('vault-14 username and password come from one response', async () => {
    const { vault, h, spc } = await setUp()
    let issued = 0
    vault.on('GET /v1/database/creds/r', () =>
      leased(`l${(issued += 1)}`, 3600, { username: `u${issued}`, password: `p${issued}` }),
    )
    const { files } = await h.mount(
      spc(object('u', 'database/creds/r', 'username') + object('p', 'database/creds/r', 'password')),
    )
    expect(files).toEqual({ u: 'u1', p: 'p1' })
    expect(reads(vault)).toHaveLength(1)
  })

  it('vault-15 GET and no method, with and without leading slash, are one request', async () => {
    const { vault, h, spc } = await setUp()
    let issued = 0
    vault.on('GET /v1/database/creds/r', () =>
      leased(`l${(issued += 1)}`, 3600, { username: `u${issued}`, password: `p${issued}` }),
    )
    const objects =
      object('u', 'database/creds/r', 'username', ['method: GET']) +
      object('p', 'database/creds/r', 'password') +
      object('q', '/database/creds/r', 'password', ['method: get'])
    expect((await h.mount(spc(objects))).files).toEqual({ u: 'u1', p: 'p1', q: 'p1' })
    expect(reads(vault)).toHaveLength(1)
  })

  it('vault-16 arguments stated once serve both halves of a certificate', async () => {
    const { vault, h, spc } = await setUp()
    let issued = 0
    vault.on('PUT /v1/pki/issue/web', () =>
      secret({ certificate: `c${(issued += 1)}`, private_key: `k${issued}` }),
    )
    const objects =
      object('tls.crt', 'pki/issue/web', 'certificate', [
        'method: PUT',
        'secretArgs: {common_name: a.example.com}',
      ]) + object('tls.key', 'pki/issue/web', 'private_key', ['method: PUT'])
    expect((await h.mount(spc(objects))).files).toEqual({ 'tls.crt': 'c1', 'tls.key': 'k1' })
    expect(reads(vault).map(({ body }) => body)).toEqual(['{"common_name":"a.example.com"}'])
  })

  it('vault-17 different arguments are different requests with one warning; with legacyDedupe one request', async () => {
    const objects =
      object('a', 'pki/issue/web', 'certificate', ['method: PUT', 'secretArgs: {common_name: a}']) +
      object('b', 'pki/issue/web', 'certificate', ['method: PUT', 'secretArgs: {common_name: b}'])
    const answer = ({ body }: { body: string }) =>
      secret({ certificate: `cert of ${(JSON.parse(body) as { common_name: string }).common_name}` })
    const now = await setUp()
    now.vault.on('PUT /v1/pki/issue/web', answer)
    expect((await now.h.mount(now.spc(objects))).files).toEqual({ a: 'cert of a', b: 'cert of b' })
    expect(
      now.h.logs.filter((line) => line.startsWith('warn') && line.includes('different secretArgs')),
    ).toHaveLength(1)
    const before = await setUp({ settings: {} })
    const legacy = harness({ settings: { addresses: [before.vault.address], legacyDedupe: true } })
    before.vault.on('PUT /v1/pki/issue/web', answer)
    expect((await legacy.mount(before.spc(objects))).files).toEqual({ a: 'cert of a', b: 'cert of a' })
    expect(reads(before.vault)).toHaveLength(1)
  })

  it('vault-18 every spelling of a path asks for the same one', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/secret/foo', secret({ k: 'v' }))
    vault.on('GET /v1/v2/x', secret({ k: 'w' }))
    for (const path of ['secret/foo', '/secret/foo', 'v1/secret/foo', '/v1/secret/foo']) {
      expect((await h.mount(spc(object('f', path, 'k')))).files).toEqual({ f: 'v' })
    }
    expect((await h.mount(spc(object('f', 'v2/x', 'k')))).files).toEqual({ f: 'w' })
    expect(reads(vault).map(({ path }) => path)).toEqual([...Array(4).fill('/v1/secret/foo'), '/v1/v2/x'])
  })

  it('vault-19 a query is kept with its keys in order, and an empty one dropped', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/secret/foo?bar=true&baz=maybe&zap=0', secret({ k: 'v' }))
    vault.on('GET /v1/secret/foo', secret({ k: 'w' }))
    expect((await h.mount(spc(object('f', 'secret/foo?bar=true&baz=maybe&zap=0', 'k')))).files).toEqual({
      f: 'v',
    })
    expect((await h.mount(spc(object('f', 'secret/foo?', 'k')))).files).toEqual({ f: 'w' })
  })

  it('vault-20 arguments become a JSON body with typed values', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('POST /v1/x/y', secret({ k: 'v' }))
    await h.mount(
      spc(object('f', 'x/y', 'k', ['method: POST', 'secretArgs: {bar: true, baz: 10, zap: "a string"}'])),
    )
    expect(reads(vault)[0]?.body).toBe('{"bar":true,"baz":10,"zap":"a string"}')
  })
})

describe('parameters', () => {
  it('vault-21 five faults of an SPC give five distinct errors and no traffic', async () => {
    const { vault, h, spc } = await setUp()
    const good = object('f', 'kv/app', 'k')
    const faulty: [Record<string, string>, string][] = [
      [spc(good, { roleName: '' }), "missing 'roleName'"],
      [spc(''), 'no secrets configured'],
      [spc(good + good), 'the following keys were duplicated: f'],
      [
        spc(good, { vaultKubernetesMountPath: '', vaultAuthMountPath: '' }),
        'cannot set both vaultKubernetesMountPath and vaultAuthMountPath',
      ],
      [spc(good, { vaultSkipTLSVerify: 'yes' }), 'vaultSkipTLSVerify "yes" is not a boolean'],
    ]
    for (const [parameters, text] of faulty) {
      const failure = await h.failure(parameters)
      expect(failure.message).toContain(text)
      expect(failure.grpcCode).toBe(FINAL_CODE.INVALID_ARGUMENT)
    }
    expect(vault.calls).toEqual([])
  })

  it("vault-22 the SPC's address counts before the configuration's, and that before the environment's", async () => {
    const [env, flag, own] = [await fakeVault(), await fakeVault(), await fakeVault()]
    for (const [vault, text] of [
      [env, 'env'],
      [flag, 'flag'],
      [own, 'spc'],
    ] as const)
      vault.on('GET /v1/kv/app', secret({ k: text }))
    const parameters = { roleName: 'web', objects: object('f', 'kv/app', 'k') }
    const both = harness({
      env: { VAULT_ADDR: env.address },
      settings: { address: flag.address, addresses: [own.address] },
    })
    expect((await both.mount({ ...parameters, vaultAddress: own.address })).files).toEqual({ f: 'spc' })
    expect((await both.mount(parameters)).files).toEqual({ f: 'flag' })
    expect((await harness({ env: { VAULT_ADDR: env.address } }).mount(parameters)).files).toEqual({
      f: 'env',
    })
  })

  it('vault-38 openbao prefers baoAddress; vault knows vaultAddress only', async () => {
    const [bao, openbao, hashicorp] = [await fakeVault(), await fakeVault(), await fakeVault()]
    for (const [vault, text] of [
      [bao, 'bao'],
      [openbao, 'openbao'],
      [hashicorp, 'vault'],
    ] as const)
      vault.on('GET /v1/kv/app', secret({ k: text }))
    const addresses = {
      baoAddress: bao.address,
      openbaoAddress: openbao.address,
      vaultAddress: hashicorp.address,
    }
    const parameters = { roleName: 'web', objects: object('f', 'kv/app', 'k'), ...addresses }
    const settings = { addresses: Object.values(addresses) }
    expect((await harness({ provider: 'openbao', settings }).mount(parameters)).files).toEqual({ f: 'bao' })
    expect((await harness({ provider: 'vault', settings }).mount(parameters)).files).toEqual({ f: 'vault' })
  })

  it('vault-40 a root map and items as text are refused with the list that is expected', async () => {
    const { vault, h, spc } = await setUp()
    for (const objects of [
      'array:\n  - |\n    objectName: f\n',
      '- |\n  objectName: f\n  secretPath: kv/app\n',
    ]) {
      const failure = await h.failure(spc(objects))
      expect(failure.message).toContain('VAULT_OBJECTS')
      expect(failure.message).toContain('Write objects as a YAML list')
    }
    expect(vault.calls).toEqual([])
  })
})

describe('identity', () => {
  it("vault-23 the token of the SPC's audience is sent", async () => {
    const { vault, h, spc } = await setUp({ tokens: { vault: 'jwt-v', 'my-aud': 'jwt-my' } })
    vault.on('GET /v1/kv/app', secret({ k: 'v' }))
    await h.mount(spc(object('f', 'kv/app', 'k'), { audience: 'my-aud' }))
    expect(vault.callsTo('POST /v1/auth/')[0]?.body).toBe('{"jwt":"jwt-my","role":"web"}')
    expect(h.asked).toEqual(['my-aud'])
  })

  it('vault-24 (adapter half) without a token from the driver the host is asked for exactly the audience', async () => {
    const { h, spc } = await setUp({ tokens: {} })
    const failure = await h.failure(spc(object('f', 'kv/app', 'k'), { audience: 'a1' }))
    expect(h.asked).toEqual(['a1'])
    expect(failure.grpcCode).toBe(FINAL_CODE.UNAUTHENTICATED)
  })

  it('vault-25 a refused read right after a login is final', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => errors(403, 'permission denied'))
    const failure = await h.failure(spc(object('f', 'kv/app', 'k')))
    expect(vault.callsTo('POST /v1/auth/kubernetes/login')).toHaveLength(1)
    expect(vault.callsTo('GET ')).toHaveLength(1)
    expect(failure.grpcCode).toBe(FINAL_CODE.PERMISSION_DENIED)
    expect(failure.message).toContain('permission denied')
  })

  it('vault-26 a read refused with a kept token is tried once more after one login', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', [secret({ k: 'v' }), errors(403, 'permission denied')])
    await h.mount(spc(object('f', 'kv/app', 'k')))
    vault.calls.length = 0
    const failure = await h.failure(spc(object('f', 'kv/app', 'k')))
    expect(vault.callsTo('POST /v1/auth/kubernetes/login')).toHaveLength(1)
    expect(vault.callsTo('GET ')).toHaveLength(2)
    expect(failure.grpcCode).toBe(FINAL_CODE.PERMISSION_DENIED)
    const [first, second] = vault.callsTo('GET ').map(({ headers }) => headers['x-vault-token'])
    expect(first).not.toBe(second)
  })

  it('vault-27 vaultAuthMountPath names the login mount', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', secret({ k: 'v' }))
    await h.mount(spc(object('f', 'kv/app', 'k'), { vaultAuthMountPath: 'jwt' }))
    expect(vault.calls[0]).toMatchObject({
      method: 'POST',
      path: '/v1/auth/jwt/login',
      body: '{"jwt":"jwt-of-pod","role":"web"}',
    })
  })

  it('vault-28 the namespace goes with login and read', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', secret({ k: 'v' }))
    await h.mount(spc(object('f', 'kv/app', 'k'), { vaultNamespace: 'acceptance' }))
    expect(vault.calls.map(({ headers }) => headers['x-vault-namespace'])).toEqual([
      'acceptance',
      'acceptance',
    ])
    expect(vault.calls[0]?.headers['x-vault-token']).toBeUndefined()
    expect(vault.calls.every(({ headers }) => headers['x-vault-request'] === 'true')).toBe(true)
  })
})

describe('failures', () => {
  it('vault-29 a sealed server is tried three times and never answered with UNAVAILABLE', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/app', () => errors(503, 'Vault is sealed'))
    const failure = await h.failure(spc(object('f', 'kv/app', 'k')))
    expect(vault.callsTo('GET ')).toHaveLength(3)
    expect(failure.message).toContain('Code: 503')
    expect(failure.message).toContain('Vault is sealed')
    expect(failure.grpcCode).toBe(FINAL_CODE.FAILED_PRECONDITION)
  })

  it('vault-30 one 412, and one 429 with Retry-After, end in success', async () => {
    const { vault, h, spc } = await setUp({ realTime: true })
    vault.on('GET /v1/kv/a', [errors(412, 'required index state not present'), secret({ k: 'a' })])
    expect((await h.mount(spc(object('f', 'kv/a', 'k')))).files).toEqual({ f: 'a' })
    vault.on('GET /v1/kv/b', [
      { ...errors(429, 'rate limit quota exceeded'), headers: { 'retry-after': '1' } },
      secret({ k: 'b' }),
    ])
    const started = h.clock.now()
    expect((await h.mount(spc(object('f', 'kv/b', 'k')))).files).toEqual({ f: 'b' })
    expect(h.clock.now() - started).toBeGreaterThanOrEqual(1000)
  })

  it('vault-31 a missing path and a deleted version fail, the second saying so', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/secret/data/gone', () => errors(404))
    const missing = await h.failure(spc(object('f', 'secret/data/gone', 'k')))
    expect(missing.message).toContain('Code: 404')
    expect(missing.grpcCode).toBe(FINAL_CODE.NOT_FOUND)
    const metadata = { version: 2, deletion_time: '2026-01-02T03:04:05Z', destroyed: false }
    vault.on('GET /v1/secret/data/old', () => ({ status: 404, json: { data: { data: null, metadata } } }))
    const deleted = await h.failure(spc(object('f', 'secret/data/old', 'k')))
    expect(deleted.message).toContain('version 2 was deleted at 2026-01-02T03:04:05Z')
    expect(deleted.grpcCode).toBe(FINAL_CODE.NOT_FOUND)
    vault.on('GET /v1/secret/data/no', () => ({
      status: 404,
      json: { data: { data: null, metadata: { ...metadata, destroyed: true } } },
    }))
    expect((await h.failure(spc(object('f', 'secret/data/no', 'k')))).message).toContain(
      'version 2 is destroyed',
    )
    vault.on('GET /v1/secret/x', () => ({
      status: 404,
      json: { errors: [], warnings: ['Invalid path for a versioned K/V secrets engine'] },
    }))
    expect((await h.failure(spc(object('f', 'secret/x', 'k')))).message).toContain(
      'Invalid path for a versioned',
    )
  })

  it('vault-32 a write without a body and a login without auth are errors, and the process goes on', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('PUT /v1/kv/app', () => ({ status: 204 }))
    const empty = await h.failure(spc(object('f', 'kv/app', 'k', ['method: PUT'])))
    expect(empty.message).toContain('empty response')
    vault.on('POST /v1/auth/other/login', () => ({ json: { data: null, auth: null } }))
    const login = await h.failure(spc(object('f', 'kv/app', 'k'), { vaultAuthMountPath: 'other' }))
    expect(login.message).toContain('the reply holds no token')
    vault.on('GET /v1/kv/app', secret({ k: 'v' }))
    expect((await h.mount(spc(object('f', 'kv/app', 'k')))).files).toEqual({ f: 'v' })
  })

  it('vault-41 when one object fails there are no files and nothing of the others in the error', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/kv/a', secret({ k: 'first-object-value' }))
    vault.on('GET /v1/kv/b', () => errors(403, 'permission denied'))
    const failure = await h.failure(spc(object('one', 'kv/a', 'k') + object('two', 'kv/b', 'k')))
    expect(failure.failures.map((one) => one.object)).toEqual(['two'])
    expect(failure.message).not.toContain('first-object-value')
    expect(h.logs.join('\n')).not.toContain('first-object-value')
  })
})

describe('versions', () => {
  const key = Buffer.alloc(32, 'k')
  const password =
    '{"ObjectName":"db-pass","SecretPath":"secret/data/app","SecretKey":"password","Method":"","SecretArgs":null,"FilePermission":384,"Encoding":""}'
  const certificate =
    '{"ObjectName":"cert","SecretPath":"pki/issue/web","SecretKey":"","Method":"PUT","SecretArgs":{"common_name":"a\\u0026b.example.com","ttl":"24h"},"FilePermission":0,"Encoding":""}'

  it('vault-33 the vectors hold, the first end to end with that key', async () => {
    expect(objectVersion(key, password, 's3cr3t')).toBe('pcy3kGI8lId0I5s4WGV8HsO3zknjsJMQqSREclREkBI=')
    expect(objectVersion(key, certificate, 'x')).toBe('kydXsmDElfkVlPDhueb1ShVYmvM5nIcDssiA4y6PtUo=')
    const { vault, h, spc } = await setUp({ versionKey: key })
    vault.on('GET /v1/secret/data/app', secretV2({ password: 's3cr3t' }))
    const { versions } = await h.mount(
      spc(object('db-pass', 'secret/data/app', 'password', ['filePermission: 0600'])),
    )
    expect(versions).toEqual({ 'db-pass': 'pcy3kGI8lId0I5s4WGV8HsO3zknjsJMQqSREclREkBI=' })
  })

  it('vault-33 the settings of an object with arguments go into its version as written', async () => {
    const { vault, h, spc } = await setUp({ versionKey: key })
    vault.on('PUT /v1/pki/issue/web', secret({ x: 'y' }))
    const lines = ['method: PUT', 'secretArgs: {ttl: 24h, common_name: a&b.example.com}']
    const { versions } = await h.mount(spc(object('cert', 'pki/issue/web', undefined, lines)))
    const expected = createHmac('sha256', key).update(certificate).update('{"x":"y"}').digest('base64url')
    expect(versions).toEqual({ cert: `${expected}=` })
  })

  it('vault-34 the same content under the same key has the same version after a restart', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/secret/data/app', secretV2({ password: 's' }))
    const parameters = spc(object('a', 'secret/data/app', 'password') + object('w', 'secret/data/app'))
    const first = await h.mount(parameters)
    expect((await h.mount(parameters)).versions).toEqual(first.versions)
    const restarted = harness({ settings: { addresses: [vault.address] } })
    expect((await restarted.mount(parameters)).versions).toEqual(first.versions)
    for (const version of Object.values(first.versions)) expect(version).toMatch(/^[A-Za-z0-9_-]{43}=$/)
    const other = harness({ settings: { addresses: [vault.address] }, versionKey: Buffer.alloc(32, 'z') })
    expect((await other.mount(parameters)).versions).not.toEqual(first.versions)
  })

  it('vault-35 equal content under different names has different versions', async () => {
    const { vault, h, spc } = await setUp()
    vault.on('GET /v1/secret/data/app', secretV2({ password: 's' }))
    const { versions } = await h.mount(
      spc(object('a', 'secret/data/app', 'password') + object('b', 'secret/data/app', 'password')),
    )
    expect(versions['a']).not.toBe(versions['b'])
  })

  it('vault-36 a whole response of which only request_id changed keeps its bytes and version', async () => {
    const { vault, h, spc } = await setUp()
    let calls = 0
    let value = 'one'
    vault.on('GET /v1/kv/app', () => secret({ k: value }, { request_id: `r${(calls += 1)}` }))
    const parameters = spc(object('f', 'kv/app'))
    const first = await h.mount(parameters)
    const second = await h.mount(parameters)
    expect(calls).toBe(2)
    expect(second).toEqual(first)
    value = 'two'
    const third = await h.mount(parameters)
    expect(third.files['f']).toContain('"request_id":"r3"')
    expect(third.versions).not.toEqual(first.versions)
  })
})

describe('leases', () => {
  it('vault-37 a lease of one hour polled every two minutes is issued once and renewed', async () => {
    const { vault, h, spc } = await setUp()
    let issued = 0
    vault.on('GET /v1/database/creds/r', () =>
      leased(`database/creds/r/${(issued += 1)}`, 3600, { username: `u${issued}` }),
    )
    const parameters = spc(object('u', 'database/creds/r', 'username'))
    const first = await h.mount(parameters)
    for (let poll = 0; poll < 90; poll += 1) {
      await h.clock.advance(120_000)
      expect(await h.mount(parameters)).toEqual(first)
    }
    expect(issued).toBe(1)
    expect(vault.callsTo('POST /v1/auth/kubernetes/login')).toHaveLength(1)
    const renewals = vault.callsTo('PUT /v1/sys/leases/renew')
    expect(renewals.length).toBeGreaterThanOrEqual(4)
    expect(renewals[0]?.body).toBe('{"increment":3600,"lease_id":"database/creds/r/1"}')
    expect(vault.callsTo('POST /v1/auth/token/renew-self').length).toBeGreaterThanOrEqual(4)
  })
})
