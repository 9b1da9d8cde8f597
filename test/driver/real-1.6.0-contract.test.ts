/** Owns the proof of what driver.md says the driver 1.6.0 does: the ground that our provider stands on. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { codeName } from '../../src/driver/codes.ts'
import { describeWithPeers } from '../peers/suite.ts'
import { startScripted } from './scripted.ts'
import type { Answer, MountCall, ScriptedProvider } from './scripted.ts'
import { openStage } from './stage.ts'
import type { Stage } from './stage.ts'
import type { PodVolume } from './real-driver.ts'

const TOKENS_KEY = 'csi.storage.k8s.io/serviceAccount.tokens'
const TOKENS = '{"vault":{"token":"a.b.c","expirationTimestamp":"2036-01-31T12:00:00Z"}}'

const needs = { programs: ['secrets-store-csi-driver-1.6.0'], mountNamespace: true }

interface Scene {
  readonly stage: Stage
  readonly provider: ScriptedProvider
}

function scene(rotationPollInterval: string): () => Scene {
  let current: Scene | undefined
  beforeAll(async () => {
    const stage = await openStage({ version: '1.6.0', rotationPollInterval })
    const provider = await startScripted(stage.socketDirs.main, 'scripted', stage.scratch)
    await stage.secretProviderClass('any', 'scripted', { parameter: '<a & b>' })
    current = { stage, provider }
  })
  afterAll(async () => {
    await current?.provider.stop()
    await current?.stage.close()
  })
  return () => {
    if (!current) throw new Error('the stage is not open')
    return current
  }
}

/** A pod whose volume gets this answer, and the answer's name for changing it. */
function podWith({ stage, provider }: Scene, answer: Answer, extra: Partial<PodVolume> = {}): PodVolume {
  const pod = stage.pod('any', extra)
  const file = provider.script(pod.uid, answer)
  return { ...pod, attributes: { ...pod.attributes, answer: file } }
}

function mountsOf({ provider }: Scene, { uid }: PodVolume): readonly MountCall[] {
  return provider.calls().flatMap(({ request }) => (request?.attributes.includes(uid) ? [request] : []))
}

describeWithPeers('real driver 1.6.0, what it sends and how it answers', needs, () => {
  describe('every republish due', () => {
    const here = scene('1ns')

    test('driver 1.1 real-1.6.0 attributes are sorted Go JSON of parameters and context, secrets null, permission 420', async () => {
      const pod = podWith(here(), { files: [{ path: 'a', text: 'x' }] })
      expect(await here().stage.driver.publish(pod)).toMatchObject({ code: 0 })
      expect(await here().stage.driver.publish(pod)).toMatchObject({ code: 0 })
      const [first, second] = mountsOf(here(), pod)
      const attributes = JSON.parse(first?.attributes ?? '{}') as Record<string, string>
      expect(Object.keys(attributes)).toEqual(Object.keys(attributes).sort())
      expect(attributes).toMatchObject({
        parameter: '<a & b>',
        secretProviderClass: 'any',
        'csi.storage.k8s.io/pod.name': pod.pod,
        'csi.storage.k8s.io/pod.namespace': 'shop',
        'csi.storage.k8s.io/pod.uid': pod.uid,
        'csi.storage.k8s.io/serviceAccount.name': 'web',
        'csi.storage.k8s.io/ephemeral': 'true',
      })
      expect(first?.attributes).toContain(String.raw`"\u003ca \u0026 b\u003e"`)
      expect(first).toMatchObject({ secrets: 'null', permission: '420', current_object_version: [] })
      expect(second).toEqual(first)
    })

    test('driver 1.1 real-1.6.0 volume attributes of the pod override parameters of the SecretProviderClass', async () => {
      const pod = podWith(here(), {}, { attributes: { parameter: 'of the pod' } })
      await here().stage.driver.publish(pod)
      const [call] = mountsOf(here(), pod)
      expect(JSON.parse(call?.attributes ?? '{}')).toMatchObject({ parameter: 'of the pod' })
    })

    test('driver 6 real-1.6.0 tokens in the context reach attributes only', async () => {
      const pod = podWith(here(), {}, { tokens: { text: TOKENS, in: 'context' } })
      await here().stage.driver.publish(pod)
      const [call] = mountsOf(here(), pod)
      expect(JSON.parse(call?.attributes ?? '{}')).toMatchObject({ [TOKENS_KEY]: TOKENS })
      expect(call?.secrets).toBe('null')
    })

    test('driver 6 real-1.6.0 tokens in the secrets reach attributes and stay in secrets', async () => {
      const pod = podWith(here(), {}, { tokens: { text: TOKENS, in: 'secrets' }, secrets: { user: 'app' } })
      await here().stage.driver.publish(pod)
      const [call] = mountsOf(here(), pod)
      expect(JSON.parse(call?.attributes ?? '{}')).toMatchObject({ [TOKENS_KEY]: TOKENS })
      expect(JSON.parse(call?.secrets ?? '{}')).toEqual({ [TOKENS_KEY]: TOKENS, user: 'app' })
    })

    test('driver 3 real-1.6.0 a status keeps its code and text, error.code becomes Unknown, no versions is an error', async () => {
      const { stage } = here()
      const outcome = async (answer: Answer) => {
        const { code, message } = await stage.driver.publishAsKubelet(podWith(here(), answer))
        return { code, message: message.replace(/web-\d+/, 'POD') }
      }
      const prefix = 'failed to mount secrets store objects for pod shop/POD, err: '
      expect(await outcome({ code: 7, message: 'not yours' })).toEqual({
        code: 7,
        message: `${prefix}rpc error: code = PermissionDenied desc = not yours`,
      })
      expect(await outcome({ error: 'MyCode' })).toEqual({
        code: 2,
        message: `${prefix}mount request failed with provider error code MyCode`,
      })
      expect(await outcome({ versions: [] })).toEqual({
        code: 2,
        message: `${prefix}missing object versions`,
      })
    })

    test('driver 3 real-1.6.0 an answer without files deletes nothing but its versions are reported', async () => {
      const { stage, provider } = here()
      const pod = podWith(here(), { files: [{ path: 'a', text: 'x' }] })
      await stage.driver.publish(pod)
      const before = stage.driver.tree(pod)
      provider.script(pod.uid, { files: [], versions: [{ id: 'only', version: '2' }] })
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      expect(stage.driver.tree(pod)).toEqual(before)
      expect(stage.podStatus(pod)?.objects).toEqual([{ id: 'only', version: '2' }])
    })

    test('driver 2 real-1.6.0 the response limit is 4194304 bytes of the whole message', async () => {
      const { stage } = here()
      // What the message needs beside the contents is read from the refusal of one that is surely too large.
      const publish = async (bytes: number) =>
        stage.driver.publishAsKubelet(
          podWith(here(), { files: [{ path: 'a', base64: Buffer.alloc(bytes).toString('base64') }] }),
        )
      const tooLarge = await publish(4_194_304)
      const overhead =
        Number(/larger than max \((\d+) vs\. 4194304\)/.exec(tooLarge.message)?.[1]) - 4_194_304
      expect(tooLarge.code).toBe(8)
      expect(overhead).toBeGreaterThan(0)
      expect(await publish(4_194_304 - overhead)).toMatchObject({ code: 0 })
      expect((await publish(4_194_305 - overhead)).message).toContain('(4194305 vs. 4194304)')
    })

    test('driver 2 real-1.6.0 UNAVAILABLE is attempted three times, any other code once', async () => {
      const unavailable = podWith(here(), { code: 14, message: 'away' })
      const result = await here().stage.driver.publish(unavailable)
      expect(result.code).toBe(14)
      expect(mountsOf(here(), unavailable)).toHaveLength(3)
      const aborted = podWith(here(), { code: 10, message: 'no' })
      await here().stage.driver.publish(aborted)
      expect(mountsOf(here(), aborted)).toHaveLength(1)
    })

    test('driver 4 real-1.6.0 errors of a republish are masked and counted', async () => {
      const { stage, provider } = here()
      const pod = podWith(here(), { files: [{ path: 'a', text: 'x' }] })
      await stage.driver.publish(pod)
      const before = stage.driver.tree(pod)
      const counters = ['node_publish_error_total', 'rotation_reconcile_error_total']
      const counts = () => Promise.all(counters.map((name) => stage.driver.metric(name, 'GRPCProviderError')))
      const [publishes = 0, rotations = 0] = await counts()
      provider.script(pod.uid, { code: 7, message: 'no longer yours' })
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      expect(stage.driver.tree(pod)).toEqual(before)
      expect(await counts()).toEqual([publishes + 1, rotations + 1])
      expect(stage.driver.log()).toContain('no longer yours')
    })

    test('driver 2 real-1.6.0 a file in the additional directory shadows a live socket until the deadline', async () => {
      const { stage } = here()
      writeFileSync(join(stage.socketDirs.additional, 'shadowed.sock'), '')
      const live = await startScripted(stage.socketDirs.main, 'shadowed', stage.scratch)
      try {
        await stage.secretProviderClass('shadowed', 'shadowed', { parameter: 'x' })
        const began = performance.now()
        const result = await stage.driver.publish(stage.pod('shadowed'), 1_500)
        expect(performance.now() - began).toBeGreaterThan(1_400)
        // Both ends give up at the same moment: the caller's own DeadlineExceeded or the driver's Canceled.
        expect(['DeadlineExceeded', 'Canceled']).toContain(codeName(result.code))
        expect(live.calls()).toEqual([])
      } finally {
        await live.stop()
      }
    })
  })

  describe('rotation every two minutes', () => {
    const here = scene('2m')

    test('driver 4 real-1.6.0 the empty-volume trap exists: a code that is not final, then OK without a mount', async () => {
      const { stage, provider } = here()
      const pod = podWith(here(), { code: 10, message: 'not now' })
      expect(await stage.driver.publishAsKubelet(pod)).toMatchObject({ code: 10 })
      provider.script(pod.uid, { files: [{ path: 'a', text: 'x' }] })
      expect(await stage.driver.publishAsKubelet(pod)).toMatchObject({ code: 0 })
      expect(stage.driver.mounted(pod)).toBe(false)
      expect(stage.driver.tree(pod).entries).toEqual({})
      expect(mountsOf(here(), pod)).toHaveLength(1)
    })

    test('driver 4 real-1.6.0 a final code lets kubelet remove the folder, and the retry mounts', async () => {
      const { stage, provider } = here()
      const pod = podWith(here(), { code: 9, message: 'not now' })
      expect(await stage.driver.publishAsKubelet(pod)).toMatchObject({ code: 9 })
      expect(existsSync(stage.driver.targetPath(pod))).toBe(false)
      provider.script(pod.uid, { files: [{ path: 'a', text: 'x' }] })
      expect(await stage.driver.publishAsKubelet(pod)).toMatchObject({ code: 0 })
      expect(stage.driver.tree(pod).files['a']).toBe('x')
    })

    test('driver 4 real-1.6.0 a republish before the interval is over is skipped', async () => {
      const { stage } = here()
      const pod = podWith(here(), { files: [{ path: 'a', text: 'x' }] })
      await stage.driver.publish(pod)
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      expect(mountsOf(here(), pod)).toHaveLength(1)
    })
  })
})
