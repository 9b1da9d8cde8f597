/** What a provider is sent (driver.md sections 1, 6) and how it is found (section 2). */
import { status } from '@grpc/grpc-js'
import { mkdirSync, renameSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ATTRIBUTE, volumeId } from '../../src/driver/attributes.ts'
import { MOUNT_METHOD } from '../../src/rpc/contract.ts'
import { leaveStaleSocket } from '../../src/driver/faults.ts'
import { rawCall } from '../../src/driver/raw-http2.ts'
import { startNode } from '../../src/driver/node.ts'
import { goJsonMap, goQuote } from '../../src/driver/go-text.ts'
import { afterwards, node, pair, provider, providerProcess, temporaryDir, volume } from './fixture.ts'
import { answer } from './provider.ts'

test('driver 1.1 JSON maps are sorted bytewise, without white space, with HTML escapes', () => {
  const map = new Map([
    ['b', '<&>\u2028\u2029'],
    ['\u{1f600}', 'x'],
    ['\uffee', 'y\n'],
    ['a', '\ud800'],
  ])
  expect(goJsonMap(map)).toBe(
    '{"a":"\ufffd","b":"\\u003c\\u0026\\u003e\\u2028\\u2029","\uffee":"y\\n","\u{1f600}":"x"}',
  )
  expect(goQuote('a"\\\n\u0001\u200b\u00e9')).toBe('"a\\"\\\\\\n\\x01\\u200b\u00e9"')
})

test('driver 1.1 attributes are parameters, overlaid by the pod, overlaid by kubelet', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }))
  const result = await node.publish(
    volume({
      spc: {
        name: 'web-secrets',
        provider: 'scripted',
        parameters: { objects: 'spc', region: 'spc', [ATTRIBUTE.podName]: 'spc' },
      },
      volumeAttributes: { objects: 'pod', [ATTRIBUTE.podNamespace]: 'pod', [ATTRIBUTE.ephemeral]: 'no' },
    }),
  )
  expect(result).toMatchObject({ code: 'OK', called: true, files: 'written' })
  expect(provider.calls).toHaveLength(1)
  expect(provider.calls[0]?.attributes).toBe(
    '{"csi.storage.k8s.io/ephemeral":"true","csi.storage.k8s.io/pod.name":"web-0","csi.storage.k8s.io/pod.namespace":"shop",' +
      `"csi.storage.k8s.io/pod.uid":"${result.target.split('/pods/')[1]?.split('/')[0]}","csi.storage.k8s.io/serviceAccount.name":"web",` +
      '"objects":"pod","region":"spc","secretProviderClass":"web-secrets"}',
  )
})

test('driver 1.1 secrets are null without a reference, permission is 420, no object versions are sent', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }))
  const { target } = await node.publish(volume())
  expect(provider.calls[0]).toMatchObject({
    secrets: 'null',
    permission: '420',
    current_object_version: [],
    target_path: target,
  })
  expect(target).toMatch(/\/pods\/[-0-9a-f]{36}\/volumes\/kubernetes\.io~csi\/secrets\/mount$/)
})

test('driver 1.1 the data of nodePublishSecretRef is sent as secrets', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }))
  await node.publish(volume({ secrets: { clientsecret: 'b', clientid: 'a' } }))
  expect(provider.calls[0]?.secrets).toBe('{"clientid":"a","clientsecret":"b"}')
})

test('driver 6 tokens come in the context', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }))
  const expirationTimestamp = '2026-01-31T12:00:00Z'
  await node.publish(
    volume({
      tokens: { vault: { token: 'v', expirationTimestamp }, '': { token: 'd', expirationTimestamp } },
    }),
  )
  expect(provider.calls[0]?.attributesMap()[ATTRIBUTE.tokens]).toBe(
    '{"":{"token":"d","expirationTimestamp":"2026-01-31T12:00:00Z"},"vault":{"token":"v","expirationTimestamp":"2026-01-31T12:00:00Z"}}',
  )
  expect(provider.calls[0]?.secrets).toBe('null')
})

test('driver 6 tokens in secrets reach attributes too and win over what the pod wrote', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }), {
    tokensInSecrets: true,
    tokens: () => ({ vault: 'real' }),
  })
  await node.publish(volume({ volumeAttributes: { [ATTRIBUTE.tokens]: 'forged' } }))
  const text = provider.calls[0]?.attributesMap()[ATTRIBUTE.tokens] ?? ''
  expect(JSON.parse(text)).toMatchObject({ vault: { token: 'real' } })
  expect(JSON.parse(provider.calls[0]?.secrets ?? '')).toEqual({ [ATTRIBUTE.tokens]: text })
})

test('driver 1.1 without tokenRequests a pod can write any text under the tokens key', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }))
  await node.publish(volume({ volumeAttributes: { [ATTRIBUTE.tokens]: 'forged' } }))
  expect(provider.calls[0]?.attributesMap()[ATTRIBUTE.tokens]).toBe('forged')
})

test('driver 6 profile 1.5 mints tokens itself where kubelet put them into secrets', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }), {
    profile: '1.5',
    tokensInSecrets: true,
    tokens: () => ({ vault: 'minted' }),
  })
  await node.publish(volume())
  expect(JSON.parse(provider.calls[0]?.attributesMap()[ATTRIBUTE.tokens] ?? '')).toMatchObject({
    vault: { token: 'minted' },
  })
})

test('driver 9 the volume id is a digest of pod uid and volume name', () => {
  // printf %s uidvol | sha256sum
  expect(volumeId('uid', 'vol')).toBe('csi-59a84980f8ef4826da54c7ced3605cf80e85f6bb08948be904a09383f8317b93')
})

test('driver 1 a call carries kubelet’s deadline of two minutes', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }))
  await node.publish(volume())
  expect(provider.calls[0]?.deadlineIn).toBeGreaterThan(110_000)
  expect(provider.calls[0]?.deadlineIn).toBeLessThanOrEqual(120_000)
})

test('driver 2 the authority is localhost in 1.6', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }))
  await node.publish(volume())
  expect(provider.calls[0]?.authority).toBe('localhost')
})

test('driver 2 the authority is the raw path in 1.5, which Node’s HTTP/2 refuses before any JavaScript sees it', async () => {
  const dir = temporaryDir()
  const scripted = await provider(dir, () => answer({ a: '1' }))
  const old = await startNode({ profile: '1.5', providerDirs: [dir], mounts: 'emulated' })
  afterwards(() => old.close())
  const result = await old.publish(volume())
  expect(scripted.calls).toHaveLength(0)
  expect(result.message).toBe(
    'failed to mount secrets store objects for pod shop/web-0, err: rpc error: code = Internal desc = ' +
      'stream terminated by RST_STREAM with error code: PROTOCOL_ERROR',
  )
  expect(result.code).toBe('Internal')
})

test('driver 2 the raw HTTP/2 client reaches a provider, header block in one frame or in many', async () => {
  const dir = temporaryDir()
  const { socket, calls } = await provider(dir, () => answer({ a: '1' }))
  const message = MOUNT_METHOD.requestSerialize({
    attributes: '{}',
    secrets: 'null',
    target_path: '',
    permission: '420',
    current_object_version: [],
  })
  for (const headerFragmentBytes of [undefined, 40]) {
    const call = { socket, authority: 'localhost', path: MOUNT_METHOD.path, message }
    const { message: bytes } = await rawCall(
      headerFragmentBytes === undefined ? call : { ...call, headerFragmentBytes },
    )
    expect(MOUNT_METHOD.responseDeserialize(bytes ?? Buffer.alloc(0)).files[0]?.path).toBe('a')
  }
  expect(calls.map(({ authority }) => authority)).toEqual(['localhost', 'localhost'])
  expect(await rawCall({ socket, authority: socket, path: MOUNT_METHOD.path, message })).toEqual({
    message: undefined,
    resetCode: 1,
  })
  expect(calls).toHaveLength(2)
})

test('driver 2 a name outside the pattern, or without a socket, is refused with the driver’s text', async () => {
  const started = await node({ providerDirs: [temporaryDir()] })
  const texts: Record<string, string> = {}
  for (const name of ['absent', 'a/b', 'x'.repeat(31), 'Ä']) {
    const result = await started.publish(
      volume({ spc: { name: 's', provider: name, parameters: { a: 'b' } } }),
    )
    expect(result).toMatchObject({ code: 'Unknown', called: false, errorType: '' })
    texts[name] = result.message.split(', err: ')[1] ?? ''
  }
  expect(texts).toEqual({
    absent: 'error connecting to provider "absent": provider not found: provider "absent"',
    'a/b': 'error connecting to provider "a/b": invalid provider: provider "a/b"',
    ['x'.repeat(31)]:
      `error connecting to provider "${'x'.repeat(31)}": invalid provider: provider "${'x'.repeat(31)}"`,
    Ä: 'error connecting to provider "Ä": invalid provider: provider "Ä"',
  })
})

test('driver 2 the first directory in which the file exists wins, be it a stale one', async () => {
  const [first, second] = [temporaryDir(), temporaryDir()]
  const live = await provider(second, () => answer({ a: '1' }))
  const started = await node({ providerDirs: [first, second] })
  await leaveStaleSocket(first, 'scripted')
  const stuck = await started.publish(volume({ timeoutMs: 300 }))
  expect(stuck).toMatchObject({ code: 'DeadlineExceeded', message: 'context deadline exceeded' })
  expect(live.calls).toHaveLength(0)

  const fresh = await node({ providerDirs: [second, first] })
  expect(await fresh.publish(volume())).toMatchObject({ code: 'OK' })
})

test('driver 2 a client is kept for the driver’s lifetime, though its file goes', async () => {
  const [first, second] = [temporaryDir(), temporaryDir()]
  mkdirSync(join(first, 'scripted.sock'))
  const started = await node({ providerDirs: [first, second] })
  expect(await started.publish(volume({ timeoutMs: 200 }))).toMatchObject({ code: 'DeadlineExceeded' })
  rmdirSync(join(first, 'scripted.sock'))
  await provider(second, () => answer({ a: '1' }))
  expect(await started.publish(volume({ timeoutMs: 200 }))).toMatchObject({ code: 'DeadlineExceeded' })
})

test('driver 2 a provider that starts late is waited for', async () => {
  const dir = temporaryDir()
  writeFileSync(join(dir, 'scripted.sock'), '')
  const started = await node({ providerDirs: [dir] })
  const publishing = started.publish(volume({ timeoutMs: 10_000 }))
  const late = await provider(dir, () => answer({ a: '1' }))
  expect(await publishing).toMatchObject({ code: 'OK' })
  expect(late.calls).toHaveLength(1)
})

test('driver 2 UNAVAILABLE is tried three times, any other code once', async () => {
  const { node, provider } = await pair(() => ({ code: status.UNAVAILABLE, details: 'busy' }))
  const result = await node.publish(volume())
  expect(result.code).toBe('Unavailable')
  expect(result.message).toContain('rpc error: code = Unavailable desc = busy')
  expect(provider.calls.map(({ previousAttempts }) => previousAttempts)).toEqual([undefined, '1', '2'])

  for (const code of [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16]) {
    provider.script = () => ({ code, details: 'no' })
    const before = provider.calls.length
    const one = await node.publish(volume())
    expect(one.message).toMatch(/rpc error: code = \w+ desc = no$/)
    expect(one.code).not.toBe('OK')
    expect(provider.calls.length - before, `attempts of code ${code}`).toBe(1)
  }
})

test('driver 2 a health check asks Version of providers used so far, and nothing around a mount does', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }))
  expect((await node.healthCheck()).size).toBe(0)
  await node.publish(volume())
  expect(provider.versionCalls).toEqual([])
  expect((await node.healthCheck()).get('scripted')).toMatchObject({
    ok: true,
    message: { runtime_version: '0.0.1' },
  })
  expect(provider.versionCalls).toEqual(['v1alpha1'])
})

test('driver 2 two hundred publishes at once all arrive and all succeed', async () => {
  let open: (() => void) | undefined
  const gate = new Promise<void>((resolve) => (open = resolve))
  const { node, provider } = await pair(async () => {
    if (provider.calls.length === 200) open?.()
    await gate
    return answer({ a: '1' })
  })
  const results = await Promise.all(
    Array.from({ length: 200 }, (_, i) =>
      node.publish(volume({ pod: { name: `web-${i}`, namespace: 'shop' } })),
    ),
  )
  expect(results.filter(({ code }) => code === 'OK')).toHaveLength(200)
  expect(node.objects.statuses.size).toBe(200)
})

test('driver 2 a call broken off by SIGKILL is sent again to the process that takes over', async () => {
  const dir = temporaryDir()
  const started = await node({ providerDirs: [dir] })
  const dying = await providerProcess(dir, 'hang')
  const publishing = started.publish(volume())
  await dying.line('called')
  await dying.kill()
  const successor = await provider(dir, () => answer({ a: '1' }))
  expect(await publishing).toMatchObject({ code: 'OK' })
  expect(successor.calls).toHaveLength(1)
})

test('driver 4 three losses in one call end as UNAVAILABLE, a non-final code', async () => {
  const dir = temporaryDir()
  const started = await node({ providerDirs: [dir] })
  const first = await providerProcess(dir, 'die')
  const publishing = started.publish(volume())
  await first.ended
  await (
    await providerProcess(dir, 'die')
  ).ended
  await (
    await providerProcess(dir, 'die')
  ).ended
  const result = await publishing
  expect(result.code).toBe('Unavailable')
  expect(result.message).toMatch(/rpc error: code = Unavailable desc = error reading from server: EOF$/)
})

test('driver 4 with two overlapping processes nobody waits', async () => {
  const dir = temporaryDir()
  const started = await node({ providerDirs: [dir] })
  const old = await provider(dir, () => answer({ a: 'old' }))
  expect(await started.publish(volume())).toMatchObject({ code: 'OK' })
  mkdirSync(join(dir, 'new'))
  const young = await provider(join(dir, 'new'), () => answer({ a: 'new' }))
  renameSync(young.socket, old.socket)
  await old.kill()
  const other = volume({ pod: { name: 'web-1' } })
  expect(await started.publish(other)).toMatchObject({ code: 'OK' })
  expect(started.files(started.target(other)).get('a')?.contents.toString()).toBe('new')
})
