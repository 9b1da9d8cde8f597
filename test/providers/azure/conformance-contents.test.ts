/** Conformance cases azure-33 to azure-46: what becomes of certificates, PKCS#12 and keys. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { pemBlocks, pemText } from '../../../src/formats/pem.ts'
import { makePkcs12 } from '../../formats/make-pkcs12.ts'
import { BASE, objects, startHarness, VAULT_HOST, type Harness, type Seen } from './harness.ts'

const folder = join(import.meta.dirname, '../../vectors/pkcs12')
const text = (name: string): string => readFileSync(join(folder, name), 'utf8')
const V1 = text('windows.txt').trim()
const V1_PEM = '34c2838e1b433bcab5d199ea3d00d9ac9d26d81b170e1f26cc17f60250dea12a'
const PKCS12 = 'application/x-pkcs12'
const PEM = 'application/x-pem-file'
const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex')
const certificate = (name: string): Buffer => pemBlocks(text(`${name}.crt.pem`))[0]?.bytes ?? Buffer.alloc(0)
const pem = (...names: readonly string[]): string =>
  names.map((name) => pemText({ label: 'CERTIFICATE', bytes: certificate(name) })).join('')

let harness: Harness
beforeAll(async () => {
  harness = await startHarness()
})
afterAll(() => harness.stop())
beforeEach(() => {
  harness.logged.length = 0
})

type ObjectText = Readonly<Record<string, string | number>>

function stored(value: string, contentType: string): void {
  harness.fake.vault(VAULT_HOST).remove('secrets', 'n')
  harness.fake.vault(VAULT_HOST).certificateSecret('n', value, contentType)
}
const parameters = (more: ObjectText, also: Readonly<Record<string, string>>) => ({
  ...BASE,
  ...also,
  objects: objects({ objectName: 'n', objectType: 'secret', ...more }),
})
const mount = (more: ObjectText = {}, also: Readonly<Record<string, string>> = {}): Promise<Seen> =>
  harness.mount(parameters(more, also))
const refused = async (more: ObjectText = {}): Promise<string> =>
  (await harness.failure(parameters(more, {}))).message

test('azure-33 PEM of a certificate comes as it is, certificate before key too', async () => {
  const value = `${pem('rsa').replaceAll('\n', '\r\n')}some words\n${text('rsa.key.pem')}`
  stored(value, PEM)
  expect((await mount()).files[0]?.text).toBe(value)
  expect((await mount({ objectFormat: 'pfx' })).files[0]?.text).toBe(value)
})

test.each([{}, { objectFormat: 'pem' }, { objectFormat: 'PEM' }])(
  'azure-34 PKCS#12 becomes PEM, the key first: %j',
  async (more) => {
    stored(V1, PKCS12)
    const { files } = await mount(more)
    expect([files[0]?.bytes.length, sha256(files[0]?.bytes ?? '')]).toEqual([828, V1_PEM])
    expect(files[0]?.text).toMatch(/^-----BEGIN PRIVATE KEY-----\n/)
  },
)

test('azure-35 format pfx: the base64 text, or with objectEncoding the file itself', async () => {
  stored(V1, PKCS12)
  expect((await mount({ objectFormat: 'pfx' })).files[0]?.text).toBe(V1)
  const { files } = await mount({ objectFormat: 'PFX', objectEncoding: 'base64' })
  expect([files[0]?.bytes.length, sha256(files[0]?.bytes ?? '')]).toEqual([
    1082,
    '73c4a07236c57beba9b7f506cf60f906bdeb6ad6bbe26a58cc99f6d954ab64f3',
  ])
})

test('azure-36 PEM is no base64', async () => {
  stored(V1, PKCS12)
  expect(await refused({ objectEncoding: 'base64' })).toContain('illegal base64 data at input byte 0')
})

test('azure-37 a PKCS#12 secret that is none: an error that names the object and quotes nothing', async () => {
  stored('invalid', PKCS12)
  expect(await refused()).toContain(
    'failed to get objectType:secret, objectName:n, objectVersion:: illegal base64 data at input byte',
  )
  stored(Buffer.from('no pfx').toString('base64'), PKCS12)
  expect(await refused()).toContain('objectName:n, objectVersion:: pkcs12: ')
})

test('azure-38 an unknown content type', async () => {
  stored('x', 'text/plain')
  expect(await refused()).toContain("failed to get certificate. unknown content type 'text/plain'")
})

test('azure-39 without kid a PKCS#12 text is a plain secret', async () => {
  harness.fake.vault(VAULT_HOST).remove('secrets', 'n')
  harness.fake.vault(VAULT_HOST).secret('n', V1, { contentType: PKCS12 })
  expect((await mount()).files[0]?.text).toBe(V1)
})

const SEPARATE = { writeCertAndKeyInSeparateFiles: 'true' }

test('azure-40 separate files: .crt, .key, the whole, with one version', async () => {
  stored(V1, PKCS12)
  const { files, versions } = await mount({}, SEPARATE)
  expect(files.map(({ path, bytes }) => [path, bytes.length])).toEqual([
    ['n.crt', 587],
    ['n.key', 241],
    ['n', 828],
  ])
  expect(versions).toEqual([{ id: 'secret/n', version: 'v1' }])
  const aliased = await mount({ objectAlias: 'tls/site', filePermission: '0400' }, SEPARATE)
  expect(aliased.files.map(({ path, mode }) => [path, mode])).toEqual([
    ['tls/site.crt', 256],
    ['tls/site.key', 256],
    ['tls/site', 256],
  ])
  harness.fake.vault(VAULT_HOST).remove('secrets', 'n')
  harness.fake.vault(VAULT_HOST).secret('n', 'plain')
  expect((await mount({}, SEPARATE)).files.map(({ path }) => path)).toEqual(['n'])
})

test('azure-40 separate files of a history have their suffix after the index', async () => {
  stored(V1, PKCS12)
  const { files, versions } = await mount({ objectVersionHistory: 2 }, SEPARATE)
  expect(files.map(({ path }) => path)).toEqual(['n/0.crt', 'n/0.key', 'n/0'])
  expect(versions).toEqual([{ id: 'secret/n/0', version: 'v1' }])
})

test('azure-41 separate files of a PFX: two empty ones and the text', async () => {
  stored(V1, PKCS12)
  const { files } = await mount({ objectFormat: 'pfx' }, SEPARATE)
  expect(files.map(({ path, text }) => [path, text])).toEqual([
    ['n.crt', ''],
    ['n.key', ''],
    ['n', V1],
  ])
})

test('azure-42 root, intermediate, server and key are split in the order given', async () => {
  stored(`${pem('root', 'intermediate', 'rsa')}${text('rsa.key.pem')}`, PEM)
  const { files } = await mount({}, SEPARATE)
  expect(files[0]?.text).toBe(pem('root', 'intermediate', 'rsa'))
  expect(files[1]?.text).toBe(text('rsa.key.pem'))
})

const key = pemBlocks(text('rsa.key.pem'))[0]?.bytes ?? Buffer.alloc(0)
const pfxOf = (...names: readonly string[]): string =>
  makePkcs12({ safes: [[{ key }], names.map((name) => ({ certificate: certificate(name) }))] }).toString(
    'base64',
  )

test.each([
  [['root', 'intermediate', 'rsa']],
  [['root', 'rsa', 'intermediate']],
  [['intermediate', 'root', 'rsa']],
  [['intermediate', 'rsa', 'root']],
  [['rsa', 'root', 'intermediate']],
  [['rsa', 'intermediate', 'root']],
])('azure-43 a chain in bag order %j comes leaf, intermediate, root', async (names) => {
  stored(pfxOf(...names), PKCS12)
  expect((await mount()).files[0]?.text).toBe(text('rsa.key.pem') + pem('rsa', 'intermediate', 'root'))
  expect((await mount({}, { constructPEMChain: 'false' })).files[0]?.text).toBe(
    text('rsa.key.pem') + pem(...names),
  )
})

test('azure-43 every cipher: OpenSSL’s files come with their key and in chain order', async () => {
  for (const name of ['rc2-40', '3des', 'aes256-sha256', 'aes128-sha512', 'no-mac']) {
    stored(readFileSync(join(folder, `${name}.pfx`)).toString('base64'), PKCS12)
    expect((await mount()).files[0]?.text).toBe(text('rsa.key.pem') + pem('rsa', 'intermediate', 'root'))
  }
})

test('azure-44 a chain with a hole stays in bag order, with a warning that names the object', async () => {
  stored(pfxOf('rsa', 'root'), PKCS12)
  expect((await mount()).files[0]?.text).toBe(text('rsa.key.pem') + pem('rsa', 'root'))
  expect(
    harness.logged.find(({ message }) => message.includes('do not form one chain'))?.fields,
  ).toMatchObject({
    object: 'n',
    certificates: 2,
  })
})

test('azure-45 keys: EC, EC-HSM and P-256K (ours, as secp256k1) as public PEM; oct has no public part', async () => {
  const vault = harness.fake.vault(VAULT_HOST)
  vault.key('v2', {
    kty: 'EC',
    crv: 'P-256',
    x: 'Negft2FYou2kXTKGiRBGItT9k7sALWUaiI3Wlu0qv_8',
    y: 'jRQhG4-RuHJTGa1oa_3uiz9HY9H0WcJiYulSPYDl-MU',
  })
  vault.key('v3', {
    kty: 'EC-HSM',
    crv: 'P-521',
    x: 'AGSzofPxMt3YKDZcBbRXDhxYpiahew4SNncfZJgwKffjeq5cznq1l1cs55Ynlpnofyn_EQ1hgmH_qotAbHTNYQVE',
    y: 'APp1GYv94jHbWHsPCSswP-Ymm-OMKrCJ1Y6IdAFh1RSHS_Spdbvx6qf-bYkTGlc2Opm7ImSFWBaCdQG5BJ1TZla0',
  })
  const named = (objectName: string): Promise<Seen> =>
    harness.mount({ ...BASE, objects: objects({ objectName, objectType: 'key' }) })
  const { files, versions } = await named('v2')
  expect([files[0]?.bytes.length, sha256(files[0]?.bytes ?? '')]).toEqual([
    178,
    'dea80f95dc4d06b167996ff1c303d8df7065bfc4c57f7fde6b8d347aed44f5a4',
  ])
  expect(versions).toEqual([{ id: 'key/v2', version: 'v1' }])
  const v3 = await named('v3')
  expect([v3.files[0]?.bytes.length, sha256(v3.files[0]?.bytes ?? '')]).toEqual([
    268,
    'f01f930b821c37954e8b6e5698bf3fc77f61472cee87f402dd60580d5d42b9bd',
  ])
  const { createPrivateKey, createPublicKey } = await import('node:crypto')
  const koblitz = createPublicKey(createPrivateKey(text('secp256k1.key.pem')))
  vault.key('koblitz', { ...koblitz.export({ format: 'jwk' }), kty: 'EC', crv: 'P-256K' })
  expect((await named('koblitz')).files[0]?.text).toBe(koblitz.export({ type: 'spki', format: 'pem' }))
  vault.key('oct', { kty: 'oct' })
  const failure = await harness.failure({
    ...BASE,
    objects: objects({ objectName: 'oct', objectType: 'key' }),
  })
  expect(failure.message).toContain("failed to get key. key type 'oct' currently not supported")
})

test('azure-46 a certificate is one block of its bytes, whatever they are', async () => {
  harness.fake.vault(VAULT_HOST).put('certificates', 'c', { cer: Buffer.from('test').toString('base64') })
  const { files, versions } = await harness.mount({
    ...BASE,
    objects: objects({ objectName: 'c', objectType: 'cert' }),
  })
  expect(files[0]?.text).toBe('-----BEGIN CERTIFICATE-----\ndGVzdA==\n-----END CERTIFICATE-----\n')
  expect(versions).toEqual([{ id: 'cert/c', version: 'v1' }])
})
