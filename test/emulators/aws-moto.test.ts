/**
 * The aws dialect over moto 5.2.5: an AWS that others wrote. What moto gets wrong (token checks,
 * throttling, selectors …) is proven on the scripted fake, test/providers/aws.
 */
import {
  CreateSecretCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from '@aws-sdk/client-secrets-manager'
import { LabelParameterVersionCommand, PutParameterCommand, SSMClient } from '@aws-sdk/client-ssm'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { kmsKeyService } from '../../src/providers/aws/kms.ts'
import { startPeer } from '../peers/start.ts'
import type { Peer } from '../peers/start.ts'
import { describeWithPeers } from '../peers/suite.ts'
import { FakeCluster } from '../providers/aws/fake-identity.ts'
import { objects, spc } from '../providers/aws/fixtures.ts'
import { createMounts, tokenText } from '../providers/aws/mounts.ts'
import type { Mounts } from '../providers/aws/mounts.ts'
import { backendContext } from '../support/backend-context.ts'
import { testHost, testHttp } from '../support/test-host.ts'
import type { TestHostOptions } from '../support/test-host.ts'

/** moto makes accounts up as they are named: this role's account is the one that the set-up fills. */
const ROLE = 'arn:aws:iam::123456789012:role/web'
const OTHER_ACCOUNT = 'arn:aws:iam::210987654321:role/web'

describeWithPeers('aws over moto', { programs: ['moto-python'] }, () => {
  let moto: Peer
  let node: Mounts
  let current: string
  let previous: string
  const cluster = new FakeCluster()

  const clientOf = <C>(make: new (config: object) => C, region = 'us-east-1'): C =>
    new make({
      region,
      endpoint: moto.address,
      credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'x' },
    })

  beforeAll(async () => {
    moto = await startPeer('moto')
    const secrets = clientOf(SecretsManagerClient)
    await secrets.send(new CreateSecretCommand({ Name: 'plain', SecretString: 's3cret\n' }))
    await secrets.send(new CreateSecretCommand({ Name: 'bin', SecretBinary: Buffer.from([0, 0xff, 0x0a]) }))
    const first = await secrets.send(
      new CreateSecretCommand({ Name: 'app/db', SecretString: '{"username":"u0"}' }),
    )
    const second = await secrets.send(
      new PutSecretValueCommand({ SecretId: 'app/db', SecretString: '{"username":"u1","port":5432}' }),
    )
    previous = first.VersionId ?? ''
    current = second.VersionId ?? ''
    for (let i = 0; i < 22; i += 1)
      await secrets.send(new CreateSecretCommand({ Name: `team/s${i}`, SecretString: `t${i}` }))
    const parameters = clientOf(SSMClient)
    for (const Value of ['a', 'b', 'https://x'])
      await parameters.send(
        new PutParameterCommand({ Name: '/cfg/url', Value, Type: 'String', Overwrite: true }),
      )
    await parameters.send(
      new LabelParameterVersionCommand({ Name: '/cfg/url', ParameterVersion: 2, Labels: ['prod'] }),
    )
    await parameters.send(new PutParameterCommand({ Name: '/sec', Value: 'enc', Type: 'SecureString' }))
    for (let i = 1; i <= 23; i += 1)
      await parameters.send(new PutParameterCommand({ Name: `p${i}`, Value: `val${i}`, Type: 'String' }))
    await clientOf(SecretsManagerClient, 'us-west-2').send(
      new CreateSecretCommand({ Name: 'plain', SecretString: 'west' }),
    )
    node = createMounts({ cluster, settings: { endpoint: moto.address, stsEndpoint: moto.address } })
    node.annotations.set('shop/web', { 'eks.amazonaws.com/role-arn': ROLE })
  })
  afterAll(async () => {
    await node?.stop()
    await moto?.stop()
  })

  test('aws-01 aws-02 aws-29 text, JSON and binary secrets arrive byte for byte with their version', async () => {
    const files = await node.mount(spc(['plain', 'app/db', 'bin']))
    expect(files.get('plain')?.text).toBe('s3cret\n')
    expect(files.get('app_db')).toMatchObject({ text: '{"username":"u1","port":5432}', version: current })
    expect(files.get('bin')?.bytes).toEqual(Buffer.from([0, 0xff, 0x0a]))
  })

  test('aws-12 aws-14 fields of a JSON secret', async () => {
    const jmesPath = [
      { path: 'username', objectAlias: 'u' },
      { path: 'port', objectAlias: 'n' },
    ]
    const files = await node.mount(spc([{ objectName: 'app/db', jmesPath }]))
    expect([files.get('u')?.text, files.get('n')?.text]).toEqual(['u1', '5432'])
  })

  test('aws-21 aws-22 aws-23 versions and stages of one secret', async () => {
    const files = await node.mount(
      spc([
        { objectName: 'app/db', objectAlias: 'now', objectVersionLabel: 'AWSCURRENT' },
        { objectName: 'app/db', objectAlias: 'before', objectVersionLabel: 'AWSPREVIOUS' },
        { objectName: 'app/db', objectAlias: 'pinned', objectVersion: previous },
      ]),
    )
    expect([...files].map(([path, { version }]) => [path, version])).toEqual([
      ['now', current],
      ['before', previous],
      ['pinned', previous],
    ])
    expect(files.get('pinned')?.text).toBe('{"username":"u0"}')
  })

  test('aws-03 aws-24 aws-25 one parameter plain, by version and by label, though moto names no selectors', async () => {
    const files = await node.mount(
      spc([
        { objectName: '/cfg/url', objectAlias: 'now' },
        { objectName: '/cfg/url', objectAlias: 'one', objectVersion: '1' },
        { objectName: '/cfg/url', objectAlias: 'prod', objectVersionLabel: 'prod' },
        '/sec',
      ]),
    )
    expect([...files].map(([path, { text, version }]) => [path, text, version])).toEqual([
      ['now', 'https://x', '3'],
      ['one', 'a', '1'],
      ['prod', 'b', '2'],
      ['_sec', 'enc', '1'],
    ])
  })

  test('aws-27 twenty-three parameters in any order of the answers', async () => {
    const names = Array.from({ length: 23 }, (_, i) => `p${i + 1}`)
    const files = await node.mount(spc(names))
    expect([...files.values()].map(({ text }) => text)).toEqual(names.map((name) => name.replace('p', 'val')))
  })

  test('aws-28 aws-59 what does not exist is named, all of it', async () => {
    const { failures } = await node.failure(spc(['plain', 'nosuch', 'p1', 'gone1', 'gone2']))
    expect(failures.map(({ object, code }) => [object, code])).toEqual([
      ['nosuch', 'AWS_NOT_FOUND'],
      ['gone1', 'AWS_NOT_FOUND'],
      ['gone2', 'AWS_NOT_FOUND'],
    ])
  })

  test('aws-30 a secret and a parameter by ARN', async () => {
    const arn = 'arn:aws:ssm:us-east-1:123456789012:parameter/cfg/url'
    const files = await node.mount({
      region: 'us-east-1',
      objects: JSON.stringify([{ objectName: arn, objectAlias: 'by-arn' }]),
    })
    expect(files.get('by-arn')).toMatchObject({ text: 'https://x', version: '3' })
  })

  test('T7 two service accounts with roles in two accounts do not see each other’s secrets', async () => {
    node.annotations.set('shop/other', { 'eks.amazonaws.com/role-arn': OTHER_ACCOUNT })
    const failure = await node.failure(spc(['plain']), { serviceAccount: 'other' })
    expect(failure.failures.map(({ code }) => code)).toEqual(['AWS_NOT_FOUND'])
    expect((await node.mount(spc(['plain']))).get('plain')?.text).toBe('s3cret\n')
  })

  test('aws-46 a secret of the second region only is not found: failover is for outages', async () => {
    const failure = await node.failure(spc(['team/none'], { failoverRegion: 'us-west-2' }))
    expect(failure.message).toContain('region us-east-1: ResourceNotFoundException')
    expect(failure.message).not.toContain('us-west-2')
  })

  test('sops A10 a key that KMS wrapped is unwrapped with its context, and not without', async () => {
    const kms = async (action: string, input: object): Promise<Record<string, never>> => {
      const authorization =
        'AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0'
      const reply = await fetch(moto.address, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-amz-json-1.1',
          'x-amz-target': `TrentService.${action}`,
          authorization,
        },
        body: JSON.stringify(input),
      })
      return (await reply.json()) as Record<string, never>
    }
    const { KeyMetadata } = await kms('CreateKey', {})
    const { Arn: arn } = KeyMetadata as unknown as { Arn: string }
    const key = Buffer.alloc(32, 7)
    const sealed = { KeyId: arn, Plaintext: key.toString('base64'), EncryptionContext: { team: 'pay' } }
    const { CiphertextBlob: enc } = (await kms('Encrypt', sealed)) as unknown as { CiphertextBlob: string }
    const http = testHttp()
    const service = kmsKeyService(
      backendContext({ settings: { endpoint: moto.address, stsEndpoint: moto.address }, http }),
    )
    const tokens = JSON.parse(tokenText(cluster, {}, ['sts.amazonaws.com'])) as TestHostOptions['tokens']
    const host = testHost({ http, tokens: tokens!, annotations: { 'eks.amazonaws.com/role-arn': ROLE } })
    const entry = { kind: 'kms' as const, arn, role: '', enc, context: new Map([['team', 'pay']]) }
    try {
      expect(await service.unwrap(entry, host, '3.13.2')).toEqual(key)
      await expect(service.unwrap({ ...entry, context: new Map() }, host, '3.13.2')).rejects.toThrow(
        'InvalidCiphertextException',
      )
    } finally {
      http.close()
    }
  })

  test('BatchGetSecretValue brings the same files', async () => {
    const batching = createMounts({
      cluster,
      settings: { endpoint: moto.address, stsEndpoint: moto.address, batch: true },
    })
    batching.annotations.set('shop/web', { 'eks.amazonaws.com/role-arn': ROLE })
    try {
      const names = Array.from({ length: 22 }, (_, i) => `team/s${i}`)
      const files = await batching.mount({ region: 'us-east-1', objects: objects(...names) })
      expect([...files.values()].map(({ text }) => text)).toEqual(names.map((_, i) => `t${i}`))
    } finally {
      await batching.stop()
    }
  })
})
