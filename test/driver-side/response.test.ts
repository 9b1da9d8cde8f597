/** What the driver makes of an answer, in order and in words (driver.md section 3). */
import { symlinkSync } from 'node:fs'
import { expect, test } from 'vitest'
import { publishVolume } from '../../src/driver/node-server.ts'
import { node, pair, volume } from './fixture.ts'
import { answer, type Script } from './provider.ts'

const PREFIX = 'failed to mount secrets store objects for pod shop/web-0, err: '

async function publishOnce(script: Script) {
  const { node } = await pair(script)
  const result = await node.publish(volume())
  return { node, result, files: node.files(result.target) }
}

/** A Mount answer as bytes, field by field. */
function field(number: number, body: Buffer | string): Buffer {
  const bytes = Buffer.from(body as string)
  return Buffer.concat([Buffer.from([number * 8 + 2, bytes.length]), bytes])
}

test('driver 3 a status reaches the pod with its code and text, and the body is dropped', async () => {
  const { node, result } = await publishOnce(() => ({ code: 7, details: 'role web may not read db' }))
  const message = `${PREFIX}rpc error: code = PermissionDenied desc = role web may not read db`
  expect(result).toMatchObject({ code: 'PermissionDenied', errorType: 'GRPCProviderError', message })
  expect(result.event).toBe(
    `MountVolume.SetUp failed for volume "secrets" : rpc error: code = PermissionDenied desc = ${message}`,
  )
  expect(node.events.list()).toEqual([
    { pod: 'shop/web-0', type: 'Warning', reason: 'FailedMount', message: result.event, count: 1 },
  ])
  expect(
    node.metrics.value('node_publish_error_total', { provider: 'scripted', error_type: 'GRPCProviderError' }),
  ).toBe(1)
  expect(node.isMounted(result.target)).toBe(false)
})

test('driver 3 equal failures are one event with a count', async () => {
  const { node } = await pair(() => ({ code: 3, details: 'no' }))
  for (let i = 0; i < 3; i++) await node.publish(volume())
  expect(node.events.list().map(({ count }) => count)).toEqual([3])
})

test('driver 3 an error code wins over versions and files, and is the metric’s label', async () => {
  const { node, result, files } = await publishOnce(() => ({
    ...answer({ a: '1' }),
    error: { code: 'NotThere' },
  }))
  expect(result).toMatchObject({
    code: 'Unknown',
    errorType: 'NotThere',
    message: `${PREFIX}mount request failed with provider error code NotThere`,
  })
  expect(files.size).toBe(0)
  expect(node.metrics.value('node_publish_error_total', { error_type: 'NotThere' })).toBe(1)
})

test('driver 3 an empty error code is no error', async () => {
  const { result } = await publishOnce(() => ({ ...answer({ a: '1' }), error: { code: '' } }))
  expect(result.code).toBe('OK')
})

test('driver 3 no object versions is an error before any file is looked at', async () => {
  const { result, files } = await publishOnce(() => ({ files: answer({ '../x': '1' }).files }))
  expect(result).toMatchObject({
    code: 'Unknown',
    errorType: 'GRPCProviderError',
    message: `${PREFIX}missing object versions`,
  })
  expect(files.size).toBe(0)
})

test('driver 3 no files is a success that writes nothing, deletes nothing, and records the versions', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }), { rotation: 1000 })
  const { target } = await node.publish(volume())
  provider.script = () => ({ object_version: [{ id: 'a', version: '2' }] })
  const [again] = await node.tick()
  expect(again).toMatchObject({ code: 'OK', files: 'none' })
  expect([...node.files(target).keys()]).toEqual(['a'])
  expect([...node.objects.statuses.values()][0]?.status.objects).toEqual([{ id: 'a', version: '2' }])
})

test('driver 3 of duplicate ids and duplicate paths the last wins, silently', async () => {
  const { node, files } = await publishOnce(() => ({
    object_version: [
      { id: 'b', version: '1' },
      { id: 'a', version: 'x' },
      { id: 'b', version: '2' },
      { id: '', version: '' },
    ],
    files: [...answer({ f: 'first' }).files, ...answer({ f: 'last' }).files],
  }))
  expect([...node.objects.statuses.values()][0]?.status.objects).toEqual([
    { id: '', version: '' },
    { id: 'a', version: 'x' },
    { id: 'b', version: '2' },
  ])
  expect(files.get('f')?.contents.toString()).toBe('last')
})

const BAD_PATHS: Readonly<Record<string, string>> = {
  '': 'invalid path: must not be empty: ""',
  '/a': 'invalid path: must be relative path: /a',
  [`${'a/'.repeat(2048)}ab`]: 'invalid path: must be less than or equal to 4096 characters',
  'a/../b': "invalid path: must not contain '..': a/../b",
  '..': "invalid path: must not contain '..': ..",
  ['é'.repeat(128)]: 'invalid path: filenames must be less than or equal to 255 characters',
  '..x': "invalid path: must not start with '..': ..x",
  '...': "invalid path: must not start with '..': ...",
  'a//b': 'invalid filepath: "a//b"',
  './a': 'invalid filepath: "./a"',
  'a/': 'invalid filepath: "a/"',
  'a/./b\n': 'invalid filepath: "a/./b\\n"',
}
for (const [path, text] of Object.entries(BAD_PATHS)) {
  const name = path.length > 20 ? `${path.slice(0, 8)}… (${path.length})` : JSON.stringify(path)
  test(`driver 3 path ${name} is refused, and nothing is written`, async () => {
    const { result, files } = await publishOnce(() => answer({ good: '1', [path]: '2' }))
    expect(result).toMatchObject({ code: 'Unknown', errorType: 'FileWriteError', message: PREFIX + text })
    expect(files.size).toBe(0)
  })
}

test('driver 3 odd but legal paths are written', async () => {
  const paths = ['a/..x', 'back\\slash', '.hidden', 'sp ace', 'é/…', 'n'.repeat(255)]
  const { result, files } = await publishOnce(() =>
    answer(Object.fromEntries(paths.map((path) => [path, path]))),
  )
  expect(result.code).toBe('OK')
  expect([...files].map(([path, { contents }]) => [path, contents.toString()])).toEqual(
    [...paths].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))).map((path) => [path, path]),
  )
})

test('driver 3 a NUL byte passes the check and fails in the file system', async () => {
  const { result } = await publishOnce(() => answer({ 'a\0b': '1' }))
  expect(result).toMatchObject({ code: 'Unknown', errorType: 'FileWriteError' })
  expect(result.message).toBe(`${PREFIX}cleanup failure: lstat ${result.target}/a\0b: invalid argument`)
})

test('driver 1 invalid UTF-8 in an id, a version, a path or a code fails the whole answer', async () => {
  const bad = Buffer.from([0xc3, 0x28])
  const good = field(1, Buffer.concat([field(1, 'a'), field(2, '1')]))
  const answers = {
    id: field(1, field(1, bad)),
    version: field(1, Buffer.concat([field(1, 'a'), field(2, bad)])),
    path: Buffer.concat([good, field(3, field(1, bad))]),
    code: Buffer.concat([good, field(2, field(1, bad))]),
  }
  for (const [what, bytes] of Object.entries(answers)) {
    const { result } = await publishOnce(() => bytes)
    expect(result.code, what).toBe('Internal')
    expect(result.message, what).toBe(
      `${PREFIX}rpc error: code = Internal desc = grpc: failed to unmarshal the received message: string field contains invalid UTF-8`,
    )
  }
})

test('driver 1 contents may be any bytes or none, and unknown fields are ignored', async () => {
  const good = field(1, Buffer.concat([field(1, 'a'), field(2, '1')]))
  const bytes = Buffer.concat([
    good,
    field(9, 'unknown'),
    field(3, Buffer.concat([field(1, 'raw'), field(3, Buffer.from([0xc3, 0x28, 0])), field(8, 'unknown')])),
    field(3, field(1, 'empty')),
  ])
  const { result, files } = await publishOnce(() => bytes)
  expect(result.code).toBe('OK')
  expect(files.get('raw')?.contents).toEqual(Buffer.from([0xc3, 0x28, 0]))
  expect(files.get('empty')).toEqual({ mode: 0, contents: Buffer.alloc(0) })
})

test('driver 2 an answer of 4194304 bytes passes, one byte more is refused with both sizes', async () => {
  // 1 version of 8 bytes, 1 file: tag, 4 bytes of length, path of 3, tag, 4 bytes of length.
  const sized = (total: number): Buffer => {
    const version = field(1, Buffer.concat([field(1, 'a'), field(2, '1')]))
    const varint4 = (n: number): Buffer =>
      Buffer.from([n & 127, (n >> 7) & 127, (n >> 14) & 127, n >> 21].map((b, i) => (i < 3 ? b | 128 : b)))
    const contents = total - version.length - 5 - 3 - 5
    return Buffer.concat([
      version,
      Buffer.from([26]),
      varint4(contents + 8),
      field(1, 'f'),
      Buffer.from([26]),
      varint4(contents),
      Buffer.alloc(contents, 120),
    ])
  }
  const { node, result, files } = await publishOnce(() => sized(4194304))
  expect(result.code).toBe('OK')
  expect(files.get('f')?.contents.length).toBe(4194304 - 21)
  expect(node.log).toContain('proto above 1MiB, secret sync may fail size=4194304')

  const refused = await publishOnce(() => sized(4194305))
  expect(refused.result).toMatchObject({ code: 'ResourceExhausted', errorType: 'GRPCProviderError' })
  expect(refused.result.message).toBe(
    `${PREFIX}rpc error: code = ResourceExhausted desc = grpc: received message larger than max (4194305 vs. 4194304)`,
  )
})

test('driver 3 requests are checked in the driver’s order, each with its text, code and label', async () => {
  const { node } = await pair(() => answer({ a: '1' }))
  const pod = { name: 'web-0', namespace: 'shop' }
  const parameters = { a: 'b' }
  const cases = [
    [
      { volumeAttributes: { secretProviderClass: '' } },
      'Unknown',
      'FailedToMount',
      'secretProviderClass is not set',
    ],
    [
      { spc: 'absent', readOnly: false },
      'Unknown',
      'SecretProviderClassNotFound',
      'failed to get secretproviderclass shop/absent, error: SecretProviderClass.secrets-store.csi.x-k8s.io "absent" not found',
    ],
    [
      { spc: { name: 'n', parameters }, readOnly: false },
      'Unknown',
      'FailedToMount',
      'provider not set in shop/n',
    ],
    [
      { spc: { name: 'n', provider: 'scripted' }, readOnly: false },
      'Unknown',
      'FailedToMount',
      'parameters not set in shop/n',
    ],
    [{ readOnly: false }, 'InvalidArgument', 'FailedToMount', 'Readonly is not true in request'],
  ] as const
  for (const [overrides, code, errorType, message] of cases) {
    const result = await node.publish(volume({ pod, ...overrides }))
    expect(result).toMatchObject({ code, errorType, message, called: false })
  }
  expect(node.metrics.text()).toContain(
    'node_publish_error_total{error_type="SecretProviderClassNotFound",os_type="linux",provider=""} 1',
  )
})

test('driver 3 a target that cannot be checked is an Internal error', async () => {
  const { node, dir } = await pair(() => answer({ a: '1' }))
  const target = `${dir}/loop`
  symlinkSync(target, target)
  expect(await node.publish(volume({ targetPath: target }))).toMatchObject({
    code: 'Internal',
    errorType: 'FailedToEnsureMountPoint',
    message: `failed to check if target path ${target} is mount point, err: stat ${target}: too many levels of symbolic links`,
  })
})

test('driver 3 what is missing in a request is named first of all', async () => {
  const { node } = await pair(() => answer({ a: '1' }))
  const whole = {
    capability: true,
    volumeId: 'csi-1',
    targetPath: '/t',
    volumeContext: new Map([['a', 'b']]),
    secrets: new Map(),
    readOnly: false,
    timeoutMs: undefined,
  }
  const cases = {
    'Volume capability': { ...whole, capability: false, volumeId: '' },
    'Volume ID': { ...whole, volumeId: '', targetPath: '' },
    'Target path': { ...whole, targetPath: '', volumeContext: new Map() },
    'Volume attributes': { ...whole, volumeContext: new Map() },
  }
  for (const [what, request] of Object.entries(cases)) {
    const result = await publishVolume(node.driver, request)
    expect(result).toMatchObject({
      code: 'InvalidArgument',
      message: `${what} missing in request`,
      errorType: 'FailedToMount',
    })
  }
})

test('driver 4 the provider name mock_provider skips the provider', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }))
  const result = await node.publish(volume({ volumeAttributes: { providerName: 'Mock_Provider' } }))
  expect(result).toMatchObject({ code: 'OK', called: false })
  expect(provider.calls).toHaveLength(0)
  expect(node.isMounted(result.target)).toBe(true)
})

test('driver 7 a status name over 253 bytes fails the mount and unmounts it', async () => {
  const { node } = await pair(() => answer({ a: '1' }))
  const result = await node.publish(volume({ pod: { name: 'p'.repeat(240), namespace: 'shop' } }))
  expect(result).toMatchObject({ code: 'Unknown', errorType: '' })
  expect(result.message).toMatch(
    /^failed to create secret provider class pod status for pod shop\/p+, err: .* must be no more than 253 bytes$/,
  )
  expect(node.isMounted(result.target)).toBe(false)
})

test('driver 7 the status names pod, class, node and owner, and is rewritten only when something changed', async () => {
  const { node: first, provider } = await pair(() => answer({ b: '1', a: '1' }), {
    rotation: 1000,
    nodeName: 'worker',
  })
  const { target } = await first.publish(volume({ pod: { name: 'web-0', namespace: 'shop', uid: 'u-1' } }))
  const key = 'shop/web-0-shop-web-secrets'
  expect(first.objects.statuses.get(key)).toEqual({
    name: 'web-0-shop-web-secrets',
    namespace: 'shop',
    node: 'worker',
    owner: { kind: 'Pod', name: 'web-0', uid: 'u-1' },
    resourceVersion: 1,
    status: {
      podName: 'web-0',
      secretProviderClassName: 'web-secrets',
      mounted: true,
      targetPath: target,
      objects: [
        { id: 'a', version: '1' },
        { id: 'b', version: '1' },
      ],
    },
  })
  await first.tick()
  expect(first.objects.statuses.get(key)?.resourceVersion).toBe(1)
  provider.script = () => answer({ b: '1', a: '1' }, '2')
  await first.tick()
  expect(first.objects.statuses.get(key)?.resourceVersion).toBe(2)
})

test('driver 3 without a provider directory the text says so', async () => {
  const started = await node({ providerDirs: [] })
  const result = await started.publish(volume())
  expect(result.message).toBe(
    `${PREFIX}error connecting to provider "scripted": provider not found: provider "scripted"`,
  )
})
