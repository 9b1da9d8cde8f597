/** Owns accidents of stores: away before, during and after mounts (T29). Nobody is trapped by them. */
import { renameSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startKubelet, type Kubelet } from '../../src/driver/kubelet.ts'
import type { TestNode } from '../../src/driver/node.ts'
import { sopsNode, type SopsNode } from '../support/sops-node.ts'
import { holding, silent, valueStore, type ValueStore } from '../support/value-store.ts'
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

describe('T29 a store that goes away', () => {
  let store: ValueStore
  let kubelet: Kubelet
  let driver: TestNode

  async function start(cache: object = { freshFor: '0' }, limits: object = {}): Promise<void> {
    store = await valueStore(holding({ db: 'old' }))
    here.afterwards(() => store.down())
    await here.serve({ config: here.config({ ...store.configuration, cache, limits }) })
    driver = await rotatingNode(here)
    kubelet = startKubelet(driver)
  }

  it('T29 away before: pods wait with a final code and start when it is back', async () => {
    await start()
    await store.down()
    const volume = kubelet.add(valueVolume(0))
    await kubelet.advance(3000)
    expect(volume.attempts.length).toBeGreaterThan(1)
    expect(codesOf(volume.attempts.map(({ result }) => result))).toEqual(['FailedPrecondition'])
    expect(volume.attempts.at(-1)?.result.message).toContain('[unavailable]')
    expect(volume.started).toBeUndefined()
    await store.up()
    await kubelet.advance(130_000)
    expectNobodyTrapped(kubelet)
    expectFilled(kubelet)
  })

  it('T29 away during: a mount whose store hangs or breaks off ends finally, inside its budget', async () => {
    await start({ freshFor: '0' }, { budget: '400ms' })
    // A pod of its own each time: a directory left by the one before would look mounted to the driver.
    for (const [index, answer] of [
      silent,
      ((_key, request) => request.socket.destroy()) satisfies ValueStore['answer'],
      ((_key, _request, response) => response.writeHead(200).write('half')) satisfies ValueStore['answer'],
      ((_key, _request, response) => response.writeHead(503).end()) satisfies ValueStore['answer'],
      ((_key, _request, response) =>
        response.writeHead(429, { 'retry-after': '3600' }).end()) satisfies ValueStore['answer'],
    ].entries()) {
      store.answer = answer
      const { code } = await driver.publish(valueVolume(index))
      expect(['FailedPrecondition', 'DataLoss']).toContain(code)
    }
  })

  it('T29 away during: an outage in the middle of pods that mount traps none of them', async () => {
    await start({ freshFor: '0' }, { budget: '2s' })
    let asked = 0
    store.answer = (key, request, response) => {
      asked += 1
      if (asked % 2 === 0) request.socket.destroy()
      else holding({ db: 'old' })(key, request, response)
    }
    for (let index = 0; index < 12; index += 1) kubelet.add(valueVolume(index))
    await kubelet.tick()
    store.answer = holding({ db: 'old' })
    await kubelet.advance(20_000)
    expectNobodyTrapped(kubelet)
    expectFilled(kubelet)
  })

  it('T29 away after: running pods keep their files, and follow again when it is back', async () => {
    await start()
    const volume = kubelet.add(valueVolume(0))
    await kubelet.tick()
    const content = (): string | undefined => volume.visibleFiles().get('db')?.contents.toString()
    expect(content()).toBe('old')
    await store.down()
    await kubelet.advance(300_000)
    expect(volume.attempts.filter(({ result }) => result.masked !== undefined).length).toBeGreaterThan(0)
    expect(content()).toBe('old')
    await store.up()
    store.answer = holding({ db: 'the new one' })
    await kubelet.advance(300_000)
    expect(content()).toBe('the new one')
    expectNobodyTrapped(kubelet)
  })

  it('T29 with staleIfError new pods of the same identity start in an outage, others do not', async () => {
    await start({ freshFor: '0', staleIfError: '1h' })
    kubelet.add(valueVolume(0))
    await kubelet.tick()
    await store.down()
    const same = kubelet.add(valueVolume(1))
    const other = kubelet.add({
      ...valueVolume(2),
      pod: { name: 'x', namespace: 'shop', serviceAccount: 'other' },
    })
    await kubelet.tick()
    expect(same.visibleFiles().get('db')?.contents.toString()).toBe('old')
    expect(other.started).toBeUndefined()
    // A denial is definitive: nothing stale is served for it.
    await store.up()
    store.answer = (_key, _request, response) => response.writeHead(403).end()
    expect(await driver.publish(valueVolume(3))).toMatchObject({ code: 'PermissionDenied' })
    expectNobodyTrapped(kubelet)
  })

  it('T29 a herd after the outage costs one call for each identity', async () => {
    await start({ freshFor: '30s' })
    await store.down()
    for (let index = 0; index < 60; index += 1) kubelet.add(valueVolume(index))
    await kubelet.tick()
    await store.up()
    store.calls.length = 0
    await kubelet.advance(10_000)
    expectFilled(kubelet)
    expectNobodyTrapped(kubelet)
    expect(store.calls).toEqual(['db'])
  })

  it('T29 the embedded store away: first mounts fail finally, running pods keep their files', async () => {
    await start()
    here.put('shop/db.yaml', await here.sealed({ user: 'app' }))
    const running = kubelet.add(documentVolume(0))
    await kubelet.tick()
    renameSync(here.store, `${here.store}.gone`)
    const waiting = kubelet.add(documentVolume(1))
    await kubelet.advance(200_000)
    expect(waiting.started).toBeUndefined()
    expect(running.visibleFiles().get('user')?.contents.toString()).toBe('app')
    renameSync(`${here.store}.gone`, here.store)
    await kubelet.advance(130_000)
    expectFilled(kubelet)
    expectNobodyTrapped(kubelet)
  })
})
