/** The operator's layers: environment names, time limits, defaults. */
import { parse, safeParse } from 'valibot'
import { describe, expect, it } from 'vitest'
import { environmentLayer, settingsSchema, timeoutMs } from '../../../src/providers/vault/settings.ts'

describe('vault 10 the environment', () => {
  it('OpenBao reads BAO_ first, a present empty one included, then VAULT_', () => {
    const env = {
      BAO_NAMESPACE: '',
      VAULT_NAMESPACE: 'v',
      BAO_ADDR: 'https://bao',
      VAULT_ADDR: 'https://vault',
      VAULT_CAPATH: '/ca',
    }
    expect(environmentLayer(env, 'openbao')).toMatchObject({
      address: 'https://bao',
      namespace: undefined,
      caDirectory: '/ca',
    })
    expect(environmentLayer(env, 'vault')).toMatchObject({ address: 'https://vault', namespace: 'v' })
  })

  it.each([
    ['60', 60_000],
    ['90s', 90_000],
    ['2m', 120_000],
    ['250ms', 250],
    ['soon', 30_000],
    ['', 30_000],
  ])('VAULT_CLIENT_TIMEOUT %j is %i ms', (text, ms) => {
    expect(timeoutMs(parse(settingsSchema, {}), { VAULT_CLIENT_TIMEOUT: text }, 'vault')).toBe(ms)
  })
})

it('T28 an unknown key under backends.vault is an error', () => {
  expect(safeParse(settingsSchema, { adress: 'https://vault' }).success).toBe(false)
  expect(safeParse(settingsSchema, { leases: { keeep: true } }).success).toBe(false)
})
