import { createHmac, generateKeyPairSync, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseJson } from '../../src/formats/json-parse.ts'
import { verifyServiceAccountToken } from '../../src/identity/verify.ts'
import { BackendError } from '../../src/providers/adapter.ts'
import { SecretBytes } from '../../src/telemetry/secret-bytes.ts'

const NOW = new Date('2026-01-31T12:00:00Z')
const seconds = NOW.getTime() / 1000
const pod = { name: 'web-0', namespace: 'shop', uid: 'pod-uid', serviceAccount: 'web' }
const expected = { issuer: 'https://kubernetes.default.svc', audience: 'keyferry', pod }

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })

const jwk = (key: KeyObject, extra: object = {}) => ({ ...key.export({ format: 'jwk' }), ...extra })
const jwks = (...keys: object[]) => parseJson(JSON.stringify({ keys }))
const KEYS = jwks(
  jwk(rsa.publicKey, { kid: 'r', use: 'sig', alg: 'RS256' }),
  jwk(ec.publicKey, { kid: 'e', use: 'sig', alg: 'ES256' }),
)

const CLAIMS = {
  iss: expected.issuer,
  aud: ['keyferry'],
  exp: seconds + 600,
  nbf: seconds,
  'kubernetes.io': {
    namespace: 'shop',
    serviceaccount: { name: 'web', uid: 'sa-uid' },
    pod: { name: 'web-0', uid: 'pod-uid' },
  },
}
const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')

function jwt(
  claims: unknown = CLAIMS,
  head: object = { alg: 'RS256', kid: 'r' },
  key: KeyObject = rsa.privateKey,
): string {
  const signed = `${part(head)}.${part(claims)}`
  return `${signed}.${sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}
const check = (token: string, keys = KEYS) =>
  verifyServiceAccountToken(SecretBytes.copyOf(token), expected, keys, NOW)
function refusal(token: string, keys = KEYS): string {
  try {
    check(token, keys)
  } catch (error) {
    if (error instanceof BackendError && error.code === 'TOKEN_UNVERIFIED') return error.message
    throw error
  }
  throw new Error('the token was accepted')
}

describe('sops B3 a token proves its pod', () => {
  it('when RS256 or ES256 of a cluster key signs the expected claims', () => {
    expect(check(jwt())).toEqual({ serviceAccountUid: 'sa-uid' })
    expect(check(jwt(CLAIMS, { alg: 'ES256', kid: 'e' }, ec.privateKey)).serviceAccountUid).toBe('sa-uid')
    expect(check(jwt({ ...CLAIMS, aud: 'keyferry' })).serviceAccountUid).toBe('sa-uid')
    expect(check(jwt(CLAIMS, { alg: 'RS256' })).serviceAccountUid).toBe('sa-uid')
  })

  it.each([
    ['another issuer', { iss: 'https://evil.example' }],
    ['another audience', { aud: ['vault'] }],
    ['no audience', { aud: undefined }],
    ['an expiry that is past', { exp: seconds }],
    ['no expiry', { exp: undefined }],
    ['an expiry that is text', { exp: String(seconds + 600) }],
    ['a beginning in the future', { nbf: seconds + 61 }],
    ['a beginning that is text', { nbf: 'now' }],
    ['no binding', { 'kubernetes.io': undefined }],
    ['another namespace', { 'kubernetes.io': { ...CLAIMS['kubernetes.io'], namespace: 'other' } }],
    [
      'another service account',
      { 'kubernetes.io': { ...CLAIMS['kubernetes.io'], serviceaccount: { name: 'admin', uid: 'x' } } },
    ],
    [
      'no service account uid',
      { 'kubernetes.io': { ...CLAIMS['kubernetes.io'], serviceaccount: { name: 'web' } } },
    ],
    [
      'another pod',
      { 'kubernetes.io': { ...CLAIMS['kubernetes.io'], pod: { name: 'web-1', uid: 'pod-uid' } } },
    ],
    [
      'a recreated pod',
      { 'kubernetes.io': { ...CLAIMS['kubernetes.io'], pod: { name: 'web-0', uid: 'old' } } },
    ],
    ['no pod', { 'kubernetes.io': { ...CLAIMS['kubernetes.io'], pod: undefined } }],
  ])('T4 not with %s', (_, change) => {
    expect(refusal(jwt({ ...CLAIMS, ...change }))).toContain('does not prove who calls')
  })

  it('T4 not without a signature, or with HS256 over the public key', () => {
    expect(refusal(`${part({ alg: 'none' })}.${part(CLAIMS)}.`)).toBeTypeOf('string')
    expect(refusal(`${part({ alg: 'none' })}.${part(CLAIMS)}.AA`)).toContain('RS256')
    const signed = `${part({ alg: 'HS256', kid: 'r' })}.${part(CLAIMS)}`
    for (const secret of [
      rsa.publicKey.export({ type: 'spki', format: 'pem' }),
      rsa.publicKey.export({ type: 'spki', format: 'der' }),
    ]) {
      expect(
        refusal(`${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`),
      ).toContain('RS256')
    }
    for (const alg of ['RS384', 'PS256', 'ES384', 'rs256', '__proto__', 1, null])
      expect(refusal(jwt(CLAIMS, { alg, kid: 'r' }))).toContain('RS256')
  })

  it('T4 not with a key of another kind, name, use or strength', () => {
    expect(refusal(jwt(CLAIMS, { alg: 'ES256', kid: 'r' }))).toContain('signature')
    expect(refusal(jwt(CLAIMS, { alg: 'RS256', kid: 'e' }, rsa.privateKey))).toContain('signature')
    expect(refusal(jwt(CLAIMS, { alg: 'RS256', kid: 'unknown' }))).toContain('signature')
    expect(refusal(jwt(), jwks(jwk(rsa.publicKey, { kid: 'r', use: 'enc' })))).toContain('signature')
    expect(refusal(jwt(), jwks(jwk(rsa.publicKey, { kid: 'r', alg: 'RS512' })))).toContain('signature')
    expect(
      refusal(
        jwt(CLAIMS, { alg: 'RS256', kid: 'r' }, weak.privateKey),
        jwks(jwk(weak.publicKey, { kid: 'r' })),
      ),
    ).toContain('signature')
    expect(
      refusal(
        jwt(CLAIMS, { alg: 'ES256', kid: 'r' }, p384.privateKey),
        jwks(jwk(p384.publicKey, { kid: 'r' })),
      ),
    ).toContain('signature')
    expect(
      refusal(jwt(CLAIMS, { alg: 'RS256', kid: 'r', jwk: jwk(weak.publicKey) }, weak.privateKey)),
    ).toContain('signature')
  })

  it('T4 not with critical extensions, and not against keys that are none', () => {
    expect(refusal(jwt(CLAIMS, { alg: 'RS256', kid: 'r', crit: ['x'] }))).toContain('critical')
    for (const text of ['{}', '[]', 'null', '{"keys":null}', '{"keys":[null,1,{"kty":"RSA","kid":"r"}]}']) {
      expect(refusal(jwt(), parseJson(text))).toContain('signature')
    }
  })

  it('T4 not after any change of any character', () => {
    const token = jwt()
    fc.assert(
      fc.property(fc.nat(token.length - 1), fc.constantFrom('A', 'z', '_', '.', '=', ' '), (at, char) => {
        fc.pre(token[at] !== char)
        const message = refusal(token.slice(0, at) + char + token.slice(at + 1))
        expect(message).not.toContain(token.slice(0, 20))
      }),
      { numRuns: 300 },
    )
  })

  it('T17 refuses junk at once', () => {
    for (const text of [
      '',
      '.',
      '..',
      '...',
      'a.b.c',
      '.'.repeat(16_000),
      'x'.repeat(100_000),
      `${part({ alg: 'RS256' })}.${Buffer.from('['.repeat(5000)).toString('base64url')}.AA`,
    ]) {
      expect(refusal(text)).toContain('does not prove')
    }
  })
})
