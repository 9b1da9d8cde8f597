/** The mini-kubelet, and the empty-volume trap with it (driver.md sections 4, 5). */
import { existsSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { expect, test } from 'vitest'
import { CODE_NAMES, isFinal } from '../../src/driver/codes.ts'
import { startKubelet } from '../../src/driver/kubelet.ts'
import { node, pair, provider as start, temporaryDir, volume } from './fixture.ts'
import { answer } from './provider.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND

for (const [code, name] of CODE_NAMES.entries()) {
  if (code === 0 || name === 'Unavailable') continue // Unavailable is tried three times: see below
  const trapped = !isFinal(name)
  test(`driver 4 a first mount that fails with ${name} ${trapped ? 'opens the empty-volume trap' : 'is tried again truly'}`, async () => {
    const { node, provider } = await pair(() => ({ code, details: 'no' }), { rotation: 2 * MINUTE })
    const kubelet = startKubelet(node)
    const pod = kubelet.add(volume())
    await kubelet.tick()
    provider.script = () => answer({ a: '1' })
    expect(existsSync(pod.target)).toBe(trapped)
    expect(existsSync(dirname(pod.target))).toBe(trapped)
    await kubelet.advance(SECOND)
    expect(pod.attempts).toHaveLength(2)
    expect(pod.started?.mounted).toBe(!trapped)
    expect(kubelet.trapped()).toEqual(trapped ? [pod] : [])
    expect([...pod.visibleFiles().keys()]).toEqual(trapped ? [] : ['a'])
    expect(provider.calls).toHaveLength(trapped ? 1 : 2)
  })
}

test('driver 4 the trapped container goes on seeing the empty directory after a republish has mounted over it', async () => {
  const { node, provider } = await pair(() => ({ code: 14, details: 'restarting' }), { rotation: 2 * MINUTE })
  const kubelet = startKubelet(node)
  const pod = kubelet.add(volume())
  await kubelet.tick()
  expect(provider.calls).toHaveLength(3)
  provider.script = () => answer({ a: '1' })
  await kubelet.advance(4 * MINUTE)
  expect(node.files(pod.target).size).toBe(1)
  expect(pod.visibleFiles().size).toBe(0)
  expect(node.events.list()).toHaveLength(1)
})

test.for(['rotation off', 'profile 1.5'])('driver 4 the trap does not exist with %s', async (where) => {
  const options = where === 'profile 1.5' ? ({ profile: '1.5', rotation: 2 * MINUTE } as const) : {}
  const { node, provider } = await pair(() => ({ code: 8, details: 'busy' }), options)
  const kubelet = startKubelet(node)
  const pod = kubelet.add(volume())
  await kubelet.tick()
  provider.script = () => answer({ a: '1' })
  await kubelet.advance(SECOND)
  expect(kubelet.trapped()).toEqual([])
  expect([...pod.visibleFiles().keys()]).toEqual(['a'])
})

test('driver 5 attempts are spaced 0.5, 1, 2, 4 s and so on up to 122 s, with one event that counts them', async () => {
  const { node } = await pair(() => ({ code: 3, details: 'wrong' }))
  const kubelet = startKubelet(node)
  const pod = kubelet.add(volume())
  await kubelet.tick()
  await kubelet.advance(8 * MINUTE)
  const gaps = pod.attempts
    .slice(1)
    .map(({ at }, i) => Math.round((at - (pod.attempts[i]?.at ?? 0)) / 500) / 2)
  expect(gaps).toEqual([0.5, 1, 2, 4, 8, 16, 32, 64, 122, 122])
  expect(node.events.list()).toEqual([expect.objectContaining({ reason: 'FailedMount', count: 11 })])
  expect(pod.started).toBeUndefined()
})

test('driver 4 once content is stable every republish calls the provider, whatever the interval', async () => {
  const { node, provider } = await pair(() => answer({ a: '1' }), { rotation: 2 * MINUTE })
  const kubelet = startKubelet(node)
  const pod = kubelet.add(volume())
  await kubelet.tick()
  await kubelet.advance(10.5 * MINUTE)
  expect(pod.attempts).toHaveLength(9) // at 0 and every 75 s
  expect(provider.calls).toHaveLength(8) // the one at 75 s is too early
})

test('driver 4 a change is followed by a blind interval', async () => {
  let version = 1
  const { node } = await pair(() => answer({ a: String(version) }), { rotation: 2 * MINUTE })
  const kubelet = startKubelet(node)
  const pod = kubelet.add(volume())
  await kubelet.tick()
  version = 2
  await kubelet.advance(2.6 * MINUTE)
  expect(pod.visibleFiles().get('a')?.contents.toString()).toBe('2')
  version = 3
  await kubelet.advance(1.5 * MINUTE)
  expect(pod.visibleFiles().get('a')?.contents.toString()).toBe('2')
  await kubelet.advance(1.5 * MINUTE)
  expect(pod.visibleFiles().get('a')?.contents.toString()).toBe('3')
})

test('driver 5 a provider that is late is found at the next attempt', async () => {
  const dir = temporaryDir()
  const late = await node({ providerDirs: [dir], rotation: 2 * MINUTE })
  const kubelet = startKubelet(late)
  const pod = kubelet.add(volume())
  await kubelet.tick()
  await kubelet.advance(5 * SECOND)
  expect(pod.attempts).toHaveLength(4)
  await start(dir, () => answer({ a: '1' }))
  await kubelet.advance(4 * SECOND)
  expect(pod.attempts).toHaveLength(5)
  expect([...pod.visibleFiles().keys()]).toEqual(['a'])
})

test('driver 5 at kubelet’s own limit the pod reads only that the deadline has passed', async () => {
  const { node } = await pair(() => 'hang')
  const result = await node.publish(volume({ timeoutMs: 150 }))
  expect(result.event).toBe(
    'MountVolume.SetUp failed for volume "secrets" : rpc error: code = DeadlineExceeded desc = context deadline exceeded',
  )
})

test('driver 9 the clock tells stamps from before and after a step apart', async () => {
  const { node, dir } = await pair(() => answer({ a: '1' }))
  for (let i = 0; i < 5; i++) {
    writeFileSync(`${dir}/before`, 'x')
    await node.clock.advance(MINUTE)
    writeFileSync(`${dir}/after`, 'x')
    const [before, after] = ['before', 'after'].map((name) =>
      node.clock.at(statSync(`${dir}/${name}`).mtimeMs),
    )
    expect((after ?? 0) - (before ?? 0)).toBeGreaterThanOrEqual(MINUTE)
    expect((after ?? 0) - (before ?? 0)).toBeLessThan(MINUTE + 2 * SECOND)
    expect(Math.abs(node.clock.now() - (after ?? 0))).toBeLessThan(2 * SECOND)
  }
  utimesSync(`${dir}/before`, 1, 1)
  expect(node.clock.at(statSync(`${dir}/before`).mtimeMs)).toBe(1000)
})
