/** Owns the proof of what driver.md says the driver 1.5.6 does differently from 1.6.0. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeWithPeers } from '../peers/suite.ts'
import { eventually } from './eventually.ts'
import { startScripted } from './scripted.ts'
import type { RecordedCall, ScriptedProvider } from './scripted.ts'
import { openStage } from './stage.ts'
import type { Stage } from './stage.ts'
import type { PodVolume } from './real-driver.ts'

const TOKENS_KEY = 'csi.storage.k8s.io/serviceAccount.tokens'

const needs = { programs: ['secrets-store-csi-driver-1.5.6'], mountNamespace: true }

describeWithPeers('real driver 1.5.6, what it sends and how it answers', needs, () => {
  let stage: Stage
  let shim: ScriptedProvider
  let plain: ScriptedProvider
  beforeAll(async () => {
    stage = await openStage({ version: '1.5.6', rotationPollInterval: '1s' })
    stage.api.put('csidrivers', {
      metadata: { name: 'secrets-store.csi.k8s.io' },
      spec: { tokenRequests: [{ audience: 'vault' }] },
    })
    shim = await startScripted(stage.socketDirs.main, 'shim', stage.scratch, 'shim')
    plain = await startScripted(stage.socketDirs.main, 'plain', stage.scratch)
  })
  afterAll(async () => {
    await shim.stop()
    await plain.stop()
    await stage.close()
  })

  const mountsOf = ({ uid }: PodVolume): readonly RecordedCall[] =>
    shim.calls().filter(({ request }) => request?.attributes.includes(uid))

  test('driver 2 real-1.5.6 a Node gRPC server without the shim refuses every call: the reason for the shim', async () => {
    await stage.secretProviderClass('plain', 'plain', { parameter: 'x' })
    const result = await stage.driver.publish(stage.pod('plain'))
    expect(result.code).toBe(13)
    expect(result.message).toContain('RST_STREAM with error code: PROTOCOL_ERROR')
    expect(plain.calls()).toEqual([])
  })

  test('driver 2 real-1.5.6 a response of exactly 4194304 bytes passes through the shim', async () => {
    const probe = (bytes: number) =>
      shim.script('large', { files: [{ path: 'a', base64: Buffer.alloc(bytes, 7).toString('base64') }] })
    await stage.secretProviderClass('large', 'shim', { answer: probe(4_194_304) })
    const refused = await stage.driver.publish(stage.pod('large'))
    const overhead = Number(/\((\d+) vs\. 4194304\)/.exec(refused.message)?.[1]) - 4_194_304
    expect(refused.code).toBe(8)
    probe(4_194_304 - overhead)
    const pod = stage.pod('large')
    expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
    expect(stage.driver.tree(pod).files['a']).toHaveLength(4_194_304 - overhead)
    await stage.driver.unpublish(pod)
    stage.api.remove('secretproviderclasspodstatuses', 'shop', `${pod.pod}-shop-large`)
  })

  describe('a rotation', () => {
    let pod: PodVolume
    let calls: readonly RecordedCall[]
    beforeAll(async () => {
      const answer = shim.script('rotating', {
        files: [{ path: 'a', text: 'x' }],
        versions: [
          { id: 'a', version: '1' },
          { id: 'b', version: '2' },
        ],
      })
      await stage.secretProviderClass('rotating', 'shim', { answer, parameter: 'of the class' })
      pod = stage.pod('rotating', { attributes: { parameter: 'of the pod' } })
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      calls = await eventually('a Mount by the reconciler', () => {
        const seen = mountsOf(pod)
        return seen.length >= 2 && seen
      })
    })

    test('driver 1.1 real-1.5.6 rotation sends the class parameters and four keys, not the pod attributes', () => {
      const attributes = (index: number) =>
        JSON.parse(calls[index]?.request?.attributes ?? '{}') as Record<string, string>
      expect(attributes(0)).toMatchObject({ parameter: 'of the pod', secretProviderClass: 'rotating' })
      expect(Object.keys(attributes(1)).sort()).toEqual([
        'answer',
        'csi.storage.k8s.io/pod.name',
        'csi.storage.k8s.io/pod.namespace',
        'csi.storage.k8s.io/pod.uid',
        'csi.storage.k8s.io/serviceAccount.name',
        TOKENS_KEY,
        'parameter',
      ])
      expect(attributes(1)['parameter']).toBe('of the class')
    })

    test('driver 1.1 real-1.5.6 secrets are null on the first mount and {} on rotation', () => {
      expect(calls[0]?.request?.secrets).toBe('null')
      expect(calls[1]?.request?.secrets).toBe('{}')
    })

    test('driver 1.1 real-1.5.6 rotation sends the versions of the pod status, the first mount none', () => {
      expect(calls[0]?.request?.current_object_version).toEqual([])
      const sent = [...(calls[1]?.request?.current_object_version ?? [])]
      expect(sent.sort((a, b) => a.id.localeCompare(b.id))).toEqual([
        { id: 'a', version: '1' },
        { id: 'b', version: '2' },
      ])
    })

    test('driver 2 real-1.5.6 rotation has no deadline, the first mount has the one of kubelet', () => {
      expect(calls[0]?.deadlineMs).toBeGreaterThan(60_000)
      expect(calls[1]).not.toHaveProperty('deadlineMs')
    })

    test('driver 6 real-1.5.6 the driver asks for the tokens itself and sends them as attribute', () => {
      for (const call of calls.slice(0, 2)) {
        const attributes = JSON.parse(call.request?.attributes ?? '{}') as Record<string, string>
        expect(JSON.parse(attributes[TOKENS_KEY] ?? '{}')).toMatchObject({
          vault: { token: 'token-of-shop-web-for-vault' },
        })
      }
    })
  })
})
