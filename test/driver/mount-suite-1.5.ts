/**
 * Owns the suite that every provider must pass with the real driver 1.5.6, which sends its socket's
 * path as `:authority` and rotates through a reconciler of its own.
 */
import { describe, expect, test } from 'vitest'
import { describeWithPeers } from '../peers/suite.ts'
import { eventually } from './eventually.ts'
import { processTests } from './process-tests.ts'
import { sceneFor } from './scene.ts'
import type { Scene } from './scene.ts'
import type { PodStatus } from './stage.ts'
import type { SubjectFactory } from './subject.ts'

/** Declares the whole suite for one provider. `programs` are the peers that its factory needs. */
export function mountSuite15(title: string, factory: SubjectFactory, programs: readonly string[]): void {
  const needs = { programs: ['secrets-store-csi-driver-1.5.6', ...programs], mountNamespace: true }
  describeWithPeers(`real driver 1.5.6 with ${title}`, needs, () => {
    describe('pods', () => podTests(factory))
    describe('rotation', () => rotationTests(factory))
    describe('processes', () => processTests('1.5.6', factory))
  })
}

function podTests(factory: SubjectFactory): void {
  const here = sceneFor(factory, { version: '1.5.6' })

  test('driver 2 real-1.5.6 a first publish succeeds although :authority is the path of the socket', async () => {
    const { stage, subject } = here()
    await subject.yields('first', { user: 'app', password: 'correct horse' })
    const pod = stage.pod('first')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    expect({ ...stage.driver.tree(pod).files }).toEqual({ password: 'correct horse', user: 'app' })
    expect(stage.podStatus(pod)?.objects.length).toBeGreaterThan(0)
  })

  test('driver 3 real-1.5.6 a broken backend reaches kubelet as text with a final code', async () => {
    const { stage, subject } = here()
    await subject.breaks('broken')
    const result = await stage.driver.publishAsKubelet(stage.pod('broken'))
    expect(result.message).toMatch(subject.failure)
    expect([0, 1, 4, 8, 10, 14]).not.toContain(result.code)
  })

  test('driver 5 real-1.5.6 unpublish removes the volume and can be repeated', async () => {
    const { stage, subject } = here()
    await subject.yields('leaving', { user: 'app' })
    const pod = stage.pod('leaving')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    expect(await stage.driver.unpublish(pod)).toMatchObject({ code: 0 })
    expect(await stage.driver.unpublish(pod)).toMatchObject({ code: 0 })
    expect(stage.driver.mounted(pod)).toBe(false)
  })

  test('driver 2 real-1.5.6 200 pods published at once all get their files', async () => {
    const { stage, subject } = here()
    await subject.yields('crowd', { user: 'app', password: 'shared' })
    const pods = Array.from({ length: 200 }, () => stage.pod('crowd'))
    const results = await Promise.all(pods.map((pod) => stage.driver.publish(pod)))
    expect(results.filter(({ code }) => code !== 0)).toEqual([])
    for (const pod of pods) expect(stage.driver.tree(pod).files['password']).toBe('shared')
  })
}

/** Texts of the events of one reason about a pod. */
export function eventsOf({ stage }: Pick<Scene, 'stage'>, pod: string, reason: string): readonly string[] {
  return stage.api
    .list('events')
    .filter((event) => (event['involvedObject'] as { readonly name?: string }).name === pod)
    .filter((event) => event['reason'] === reason)
    .map((event) => String(event['message']))
}

function versionOf(id: string, status: PodStatus | undefined): string | undefined {
  return status?.objects.find((object) => object.id === id)?.version
}

function rotationTests(factory: SubjectFactory): void {
  const here = sceneFor(factory, { version: '1.5.6', rotationPollInterval: '1s' })

  test('driver 4 real-1.5.6 the reconciler brings changed content, new versions and an event', async () => {
    const { stage, subject } = here()
    await subject.yields('rotating', { user: 'app', old: 'gone soon' })
    const pod = stage.pod('rotating')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    const before = stage.podStatus(pod)
    await subject.yields('rotating', { user: 'app-2', fresh: 'new' })
    await eventually('the changed content', () => stage.driver.tree(pod).files['user'] === 'app-2')
    expect({ ...stage.driver.tree(pod).files }).toEqual({ fresh: 'new', user: 'app-2' })
    await eventually(
      'the event of the rotation',
      () => eventsOf(here(), pod.pod, 'MountRotationComplete').length > 0,
    )
    // The driver writes event and status one after the other: either may arrive first.
    const ids = (): readonly string[] => stage.podStatus(pod)?.objects.map(({ id }) => id) ?? []
    await eventually('the objects of the new content in the pod status', () => ids().includes('fresh'))
    expect(ids()).not.toContain('old')
    expect(versionOf('user', stage.podStatus(pod))).not.toBe(versionOf('user', before))
  })

  test('driver 4 real-1.5.6 unchanged content is polled and left alone', async () => {
    const { stage, subject } = here()
    await subject.yields('same', { user: 'app' })
    const pod = stage.pod('same')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    const before = stage.driver.tree(pod)
    const polls = () => stage.driver.metric('rotation_reconcile_total', `provider="${subject.provider}"`)
    const start = await polls()
    await eventually('two more polls', async () => (await polls()) >= start + 4)
    expect(stage.driver.tree(pod)).toEqual(before)
    expect(eventsOf(here(), pod.pod, 'MountRotationComplete')).toEqual([])
    expect(eventsOf(here(), pod.pod, 'MountRotationFailed')).toEqual([])
  })

  test('driver 4 real-1.5.6 a broken backend shows as an event, the content stays and recovers', async () => {
    const { stage, subject } = here()
    await subject.yields('breaking', { user: 'app' })
    const pod = stage.pod('breaking')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    const before = stage.driver.tree(pod)
    await subject.breaks('breaking')
    const [message] = await eventually('the event of the failure', () => {
      const events = eventsOf(here(), pod.pod, 'MountRotationFailed')
      return events.length > 0 && events
    })
    expect(message).toMatch(subject.failure)
    expect(stage.driver.tree(pod)).toEqual(before)
    await subject.yields('breaking', { user: 'repaired' })
    await eventually(
      'the repaired content (the driver pauses 10 s after a failure)',
      () => stage.driver.tree(pod).files['user'] === 'repaired',
      30_000,
    )
  })
}
