/** aws.md, conformance cases 21 to 29, 45 to 51 and 59: versions, batches, failover, errors. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Fault } from './fake-aws.ts'
import { APP_DB, fill, spc, V1, V2 } from './fixtures.ts'
import { startHarness } from './harness.ts'
import type { Harness } from './harness.ts'

let aws: Harness
beforeAll(async () => {
  aws = await startHarness({ cache: { freshForMs: 0 } })
  fill(aws)
  aws.fake.region('us-west-2').putSecret('plain', 'west', 'west-version')
  aws.fake.region('us-west-2').putSecret('standby', 'standby', 'standby-version')
  aws.fake.region('us-west-2').putParameter('/cfg/url', 'https://west', { version: 9 })
})
beforeEach(() => aws.fake.reset())
afterAll(() => aws.stop())

const inputs = (service: 'secretsmanager' | 'ssm', region?: string) =>
  aws.fake.callsTo(service, region).map(({ input }) => input)

/** A fault for every call of the data plane to one region. */
const broken = (region: string, fault: Omit<Fault, 'when'>): Fault => ({
  when: (call) => call.region === region && call.service !== 'sts',
  ...fault,
})
const ERROR_500 = { code: 'InternalServiceError', status: 500, message: 'an error on the server side' }

describe('versions', () => {
  it('aws-21 objectVersionLabel AWSPREVIOUS gives the former version', async () => {
    const files = await aws.mount(spc([{ objectName: 'app/db', objectVersionLabel: 'AWSPREVIOUS' }]))
    expect(files.get('app_db')).toMatchObject({ text: '{"username":"u0"}', version: V1 })
  })

  it('aws-22 objectVersion is sent as VersionId alone', async () => {
    const files = await aws.mount(spc([{ objectName: 'app/db', objectVersion: V1 }]))
    expect(files.get('app_db')).toMatchObject({ text: '{"username":"u0"}', version: V1 })
    expect(inputs('secretsmanager')).toEqual([{ SecretId: 'app/db', VersionId: V1 }])
  })

  it('aws-23 one secret under two labels gives two files', async () => {
    const files = await aws.mount(
      spc([
        { objectName: 'app/db', objectAlias: 'cur', objectVersionLabel: 'AWSCURRENT' },
        { objectName: 'app/db', objectAlias: 'prev', objectVersionLabel: 'AWSPREVIOUS' },
      ]),
    )
    expect(files.get('cur')).toMatchObject({ text: APP_DB, version: V2 })
    expect(files.get('prev')).toMatchObject({ text: '{"username":"u0"}', version: V1 })
  })

  it('aws-24 a parameter version, written as a YAML integer, is appended to the name', async () => {
    const text = '- objectName: /cfg/url\n  objectType: ssmparameter\n  objectVersion: 1\n'
    const files = await aws.mount({ region: 'us-east-1', objects: text })
    expect(files.get('_cfg_url')).toMatchObject({ text: 'a', version: '1' })
    expect(inputs('ssm')).toEqual([{ Names: ['/cfg/url:1'], WithDecryption: true }])
  })

  it('aws-25 a parameter label is appended to the name', async () => {
    const files = await aws.mount(spc([{ objectName: '/cfg/url', objectVersionLabel: 'prod' }]))
    expect(files.get('_cfg_url')).toMatchObject({ text: 'b', version: '2' })
    expect(inputs('ssm')).toEqual([{ Names: ['/cfg/url:prod'], WithDecryption: true }])
  })

  it('aws-26 a parameter with version and label is refused', async () => {
    const both = { objectName: '/cfg/url', objectVersion: '1', objectVersionLabel: 'prod' }
    expect((await aws.failure(spc([both]))).message).toContain('AWS_VERSION_AND_LABEL:')
    const inName = { objectName: '/cfg/url:1', objectVersionLabel: 'prod' }
    expect((await aws.failure(spc([inName]))).message).toContain('AWS_VERSION_AND_LABEL:')
    expect(aws.fake.calls).toEqual([])
  })

  it.each([true, false])(
    'aws 7 one parameter under version, label and plain name gives three files (answer names selectors: %s)',
    async (namesSelectors) => {
      aws.fake.region('us-east-1').namesSelectors = namesSelectors
      try {
        const files = await aws.mount(
          spc([
            { objectName: '/cfg/url', objectAlias: 'now' },
            { objectName: '/cfg/url', objectAlias: 'one', objectVersion: '1' },
            { objectName: '/cfg/url:prod', objectAlias: 'prod' },
          ]),
        )
        expect([...files].map(([path, { text, version }]) => [path, text, version])).toEqual([
          ['now', 'https://x', '3'],
          ['one', 'a', '1'],
          ['prod', 'b', '2'],
        ])
      } finally {
        aws.fake.region('us-east-1').namesSelectors = true
      }
    },
  )
})

describe('parameters in batches', () => {
  it('aws-27 23 parameters cost calls of 10, 10 and 3', async () => {
    const names = Array.from({ length: 23 }, (_, i) => `p${i + 1}`)
    const files = await aws.mount(spc(names))
    expect([...files].map(([path, { text, version }]) => [path, text, version])).toEqual(
      names.map((name) => [name, name.replace('p', 'val'), '1']),
    )
    const sizes = inputs('ssm').map(({ Names }) => (Names as string[]).length)
    expect(sizes.sort((a, b) => b - a)).toEqual([10, 10, 3])
  })

  it('aws-28 every missing parameter is named with the region, and no file is given', async () => {
    const failure = await aws.failure(spc(['p1', 'gone1', 'gone2']))
    expect(failure.failures.map(({ code, object }) => [code, object])).toEqual([
      ['AWS_NOT_FOUND', 'gone1'],
      ['AWS_NOT_FOUND', 'gone2'],
    ])
    expect(failure.message).toContain('object "gone1": region us-east-1: InvalidParameters: gone1')
    expect(failure.message).toContain('object "gone2"')
  })

  it('aws-29 SecureString, StringList and binary arrive byte for byte', async () => {
    const files = await aws.mount(spc(['/sec', 'list', 'bin']))
    expect(files.get('_sec')).toMatchObject({ text: 'enc', version: '7' })
    expect(files.get('list')).toMatchObject({ text: 'a,b,c', version: '1' })
    expect(files.get('bin')?.bytes).toEqual(Buffer.from([0x00, 0xff, 0x0a]))
  })

  it('aws 7 blanks around a parameter name are the service’s to trim: the file arrives, nothing dies', async () => {
    const files = await aws.mount(spc([{ objectName: ' /cfg/url ', objectType: 'ssmparameter' }]))
    expect(files.get(' _cfg_url ')?.text).toBe('https://x')
  })

  it('aws 7 a parameter that the answer does not mention fails the mount', async () => {
    aws.fake.faults.push({
      when: ({ service }) => service === 'ssm',
      edit: (answer) => ({ ...answer, Parameters: [] }),
    })
    const failure = await aws.failure(spc(['p1']))
    expect(failure.message).toContain('AWS_INCOMPLETE: object "p1": region us-east-1:')
  })
})

describe('failover', () => {
  const two = { failoverRegion: 'us-west-2' }

  it('aws-45 a primary that answers 500 gives way to the second region and its version', async () => {
    aws.fake.faults.push(broken('us-east-1', ERROR_500))
    const files = await aws.mount(spc(['plain', '/cfg/url'], two))
    expect(files.get('plain')).toMatchObject({ text: 'west', version: 'west-version' })
    expect(files.get('_cfg_url')).toMatchObject({ text: 'https://west', version: '9' })
  })

  it('aws 7 one blip of the primary does not swap the content', async () => {
    aws.fake.faults.push(broken('us-east-1', { ...ERROR_500, times: 1 }))
    const files = await aws.mount(spc(['plain'], two))
    expect(files.get('plain')?.text).toBe('s3cret\n')
    expect(aws.fake.callsTo('secretsmanager', 'us-west-2')).toEqual([])
  })

  it('aws 7 a primary that hangs is failed over', async () => {
    const quick = await startHarness({ settings: () => ({ requestTimeoutMs: 200 }) })
    try {
      fill(quick)
      quick.fake.region('us-west-2').putSecret('plain', 'west')
      quick.fake.faults.push(broken('us-east-1', { delayMs: 60_000 }))
      expect((await quick.mount(spc(['plain'], two))).get('plain')?.text).toBe('west')
    } finally {
      await quick.stop()
    }
  })

  it('aws-46 not found in the primary is final: the second region is not called', async () => {
    const failure = await aws.failure(spc(['standby'], two))
    expect(failure.message).toContain(
      'AWS_NOT_FOUND: object "standby": region us-east-1: ResourceNotFoundException',
    )
    expect(aws.fake.callsTo('secretsmanager', 'us-west-2')).toEqual([])
  })

  it.each(['AccessDeniedException', 'ThrottlingException'])(
    'aws-47 %s in the primary is failed over',
    async (code) => {
      aws.fake.faults.push(broken('us-east-1', { code }))
      expect((await aws.mount(spc(['plain'], two))).get('plain')?.text).toBe('west')
    },
  )

  it('aws-48 lazy: a secret missing in the second region does not matter, which is not called', async () => {
    expect((await aws.mount(spc(['app/db'], two))).get('app_db')?.version).toBe(V2)
    expect(aws.fake.calls.filter(({ region }) => region === 'us-west-2')).toEqual([])
  })

  it('aws-48 eager: a secret missing in the second region fails the mount', async () => {
    const failure = await aws.failure(spc(['app/db'], { ...two, failoverMode: 'eager' }))
    expect(failure.message).toContain('region us-west-2: ResourceNotFoundException')
    const parameter = await aws.failure(spc(['/sec'], { ...two, failoverMode: 'eager' }))
    expect(parameter.message).toContain('region us-west-2: InvalidParameters')
  })

  it('aws 7 eager: a second region that is only unavailable is let pass', async () => {
    aws.fake.faults.push(broken('us-west-2', ERROR_500))
    const files = await aws.mount(spc(['plain', '/cfg/url'], { ...two, failoverMode: 'eager' }))
    expect(files.get('plain')?.text).toBe('s3cret\n')
    expect(files.get('_cfg_url')?.text).toBe('https://x')
  })

  it('aws 7 failoverObject names the object of the second region', async () => {
    aws.fake.faults.push(broken('us-east-1', ERROR_500))
    const entry = { objectName: 'plain', objectAlias: 'f', failoverObject: { objectName: 'standby' } }
    const files = await aws.mount(spc([entry], two))
    expect(files.get('f')).toMatchObject({ text: 'standby', version: 'standby-version' })
  })

  it.each([
    [{ objectName: 'plain', failoverObject: { objectName: 'x' } }, two, 'AWS_FAILOVER_ALIAS'],
    [
      { objectName: 'plain', objectAlias: 'f', failoverObject: { objectName: 'x' } },
      {},
      'AWS_FAILOVER_REGION',
    ],
    [
      { objectName: 'plain', objectAlias: 'f', objectVersion: V1, failoverObject: { objectName: 'x' } },
      two,
      'AWS_FAILOVER_VERSION',
    ],
    [
      {
        objectName: 'arn:aws:secretsmanager:us-east-1:1:secret:x',
        objectType: '',
        objectAlias: 'f',
        failoverObject: { objectName: 'x' },
      },
      two,
      'AWS_NO_TYPE',
    ],
  ])('aws-49 %j with %j is %s', async (entry, more, code) => {
    expect((await aws.failure(spc([entry], more))).message).toContain(`${code}:`)
    expect(aws.fake.calls).toEqual([])
  })

  it('aws-50 when both regions fail, the error quotes both causes', async () => {
    aws.fake.faults.push(
      broken('us-east-1', ERROR_500),
      broken('us-west-2', { code: 'ServiceUnavailable', status: 503, message: 'down for repair' }),
    )
    const { message } = await aws.failure(spc(['plain'], two))
    expect(message).toContain(
      'AWS_FETCH: object "plain": region us-east-1: InternalServiceError: an error on the server side; region us-west-2: ServiceUnavailable: down for repair',
    )
  })

  it('aws-51 failoverRegion equal to region is refused, also when the region comes from elsewhere', async () => {
    expect((await aws.failure(spc(['plain'], { failoverRegion: 'us-east-1' }))).message).toContain(
      'AWS_SAME_REGION:',
    )
    aws.nodeLabels.set('topology.kubernetes.io/region', 'us-east-1')
    const { message } = await aws.failure(spc(['plain'], { region: '', failoverRegion: 'us-east-1' }))
    expect(message).toContain('AWS_SAME_REGION:')
    expect(aws.fake.calls).toEqual([])
  })
})

describe('errors', () => {
  it('aws-59 one failing object of four fails the mount; all failing ones are named', async () => {
    const one = await aws.failure(spc(['plain', 'app/db', 'p1', 'gone1']))
    expect(one.failures.map(({ object }) => object)).toEqual(['gone1'])
    const { failures } = await aws.failure(spc(['plain', 'nosuch', 'p1', 'gone1']))
    expect(failures.map(({ object }) => object)).toEqual(['nosuch', 'gone1'])
  })

  it('aws 11 the message has no request id, the log has it', async () => {
    aws.warnings.length = 0
    const { message } = await aws.failure(spc(['nosuch']))
    expect(message).not.toMatch(/request-\d/)
    expect(aws.warnings.map(({ fields }) => fields['requestId'])).toEqual([
      expect.stringMatching(/^request-\d/),
    ])
  })

  it('aws 11 equal failures have equal texts, so that events are de-duplicated', async () => {
    const first = await aws.failure(spc(['nosuch', 'gone1']))
    const second = await aws.failure(spc(['nosuch', 'gone1']))
    expect(second.message).toBe(first.message)
  })

  it('aws 6 an answer without VersionId is an error, and the next mount works', async () => {
    aws.fake.faults.push({
      when: ({ service }) => service === 'secretsmanager',
      times: 1,
      edit: (answer) => ({ ...answer, VersionId: undefined }),
    })
    expect((await aws.failure(spc(['plain']))).message).toContain('no VersionId')
    expect((await aws.mount(spc(['plain']))).get('plain')?.text).toBe('s3cret\n')
  })

  it('aws 6 an answer with neither text nor bytes is an error', async () => {
    aws.fake.faults.push({
      when: ({ service }) => service === 'secretsmanager',
      edit: (answer) => ({ ...answer, SecretString: undefined }),
    })
    expect((await aws.failure(spc(['plain']))).message).toContain('neither SecretString nor SecretBinary')
  })

  it('aws 6 an empty text is a file of zero bytes', async () => {
    aws.fake.region('us-east-1').putSecret('empty', '')
    expect((await aws.mount(spc(['empty']))).get('empty')?.bytes).toHaveLength(0)
  })

  it('T22 a reply that is not JSON is never quoted', async () => {
    const canary = 'canary-3f81'
    aws.fake.faults.push({
      when: ({ service }) => service === 'secretsmanager',
      raw: { status: 200, type: 'application/x-amz-json-1.1', body: `{"SecretString":"${canary}` },
    })
    const failure = await aws.failure(spc(['plain']))
    expect(failure.kind).toBe('malformed')
    expect(JSON.stringify([failure.message, failure.failures, aws.warnings])).not.toContain(canary)
  })

  it('aws 13 a proxy’s HTML page with 502 counts as unavailable', async () => {
    aws.fake.faults.push({
      when: ({ service }) => service === 'secretsmanager',
      raw: { status: 502, type: 'text/html', body: '<html>Bad Gateway</html>' },
    })
    const failure = await aws.failure(spc(['plain']))
    expect(failure.kind).toBe('unavailable')
    expect(failure.message).toContain('HTTP 502')
  })

  it('a deleted secret counts as gone', async () => {
    aws.fake.region('us-east-1').putSecret('dead', 'x')
    const secret = aws.fake.region('us-east-1').secrets.get('dead')
    if (secret) secret.deleted = true
    expect((await aws.failure(spc(['dead']))).kind).toBe('gone')
  })

  it.each([
    ['ThrottlingException', 'throttled', 'AWS_THROTTLED'],
    ['AccessDeniedException', 'denied', 'AWS_ACCESS_DENIED'],
    ['DecryptionFailure', 'denied', 'AWS_ACCESS_DENIED'],
    ['InvalidRequestException', 'config', 'AWS_FETCH'],
    ['UnrecognizedClientException', 'unauthenticated', 'AWS_AUTH'],
    ['SomethingNewException', 'internal', 'AWS_FETCH'],
  ])('aws 11 %s is %s, %s', async (code, kind, documented) => {
    aws.fake.faults.push(broken('us-east-1', { code }))
    const failure = await aws.failure(spc(['plain']))
    expect(failure.failures.map((one) => [one.kind, one.code])).toEqual([[kind, documented]])
    expect(failure.message).toContain(code)
  })

  it('throttling that passes is not seen by the pod', async () => {
    aws.fake.faults.push(broken('us-east-1', { code: 'ThrottlingException', times: 1 }))
    expect((await aws.mount(spc(['plain']))).get('plain')?.text).toBe('s3cret\n')
  })

  it('a connection that breaks is tried again', async () => {
    aws.fake.faults.push(broken('us-east-1', { reset: true, times: 1 }))
    expect((await aws.mount(spc(['plain']))).get('plain')?.text).toBe('s3cret\n')
  })

  it('a clock that differs from AWS’s costs one more call, not the mount', async () => {
    aws.fake.clockOffsetMs = 20 * 60_000
    expect((await aws.mount(spc(['plain']))).get('plain')?.text).toBe('s3cret\n')
    expect(aws.fake.callsTo('secretsmanager')).toHaveLength(2)
  })
})
