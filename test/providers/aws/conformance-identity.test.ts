/** aws.md, conformance cases 52 to 56, and section 9: tokens, roles, Pod Identity, regions, chained roles. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { BackendError } from '../../../src/providers/adapter.ts'
import { FakeCluster } from './fake-identity.ts'
import { fill, spc } from './fixtures.ts'
import { ROLE, startHarness, tokenText } from './harness.ts'
import type { Harness, HarnessOptions } from './harness.ts'

let aws: Harness
const start = async (options: HarnessOptions = {}): Promise<Harness> => {
  aws = await startHarness(options)
  fill(aws)
  return aws
}
beforeEach(() => start())
afterEach(() => aws.stop())

/** Starts anew with other options. */
async function restart(options: HarnessOptions): Promise<void> {
  await aws.stop()
  await start(options)
}

const OTHER = 'arn:aws:iam::999988887777:role/reader'
const POD_IDENTITY = { usePodIdentity: 'T' }

/** An address where nobody listens. */
const REFUSING = 'http://127.0.0.1:9/v1/credentials'

describe('tokens', () => {
  it('aws-52 no tokens attribute is AWS_TOKENS_MISSING', async () => {
    const failure = await aws.failure(spc(['plain']), { tokens: null })
    expect(failure.message).toContain('AWS_TOKENS_MISSING:')
    expect(failure.message).toContain('tokenRequests')
    expect(failure.kind).toBe('unauthenticated')
  })

  it.each([
    ['pods.eks.amazonaws.com', {}, 'sts.amazonaws.com'],
    ['sts.amazonaws.com', POD_IDENTITY, 'pods.eks.amazonaws.com'],
  ])('aws-52 only the token for %s is AWS_TOKEN_AUDIENCE', async (audience, more, wanted) => {
    const { message } = await aws.failure(spc(['plain'], more), {
      tokens: tokenText(aws.cluster, {}, [audience]),
    })
    expect(message).toContain('AWS_TOKEN_AUDIENCE:')
    expect(message).toContain(wanted)
    expect(aws.fake.calls).toEqual([])
    expect(aws.kubernetesCalls).toEqual([])
  })

  it('aws-52 an empty token beside another audience is AWS_TOKEN_AUDIENCE', async () => {
    const good = JSON.parse(tokenText(aws.cluster, {}, ['pods.eks.amazonaws.com'])) as object
    const tokens = JSON.stringify({
      ...good,
      'sts.amazonaws.com': { token: '', expirationTimestamp: '2099-01-01T00:00:00Z' },
    })
    expect((await aws.failure(spc(['plain']), { tokens })).message).toContain('AWS_TOKEN_AUDIENCE:')
  })

  it('T22 neither the token nor the credentials appear in errors or log', async () => {
    const tokens = tokenText(aws.cluster, { serviceAccount: 'stranger' }, ['sts.amazonaws.com'])
    const token = (JSON.parse(tokens) as Record<string, { token: string }>)['sts.amazonaws.com']?.token ?? ''
    aws.fake.faults.push({
      when: ({ service }) => service === 'sts',
      code: 'InvalidIdentityToken',
      message: `the token ${token} is bad`,
    })
    const failure = await aws.failure(spc(['plain']), { tokens })
    const told = JSON.stringify([failure.message, failure.failures, aws.warnings])
    expect(failure.message).toContain('AWS_AUTH:')
    expect(told).not.toContain(token.slice(0, 40))
    expect(told).not.toContain(token.slice(-40))
  })

  it('a token that is no token is refused before it becomes a header', async () => {
    const tokens = JSON.stringify({
      'pods.eks.amazonaws.com': { token: 'a\r\nx: y', expirationTimestamp: '2099-01-01T00:00:00Z' },
    })
    const { message } = await aws.failure(spc(['plain'], POD_IDENTITY), { tokens })
    expect(message).toContain('is not a token')
    expect(aws.fake.calls).toEqual([])
  })
})

describe('IRSA', () => {
  it('aws-53 a service account without the annotation is AWS_NO_ROLE, naming it and its namespace', async () => {
    const { message } = await aws.failure(spc(['plain']), { serviceAccount: 'bare', namespace: 'lab' })
    expect(message).toContain('AWS_NO_ROLE:')
    expect(message).toContain('service account bare in namespace lab')
  })

  it('aws-53 a service account that cannot be read is AWS_NO_ROLE, an API server that does not answer is not', async () => {
    const failing = (kind: 'denied' | 'unavailable') =>
      new BackendError({ kind, code: 'KUBERNETES_FAILED', message: 'serviceaccounts "web": forbidden' })
    aws.kubernetesFailure = failing('denied')
    const { message } = await aws.failure(spc(['plain']))
    expect(message).toContain('AWS_NO_ROLE:')
    expect(message).toContain('forbidden')
    aws.kubernetesFailure = failing('unavailable')
    expect((await aws.failure(spc(['plain']))).kind).toBe('unavailable')
  })

  it('ours: without Kubernetes by configuration, backends.<kind>.roleArn serves; never because the API is down', async () => {
    await restart({ settings: () => ({ roleArn: ROLE }) })
    const failing = (kind: 'config' | 'unavailable') => new BackendError({ kind, code: 'X', message: 'off' })
    aws.kubernetesFailure = failing('unavailable')
    expect((await aws.failure(spc(['plain']))).kind).toBe('unavailable')
    aws.kubernetesFailure = failing('config')
    expect((await aws.mount(spc(['plain']))).get('plain')?.text).toBe('s3cret\n')
  })

  it('aws 9 the call to STS is unsigned, names role and session, and goes to the region’s endpoint', async () => {
    await aws.mount(spc(['plain']))
    const [call] = aws.fake.callsTo('sts')
    expect(call).toMatchObject({
      action: 'AssumeRoleWithWebIdentity',
      region: 'us-east-1',
      input: { RoleArn: ROLE, RoleSessionName: 'keyferry-shop-web' },
    })
    expect(call?.headers['authorization']).toBeUndefined()
    expect(call?.input).not.toHaveProperty('DurationSeconds')
  })

  it.each([
    ['shop', 'intruder'],
    ['other', 'web'],
  ])('T2 a role that trusts shop/web is not given to %s/%s', async (namespace, serviceAccount) => {
    aws.annotations.set(`${namespace}/${serviceAccount}`, { 'eks.amazonaws.com/role-arn': ROLE })
    const pod = { namespace, serviceAccount }
    await aws.mount(spc(['plain']))
    const failure = await aws.failure(spc(['plain']), pod)
    expect(failure.message).toContain('AWS_AUTH: object "plain": region us-east-1: AccessDenied')
    expect(failure.kind).toBe('denied')
    expect(aws.fake.callsTo('secretsmanager')).toHaveLength(1)
  })

  it('a token of another cluster is refused by STS after its tries', async () => {
    const stranger = new FakeCluster('https://evil.test')
    const failure = await aws.failure(spc(['plain']), {
      tokens: tokenText(stranger, {}, ['sts.amazonaws.com']),
    })
    expect(failure.message).toContain('InvalidIdentityToken')
    expect(aws.fake.callsTo('sts')).toHaveLength(3)
  })

  it('aws 9 InvalidIdentityToken that passes is tried again', async () => {
    aws.fake.faults.push({ when: ({ service }) => service === 'sts', code: 'InvalidIdentityToken', times: 1 })
    expect((await aws.mount(spc(['plain']))).size).toBe(1)
  })

  it('T2 the provider’s own AWS variables are never used for a pod', async () => {
    const before = { ...process.env }
    const key = aws.fake.identity.issue('arn:aws:iam::1:role/provider', 'provider', Date.now())
    Object.assign(process.env, {
      AWS_ACCESS_KEY_ID: key.accessKeyId,
      AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
      AWS_SESSION_TOKEN: key.sessionToken,
      AWS_ROLE_ARN: 'arn:aws:iam::1:role/provider',
      AWS_CONTAINER_CREDENTIALS_FULL_URI: aws.fake.podIdentityUrl,
      AWS_CONTAINER_AUTHORIZATION_TOKEN: 'provider-token',
    })
    try {
      await aws.mount(spc(['plain']))
      await aws.failure(spc(['plain']), { tokens: null })
      await aws.failure(spc(['plain']), { serviceAccount: 'bare' })
      expect(aws.fake.callsTo('secretsmanager').map(({ role }) => role)).toEqual([ROLE])
      expect(aws.fake.callsTo('pod-identity')).toEqual([])
    } finally {
      for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
    }
  })

  it('two hundred pods of one service account cost one call to STS', async () => {
    await Promise.all(
      Array.from({ length: 200 }, (_, i) => aws.mount(spc(['plain']), { name: `web-${i}`, uid: `uid-${i}` })),
    )
    expect(aws.fake.callsTo('sts')).toHaveLength(1)
  })

  it('credentials near their end are renewed', async () => {
    aws.fake.identity.credentialSeconds = 30
    await aws.mount(spc(['plain']))
    await aws.mount(spc(['plain']))
    expect(aws.fake.callsTo('sts')).toHaveLength(2)
  })

  it('credentials that AWS no longer accepts are dropped: the next mount has new ones', async () => {
    await aws.mount(spc(['plain']))
    aws.fake.identity.keys.clear()
    expect((await aws.failure(spc(['plain']))).message).toContain('UnrecognizedClientException')
    expect((await aws.mount(spc(['plain']))).size).toBe(1)
    expect(aws.fake.callsTo('sts')).toHaveLength(2)
  })

  it('aws 9 STS of each region is asked, the second only when it is needed', async () => {
    aws.fake.region('us-west-2').putSecret('plain', 'west')
    await aws.mount(spc(['plain'], { failoverRegion: 'us-west-2' }))
    expect(aws.fake.callsTo('sts', 'us-west-2')).toEqual([])
    await aws.stop()
    await start()
    aws.fake.region('us-west-2').putSecret('plain', 'west')
    aws.fake.faults.push({ when: (c) => c.service === 'sts' && c.region === 'us-east-1', reset: true })
    const files = await aws.mount(spc(['plain'], { failoverRegion: 'us-west-2' }))
    expect(files.get('plain')?.text).toBe('west')
  })
})

describe('Pod Identity', () => {
  beforeEach(() => {
    aws.fake.identity.associations.set('shop/web', ROLE)
  })

  it('aws-54 usePodIdentity yes is AWS_BAD_BOOL', async () => {
    const { message } = await aws.failure(spc(['plain'], { usePodIdentity: 'yes' }))
    expect(message).toContain('AWS_BAD_BOOL:')
    expect(aws.fake.calls).toEqual([])
  })

  it('aws-54 usePodIdentity T sends the raw token to the agent, and looks no role up', async () => {
    const tokens = tokenText(aws.cluster, {}, ['pods.eks.amazonaws.com'])
    const files = await aws.mount(spc(['plain'], POD_IDENTITY), { tokens })
    expect(files.get('plain')?.text).toBe('s3cret\n')
    const { token } =
      (JSON.parse(tokens) as Record<string, { token: string }>)['pods.eks.amazonaws.com'] ?? {}
    expect(aws.fake.callsTo('pod-identity').map(({ headers }) => headers['authorization'])).toEqual([token])
    expect(aws.fake.callsTo('sts')).toEqual([])
    expect(aws.kubernetesCalls).toEqual([])
  })

  it.each(['ipv6', 'IPv6', 'junk', undefined])(
    'aws-55 with IPv4 refusing, preferredAddressType %s uses IPv6',
    async (preferredAddressType) => {
      await restart({
        settings: (fake) => ({ podIdentityEndpoints: { ipv4: REFUSING, ipv6: fake.podIdentityUrl6 } }),
      })
      aws.fake.identity.associations.set('shop/web', ROLE)
      const files = await aws.mount(
        spc(['plain'], {
          ...POD_IDENTITY,
          ...(preferredAddressType === undefined ? {} : { preferredAddressType }),
        }),
      )
      expect(files.size).toBe(1)
    },
  )

  it('aws-55 ipv4 asks IPv4 alone', async () => {
    await restart({
      settings: (fake) => ({ podIdentityEndpoints: { ipv4: REFUSING, ipv6: fake.podIdentityUrl6 } }),
    })
    aws.fake.identity.associations.set('shop/web', ROLE)
    const failure = await aws.failure(spc(['plain'], { ...POD_IDENTITY, preferredAddressType: 'IPv4' }))
    expect(failure.message).toContain('127.0.0.1:9 cannot be reached')
    expect(aws.fake.callsTo('pod-identity')).toEqual([])
  })

  it('aws 9 the agent’s throttling is tried again, its 4xx is final', async () => {
    aws.fake.faults.push({
      when: ({ service }) => service === 'pod-identity',
      status: 429,
      code: 'Throttled',
      times: 1,
    })
    expect((await aws.mount(spc(['plain'], POD_IDENTITY))).size).toBe(1)
    aws.fake.identity.associations.clear()
    const failure = await aws.failure(spc(['plain'], POD_IDENTITY), { uid: 'uid-2' })
    expect(failure.message).toContain('AWS_AUTH:')
    expect(failure.message).toContain('Pod Identity agent: ResourceNotFoundException')
    expect(failure.kind).toBe('unauthenticated')
    expect(aws.fake.callsTo('pod-identity')).toHaveLength(3)
  })

  it('aws 9 two pods of one service account have sessions of their own', async () => {
    await aws.mount(spc(['plain'], POD_IDENTITY), { uid: 'uid-1', name: 'web-1' })
    await aws.mount(spc(['plain'], POD_IDENTITY), { uid: 'uid-2', name: 'web-2' })
    await aws.mount(spc(['plain'], POD_IDENTITY), { uid: 'uid-1', name: 'web-1' })
    expect(aws.fake.callsTo('pod-identity')).toHaveLength(2)
  })
})

describe('regions', () => {
  const objects = spc(['plain']).objects

  it('aws-56 AWS_REGION serves an SPC without region, with no call for a label', async () => {
    await restart({ env: { AWS_REGION: 'us-east-1' } })
    expect((await aws.mount({ objects })).get('plain')?.text).toBe('s3cret\n')
    expect(aws.kubernetesCalls.filter((call) => call.startsWith('label'))).toEqual([])
  })

  it('aws-56 without AWS_REGION the node’s label decides', async () => {
    aws.nodeLabels.set('topology.kubernetes.io/region', 'us-east-1')
    expect((await aws.mount({ objects })).get('plain')?.text).toBe('s3cret\n')
    expect(aws.kubernetesCalls).toContain('label topology.kubernetes.io/region')
  })

  it('aws-56 with neither it is AWS_NO_REGION', async () => {
    expect((await aws.failure({ objects })).message).toContain('AWS_NO_REGION:')
    expect(aws.fake.calls).toEqual([])
  })

  it('aws-56 a node that may not be read is AWS_NO_REGION with the reason', async () => {
    aws.kubernetesFailure = new BackendError({ kind: 'config', code: 'X', message: 'the API is off' })
    const { message } = await aws.failure({ objects })
    expect(message).toContain('AWS_NO_REGION:')
    expect(message).toContain('the API is off')
  })

  it('aws 4 rule 14 holds for a region that is known only at the mount', async () => {
    aws.nodeLabels.set('topology.kubernetes.io/region', 'us-east-1')
    const far = JSON.stringify([{ objectName: 'arn:aws:secretsmanager:eu-west-1:1:secret:x' }])
    expect((await aws.failure({ objects: far })).message).toContain('AWS_ARN_REGION:')
    expect(aws.fake.callsTo('secretsmanager')).toEqual([])
  })

  it.each(['evil.com/x', 'us-east-1@evil', 'US-EAST-1', '169.254.169.254', '..'])(
    'T11 region %j never becomes part of a host name',
    async (region) => {
      expect((await aws.failure({ objects, region })).message).toContain('AWS_BAD_REGION:')
      expect(aws.fake.calls).toEqual([])
    },
  )
})

describe('a further role', () => {
  const chain = { assumeRoleArn: OTHER, assumeRoleExternalId: 'x-1', assumeRoleDurationSeconds: '900' }

  it('ours: assumeRoleArn is assumed with the pod’s own credentials, once', async () => {
    aws.fake.identity.roles.set(OTHER, { arn: OTHER, trustedRoles: [ROLE], externalId: 'x-1' })
    await aws.mount(spc(['plain'], chain))
    await aws.mount(spc(['plain'], chain))
    const calls = aws.fake.callsTo('sts')
    expect(calls.map(({ action, role }) => [action, role])).toEqual([
      ['AssumeRoleWithWebIdentity', undefined],
      ['AssumeRole', ROLE],
    ])
    expect(calls[1]?.input).toMatchObject({ RoleArn: OTHER, ExternalId: 'x-1', DurationSeconds: '900' })
    expect(aws.fake.callsTo('secretsmanager').map(({ role }) => role)).toEqual([OTHER, OTHER])
  })

  it('ours: a refused role is AWS_AUTH, and the pod’s own role is not used instead', async () => {
    aws.fake.identity.roles.set(OTHER, { arn: OTHER, trustedRoles: [], externalId: 'x-1' })
    expect((await aws.failure(spc(['plain'], chain))).message).toContain('AWS_AUTH:')
    expect(aws.fake.callsTo('secretsmanager')).toEqual([])
  })

  it.each([
    { assumeRoleArn: 'reader' },
    { ...chain, assumeRoleDurationSeconds: '1h' },
    { failoverMode: 'fast' },
  ])('ours: %j is refused', async (more) => {
    expect((await aws.failure(spc(['plain'], more))).message).toContain('AWS_BAD_PARAMETER:')
  })
})
