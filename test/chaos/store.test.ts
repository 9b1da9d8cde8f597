/** Owns accidents of stores: away before, during and after mounts (T29). Nobody is trapped by them. */
import { renameSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startKubelet, type Kubelet } from '../../src/driver/kubelet.ts'
import type { TestNode } from '../../src/driver/node.ts'
import { sopsNode, type SopsNode } from '../support/sops-node.ts'
import type { ServeProcess } from '../support/serve-process.ts'
import { holding, silent, valueStore, type ValueStore } from '../support/value-store.ts'
import {
  codesOf,
  documentVolume,
  expectFilled,
  expectNobodyTrapped,
  goOnUntil,
  rotatingNode,
  valueVolume,
} from './scene.ts'

let here: SopsNode
beforeEach(async () => {
  here = await sopsNode()
})
afterEach(() => here.close())

const failing: ValueStore['answer'] = (_key, _request, response) => response.writeHead(503).end()
const silentlyCut: ValueStore['answer'] = (_key, request) => request.socket.destroy()

describe('T29 a store that goes away', () => {
  let store: ValueStore
  let kubelet: Kubelet
  let driver: TestNode

  async function start(cache: object = { freshFor: '0' }, limits: object = {}): Promise<ServeProcess> {
    store = await valueStore(holding({ db: 'old' }))
    here.afterwards(() => store.down())
    const process = await here.serve({ config: here.config({ ...store.configuration, cache, limits }) })
    driver = await rotatingNode(here)
    kubelet = startKubelet(driver)
    return process
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
    await goOnUntil(kubelet, () => volume.started !== undefined)
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
      // And a service account of its own, so that no circuit of the accident before hides this one.
      const volume = valueVolume(index)
      const { code } = await driver.publish({
        ...volume,
        pod: { ...volume.pod, serviceAccount: `web-${index}` },
      })
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
    await goOnUntil(kubelet, () => content() !== 'old')
    expect(content()).toBe('the new one')
    expectNobodyTrapped(kubelet)
  })

  it('T29 a long outage: the store is left alone, the text stays the same, one try after the other when it is over', async () => {
    const process = await start({ freshFor: '0' })
    store.answer = failing
    const volume = kubelet.add(valueVolume(0))
    await kubelet.tick()
    store.calls.length = 0
    const texts = new Set<string>()
    for (let index = 1; index <= 60; index += 1)
      texts.add((await driver.publish(valueVolume(index))).message.split('rpc error: ')[1] ?? '')
    // Five in a row, of which the first mount had its three; what else came are probes.
    expect(store.calls.length).toBeLessThan(8)
    expect(await process.metrics()).toContain('keyferry_circuits_open{backend="http-values"} 1')
    const refusals = [...texts].filter((text) =>
      text.startsWith('code = FailedPrecondition desc = BACKEND_CIRCUIT_OPEN'),
    )
    expect(refusals).toHaveLength(1)
    // Another identity is not held up: it hears from the store itself.
    const other = await driver.publish({
      ...valueVolume(99),
      pod: { name: 'x', namespace: 'bank', serviceAccount: 'web' },
    })
    expect(other.message).not.toContain('BACKEND_CIRCUIT_OPEN')
    store.answer = holding({ db: 'old' })
    await goOnUntil(kubelet, () => volume.started !== undefined)
    expect(await process.metrics()).toContain('keyferry_circuits_open{backend="http-values"} 0')
    expectNobodyTrapped(kubelet)
    expectFilled(kubelet)
  })

  it('T25 revoked, then an outage: what was denied is not served again, and the running pod keeps what it has', async () => {
    await start({ freshFor: '0', staleIfError: '1h' })
    const running = kubelet.add(valueVolume(0))
    await kubelet.tick()
    store.answer = (_key, _request, response) => response.writeHead(403).end()
    expect(await driver.publish(valueVolume(1))).toMatchObject({ code: 'PermissionDenied' })
    for (const [index, outage] of [failing, silentlyCut].entries()) {
      store.answer = outage
      expect(await driver.publish(valueVolume(10 + index))).toMatchObject({ code: 'FailedPrecondition' })
    }
    await store.down()
    expect(await driver.publish(valueVolume(3))).toMatchObject({ code: 'FailedPrecondition' })
    expect(running.visibleFiles().get('db')?.contents.toString()).toBe('old')
    expectNobodyTrapped(kubelet)
  })

  it('T29 a store that says "not before" is not called before, and the mounts that wait are served', async () => {
    await start({ freshFor: '0' })
    let until = 0
    let early = 0
    store.answer = (key, request, response) => {
      if (Date.now() < until) early += 1
      if (until === 0) {
        until = Date.now() + 2000
        response.writeHead(429, { 'retry-after': '2' }).end()
      } else holding({ db: 'old' })(key, request, response)
    }
    kubelet.add(valueVolume(0))
    await kubelet.tick()
    expectFilled(kubelet)
    expect({ early, calls: store.calls.length }).toEqual({ early: 0, calls: 2 })
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
    await goOnUntil(kubelet, () => kubelet.volumes.every(({ started }) => started !== undefined))
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
