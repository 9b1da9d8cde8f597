/**
 * Owns the suite that every provider must pass with the real driver 1.6.0: kubelet's calls from first
 * publish to unpublish, rotation, broken backends, and processes that come and go.
 */
import { existsSync, readdirSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { describeWithPeers } from '../peers/suite.ts'
import { processTests } from './process-tests.ts'
import { sceneFor } from './scene.ts'
import { openStage } from './stage.ts'
import type { SubjectFactory } from './subject.ts'

const driverProgram = 'secrets-store-csi-driver-1.6.0'
/** Every publish counts as due: the driver compares with the mount root's time to the nanosecond. */
const ALWAYS_DUE = '1ns'

/** Declares the whole suite for one provider. `programs` are the peers that its factory needs. */
export function mountSuite16(title: string, factory: SubjectFactory, programs: readonly string[]): void {
  const needs = { programs: [driverProgram, ...programs], mountNamespace: true }
  describeWithPeers(`real driver 1.6.0 with ${title}`, needs, () => {
    describe('pods', () => podTests(factory))
    describe('the empty-volume trap', () => trapTests(factory))
    describe('processes', () => processTests('1.6.0', factory))
    describe('socket directories', () => directoryTests(factory))
  })
}

function podTests(factory: SubjectFactory): void {
  const here = sceneFor(factory, { version: '1.6.0', rotationPollInterval: ALWAYS_DUE })

  test('driver 4 real-1.6.0 a first publish mounts a tmpfs with the files and reports their versions', async () => {
    const { stage, subject } = here()
    await subject.yields('first', { user: 'app', password: 'correct horse' })
    const pod = stage.pod('first')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    expect(stage.driver.mounted(pod)).toBe(true)
    const tree = stage.driver.tree(pod)
    expect({ ...tree.files }).toEqual({ password: 'correct horse', user: 'app' })
    expect(tree.entries['..data']).toBe('link -> ..ts')
    expect(tree.entries['user']).toBe('link -> ..data/user')
    expect(tree.entries['..ts/user']).toMatch(/^file 0644 /)
    const objects = stage.podStatus(pod)?.objects ?? []
    expect(objects.length).toBeGreaterThan(0)
    expect(objects.every(({ id, version }) => id !== '' && version !== '')).toBe(true)
  })

  test('driver 3.1 real-1.6.0 a republish of the same content touches nothing', async () => {
    const { stage, subject } = here()
    await subject.yields('same', { user: 'app' })
    const pod = stage.pod('same')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    const before = stage.driver.tree(pod)
    const status = stage.podStatus(pod)
    const published = await stage.driver.metric('rotation_reconcile_total')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    expect(stage.driver.tree(pod)).toEqual(before)
    expect(stage.podStatus(pod)).toEqual(status)
    expect(await stage.driver.metric('rotation_reconcile_total')).toBe(published + 1)
  })

  test('driver 4 real-1.6.0 changed content arrives at a republish, removed files go, versions change', async () => {
    const { stage, subject } = here()
    await subject.yields('rotating', { user: 'app', old: 'gone soon' })
    const pod = stage.pod('rotating')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    const before = stage.podStatus(pod)
    await subject.yields('rotating', { user: 'app-2', fresh: 'new' })
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    const tree = stage.driver.tree(pod)
    expect({ ...tree.files }).toEqual({ fresh: 'new', user: 'app-2' })
    expect(tree.entries['old']).toBeUndefined()
    expect(stage.podStatus(pod)?.objects).not.toEqual(before?.objects)
  })

  test('driver 4 real-1.6.0 a broken backend at a republish is masked: content stays, log and metrics tell', async () => {
    const { stage, subject } = here()
    await subject.yields('breaking', { user: 'app' })
    const pod = stage.pod('breaking')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    const before = stage.driver.tree(pod)
    const errors = () => stage.driver.metric('rotation_reconcile_error_total', 'GRPCProviderError')
    const errorsBefore = await errors()
    await subject.breaks('breaking')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    expect(await errors()).toBe(errorsBefore + 1)
    expect(stage.driver.tree(pod)).toEqual(before)
    expect(stage.driver.mounted(pod)).toBe(true)
    expect(stage.driver.log()).toMatch(subject.failure)
    await subject.yields('breaking', { user: 'repaired' })
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    expect(stage.driver.tree(pod).files['user']).toBe('repaired')
  })

  test('driver 3 real-1.6.0 a broken backend at the first publish reaches kubelet as text with a final code', async () => {
    const { stage, subject } = here()
    await subject.breaks('broken')
    const pod = stage.pod('broken')
    const result = await stage.driver.publishAsKubelet(pod)
    expect(result.code).not.toBe(0)
    expect(result.message).toContain('failed to mount secrets store objects for pod shop/')
    expect(result.message).toMatch(subject.failure)
    expect([1, 4, 8, 10, 14], `${result.code} would spring the empty-volume trap`).not.toContain(result.code)
    expect(stage.driver.mounted(pod)).toBe(false)
    expect(existsSync(stage.driver.targetPath(pod))).toBe(false)
  })

  for (const place of ['context', 'secrets'] as const) {
    test(`driver 6 real-1.6.0 service-account tokens delivered in ${place} do not disturb a mount`, async () => {
      const { stage, subject } = here()
      await subject.yields(`tokens-${place}`, { user: 'app' })
      const text = '{"vault":{"token":"a.b.c","expirationTimestamp":"2036-01-31T12:00:00Z"}}'
      const pod = stage.pod(`tokens-${place}`, { tokens: { text, in: place } })
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      expect(stage.driver.tree(pod).files['user']).toBe('app')
    })
  }

  test('driver 5 real-1.6.0 unpublish removes the volume, can be repeated, and never asks the provider', async () => {
    const { stage, subject, provider } = here()
    await subject.yields('leaving', { user: 'app', 'folder/file': 'x' })
    const pod = stage.pod('leaving')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    provider.signal('SIGSTOP')
    try {
      expect(await stage.driver.unpublish(pod)).toMatchObject({ code: 0 })
      expect(await stage.driver.unpublish(pod)).toMatchObject({ code: 0 })
    } finally {
      provider.signal('SIGCONT')
    }
    expect(stage.driver.mounted(pod)).toBe(false)
    expect(existsSync(stage.driver.inside(stage.driver.targetPath(pod)))).toBe(false)
  })

  test('driver 2 real-1.6.0 200 pods published at once all get their files', async () => {
    const { stage, subject } = here()
    await subject.yields('crowd', { user: 'app', password: 'shared' })
    const pods = Array.from({ length: 200 }, () => stage.pod('crowd'))
    const results = await Promise.all(pods.map((pod) => stage.driver.publish(pod)))
    expect(results.filter(({ code }) => code !== 0)).toEqual([])
    const seen = new Set(pods.map((pod) => JSON.stringify(stage.driver.tree(pod).files)))
    expect([...seen]).toHaveLength(1)
    expect(stage.driver.tree(pods[199] ?? stage.pod('crowd')).files['password']).toBe('shared')
  })
}

function trapTests(factory: SubjectFactory): void {
  // With the default interval a folder left behind by kubelet would be skipped for two minutes.
  const here = sceneFor(factory, { version: '1.6.0', rotationPollInterval: '2m' })

  test('driver 4 real-1.6.0 a pod whose first mount failed starts with its files, never with an empty folder', async () => {
    const { stage, subject } = here()
    await subject.breaks('trap')
    const pod = stage.pod('trap')
    expect((await stage.driver.publishAsKubelet(pod)).code).not.toBe(0)
    await subject.yields('trap', { user: 'app' })
    expect(await stage.driver.publishAsKubelet(pod)).toMatchObject({ code: 0 })
    expect(stage.driver.mounted(pod)).toBe(true)
    expect(stage.driver.tree(pod).files['user']).toBe('app')
  })
}

function directoryTests(factory: SubjectFactory): void {
  test('driver 2 real-1.6.0 a provider that serves both directories is found although a dead socket lies in the first', async () => {
    const shadowed = await openStage({ version: '1.6.0' })
    try {
      const other = await factory(shadowed)
      await other.yields('shadowed', { user: 'app' })
      const dead = await other.start([shadowed.socketDirs.additional])
      await dead.kill()
      expect(readdirSync(shadowed.socketDirs.additional)).toEqual([`${other.provider}.sock`])
      const provider = await other.start([shadowed.socketDirs.additional, shadowed.socketDirs.main])
      try {
        const pod = shadowed.pod('shadowed')
        expect(await shadowed.driver.publish(pod, 30_000)).toMatchObject({ code: 0 })
        expect(shadowed.driver.tree(pod).files['user']).toBe('app')
      } finally {
        await provider.stop()
      }
    } finally {
      await shadowed.close()
    }
  })
}
