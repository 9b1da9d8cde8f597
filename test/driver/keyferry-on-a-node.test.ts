/** Owns what only `keyferry serve` must do under the real driver: whom it serves, what it never says. */
import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { VERSION } from '../../src/version.ts'
import { describeWithPeers } from '../peers/suite.ts'
import { eventually } from './eventually.ts'
import { keyferrySubject, KEYFERRY_PEERS } from './keyferry-subject.ts'
import { sceneFor } from './scene.ts'

const needs = { programs: ['secrets-store-csi-driver-1.6.0', ...KEYFERRY_PEERS], mountNamespace: true }

describeWithPeers('keyferry serve on a node with driver 1.6.0', needs, () => {
  describe('every republish due', () => {
    const here = sceneFor(keyferrySubject, {
      version: '1.6.0',
      rotationPollInterval: '1ns',
      healthCheckInterval: '200ms',
    })

    test('sops A11 real-1.6.0 a pod of another service account is refused with a final code and no hint', async () => {
      const { stage, subject } = here()
      await subject.yields('bound', { user: 'app' })
      const stranger = stage.pod('bound', { serviceAccount: 'stranger' })
      const result = await stage.driver.publishAsKubelet(stranger)
      expect(result.code).toBe(7)
      expect(result.message).toContain('NO_KEY_OPENED')
      expect(stage.driver.mounted(stranger)).toBe(false)
      expect(await stage.driver.publish(stage.pod('bound'))).toMatchObject({ code: 0 })
    })

    test('driver 8 real-1.6.0 no value reaches a log, an error or a pod status, on success or failure', async () => {
      const { stage, subject, provider } = here()
      const marker = 'value-that-must-not-leak'
      const pod = stage.pod('leaky')
      await subject.yields('leaky', { user: marker, password: `${marker}-2` })
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      expect(stage.driver.tree(pod).files['user']).toBe(marker)
      await subject.breaks('leaky')
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      const failed = await stage.driver.publishAsKubelet(stage.pod('leaky'))
      expect(failed.code).not.toBe(0)
      const encodings = [
        marker,
        Buffer.from(marker).toString('base64').slice(0, 28),
        Buffer.from(marker).toString('hex'),
      ]
      for (const text of [
        failed.message,
        provider.log(),
        stage.driver.log(),
        JSON.stringify(stage.podStatus(pod)),
      ])
        for (const encoding of encodings) expect(text.includes(encoding)).toBe(false)
      // The logs are there to be searched at all.
      expect(provider.log()).toContain('"msg":"ready"')
      expect(stage.driver.log()).toContain(pod.pod)
    })

    test('driver 8 real-1.6.0 a failed rotation, which the driver hides, stands in our own log', async () => {
      const { stage, subject, provider } = here()
      await subject.yields('hidden', { user: 'app' })
      const pod = stage.pod('hidden')
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      const before = provider.log().length
      await subject.breaks('hidden')
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      const said = await eventually('a line about the failed mount', () => {
        const lines = provider.log().slice(before)
        return lines.includes('TOKEN_INVALID') && lines
      })
      expect(said).toContain('"shop"')
    })

    test('driver 1 real-1.6.0 Version is answered while the driver checks its providers', async () => {
      const { stage, subject } = here()
      await subject.yields('healthy', { user: 'app' })
      expect(await stage.driver.publish(stage.pod('healthy'))).toMatchObject({ code: 0 })
      const line = await eventually('a health check in the log of the driver', () =>
        stage.driver
          .log()
          .split('\n')
          .find((each) => each.includes('runtimeVersion')),
      )
      expect(line).toContain(VERSION)
      expect(line).toContain(`provider="${subject.provider}"`)
    })

    test('driver 4 real-1.6.0 an identity that is gone from the node does not empty running pods', async () => {
      const { stage, subject } = here()
      await subject.yields('orphaned', { user: 'app' })
      const pod = stage.pod('orphaned')
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      const before = stage.driver.tree(pod)
      const identity = join(stage.scratch, 'node.agekey')
      renameSync(identity, `${identity}.gone`)
      try {
        // Another document of the same files, so that no cache can answer.
        await subject.yields('orphaned', { user: 'app' })
        expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
        expect({ ...stage.driver.tree(pod).files }).toEqual({ ...before.files })
        expect(stage.driver.mounted(pod)).toBe(true)
      } finally {
        renameSync(`${identity}.gone`, identity)
      }
    })
  })
})
