/** Where calls go without an emulator: our addresses of KMS against the SDK's rules, and what is really called. */
import { SSMClient } from '@aws-sdk/client-ssm'
import { describe, expect, it } from 'vitest'
import { HttpError } from '../../../src/net/http.ts'
import type { HttpClient } from '../../../src/net/http.ts'
import { kmsUrl } from '../../../src/providers/aws/kms-decrypt.ts'
import { secretsManagerBackend } from '../../../src/providers/aws/secrets-manager.ts'
import { backendContext } from '../../support/backend-context.ts'
import { testHost } from '../../support/test-host.ts'

const REGIONS = [
  'us-east-1',
  'eu-central-1',
  'ap-southeast-5',
  'mx-central-1',
  'cn-north-1',
  'us-gov-west-1',
  'us-iso-east-1',
  'us-isob-east-1',
  'us-isof-south-1',
  'eu-isoe-west-1',
  'eusc-de-east-1',
]
/** KMS has no client here; Systems Manager has the same rules but for FIPS in GovCloud. */
describe('addresses of KMS', () => {
  it.each(
    REGIONS.flatMap((region) =>
      [false, true].flatMap((fips) => [false, true].map((dualStack) => [region, fips, dualStack] as const)),
    ).filter(([region, fips, dualStack]) => !(region.startsWith('us-gov') && fips && !dualStack)),
  )(
    '%s, FIPS %s, dual-stack %s are what the SDK makes for a service of these rules',
    (region, fips, dualStack) => {
      const { config } = new SSMClient({ region, credentials: { accessKeyId: 'x', secretAccessKey: 'x' } })
      const theirs = config.endpointProvider({ Region: region, UseFIPS: fips, UseDualStack: dualStack })
      expect(kmsUrl(region, { fips, dualStack })).toBe(theirs.url.href.replace('//ssm', '//kms'))
    },
  )
})

describe('calls', () => {
  /** Notes addresses and answers nothing: no packet leaves the machine. */
  const noting = (urls: string[]): HttpClient => ({
    send: ({ url }) => {
      urls.push(url)
      return Promise.reject(new HttpError('unreachable', 'host', 'noted'))
    },
    agents: () => {
      throw new Error('unused')
    },
  })

  it.each([
    [{}, 'https://sts.us-east-2.amazonaws.com/'],
    [{ fips: true }, 'https://sts-fips.us-east-2.amazonaws.com/'],
    [{ dualStack: true }, 'https://sts.us-east-2.api.aws/'],
    [{ stsEndpoint: 'https://sts.{region}.vpce.test', fips: true }, 'https://sts.us-east-2.vpce.test/'],
  ])('aws 9 STS follows %j', async (settings, address) => {
    const urls: string[] = []
    const http = noting(urls)
    const backend = secretsManagerBackend(backendContext({ settings, http }))
    const token = { token: 'a.b.c', expirationTimestamp: '2099-01-01T00:00:00Z' }
    const host = testHost({
      http: { ...http, close: () => {} },
      tokens: { 'sts.amazonaws.com': token },
      annotations: { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::1:role/x' },
    })
    await backend.resolve({ region: 'us-east-2' }, [{ id: 'x' }], host)
    expect(urls).toEqual([address])
  })
})
