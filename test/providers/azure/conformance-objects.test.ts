/** Conformance cases azure-12 to azure-17, azure-25 to azure-32 and azure-47 to azure-55: objects, files, history, failures. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { BASE, objects, startHarness, VAULT_HOST, type Harness, type Seen } from './harness.ts'

type ObjectText = Readonly<Record<string, string | number>>

let harness: Harness
beforeAll(async () => {
  harness = await startHarness()
})
afterAll(() => harness.stop())
beforeEach(() => {
  harness.fake.calls.length = 0
  harness.logged.length = 0
})

const mount = (...list: readonly ObjectText[]): Promise<Seen> =>
  harness.mount({ ...BASE, objects: objects(...list) })
const refused = async (...list: readonly ObjectText[]): Promise<string> =>
  (await harness.failure({ ...BASE, objects: objects(...list) })).message
const secret = (name: string, more: ObjectText = {}): ObjectText => ({
  objectName: name,
  objectType: 'secret',
  ...more,
})
const stored = (name: string, value: string): void => {
  harness.fake.vault(VAULT_HOST).remove('secrets', name)
  harness.fake.vault(VAULT_HOST).secret(name, value)
}

test('azure-12 an unknown objectFormat', async () => {
  expect(await refused(secret('secret1', { objectFormat: 'pkcs' }))).toContain(
    'failed to get objectType:secret, objectName:secret1, objectVersion:: invalid objectFormat: pkcs, should be PEM or PFX',
  )
})

test('azure-13 an unknown objectEncoding; a known one in any case', async () => {
  expect(await refused(secret('secret1', { objectEncoding: 'utf-16' }))).toContain(
    'failed to get objectType:secret, objectName:secret1, objectVersion:: invalid objectEncoding: utf-16, should be hex, base64 or utf-8',
  )
  stored('encoded', 'YQ==')
  expect((await mount(secret('encoded', { objectEncoding: 'BasE64' }))).files[0]?.text).toBe('a')
})

test('azure-14 encoding and pfx are for secrets', async () => {
  const cert = { objectName: 'c', objectType: 'cert' }
  expect(await refused({ ...cert, objectEncoding: 'base64' })).toContain(
    'objectEncoding only supported for objectType: secret',
  )
  expect(await refused({ ...cert, objectFormat: 'pfx' })).toContain(
    'PFX format only supported for objectType: secret',
  )
})

test('azure-15 PFX in capitals passes for a certificate and changes nothing', async () => {
  harness.fake.vault(VAULT_HOST).put('certificates', 'c', { cer: Buffer.from('test').toString('base64') })
  const { files } = await mount({ objectName: 'c', objectType: 'cert', objectFormat: 'PFX' })
  expect(files[0]?.text).toBe('-----BEGIN CERTIFICATE-----\ndGVzdA==\n-----END CERTIFICATE-----\n')
})

test.each([
  [{ objectAlias: '/secret1' }, 'file name must be a relative path'],
  [{ objectAlias: 'secret1/..' }, "file name must not contain '..'"],
  [{ objectAlias: '../secret1' }, "file name must not contain '..'"],
  [{ objectName: '""', objectAlias: '""' }, 'file name must not be empty'],
])('azure-16 file name of %j', async (more, fault) => {
  expect(await refused(secret('secret1', more))).toContain(fault)
})

test('azure-17 two dots anywhere', async () => {
  expect(await refused(secret('secret1', { objectAlias: 'foo..bar' }))).toContain(
    "file name must not contain '..'",
  )
})

test('azure-25 a plain secret: path, mode, bytes, id, version', async () => {
  stored('secret1', 'secret1value')
  const { files, versions } = await mount(secret('secret1'))
  expect(files.map(({ path, mode, text }) => [path, mode, text])).toEqual([['secret1', 420, 'secret1value']])
  expect(versions).toEqual([{ id: 'secret/secret1', version: 'v1' }])
})

test('azure-26 fields are trimmed', async () => {
  stored('secret1', 'YQ==')
  const { files } = await mount({
    objectName: '"secret1   "',
    objectType: '"  secret"',
    objectEncoding: '"base64   "',
  })
  expect(files.map(({ path, text }) => [path, text])).toEqual([['secret1', 'a']])
})

test('azure-27 two aliases of one object: two files, one call; equal ids are one entry for the driver (driver.md 8.4)', async () => {
  stored('secret1', 'twice')
  const { files, versions } = await mount(secret('secret1'), secret('secret1', { objectAlias: 'SECRET_1' }))
  expect(files.map(({ path, text }) => [path, text])).toEqual([
    ['secret1', 'twice'],
    ['SECRET_1', 'twice'],
  ])
  expect(versions).toEqual([{ id: 'secret/secret1', version: 'v1' }])
  expect(harness.fake.vaultCalls()).toEqual(['GET /secrets/secret1/'])
})

test('azure-28 filePermission in octal, quoted or not; the request’s without one', async () => {
  stored('secret1', 'x')
  const { files } = await mount(
    secret('secret1', { objectAlias: 'a', filePermission: '0755' }),
    secret('secret1', { objectAlias: 'b', filePermission: '"0600"' }),
    secret('secret1', { objectAlias: 'c' }),
  )
  expect(files.map(({ mode }) => mode)).toEqual([493, 384, 420])
})

test('azure-29 a bad filePermission gives mode 0 and a warning; an error where the class asks for strictness', async () => {
  stored('secret1', 'x')
  for (const filePermission of ['0900', '0o644', 'rw-r--r--']) {
    const { files } = await mount(secret('secret1', { filePermission }))
    expect(files[0]?.mode).toBe(0)
  }
  const warnings = harness.logged.flatMap(({ fields }) => fields['warning'] ?? [])
  expect(warnings).toContain(
    'object "secret1": filePermission "0900" is not an octal number; the file has mode 0000',
  )
  const failure = await harness.failure({
    ...BASE,
    strictFilePermission: 'true',
    objects: objects(secret('secret1', { filePermission: '0900' })),
  })
  expect(failure.message).toContain('filePermission "0900" is not an octal number')
})

test('azure-30 base64 is decoded', async () => {
  stored('secret1', 'QmFzZTY0RW5jb2RlZFN0cmluZw==')
  expect((await mount(secret('secret1', { objectEncoding: 'base64' }))).files[0]?.text).toBe(
    'Base64EncodedString',
  )
})

test('azure-31 hexadecimal is decoded', async () => {
  stored('secret1', '486578456E636F646564537472696E67')
  expect((await mount(secret('secret1', { objectEncoding: 'hex' }))).files[0]?.text).toBe('HexEncodedString')
})

test('azure-32 what is not in the encoding is refused, and not quoted', async () => {
  stored('secret1', 'a')
  expect(await refused(secret('secret1', { objectEncoding: 'base64' }))).toMatch(
    /^AZURE_BAD_VALUE: object "secret1": illegal base64 data at input byte 0 \[malformed\]/,
  )
  stored('secret1', 'abc')
  expect(await refused(secret('secret1', { objectEncoding: 'hex' }))).toContain(
    'encoding/hex: odd length hex string',
  )
})

/** Versions a to e, a the newest, listed in another order. */
function history(name: string, letters = 'abcde', disabled = ''): void {
  const vault = harness.fake.vault(VAULT_HOST)
  vault.remove('secrets', name)
  const sorted = letters.split('')
  for (const letter of [...sorted].sort(
    (x, y) => ((x.charCodeAt(0) * 7) % 5) - ((y.charCodeAt(0) * 7) % 5),
  )) {
    vault.secret(name, `value ${letter}`, {
      version: letter,
      created: 1_700_000_000 - sorted.indexOf(letter) * 10,
      enabled: !disabled.includes(letter),
    })
  }
}
const told = ({ files }: Seen): (readonly [string, string])[] => files.map(({ path, text }) => [path, text])

test('azure-47 history, newest first, whatever the order of the list', async () => {
  history('secret1')
  const seen = await mount(secret('secret1', { objectVersionHistory: 5 }))
  expect(told(seen)).toEqual([
    ['secret1/0', 'value a'],
    ['secret1/1', 'value b'],
    ['secret1/2', 'value c'],
    ['secret1/3', 'value d'],
    ['secret1/4', 'value e'],
  ])
  expect(seen.versions[0]).toEqual({ id: 'secret/secret1/0', version: 'a' })
  expect(seen.versions.map(({ id }) => id)).toEqual([0, 1, 2, 3, 4].map((index) => `secret/secret1/${index}`))
})

test('azure-48 history from a version on', async () => {
  history('secret1')
  expect(told(await mount(secret('secret1', { objectVersionHistory: 5, objectVersion: 'c' })))).toEqual([
    ['secret1/0', 'value c'],
    ['secret1/1', 'value d'],
    ['secret1/2', 'value e'],
  ])
})

test('azure-49 history 200 of two versions: two files; history 2 of three: three, or two where the class wants it exact', async () => {
  history('secret1', 'ab')
  expect(told(await mount(secret('secret1', { objectVersionHistory: 200 })))).toHaveLength(2)
  history('secret1', 'abc')
  const two = secret('secret1', { objectVersionHistory: 2 })
  expect(told(await mount(two)).map(([path]) => path)).toEqual(['secret1/0', 'secret1/1', 'secret1/2'])
  const exact = await harness.mount({ ...BASE, objectVersionHistoryExact: 'true', objects: objects(two) })
  expect(told(exact).map(([path]) => path)).toEqual(['secret1/0', 'secret1/1'])
})

test('azure-50 a disabled version is skipped', async () => {
  history('secret1', 'abcde', 'a')
  expect(told(await mount(secret('secret1', { objectVersionHistory: 3 })))[0]).toEqual([
    'secret1/0',
    'value b',
  ])
})

test('azure-51 a version that is not listed: no files of this object, a warning, and no error', async () => {
  history('secret1')
  stored('other', 'x')
  const seen = await mount(
    secret('secret1', { objectVersionHistory: 3, objectVersion: 'zz' }),
    secret('other'),
  )
  expect(told(seen)).toEqual([['other', 'x']])
  expect(harness.logged.map(({ message }) => message)).toContain(
    'objectVersion is not among the enabled versions, so there are no files',
  )
})

test('azure-52 history of an alias with directories, over pages of 25', async () => {
  const vault = harness.fake.vault(VAULT_HOST)
  for (let index = 0; index < 60; index += 1) {
    vault.secret('multiple-versions', `value ${index}`, {
      version: `v${index}`,
      created: 1_700_000_000 + index,
    })
  }
  const seen = await mount(
    secret('multiple-versions', { objectVersionHistory: 10, objectAlias: 'folder//multiple-versions/' }),
  )
  expect(seen.files[0]).toMatchObject({ path: 'folder/multiple-versions/0', text: 'value 59' })
  expect(seen.versions[8]).toEqual({ id: 'secret/multiple-versions/8', version: 'v51' })
  const lists = harness.fake.vaultCalls().filter((call) => call.endsWith('/versions'))
  expect(lists).toHaveLength(3)
})

test.each([0, 1, -1])(
  'azure-53 history %i: one file, no directory, no list',
  async (objectVersionHistory) => {
    stored('secret1', 'x')
    expect(told(await mount(secret('secret1', { objectVersionHistory })))).toEqual([['secret1', 'x']])
    expect(harness.fake.vaultCalls()).toEqual(['GET /secrets/secret1/'])
  },
)

test('azure-54 one object that is not there fails the whole mount, with vault, status, codes and one remedy', async () => {
  stored('secret1', 'x')
  const failure = await harness.failure({ ...BASE, objects: objects(secret('secret1'), secret('absent')) })
  expect(failure.message).toBe(
    'AZURE_NOT_FOUND: object "absent": failed to get objectType:secret, objectName:absent, objectVersion:: ' +
      'vault testkv answered HTTP 404 SecretNotFound [not-found]. ' +
      'Check objectName, objectType, objectVersion and keyvaultName, and whether the object was deleted.',
  )
  expect(failure.kind).toBe('not-found')
})

test.each(['Secret', '""'])('azure-55 objectType %s', async (objectType) => {
  expect(await refused({ objectName: 'x', objectType })).toContain(
    'Invalid vaultObjectTypes. Should be secret, key, or cert',
  )
})

test('azure section 4: scalars keep their source text, later documents and null elements are ignored', async () => {
  for (const name of ['012', '1e3', 'yes', '0x10']) {
    stored(name, `value of ${name}`)
    const { files } = await mount(secret(name))
    expect(files.map(({ path, text }) => [path, text])).toEqual([[name, `value of ${name}`]])
  }
  const text = `array:\n  - ~\n  - |\n    objectName: yes\n    objectType: secret\n---\nnonsense: [`
  expect(told(await harness.mount({ ...BASE, objects: text }))).toEqual([['yes', 'value of yes']])
})

test.each([
  ['"5"', /cannot unmarshal !!str/],
  ['true', /cannot unmarshal !!bool/],
  ['99999999999', /cannot unmarshal !!int/],
])('azure section 4: objectVersionHistory %s is an error with its index', async (value, words) => {
  const message = await refused(secret('secret1'), secret('secret1', { objectVersionHistory: value }))
  expect(message).toContain('unmarshal failed for keyVaultObjects at index 1, error: ')
  expect(message).toMatch(words)
})

test('azure section 4: duplicate keys are refused, every fault of the class is reported at once', async () => {
  const message = await refused(secret('a', { objectEncoding: 'x' }), secret('b', { objectFormat: 'y' }))
  expect(message).toContain('invalid objectEncoding: x')
  expect(message).toContain('invalid objectFormat: y')
  const twice = 'array:\n  - |\n    objectName: a\n    objectName: b\n'
  expect((await harness.failure({ ...BASE, objects: twice })).message).toContain('already defined at line 1')
})

test('azure section 5: the version latest is the current one', async () => {
  stored('secret1', 'now')
  expect(told(await mount(secret('secret1', { objectVersion: 'latest' })))).toEqual([['secret1', 'now']])
})
