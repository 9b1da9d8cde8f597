/** What reaches an event text: stable, short, without tokens; and the settings that lead to endpoints. */
import { describe, expect, it } from 'vitest'
import { refusal, stableText } from '../../../src/providers/aws/failures.ts'
import { sessionName } from '../../../src/providers/aws/credentials.ts'
import { awsEnvironment } from '../../../src/providers/aws/settings.ts'
import { backendContext } from '../../support/backend-context.ts'

describe('texts of AWS in our messages', () => {
  it.each([
    [
      'Token expired: current date/time 1763722800 must be before 1763719200',
      'Token expired: current date/time [time] must be before [time]',
    ],
    ['Signature expired: 20260131T120000Z is now earlier', 'Signature expired: [time] is now earlier'],
    ['id 7f1c8a44-1d5e-4c1a-9b0e-3f0d5f5a2c11) ended', 'id [id] ended'],
    ['account 111122223333 has no key', 'account 111122223333 has no key'],
    ['two\nlines\u0000and\tmore', 'two lines and more'],
    [`jwt eyJhbGciOi.x.y end`, 'jwt […] end'],
    [`long ${'x'.repeat(500)} end`, 'long […] end'],
  ])('%j becomes %j', (text, shown) => {
    expect(stableText(text)).toBe(shown)
  })

  it('are cut, however long', () => {
    expect(stableText('word '.repeat(100_000)).length).toBeLessThanOrEqual(301)
  })

  it('T17 hostile texts take no time', () => {
    const started = performance.now()
    stableText('1'.repeat(1_000_000))
    stableText('a-'.repeat(500_000))
    expect(performance.now() - started).toBeLessThan(200)
  })

  it('a code that is no word is not shown', () => {
    expect(refusal('<script>\n', 'x').awsCode).toBe('UnknownError')
  })
})

describe('session names', () => {
  it.each([
    ['shop', 'web', 'keyferry-shop-web'],
    ['shop', 'system:x y', 'keyferry-shop-system-x-y'],
    ['n'.repeat(63), 's'.repeat(253), `keyferry-${'n'.repeat(55)}`],
  ])('%s/%s becomes %s', (namespace, serviceAccount, name) => {
    expect(sessionName(namespace, serviceAccount)).toBe(name)
    expect(name).toMatch(/^[\w+=,.@-]{2,64}$/)
  })
})

describe('endpoints', () => {
  const environment = (settings: Record<string, unknown>, env: Record<string, string> = {}) =>
    awsEnvironment(backendContext({ settings, env }))

  it('the setting comes before the service’s variable, that before the common one', () => {
    const env = { AWS_ENDPOINT_URL: 'http://all', AWS_ENDPOINT_URL_SSM: 'http://ssm' }
    expect(environment({}, env).endpoint('ssm', 'r')).toBe('http://ssm')
    expect(environment({}, env).endpoint('sts', 'r')).toBe('http://all')
    expect(environment({ endpoint: 'https://x.{region}.test' }, env).endpoint('ssm', 'eu-west-1')).toBe(
      'https://x.eu-west-1.test',
    )
    expect(environment({}).endpoint('ssm', 'r')).toBeUndefined()
  })

  it('FIPS and dual-stack follow the variables unless a setting says otherwise', () => {
    const env = { AWS_USE_FIPS_ENDPOINT: 'true', AWS_USE_DUALSTACK_ENDPOINT: 'TRUE' }
    expect(environment({}, env)).toMatchObject({ fips: true, dualStack: true })
    expect(environment({ fips: false, dualStack: false }, env)).toMatchObject({
      fips: false,
      dualStack: false,
    })
  })

  it('unknown settings are refused', () => {
    expect(() => environment({ endpiont: 'x' })).toThrow()
  })
})
