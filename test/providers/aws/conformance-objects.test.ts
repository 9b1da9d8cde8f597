/** aws.md, conformance cases 1 to 11, 30 to 44, 57, 58 and 60: names, files, modes and the objects document. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { fill, objects, spc, V2, VB, VP } from './fixtures.ts'
import { startHarness } from './harness.ts'
import type { Harness } from './harness.ts'

let aws: Harness
beforeAll(async () => {
  aws = await startHarness()
  fill(aws)
})
beforeEach(() => aws.fake.reset())
afterAll(() => aws.stop())

/** Text of the failure, which must have come without any call to AWS. */
async function refusedOffline(parameters: Record<string, string>): Promise<string> {
  const { message } = await aws.failure(parameters)
  expect(aws.fake.calls).toEqual([])
  return message
}

describe('file names and modes', () => {
  it('aws-01 a secret becomes a file of its name, mode 0644, bytes as they are', async () => {
    const files = await aws.mount(spc(['plain']))
    expect([...files.keys()]).toEqual(['plain'])
    expect(files.get('plain')).toMatchObject({ mode: 0o644, text: 's3cret\n', version: VP })
    expect(files.get('plain')?.bytes).toHaveLength(7)
  })

  it('aws-02 a slash in the name becomes an underscore in file and id', async () => {
    const files = await aws.mount(spc(['app/db']))
    expect([...files.keys()]).toEqual(['app_db'])
    expect(files.get('app_db')).toMatchObject({
      version: V2,
      text: '{"username":"u1","port":5432,"tls":true,"nul":null,"empty":"","list":["l0","l1"],"api-key":"k-1"}',
    })
  })

  it('aws-03 a parameter reports its version number', async () => {
    const files = await aws.mount(spc(['/cfg/url']))
    expect([...files.keys()]).toEqual(['_cfg_url'])
    expect(files.get('_cfg_url')).toMatchObject({ text: 'https://x', version: '3' })
  })

  it.each(['False', 'fAlSe'])('aws-04 pathTranslation %s keeps sub-directories', async (pathTranslation) => {
    const files = await aws.mount(spc(['/cfg/url'], { pathTranslation }))
    expect([...files.keys()]).toEqual(['cfg/url'])
    expect(files.get('cfg/url')?.version).toBe('3')
  })

  it('aws-05 pathTranslation - replaces slashes by hyphens', async () => {
    const files = await aws.mount(spc(['/cfg/url'], { pathTranslation: '-' }))
    expect([...files.keys()]).toEqual(['-cfg-url'])
  })

  it.each(['--', 'true', 'é'])('aws-06 pathTranslation %s is refused', async (pathTranslation) => {
    expect(await refusedOffline(spc(['/cfg/url'], { pathTranslation }))).toContain('AWS_BAD_TRANSLATION')
  })

  it('aws-07 the alias is translated, too', async () => {
    const files = await aws.mount(spc([{ objectName: 'plain', objectAlias: 'a/b' }]))
    expect([...files.keys()]).toEqual(['a_b'])
  })

  it('aws-08 filePermission "0400" gives mode 256', async () => {
    const files = await aws.mount(spc([{ objectName: 'plain', filePermission: '0400' }]))
    expect(files.get('plain')?.mode).toBe(256)
  })

  it('aws-09 an unquoted 0400 is refused, and the message shows what YAML made of it', async () => {
    const text = '- objectName: plain\n  objectType: secretsmanager\n  filePermission: 0400\n'
    const message = await refusedOffline({ region: 'us-east-1', objects: text })
    expect(message).toContain('AWS_BAD_MODE')
    expect(message).toContain('"256"')
  })

  it.each(['0900', '600', '00600', 'abcd'])(
    'aws-10 filePermission "%s" is refused',
    async (filePermission) => {
      const message = await refusedOffline(spc([{ objectName: 'plain', filePermission }]))
      expect(message).toContain('AWS_BAD_MODE')
      expect(message).toContain(`"${filePermission}"`)
    },
  )

  it('aws-11 filePermission "4755" is accepted; the bits above 0777, which the driver drops, are not sent (driver.md 8.4)', async () => {
    const files = await aws.mount(spc([{ objectName: 'plain', filePermission: '4755' }]))
    expect(files.get('plain')?.mode).toBe(0o755)
  })
})

describe('ARNs and types', () => {
  it('aws-30 a full ARN needs neither type nor alias', async () => {
    const arn = aws.fake.region('us-east-1').secrets.get('app/db')?.arn ?? ''
    const files = await aws.mount({ region: 'us-east-1', objects: JSON.stringify([{ objectName: arn }]) })
    expect([...files.keys()]).toEqual([arn.replaceAll('/', '_')])
    expect(files.get(arn.replaceAll('/', '_'))?.version).toBe(V2)
  })

  it('aws-31 an ARN of another region is refused', async () => {
    const objectName = 'arn:aws:secretsmanager:eu-west-1:111122223333:secret:app/db-AbCdEf'
    expect(await refusedOffline(spc([{ objectName }]))).toContain('AWS_ARN_REGION')
  })

  it.each([
    ['arn:aws:secretsmanager:us-east-1:1:secret:x', 'ssmparameter', 'AWS_TYPE_MISMATCH'],
    ['arn:aws:s3:us-east-1:1:x', '', 'AWS_ARN_SERVICE'],
    ['arn::', '', 'AWS_BAD_ARN'],
    ['arn:aws:s3:us-east-1:1:x', 'secretsmanager', 'AWS_TYPE_MISMATCH'],
  ])('aws-32 %s with type "%s" is %s', async (objectName, objectType, code) => {
    expect(await refusedOffline(spc([{ objectName, objectType }]))).toContain(`${code}:`)
  })

  it.each([
    ['ssm', 'AWS_BAD_TYPE'],
    ['SecretsManager', 'AWS_BAD_TYPE'],
    ['', 'AWS_NO_TYPE'],
  ])('aws-33 type "%s" is %s', async (objectType, code) => {
    expect(await refusedOffline(spc([{ objectName: 'plain', objectType }]))).toContain(`${code}:`)
  })
})

describe('paths', () => {
  it.each(['../x', 'a/../b', 'a/..'])(
    'aws-34 with translation off, name %s is refused',
    async (objectName) => {
      expect(await refusedOffline(spc([{ objectName }], { pathTranslation: 'False' }))).toContain('AWS_PATH:')
    },
  )

  it('aws-35 with translation off, a../b is a sub-directory and a.. a file', async () => {
    aws.fake.region('us-east-1').putSecret('a../b', 'one')
    aws.fake.region('us-east-1').putSecret('b..', 'two')
    const files = await aws.mount(spc(['a../b', 'b..'], { pathTranslation: 'False' }))
    expect([...files].map(([path, { text }]) => [path, text])).toEqual([
      ['a../b', 'one'],
      ['b..', 'two'],
    ])
  })

  it('aws-36 with translation on, a/../b is the file a_.._b', async () => {
    aws.fake.region('us-east-1').putSecret('a/../b', 'one')
    expect([...(await aws.mount(spc(['a/../b']))).keys()]).toEqual(['a_.._b'])
  })

  it.each([
    [{ objectName: 'plain', objectAlias: '..' }, ''],
    [{ objectName: 'plain', objectAlias: '.' }, ''],
    [{ objectName: '..x' }, ''],
    [{ objectName: '/', objectType: 'secretsmanager' }, 'False'],
  ])('aws-37 %j is refused, because the driver would refuse or destroy', async (entry, pathTranslation) => {
    expect(await refusedOffline(spc([entry], { pathTranslation }))).toContain('AWS_PATH:')
  })

  it('aws 5 a file and a directory of one name are refused before anything is fetched', async () => {
    const entries = [
      { objectName: 'plain', objectAlias: 'a' },
      { objectName: 'bin', objectAlias: 'a/b' },
    ]
    expect(await refusedOffline(spc(entries, { pathTranslation: 'False' }))).toContain('AWS_PATH:')
  })

  it('aws 5 a name over 255 bytes asks for an alias', async () => {
    const message = await refusedOffline(spc(['x'.repeat(256)]))
    expect(message).toContain('AWS_PATH:')
    expect(message).toContain('objectAlias')
  })
})

describe('the objects document', () => {
  it('aws-38 keys match without regard to case', async () => {
    const text = [
      '- ObjectName: app/db',
      '  OBJECTTYPE: secretsmanager',
      '  jmespath: [{Path: username, ObjectAlias: user}]',
    ].join('\n')
    const files = await aws.mount({ region: 'us-east-1', objects: text })
    expect([...files.keys()]).toEqual(['app_db', 'user'])
    expect(files.get('user')?.text).toBe('u1')
  })

  it('aws-39 unknown keys are ignored', async () => {
    const files = await aws.mount(spc([{ objectName: 'plain', objectFormat: 'pem', backupArn: 'arn:x' }]))
    expect([...files.keys()]).toEqual(['plain'])
  })

  it.each([
    'objectName: plain',
    'plain',
    '- objectName: plain\n  objectType: secretsmanager\n-\n',
    '- {objectName: plain, objectType: secretsmanager, jmesPath: {path: a, objectAlias: b}}',
  ])('aws-40 objects %j is refused', async (text) => {
    expect(await refusedOffline({ region: 'us-east-1', objects: text })).toContain('AWS_BAD_OBJECTS:')
  })

  it('aws-41 the same object twice is refused', async () => {
    expect(await refusedOffline(spc(['plain', 'plain']))).toContain('AWS_DUPLICATE:')
    const entry = { objectName: 'plain', objectAlias: 'x', objectVersionLabel: 'L' }
    expect(await refusedOffline(spc([entry, entry]))).toContain('AWS_DUPLICATE:')
  })

  it.each([
    [
      [
        { objectName: 'plain', objectAlias: 'x' },
        { objectName: 'bin', objectAlias: 'x' },
      ],
    ],
    [
      [
        { objectName: 'plain', objectAlias: 'x' },
        { objectName: 'app/db', jmesPath: [{ path: 'username', objectAlias: 'x' }] },
      ],
    ],
    [
      [
        { objectName: 'plain', objectAlias: 'x', objectVersionLabel: 'A' },
        { objectName: 'plain', objectAlias: 'x', objectVersionLabel: 'B' },
      ],
    ],
  ])('aws-42 an alias in use is refused: %j', async (entries) => {
    expect(await refusedOffline(spc(entries))).toContain('AWS_DUPLICATE_ALIAS:')
  })

  it('aws-43 an alias equal to another object name mounts; the later one wins, with a warning', async () => {
    aws.warnings.length = 0
    const files = await aws.mount(spc(['plain', { objectName: 'bin', objectAlias: 'plain' }]))
    expect([...files.keys()]).toEqual(['plain'])
    expect(files.get('plain')).toMatchObject({ bytes: Buffer.from([0, 0xff, 0x0a]), version: VB })
    const { versions } = await aws.answer(spc(['plain', { objectName: 'bin', objectAlias: 'plain' }]))
    expect(versions).toEqual([{ id: 'plain', version: VB }])
    expect(aws.warnings.some(({ message }) => message.includes('later one wins'))).toBe(true)
  })

  it.each([undefined, 'null', '[]', '', '# nothing'])('aws-44 objects %j is refused', async (text) => {
    const parameters = { region: 'us-east-1', ...(text === undefined ? {} : { objects: text }) }
    expect(await refusedOffline(parameters)).toContain('AWS_NO_OBJECTS:')
  })

  it('aws-60 plain scalars become text as YAML 1.1 has it', async () => {
    aws.fake.region('us-east-1').putSecret('12345', 'number')
    const text = '- objectName: 12345\n  objectType: secretsmanager\n  objectAlias: on\n'
    const files = await aws.mount({ region: 'us-east-1', objects: text })
    expect(files.get('true')?.text).toBe('number')
    expect(aws.fake.callsTo('secretsmanager').map(({ input }) => input['SecretId'])).toEqual(['12345'])
  })

  it('reports every fault of every object in one failure, each naming its object', async () => {
    const { failures } = await aws.failure(
      spc([
        { objectName: 'one', filePermission: '999' },
        { objectName: 'two', objectType: 'ssm' },
      ]),
    )
    expect(
      failures.map(({ code, message }) => [code, message.includes('"one"') || message.includes('"two"')]),
    ).toEqual([
      ['AWS_BAD_MODE', true],
      ['AWS_BAD_TYPE', true],
    ])
  })
})

describe('the request', () => {
  it('aws-57 the mode of the request is the default mode, per request', async () => {
    const [narrow, wide] = await Promise.all([
      aws.mount(spc(['plain']), { permission: '384' }),
      aws.mount(spc(['plain']), { permission: '420' }),
    ])
    expect(narrow.get('plain')?.mode).toBe(0o600)
    expect(wide.get('plain')?.mode).toBe(0o644)
  })

  it('aws-57 an empty permission means 0644 (driver.md 8.2 wins), a malformed one is refused', async () => {
    expect((await aws.mount(spc(['plain']), { permission: '' })).get('plain')?.mode).toBe(0o644)
    expect((await aws.failure(spc(['plain']), { permission: 'rw' })).message).toContain('permission')
  })

  it('aws-58 every mount gives the full contents, and ids of delivered files only', async () => {
    const first = await aws.answer(spc(['plain', 'app/db']))
    const second = await aws.answer(spc(['plain']))
    expect(first.versions.map(({ id }) => id)).toEqual(['plain', 'app_db'])
    expect(second.versions).toEqual([{ id: 'plain', version: VP }])
    expect(second.files[0]?.contents.toString()).toBe('s3cret\n')
  })

  it('does not authenticate for a mount that lists nothing', async () => {
    await aws.failure({ region: 'us-east-1', objects: objects() })
    expect(aws.fake.callsTo('sts')).toEqual([])
  })
})
