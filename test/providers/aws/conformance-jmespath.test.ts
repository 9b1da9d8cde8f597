/** aws.md, conformance cases 12 to 20, and what the vendor's provider dies of: fields of JSON values. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { fill, spc, V2 } from './fixtures.ts'
import { startHarness } from './harness.ts'
import type { Harness } from './harness.ts'

let aws: Harness
beforeAll(async () => {
  aws = await startHarness()
  fill(aws)
})
beforeEach(() => aws.fake.reset())
afterAll(() => aws.stop())

const jmes = (path: string, objectAlias: string, more: Record<string, string> = {}) => ({
  path,
  objectAlias,
  ...more,
})
const appDb = (...jmesPath: readonly Record<string, string>[]) => ({ objectName: 'app/db', jmesPath })

/** Code of the only failure. */
async function code(parameters: Record<string, string>): Promise<string> {
  const { failures } = await aws.failure(parameters)
  expect(failures).toHaveLength(1)
  return failures[0]?.code ?? ''
}

it('aws-12 fields become files of their own with the parent’s version and mode', async () => {
  const entry = {
    ...appDb(jmes('username', 'u', { filePermission: '0777' }), jmes('list[1]', 'l')),
    filePermission: '0600',
  }
  const files = await aws.mount(spc([entry]))
  expect([...files].map(([path, { mode, version }]) => [path, mode, version])).toEqual([
    ['app_db', 0o600, V2],
    ['u', 0o777, V2],
    ['l', 0o600, V2],
  ])
  expect(files.get('u')?.text).toBe('u1')
  expect(files.get('l')?.text).toBe('l1')
  expect(aws.fake.callsTo('secretsmanager')).toHaveLength(1)
})

it('aws-13 an empty text is a file of zero bytes', async () => {
  expect((await aws.mount(spc([appDb(jmes('empty', 'e'))]))).get('e')?.bytes).toHaveLength(0)
})

it('aws-14 numbers and booleans are text, unless jmesPathStrict says otherwise', async () => {
  const files = await aws.mount(spc([appDb(jmes('port', 'n'), jmes('tls', 't'))]))
  expect(files.get('n')?.text).toBe('5432')
  expect(files.get('t')?.text).toBe('true')
  expect(await code(spc([appDb(jmes('port', 'n'))], { jmesPathStrict: 'true' }))).toBe('AWS_JMES_TYPE')
  expect(await code(spc([appDb(jmes('tls', 't'))], { jmesPathStrict: 'true' }))).toBe('AWS_JMES_TYPE')
  expect(await code(spc([appDb(jmes('list', 'l'))]))).toBe('AWS_JMES_TYPE')
  expect(await code(spc([appDb(jmes('@', 'all'))]))).toBe('AWS_JMES_TYPE')
})

it('aws 6 digits of a number are delivered as they were written', async () => {
  aws.fake.region('us-east-1').putSecret('big', '{"n":12345678901234567890.10}')
  const entry = { objectName: 'big', jmesPath: [jmes('n', 'n')] }
  expect((await aws.mount(spc([entry]))).get('n')?.text).toBe('12345678901234567890.10')
})

it.each(['nul', 'nosuch', 'list[9]', 'username.x', 'username[0]'])(
  'aws-15 path %s finds nothing: the error names path and alias',
  async (path) => {
    const { failures, message } = await aws.failure(spc([appDb(jmes(path, 'file'))]))
    expect(failures.map((one) => one.code)).toEqual(['AWS_JMES_MISSING'])
    expect(message).toContain(`jmesPath "${path}" (file)`)
  },
)

it.each(['false', 'true'])('aws-16 to_string(port) is text, jmesPathStrict %s', async (jmesPathStrict) => {
  const files = await aws.mount(spc([appDb(jmes('to_string(port)', 'n'))], { jmesPathStrict }))
  expect(files.get('n')?.text).toBe('5432')
})

it('aws-17 a hyphenated key in quotes is found', async () => {
  expect((await aws.mount(spc([appDb(jmes('"api-key"', 'k'))]))).get('k')?.text).toBe('k-1')
})

it.each(['api-key', '.username', 'ключ', 'nosuchfunction(@)', '`bad`'])(
  'aws-18 path %s is a syntax error, found before any call to AWS',
  async (path) => {
    expect(await code(spc([appDb(jmes(path, 'k'))]))).toBe('AWS_JMES_SYNTAX')
    expect(aws.fake.calls).toEqual([])
  },
)

it('aws-18 the error for a bare hyphenated key shows the quoted form', async () => {
  expect((await aws.failure(spc([appDb(jmes('api-key', 'k'))]))).message).toContain(`'"api-key"'`)
})

it('aws-19 quotes in an alias are part of the file name', async () => {
  const text = [
    '- objectName: app/db',
    '  objectType: secretsmanager',
    '  jmesPath: [{path: username, objectAlias: \'"x-y"\'}]',
  ].join('\n')
  const files = await aws.mount({ region: 'us-east-1', objects: text })
  expect([...files.keys()]).toEqual(['app_db', '"x-y"'])
})

it('aws-20 a value that is not JSON is an error without a byte of it', async () => {
  const { failures, message } = await aws.failure(spc([{ objectName: 'plain', jmesPath: [jmes('a', 'b')] }]))
  expect(failures.map((one) => one.code)).toEqual(['AWS_JMES_JSON'])
  expect(message).not.toContain('s3cret')
})

it('aws 6 a jmesPath without path or alias is refused', async () => {
  expect(await code(spc([appDb(jmes('', 'x'))]))).toBe('AWS_BAD_JMES_ENTRY')
  expect(await code(spc([appDb(jmes('username', ''))]))).toBe('AWS_BAD_JMES_ENTRY')
})

it('T17 merge() over a non-object and nesting without end are errors; the process lives', async () => {
  expect(await code(spc([appDb(jmes('merge(username)', 'm'))]))).toBe('AWS_JMES_SYNTAX')
  for (const hostile of ['('.repeat(60_000), '!'.repeat(60_000), '['.repeat(60_000)])
    expect(await code(spc([appDb(jmes(hostile, 'm'))]))).toBe('AWS_JMES_SYNTAX')
  expect((await aws.mount(spc(['plain']))).get('plain')?.text).toBe('s3cret\n')
})

it('T16 keys named like members of every object are missing unless they are there', async () => {
  for (const path of ['toString', 'constructor', '"__proto__"', 'hasOwnProperty'])
    expect(await code(spc([appDb(jmes(path, 'f'))]))).toBe('AWS_JMES_MISSING')
  aws.fake.region('us-east-1').putSecret('odd', '{"__proto__":"p","constructor":"c"}')
  const entry = { objectName: 'odd', jmesPath: [jmes('"__proto__"', 'p'), jmes('constructor', 'c')] }
  const files = await aws.mount(spc([entry]))
  expect([files.get('p')?.text, files.get('c')?.text]).toEqual(['p', 'c'])
})

it('aws 6 to_string of an object is Go’s JSON', async () => {
  aws.fake.region('us-east-1').putSecret('go', '{"o":{"b":"<&>","a":1.0}}')
  const entry = { objectName: 'go', jmesPath: [jmes('to_string(o)', 'o'), jmes('to_string(x)', 'x')] }
  const files = await aws.mount(spc([entry]))
  expect(files.get('o')?.text).toBe(String.raw`{"a":1,"b":"\u003c\u0026\u003e"}`)
  expect(files.get('x')?.text).toBe('null')
})

it('ours: objectEncoding base64 decodes a value or a field', async () => {
  aws.fake.region('us-east-1').putSecret('b64', Buffer.from('{"f":"AP8="}').toString('base64'))
  const files = await aws.mount(
    spc([
      {
        objectName: 'b64',
        objectEncoding: 'base64',
        jmesPath: [jmes('f', 'f', { objectEncoding: 'base64' })],
      },
    ]),
  )
  expect(files.get('b64')?.text).toBe('{"f":"AP8="}')
  expect(files.get('f')?.bytes).toEqual(Buffer.from([0x00, 0xff]))
  expect(await code(spc([{ objectName: 'plain', objectEncoding: 'base64' }]))).toBe('AWS_BAD_ENCODING')
  expect(await code(spc([{ objectName: 'plain', objectEncoding: 'hex' }]))).toBe('AWS_BAD_ENCODING')
})

it('ours: path * writes every top-level text, number and boolean to a file of its name, for one call', async () => {
  const files = await aws.mount(spc([{ objectName: 'app/db', jmesPath: [{ path: '*' }] }]))
  expect([...files].map(([path, { text, version }]) => [path, text, version])).toEqual([
    ['app_db', expect.any(String), V2],
    ['username', 'u1', V2],
    ['port', '5432', V2],
    ['tls', 'true', V2],
    ['empty', '', V2],
    ['api-key', 'k-1', V2],
  ])
  expect(aws.fake.callsTo('secretsmanager')).toHaveLength(1)
})
