/** Rotation as drivers up to 1.5 do it (driver.md section 4). */
import { expect, test } from 'vitest'
import { ATTRIBUTE } from '../../src/driver/attributes.ts'
import { startKubelet } from '../../src/driver/kubelet.ts'
import { pair, volume } from './fixture.ts'
import { answer, type Script } from './provider.ts'

const MINUTE = 60_000

const old = (script: Script) => pair(script, { profile: '1.5', rotation: 2 * MINUTE })

test('driver 4 a rotation of 1.5 sends parameters and four pod facts only, {} for no secrets, and no deadline', async () => {
  const { node, provider } = await old(() => answer({ b: '1', a: '1' }))
  await node.publish(volume({ volumeAttributes: { objects: 'of the pod' }, tokens: { vault: 't' } }))
  await node.tick()
  const [first, second] = provider.calls
  expect(first?.attributesMap()).toMatchObject({
    objects: 'of the pod',
    secretProviderClass: 'web-secrets',
    [ATTRIBUTE.ephemeral]: 'true',
  })
  expect(Object.keys(second?.attributesMap() ?? {})).toEqual([
    ATTRIBUTE.podName,
    ATTRIBUTE.podNamespace,
    ATTRIBUTE.podUid,
    ATTRIBUTE.serviceAccount,
    ATTRIBUTE.tokens,
    'objects',
  ])
  expect(second?.attributesMap()['objects']).toBe('- db')
  expect([first?.secrets, second?.secrets]).toEqual(['null', '{}'])
  expect(first?.deadlineIn).toBeGreaterThan(0)
  expect(second?.deadlineIn).toBeUndefined()
  expect(first?.current_object_version).toEqual([])
  expect([...(second?.current_object_version ?? [])].sort((a, b) => (a.id < b.id ? -1 : 1))).toEqual([
    { id: 'a', version: '1' },
    { id: 'b', version: '1' },
  ])
})

test('driver 4 in 1.5 a republish of a mounted volume calls nobody', async () => {
  const { node, provider } = await old(() => answer({ a: '1' }))
  await node.publish(volume())
  await node.clock.advance(10 * MINUTE)
  expect(await node.publish(volume())).toMatchObject({ code: 'OK', called: false })
  expect(provider.calls).toHaveLength(1)
})

test('driver 4 changed versions update the status and give an event, changed bytes alone only the files', async () => {
  const { node, provider } = await old(() => answer({ a: '1' }))
  const { target } = await node.publish(volume())
  provider.script = () => answer({ a: 'changed' })
  expect(await node.tick()).toEqual([{ status: 'shop/web-0-shop-web-secrets', result: 'same' }])
  expect(node.files(target).get('a')?.contents.toString()).toBe('changed')
  expect(node.events.list()).toEqual([])

  provider.script = () => answer({ a: 'changed' }, '2')
  expect(await node.tick()).toEqual([{ status: 'shop/web-0-shop-web-secrets', result: 'rotated' }])
  expect([...node.objects.statuses.values()][0]?.status.objects).toEqual([{ id: 'a', version: '2' }])
  expect(node.events.list()).toEqual([
    {
      pod: 'shop/web-0',
      type: 'Normal',
      reason: 'MountRotationComplete',
      message: 'successfully rotated mounted contents for spc shop/web-secrets',
      count: 1,
    },
  ])
  expect(node.metrics.value('rotation_reconcile_total', { provider: 'scripted', rotated: 'false' })).toBe(1)
  expect(node.metrics.value('rotation_reconcile_total', { provider: 'scripted', rotated: 'true' })).toBe(1)
})

test('driver 4 a failed rotation of 1.5 shows as an event and comes round again after ten seconds', async () => {
  const { node, provider } = await old(() => answer({ a: '1' }))
  await node.publish(volume())
  provider.script = () => ({ code: 5, details: 'gone' })
  const [failed] = await node.tick()
  expect(failed).toMatchObject({ result: 'failed' })
  expect(node.events.list()).toEqual([
    expect.objectContaining({
      reason: 'MountRotationFailed',
      message: 'provider mount err: rpc error: code = NotFound desc = gone',
    }),
  ])
  expect(
    node.metrics.value('rotation_reconcile_error_total', {
      error_type: 'GRPCProviderError',
      rotated: 'false',
    }),
  ).toBe(1)
  const kubelet = startKubelet(node)
  await kubelet.advance(9000)
  expect(provider.calls).toHaveLength(2)
  await kubelet.advance(1500)
  expect(provider.calls).toHaveLength(3)
})

test('driver 4 the ticker of 1.5 keeps its exact period', async () => {
  const { node, provider } = await old(() => answer({ a: '1' }))
  await node.publish(volume())
  await startKubelet(node).advance(10.5 * MINUTE)
  expect(provider.calls).toHaveLength(1 + 5)
})

test('driver 4 pods that have ended are skipped but counted', async () => {
  const { node, provider } = await old(() => answer({ a: '1' }))
  await node.publish(volume())
  const pod = node.objects.pods.get('shop/web-0')
  if (pod === undefined) throw new Error('no pod')
  for (const end of [{ phase: 'Succeeded' }, { phase: 'Failed' }, { terminating: true }] as const) {
    node.objects.pods.set('shop/web-0', { ...pod, ...end })
    expect(await node.tick()).toMatchObject([{ result: 'skipped' }])
  }
  expect(provider.calls).toHaveLength(1)
  expect(node.metrics.value('rotation_reconcile_total', { rotated: 'false' })).toBe(3)
})

test('driver 4 one class mounted twice in a pod fails the rotation without an event', async () => {
  const { node } = await old(() => answer({ a: '1' }))
  await node.publish(volume())
  await node.publish(volume({ volumeName: 'again' }))
  expect(await node.tick()).toMatchObject([
    { result: 'failed', message: expect.stringContaining('does not match the volume name') as string },
  ])
  expect(node.metrics.value('rotation_reconcile_error_total', { error_type: 'UnexpectedTargetPath' })).toBe(1)
  expect(node.events.list()).toEqual([])
})

test('driver 4 the node-publish Secret is read again, if it carries the label', async () => {
  const { node, provider } = await old(() => answer({ a: '1' }))
  await node.publish(volume({ secrets: { user: 'u' } }))
  await node.tick()
  expect(provider.calls[1]?.secrets).toBe('{"user":"u"}')
})

test('driver 4 without the label the Secret is not seen, and nobody is called', async () => {
  const { node, provider } = await old(() => answer({ a: '1' }))
  await node.publish(volume({ secrets: { user: 'u' }, secretRef: { name: 'creds', labelledUsed: false } }))
  expect(await node.tick()).toMatchObject([{ result: 'failed' }])
  expect(provider.calls).toHaveLength(1)
  expect(node.events.list()).toMatchObject([
    {
      reason: 'MountRotationFailed',
      message: 'failed to get node publish secret shop/creds, err: secrets "creds" not found',
    },
  ])
})

test('driver 2 one hung rotation of 1.5 holds up every other, while first mounts go on', async () => {
  let release: (() => void) | undefined
  const gate = new Promise<void>((resolve) => (release = resolve))
  const { node, provider } = await old(() => answer({ a: '1' }))
  const other = { name: 'web-1', namespace: 'shop' }
  await node.publish(volume())
  await node.publish(volume({ pod: other }))
  provider.script = async ({ deadlineIn }) => {
    if (deadlineIn === undefined) await gate
    return answer({ a: '1' })
  }
  const ticking = node.tick()
  while (provider.calls.length < 3) await new Promise((resolve) => setTimeout(resolve, 2))
  expect(await node.publish(volume({ pod: { name: 'web-2', namespace: 'shop' } }))).toMatchObject({
    code: 'OK',
  })
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(provider.calls).toHaveLength(4)
  release?.()
  expect(await ticking).toHaveLength(2)
  expect(provider.calls).toHaveLength(5)
})
