/** PEM text, chain order, keys as PEM, and base64 and hexadecimal with Go's words. */
import { createHash, createPrivateKey, generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { chainOf } from '../../src/formats/certificate-chain.ts'
import { parseDer } from '../../src/formats/der.ts'
import { decodeGoBase64, decodeGoHex } from '../../src/formats/go-encodings.ts'
import { privateKeyPem, publicKeyPem } from '../../src/formats/key-pem.ts'
import { pemBlocks, pemText } from '../../src/formats/pem.ts'
import { der, derOid } from './make-pkcs12.ts'

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex')
const folder = join(import.meta.dirname, '../vectors/pkcs12')
const certificate = (name: string): Buffer =>
  pemBlocks(readFileSync(join(folder, `${name}.crt.pem`), 'utf8'))[0]?.bytes ?? Buffer.alloc(0)

/** A certificate as far as its key identifiers go. */
function fakeCertificate(name: string, subject: string, authority: string): Buffer {
  const extension = (id: string, value: Buffer): Buffer => der(0x30, derOid(id), der(4, value))
  const extensions = [
    ...(subject === '' ? [] : [extension('2.5.29.14', der(4, Buffer.from(subject)))]),
    ...(authority === '' ? [] : [extension('2.5.29.35', der(0x30, der(0x80, Buffer.from(authority))))]),
  ]
  return der(0x30, der(0x30, der(4, Buffer.from(name)), der(0xa3, der(0x30, ...extensions))))
}

describe('chain order', () => {
  const [root, intermediate, leaf] = [certificate('root'), certificate('intermediate'), certificate('rsa')]

  test.each([
    [[root, intermediate, leaf]],
    [[root, leaf, intermediate]],
    [[intermediate, root, leaf]],
    [[intermediate, leaf, root]],
    [[leaf, root, intermediate]],
    [[leaf, intermediate, root]],
  ])('azure 9.4 leaf, intermediate, root whatever the bag order', (bags) => {
    expect(chainOf(bags)).toEqual({ certificates: [leaf, intermediate, root], complete: true })
  })

  test('azure 9.4 an incomplete chain stays in bag order', () => {
    expect(chainOf([root, leaf])).toEqual({ certificates: [root, leaf], complete: false })
  })

  test('azure 9.4 no certificate: no leaf found', () => {
    expect(() => chainOf([])).toThrow('no leaf found')
  })

  test('azure 9.4 a root with itself as authority, twice below a leaf, is a cycle; two alone have no leaf', () => {
    const [a, b] = [fakeCertificate('a', 'root', 'root'), fakeCertificate('b', 'root', 'root')]
    expect(() => chainOf([fakeCertificate('leaf', 'leaf', 'root'), a, b])).toThrow(
      'constructing chain resulted in cycle',
    )
    expect(() => chainOf([a, b])).toThrow('no leaf found')
  })

  test('azure 9.4 twice a root without authority: bag order', () => {
    const [a, b] = [fakeCertificate('a', 'root', ''), fakeCertificate('b', 'root', '')]
    const all = [fakeCertificate('leaf', '', 'root'), a, b]
    expect(chainOf(all)).toEqual({ certificates: all, complete: false })
  })

  test('what is no certificate stands where it stood', () => {
    expect(chainOf([Buffer.from('junk')])).toEqual({ certificates: [Buffer.from('junk')], complete: true })
  })

  test('T14 10 000 certificates with one key identifier take no quadratic time', () => {
    const many = Array.from({ length: 10_000 }, (_, i) => fakeCertificate(String(i), 'k', 'k'))
    const started = performance.now()
    expect(() => chainOf(many)).toThrow('constructing chain resulted in cycle')
    expect(performance.now() - started).toBeLessThan(2000)
  })
})

describe('keys as PEM', () => {
  test('azure 9.6 vectors V2 and V3', () => {
    const v2 = publicKeyPem({
      kty: 'EC',
      crv: 'P-256',
      x: 'Negft2FYou2kXTKGiRBGItT9k7sALWUaiI3Wlu0qv_8',
      y: 'jRQhG4-RuHJTGa1oa_3uiz9HY9H0WcJiYulSPYDl-MU',
    })
    expect([v2.length, sha256(v2)]).toEqual([
      178,
      'dea80f95dc4d06b167996ff1c303d8df7065bfc4c57f7fde6b8d347aed44f5a4',
    ])
    const v3 = publicKeyPem({
      kty: 'EC-HSM',
      crv: 'P-521',
      x: 'AGSzofPxMt3YKDZcBbRXDhxYpiahew4SNncfZJgwKffjeq5cznq1l1cs55Ynlpnofyn_EQ1hgmH_qotAbHTNYQVE',
      y: 'APp1GYv94jHbWHsPCSswP-Ymm-OMKrCJ1Y6IdAFh1RSHS_Spdbvx6qf-bYkTGlc2Opm7ImSFWBaCdQG5BJ1TZla0',
    })
    expect([v3.length, sha256(v3)]).toEqual([
      268,
      'f01f930b821c37954e8b6e5698bf3fc77f61472cee87f402dd60580d5d42b9bd',
    ])
  })

  test.each(['RSA', 'RSA-HSM'])('azure 9.6 %s with leading zeros in the modulus', (kty) => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const { n = '', e = '' } = publicKey.export({ format: 'jwk' })
    const padded = Buffer.concat([Buffer.alloc(2), Buffer.from(n, 'base64url')]).toString('base64url')
    expect(publicKeyPem({ kty, n: padded, e })).toBe(publicKey.export({ type: 'spki', format: 'pem' }))
  })

  test.each([
    [{ kty: 'oct' }, "key type 'oct' currently not supported"],
    [{ kty: '' }, "key type '?' currently not supported"],
    [{ kty: 'EC', x: 'AA', y: 'AA' }, 'the key has no curve'],
    [{ kty: 'EC', crv: 'P-192', x: 'AA', y: 'AA' }, 'curve P-192 is not supported'],
    [{ kty: 'EC', crv: '__proto__', x: 'AA', y: 'AA' }, 'curve __proto__ is not supported'],
    [{ kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' }, 'its numbers are not a public key'],
    [{ kty: 'RSA' }, 'its numbers are not a public key'],
  ])('a JWK that is no public key is refused: %j', (jwk, message) => {
    expect(() => publicKeyPem(jwk)).toThrow(message)
  })

  test('azure 9.3 an EC key stored without its public part is written with it', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const whole = privateKey.export({ type: 'pkcs8', format: 'der' })
    const inner = parseDer(whole).children[2]?.contents ?? Buffer.alloc(0)
    const d = parseDer(inner).children[1]?.raw ?? Buffer.alloc(0)
    const bare = der(
      0x30,
      der(2, Buffer.of(0)),
      parseDer(whole).children[1]?.raw ?? Buffer.alloc(0),
      der(4, der(0x30, der(2, Buffer.of(1)), d)),
    )
    expect(bare.length).toBe(67)
    const text = privateKeyPem(bare)
    expect(pemBlocks(text)[0]?.bytes.length).toBe(138)
    expect(createPrivateKey(text).export({ type: 'pkcs8', format: 'der' })).toEqual(whole)
  })

  test('junk is no private key', () => {
    expect(() => privateKeyPem(Buffer.from('junk'))).toThrow(
      'found unknown private key type in PKCS#8 wrapping',
    )
  })
})

describe('PEM', () => {
  const block = pemText({ label: 'CERTIFICATE', bytes: Buffer.alloc(100, 1) })

  test('blocks are found in order, text around them is passed over, broken ones too', () => {
    const broken = '-----BEGIN X-----\n!!!!\n-----END X-----\n-----BEGIN Y-----\nAAAA\n-----END Z-----\n'
    const found = pemBlocks(`Bag Attributes\n${block}${broken}junk\r\n${block.replaceAll('\n', '\r\n')}`)
    expect(found.map(({ label, bytes }) => [label, bytes.length])).toEqual([
      ['CERTIFICATE', 100],
      ['CERTIFICATE', 100],
    ])
  })

  test('headers are kept', () => {
    const text =
      '-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n'
    expect(pemBlocks(text).map(pemText)).toEqual([text])
  })

  test('64 columns and a final line feed', () => {
    expect(block.split('\n').map((line) => line.length)).toEqual([27, 64, 64, 8, 25, 0])
  })
})

describe('encodings', () => {
  test.each([
    ['QmFzZTY0RW5jb2RlZFN0cmluZw==', 'Base64EncodedString'],
    ['QmFz\r\nZTY0\n', 'Base64'],
    ['', ''],
  ])('azure 9.8 base64 %j', (text, decoded) => {
    expect(decodeGoBase64(text).toString()).toBe(decoded)
  })

  test.each([
    ['a', 0],
    ['abc', 0],
    ['ab=', 3],
    ['abc!', 3],
    ['abcd-_', 4],
    ['abcd=', 4],
    ['ab==cd', 4],
    ['ab=c', 2],
  ])('azure 9.8 base64 %j is illegal at byte %i', (text, at) => {
    expect(() => decodeGoBase64(text)).toThrow(`illegal base64 data at input byte ${at}`)
  })

  test('azure 9.8 hexadecimal of either case; odd lengths and other letters are refused', () => {
    expect(decodeGoHex('486578aF').toString('latin1')).toBe('Hex\xaf')
    expect(() => decodeGoHex('abc')).toThrow('encoding/hex: odd length hex string')
    expect(() => decodeGoHex('xy')).toThrow('encoding/hex: invalid byte: at position 0')
  })
})
