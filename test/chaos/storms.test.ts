/** Owns storms of mounts: hundreds at once, and one namespace against another (T18, driver 2). */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startKubelet } from '../../src/driver/kubelet.ts'
import type { VolumeResult } from '../../src/driver/node.ts'
import { sopsNode, type SopsNode } from '../support/sops-node.ts'
import { holding, valueStore } from '../support/value-store.ts'
import {
  codesOf,
  documentVolume,
  expectFilled,
  expectNobodyTrapped,
  rotatingNode,
  valueVolume,
} from './scene.ts'

let here: SopsNode
beforeEach(async () => {
  here = await sopsNode()
})
afterEach(() => here.close())

describe('T18 storms', () => {
  it('driver 2 two hundred pods at once are all served', async () => {
    here.put('shop/db.yaml', await here.sealed({ user: 'app', password: 'x' }))
    const process = await here.serve()
    const kubelet = startKubelet(await rotatingNode(here))
    for (let index = 0; index < 200; index += 1) kubelet.add(documentVolume(index))
    await kubelet.tick()
    expectNobodyTrapped(kubelet)
    expectFilled(kubelet)
    expect(kubelet.volumes.map(({ attempts }) => attempts.length)).toEqual(kubelet.volumes.map(() => 1))
    expect(await process.metrics()).toContain('keyferry_mounts_total{provider="sops",outcome="ok"} 200')
    expect(await process.metrics()).toContain('keyferry_backend_calls_total{backend="sops",outcome="ok"} 1')
  })

  it('T18 five hundred mounts of one namespace whose store hangs hold up no other namespace', async () => {
    const held: (() => void)[] = []
    const quick = holding({ db: 'quick' })
    const store = await valueStore((key, request, response) => {
      if (key === 'db') quick(key, request, response)
      else held.push(() => response.writeHead(200).end('late'))
    })
    here.afterwards(() => store.down())
    await here.serve({ config: here.config({ ...store.configuration, cache: { freshFor: '0' } }) })
    const driver = await rotatingNode(here)
    let ended = 0
    const storm = Array.from({ length: 500 }, (_, index) =>
      driver.publish(valueVolume(index, `slow${index}`, 'noisy')).finally(() => (ended += 1)),
    )
    while (held.length < 12) await sleep(5) // its share of the slots is taken
    const quiet = await Promise.all(
      Array.from({ length: 20 }, (_, index) => driver.publish(valueVolume(index, 'db', 'quiet'))),
    )
    expect(codesOf(quiet)).toEqual(['OK'])
    expect({ ended, held: held.length }).toEqual({ ended: 0, held: 12 })
    // The store recovers, and so does the storm.
    store.answer = (_key, _request, response) => response.writeHead(200).end('late')
    for (const answer of held) answer()
    expect(codesOf(await Promise.all(storm))).toEqual(['OK'])
  })

  it('T18 a storm of mounts that work goes through, and the other namespace does not wait for its end', async () => {
    const store = await valueStore((key, request, response) => {
      setTimeout(() => holding({ db: 'x' })(key, request, response), 20)
    })
    here.afterwards(() => store.down())
    await here.serve({ config: here.config({ ...store.configuration, cache: { freshFor: '0' } }) })
    const driver = await rotatingNode(here)
    const ends: string[] = []
    const mount = (namespace: string, index: number): Promise<VolumeResult> => {
      // Service accounts of their own, so that no two mounts share a fetch.
      const volume = valueVolume(index, 'db', namespace)
      const own = { ...volume, pod: { ...volume.pod, serviceAccount: `sa-${index}` } }
      return driver.publish(own).finally(() => ends.push(namespace))
    }
    const storm = Array.from({ length: 250 }, (_, index) => mount('noisy', index))
    while (store.calls.length < 12) await sleep(5)
    const quiet = Array.from({ length: 10 }, (_, index) => mount('quiet', index))
    expect(codesOf(await Promise.all([...storm, ...quiet]))).toEqual(['OK'])
    const lastQuiet = ends.lastIndexOf('quiet')
    // Turns are taken by namespace: most of the storm is still to come when the quiet ones are through.
    expect(ends.slice(lastQuiet).filter((name) => name === 'noisy').length).toBeGreaterThan(60)
  })
})
