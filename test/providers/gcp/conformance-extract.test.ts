/** gcp.md, cases G20 to G28 and section 7: payloads, extraction, and our own ways to pick values. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { LATEST, SECRET, startHarness, WEB } from './harness.ts'
import type { Harness } from './harness.ts'

let node: Harness
beforeAll(async () => {
  node = await startHarness()
})
afterAll(() => node.stop())
beforeEach(() => {
  node.google.calls.length = 0
})

/** Mounts one file of a payload. */
async function one(payload: string | Buffer, more: object): Promise<string> {
  node.google.stores.addSecret(SECRET, payload, WEB)
  const { files } = await node.mount([{ resourceName: LATEST, path: 'f', ...more }])
  expect(files).toHaveLength(1)
  return files[0]?.text ?? ''
}

/** Text of the failure. */
async function fault(payload: string | Buffer, more: object): Promise<string> {
  node.google.stores.addSecret(SECRET, payload, WEB)
  const { message, grpcCode } = await node.failure([{ resourceName: LATEST, path: 'f', ...more }])
  // driver.md 8.3: what is absent is NOT_FOUND, what cannot be read is DATA_LOSS; Google's provider says Internal.
  expect(grpcCode).toBe(message.includes('[not-found]') ? 5 : 15)
  return message
}

describe('parameters', () => {
  it.each([
    ['projects/acme-prod/locations/global/parameters/web/versions/blue', 'parametermanager.googleapis.com'],
    [
      'projects/acme-prod/locations/europe-west3/parameters/web/versions/blue',
      'parametermanager.europe-west3.rep.googleapis.com',
    ],
  ])('gcp-20 %s is rendered, not read', async (resourceName, host) => {
    node.google.stores.addParameter(resourceName, 'p: abc', WEB)
    const { files, versions } = await node.mount([{ resourceName, fileName: 'web.yaml' }])
    expect(files.map(({ text }) => text)).toEqual(['p: abc'])
    expect(versions).toEqual([{ id: resourceName, version: resourceName }])
    expect(node.google.callsOf('render').map((call) => call.host)).toEqual([host])
    expect(node.google.callsOf('access')).toEqual([])
  })
})

describe('extractJSONKey', () => {
  const user = { extractJSONKey: 'user' }
  it('gcp-21 gives the text of a string', async () => {
    expect(await one('{"user":"admin","n":1}', user)).toBe('admin')
  })

  it('gcp-22 gives an empty file for an empty string', async () => {
    expect(await one('{"user":""}', user)).toBe('')
  })

  it.each(['1', 'true', 'null', '{}', '[]', '1.5e3'])('gcp-23 refuses the value %s', async (value) => {
    expect(await fault(`{"user":${value}}`, user)).toContain("unsupported value type for key 'user'")
  })

  it.each([
    ['{"other":"x"}', "key 'user' not found in JSON"],
    ['null', "key 'user' not found in JSON"],
    ['[]', 'failed to unmarshal JSON'],
    ['', 'failed to unmarshal JSON'],
    ['"text"', 'failed to unmarshal JSON'],
    ['{"user":"a"} x', 'failed to unmarshal JSON'],
    ['{"user":"a",}', 'failed to unmarshal JSON'],
    ['\uFEFF{"user":"a"}', 'failed to unmarshal JSON'],
    ['{"user":"a\nb"}', 'failed to unmarshal JSON'],
  ])('gcp-24 of %j: %s', async (payload, words) => {
    expect(await fault(payload, user)).toContain(words)
  })

  it('gcp-25 takes a dot literally', async () => {
    expect(await fault('{"a":{"b":"x"}}', { extractJSONKey: 'a.b' })).toContain("key 'a.b' not found in JSON")
    expect(await one('{"a.b":"y"}', { extractJSONKey: 'a.b' })).toBe('y')
  })

  it('gcp-26 takes the last of duplicate keys', async () => {
    expect(await one('{"user":"a","user":"b"}', user)).toBe('b')
  })

  it.each(['constructor', 'toString', 'hasOwnProperty'])(
    'gcp section 7 does not find %s in an object',
    async (key) => {
      expect(await fault('{"a":"b"}', { extractJSONKey: key })).toContain('not found in JSON')
    },
  )

  it('gcp section 7 finds __proto__ and is exact about case', async () => {
    expect(await one('{"__proto__":"p","User":"x"}', { extractJSONKey: '__proto__' })).toBe('p')
    expect(await fault('{"User":"x"}', user)).toContain('not found in JSON')
  })

  it('gcp section 7 makes one U+FFFD of each byte that is not UTF-8, and of a lone surrogate', async () => {
    const payload = Buffer.concat([Buffer.from('{"user":"'), Buffer.from([0xe2, 0x82]), Buffer.from('"}')])
    expect(await one(payload, user)).toBe('\uFFFD\uFFFD')
    expect(await one('{"user":"\\ud800"}', user)).toBe('\uFFFD')
  })
})

describe('extractYAMLKey', () => {
  const k = { extractYAMLKey: 'k' }
  it.each([
    ['k: yes', 'yes'],
    ['k: "8080"', '8080'],
    ['k: |\n  two\n  lines\n', 'two\nlines\n'],
    ['k: no', 'no'],
    ['k: tRue', 'tRue'],
    ['k: 12:30:45', '12:30:45'],
    ['k: 0x', '0x'],
    ['k: 0o8', '0o8'],
    ['k: 1e400', '1e400'],
    ['k: NaN', 'NaN'],
    ['k: !!str 123', '123'],
    ['k: !foo 123', '123'],
    ['k: !!binary aGk=', 'hi'],
    ['k: --', '--'],
    ['k: <<', '<<'],
    ["k: ''", ''],
    ['base: &b {k: merged}\n<<: *b\n', 'merged'],
    ['k: first\n---\nk: second\n', 'first'],
    ['\uFEFFk: bom', 'bom'],
  ])('gcp-27 of %j gives %j', async (payload, text) => {
    expect(await one(payload, k)).toBe(text)
  })

  it.each([
    '8080',
    'true',
    'FALSE',
    '0123',
    '0o17',
    '0x1F',
    '0b11',
    '1_000',
    '+1',
    '1.10',
    '1e3',
    '.5',
    '5.',
    '08',
    '.inf',
    '.nan',
    'null',
    '~',
    '',
    '2024-01-02',
    '2024-1-2',
    '2024-01-02T03:04:05Z',
    '{}',
    '[]',
  ])('gcp-27 refuses the value %s, which is no string', async (value) => {
    expect(await fault(`k: ${value}\n`, k)).toContain("unsupported value type for key 'k'")
  })

  it.each(['', '---', 'null', 'other: x'])('gcp-28 of %j: not found', async (payload) => {
    expect(await fault(payload, k)).toContain("key 'k' not found in YAML")
  })

  it.each([
    ['1', '1: one'],
    ['true', 'true: one'],
    ['1.0', '1.0: one'],
  ])('gcp section 7 finds the key %s by its source text', async (key, payload) => {
    expect(await one(payload, { extractYAMLKey: key })).toBe('one')
  })

  it.each([
    ['- k', 'a list'],
    ['hunter2', 'a scalar'],
    ['k: a\nk: b', 'a duplicate key'],
    ['k: *nowhere', 'an unknown anchor'],
    ['k: a\nx: {y: 1, y: 2}', 'a duplicate key further down'],
    ['? [a]\n: b', 'a complex key'],
    ['k: "a\u0000b"', 'a NUL byte'],
  ])('gcp section 7 T15 refuses %j, %s, without quoting it', async (payload) => {
    const message = await fault(payload, k)
    expect(message).toContain('failed to unmarshal YAML')
    expect(message).not.toContain('hunter2')
    expect(message).not.toContain('nowhere')
  })

  it('gcp section 7 refuses bytes that are not UTF-8', async () => {
    expect(await fault(Buffer.from([0x6b, 0x3a, 0x20, 0xff]), k)).toContain('failed to unmarshal YAML')
  })

  it('T15 an alias bomb costs little and ends in one error', async () => {
    const levels = Array.from({ length: 9 }, (_, i) => `l${i + 1}: &l${i + 1} [${`*l${i}, `.repeat(10)}]`)
    const began = performance.now()
    expect(await fault(`l0: &l0 [a, a]\n${levels.join('\n')}\nk: x\n`, k)).toContain(
      'failed to unmarshal YAML',
    )
    expect(performance.now() - began).toBeLessThan(1000)
  })
})

describe('our own ways to pick', () => {
  it('T22 a JSON payload that is no JSON is not quoted', async () => {
    expect(await fault('hunter2', { extractJSONKey: 'a' })).not.toContain('hunter')
  })

  it('stringify writes what is no string as JSON', async () => {
    expect(await one('{"a":{"y":1,"x":[true,null]}}', { extractJSONKey: 'a', stringify: true })).toBe(
      '{"x":[true,null],"y":1}',
    )
    expect(await one('a: 1.50', { extractYAMLKey: 'a', stringify: true })).toBe('1.5')
  })

  it('decodeBase64 decodes the payload, or the field', async () => {
    expect(await one('aGVs\nbG8=', { decodeBase64: true })).toBe('hello')
    expect(await one('{"a":"aGk="}', { extractJSONKey: 'a', decodeBase64: true })).toBe('hi')
    expect(await fault('not base64', { decodeBase64: true })).toContain('is not base64')
  })

  it('jmesPath writes a file for each expression, from one access', async () => {
    node.google.stores.addSecret(SECRET, '{"db":{"user":"u","ports":[5432]}}', WEB)
    const jmesPath = [
      { path: 'db.user', objectAlias: 'user' },
      { path: 'db.ports[0]', objectAlias: 'port' },
    ]
    const { files } = await node.mount([{ resourceName: LATEST, path: 'whole', jmesPath, stringify: true }])
    expect(files.map(({ path, text }) => [path, text])).toEqual([
      ['whole', '{"db":{"user":"u","ports":[5432]}}'],
      ['user', 'u'],
      ['port', '5432'],
    ])
    expect(node.google.callsOf('access')).toHaveLength(1)
    const alone = await node.mount([{ resourceName: LATEST, jmesPath: jmesPath.slice(0, 1) }])
    expect(alone.files.map(({ path }) => path)).toEqual(['user'])
  })

  it('jmesPath that cannot be compiled is refused before any network use', async () => {
    const jmesPath = [{ path: 'a[', objectAlias: 'x' }]
    const { grpcCode, message } = await node.failure([{ resourceName: LATEST, path: 'f', jmesPath }])
    expect([grpcCode, node.google.calls]).toEqual([3, []])
    expect(message).toContain('secrets[0] jmesPath "a["')
  })

  it('jmesPath that finds nothing names the path', async () => {
    const jmesPath = [{ path: 'nowhere', objectAlias: 'x' }]
    expect(await fault('{"a":1}', { jmesPath })).toContain("key 'nowhere' not found")
  })

  it.each([
    ['{"user":"u","n":1.0,"o":{"b":[]}}', 'JSON'],
    ['user: u\nn: 1.0\no: {b: []}\n', 'YAML'],
  ])('extractAll writes each top-level key of %j', async (payload, format) => {
    node.google.stores.addSecret(SECRET, payload, WEB)
    const { files, versions } = await node.mount([
      { resourceName: LATEST, path: 'db', extractAll: true, mode: 256 },
    ])
    expect(files.map(({ path, text, mode }) => [path, text, mode])).toEqual([
      ['db/user', 'u', 256],
      ['db/n', format === 'JSON' ? '1.0' : '1', 256],
      ['db/o', '{"b":[]}', 256],
    ])
    expect(versions.map(({ id }) => id)).toEqual([LATEST])
  })

  it('gcp-03 the whole secret and its keys come from one access', async () => {
    node.google.stores.addSecret(SECRET, '{"user":"u"}', WEB)
    const { files } = await node.mount([
      { resourceName: LATEST, path: 'whole' },
      { resourceName: LATEST, path: 'keys', extractAll: true },
    ])
    expect(files.map(({ path }) => path)).toEqual(['whole', 'keys/user'])
    expect(node.google.callsOf('access')).toHaveLength(1)
  })

  it('extractAll of a payload without keys, or with a key that is no file name, fails', async () => {
    for (const payload of ['{}', 'text', '{"../x":"a"}', '{"":"a"}']) {
      node.google.stores.addSecret(SECRET, payload, WEB)
      const { message } = await node.failure([{ resourceName: LATEST, extractAll: true }])
      expect(message).toMatch(/GCP_UNMARSHAL|INVALID_PATH/)
    }
  })

  it('an optional object that does not exist is left out, one that is denied is not', async () => {
    node.google.stores.addSecret(SECRET, 'x', WEB)
    node.google.identity.grant('projects/acme-prod/secrets/none', WEB)
    const optional = (id: string) => ({
      resourceName: `projects/acme-prod/secrets/${id}/versions/1`,
      path: id,
      optional: true,
    })
    const { files } = await node.mount([{ resourceName: LATEST, path: 'f' }, optional('none')])
    expect(files.map(({ path }) => path)).toEqual(['f'])
    const failure = await node.failure([{ resourceName: LATEST, path: 'f' }, optional('denied')])
    expect(failure.grpcCode).toBe(7)
  })
})
