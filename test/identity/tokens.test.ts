import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseTokens, serviceAccountUid, tokenFor } from '../../src/identity/service-account-tokens.ts'
import { BackendError } from '../../src/providers/adapter.ts'
import { SecretBytes } from '../../src/telemetry/secret-bytes.ts'

const NOW = new Date('2026-01-31T12:00:00Z')
const secret = (value: unknown): SecretBytes =>
  SecretBytes.copyOf(typeof value === 'string' ? value : JSON.stringify(value))
const jwt = (claims: object): string => `h.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.s`

describe('service-account tokens', () => {
  it('driver 6 are found by audience, with their end', () => {
    const tokens = parseTokens(
      secret({ vault: { token: 'a.b.c', expirationTimestamp: '2026-01-31T13:00:00Z' } }),
    )
    const token = tokenFor(tokens, 'vault', NOW)
    expect(token.token.reveal().toString()).toBe('a.b.c')
    expect(token.expiresAt).toEqual(new Date('2026-01-31T13:00:00Z'))
    expect(String(token.token)).toBe('[redacted]')
  })

  it('driver 6 a missing audience names itself and the chart value to set', () => {
    const error = (audience: string): unknown => {
      try {
        return tokenFor(parseTokens(undefined), audience, NOW)
      } catch (thrown) {
        return thrown
      }
    }
    expect(error('vault')).toMatchObject({
      kind: 'unauthenticated',
      code: 'TOKEN_MISSING',
      message: expect.stringContaining('"vault"'),
    })
    expect(error('vault')).toMatchObject({
      remedy: expect.stringMatching(/\{audience: "vault"\} to tokenRequests/),
    })
    expect(error('')).toMatchObject({ message: expect.stringContaining('API server') })
  })

  it('driver 6 a token past its expirationTimestamp is not used', () => {
    const tokens = parseTokens(secret({ a: { token: 't', expirationTimestamp: '2026-01-31T12:00:00Z' } }))
    expect(() => tokenFor(tokens, 'a', NOW)).toThrow(
      expect.objectContaining({ code: 'TOKEN_EXPIRED', kind: 'unauthenticated' }),
    )
    expect(tokenFor(tokens, 'a', new Date(NOW.getTime() - 1))).toBeDefined()
  })

  it('T22 a malformed text is refused without a word of it', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), (text) => {
        try {
          parseTokens(secret(`[canary${text}`))
          expect.unreachable()
        } catch (error) {
          expect(error).toBeInstanceOf(BackendError)
          expect(String(error)).not.toContain('canary')
        }
      }),
    )
  })

  it('T16 an audience called __proto__ is an audience', () => {
    const tokens = parseTokens(
      secret(
        '{"__proto__":{"token":"t","expirationTimestamp":"2026-01-31T13:00:00Z"},"bad":1,"worse":{"token":2}}',
      ),
    )
    expect([...tokens.keys()]).toEqual(['__proto__'])
  })

  it('T6 the service account’s uid is read for splitting caches, whatever the token is', () => {
    const tokens = (text: string) =>
      parseTokens(secret({ a: { token: text, expirationTimestamp: '2026-01-31T13:00:00Z' } }))
    expect(serviceAccountUid(tokens(jwt({ 'kubernetes.io': { serviceaccount: { uid: 'u1' } } })))).toBe('u1')
    expect(serviceAccountUid(tokens(jwt({ 'kubernetes.io': [] })))).toBeUndefined()
    expect(
      serviceAccountUid(tokens(jwt({ __proto__: { 'kubernetes.io': { serviceaccount: { uid: 'u1' } } } }))),
    ).toBeUndefined()
    fc.assert(
      fc.property(fc.string(), (text) => typeof serviceAccountUid(tokens(`${text}x`)) === 'undefined'),
    )
  })
})
