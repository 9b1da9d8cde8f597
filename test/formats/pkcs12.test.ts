/** PKCS#12 files of every maker and cipher, and files that mean harm. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import forge from 'node-forge'
import { expect, test } from 'vitest'
import { privateKeyPem } from '../../src/formats/key-pem.ts'
import { pemBlocks, pemText } from '../../src/formats/pem.ts'
import { openPkcs12 } from '../../src/formats/pkcs12.ts'
import { der, derInteger, derOid, makePkcs12 } from './make-pkcs12.ts'

const folder = join(import.meta.dirname, '../vectors/pkcs12')
const vector = (name: string): Buffer => readFileSync(join(folder, name))
const text = (name: string): string => vector(name).toString()
const certificate = (name: string): Buffer => pemBlocks(text(`${name}.crt.pem`))[0]?.bytes ?? Buffer.alloc(0)
const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex')

const windows = Buffer.from(text('windows.txt'), 'base64')

test('azure 17 the Windows-style vector V1 has the published key and certificate', async () => {
  expect(sha256(windows)).toBe('73c4a07236c57beba9b7f506cf60f906bdeb6ad6bbe26a58cc99f6d954ab64f3')
  const { keys, certificates } = await openPkcs12(windows)
  const key = keys.map(privateKeyPem).join('')
  const chain = certificates.map((bytes) => pemText({ label: 'CERTIFICATE', bytes })).join('')
  expect([key.length, sha256(key)]).toEqual([
    241,
    '15ffe41a63bfc537379217941ff4991a337f185a97de75064304343633a47933',
  ])
  expect([chain.length, sha256(chain)]).toEqual([
    587,
    'ef8f6e7ab98e682d80f8727ce8485f3b9e6775b4777afc20266f9de190fc5f60',
  ])
  expect(sha256(key + chain)).toBe('34c2838e1b433bcab5d199ea3d00d9ac9d26d81b170e1f26cc17f60250dea12a')
})

test.each([
  ['rc2-40.pfx', 'rsa'],
  ['rc2-128.pfx', 'rsa'],
  ['3des.pfx', 'rsa'],
  ['2des.pfx', 'rsa'],
  ['aes256-sha256.pfx', 'rsa'],
  ['aes128-sha512.pfx', 'rsa'],
  ['no-mac.pfx', 'rsa'],
  ['in-clear.pfx', 'rsa'],
  ['ec-p256.pfx', 'prime256v1'],
  ['ec-p384.pfx', 'secp384r1'],
  ['ec-p521.pfx', 'secp521r1'],
  ['ec-secp256k1.pfx', 'secp256k1'],
])('azure 9.3 %s gives the key and certificates that OpenSSL put in', async (file, leaf) => {
  const { keys, certificates } = await openPkcs12(vector(file))
  expect(keys.map(privateKeyPem)).toEqual([text(`${leaf}.key.pem`)])
  expect(certificates).toEqual([certificate(leaf), certificate('root'), certificate('intermediate')])
})

test('a file with a password opens with it, letters outside ASCII included, and with no other', async () => {
  const { keys } = await openPkcs12(vector('password.pfx'), { password: 'päss-wörd' })
  expect(keys.map(privateKeyPem)).toEqual([text('rsa.key.pem')])
  await expect(openPkcs12(vector('password.pfx'), { password: 'pass-word' })).rejects.toThrow(
    'pkcs12: decryption password incorrect',
  )
  await expect(openPkcs12(vector('password.pfx'))).rejects.toThrow('pkcs12: decryption password incorrect')
})

test.each(['rc2-40.pfx', '3des.pfx', 'aes256-sha256.pfx'])(
  'node-forge reads the same key out of %s',
  async (file) => {
    const asn1 = forge.asn1.fromDer(vector(file).toString('binary'))
    const opened = forge.pkcs12.pkcs12FromAsn1(asn1, '')
    const bags = opened.getBags({ bagType: forge.pki.oids['pkcs8ShroudedKeyBag'] ?? '' })
    const [theirs] = bags[forge.pki.oids['pkcs8ShroudedKeyBag'] ?? ''] ?? []
    const { keys } = await openPkcs12(vector(file))
    const ours = forge.pki.privateKeyFromPem(privateKeyPem(keys[0] ?? Buffer.alloc(0)))
    expect(ours.n.toString(16)).toBe(theirs?.key?.n.toString(16))
  },
)

test('keys and certificates of several safes and of the plain key bag come in bag order', async () => {
  const key = pemBlocks(text('prime256v1.key.pem'))[0]?.bytes ?? Buffer.alloc(0)
  const made = makePkcs12({
    safes: [
      [{ certificate: certificate('root') }, { key }],
      [],
      [{ certificate: certificate('rsa') }, { key }, { certificate: certificate('intermediate') }],
    ],
  })
  const { keys, certificates } = await openPkcs12(made)
  expect(keys).toEqual([key, key])
  expect(certificates).toEqual([certificate('root'), certificate('rsa'), certificate('intermediate')])
})

test('T14 a MAC of 2147483647 iterations is refused at once, before a single one of them', async () => {
  await expect(
    openPkcs12(makePkcs12({ safes: [], mac: { digestOid: '1.3.14.3.2.26', iterations: 2 ** 31 - 1 } })),
  ).rejects.toThrow('pkcs12: its key derivations ask for more than 1000000 iterations')
})

test('T14 iterations count over the whole file: many bags cannot ask for more than one', async () => {
  const algorithm = der(
    0x30,
    derOid('1.2.840.113549.1.12.1.3'),
    der(0x30, der(4, Buffer.alloc(8)), derInteger(300_000)),
  )
  const shrouded = der(
    0x30,
    derOid('1.2.840.113549.1.12.10.1.2'),
    der(0xa0, der(0x30, algorithm, der(4, Buffer.alloc(64)))),
  )
  await expect(
    openPkcs12(makePkcs12({ safes: [Array.from({ length: 50 }, () => ({ raw: shrouded }))] })),
  ).rejects.toThrow('more than 1000000 iterations')
})

test('T14 a long derivation lets others have their turn and ends when its mount does', async () => {
  const pfx = makePkcs12({ safes: [], mac: { digestOid: '1.3.14.3.2.26', iterations: 300_000 } })
  let turns = 0
  const count = (): void => {
    turns += 1
    next = setImmediate(count)
  }
  let next = setImmediate(count)
  await expect(openPkcs12(pfx, { signal: AbortSignal.timeout(60) })).rejects.toThrow(/aborted|timeout/)
  clearImmediate(next)
  // A derivation in one piece would leave one turn, before it.
  expect(turns).toBeGreaterThan(2)
})

test.each([
  ['nothing', Buffer.alloc(0)],
  ['text', Buffer.from('hello')],
  ['zeros', Buffer.alloc(4096)],
  ['a file cut in half', windows.subarray(0, 541)],
  ['more than 1 MiB', Buffer.alloc(1024 * 1024 + 1)],
  ['a nesting of 1000', Buffer.concat(Array.from({ length: 1000 }, () => Buffer.of(0x30, 0x80)))],
  ['version 4', der(0x30, derInteger(4))],
  ['an unknown digest', makePkcs12({ safes: [], mac: { digestOid: '1.2.840.113549.2.5', iterations: 1 } })],
  [
    'an unknown bag',
    makePkcs12({ safes: [[{ raw: der(0x30, derOid('1.2.840.113549.1.12.10.1.5'), der(0xa0, der(5))) }]] }),
  ],
])('%s is refused with one error', async (_, bytes) => {
  await expect(openPkcs12(bytes)).rejects.toThrow(/^pkcs12: /)
})

test('every file with one byte changed opens or is refused, and nothing else happens', async () => {
  for (let at = 0; at < windows.length; at += 7) {
    const changed = Buffer.from(windows)
    changed[at] = (changed[at] ?? 0) ^ 0x11
    const opened = await openPkcs12(changed).then(
      () => 'opened',
      (error: unknown) => (error instanceof Error ? error.name : 'thrown'),
    )
    expect(['opened', 'Pkcs12Error']).toContain(opened)
  }
})
