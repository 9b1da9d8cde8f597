/** Owns accidents of the provider itself: killed, replaced, doubled, late (T29, driver 4, driver 5). */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startKubelet } from '../../src/driver/kubelet.ts'
import { sopsNode, type SopsNode } from '../support/sops-node.ts'
import { holding, silent, valueStore, type ValueStore } from '../support/value-store.ts'
import { documentVolume, expectFilled, expectNobodyTrapped, rotatingNode, valueVolume } from './scene.ts'

let here: SopsNode
beforeEach(async () => {
  here = await sopsNode()
})
afterEach(() => here.close())

describe('T29 a provider that goes away', () => {
  let store: ValueStore
  beforeEach(async () => {
    store = await valueStore(holding({ db: 'old' }))
    here.afterwards(() => store.down())
    here.put('shop/db.yaml', await here.sealed({ user: 'app' }))
  })
  const config = (): string => here.config({ ...store.configuration, limits: { drain: '3s' } })

  async function asked(calls: number): Promise<void> {
    while (store.calls.length < calls) await sleep(5)
  }

  it('driver 4 killed with pods waiting: its successor serves them, nobody is trapped', async () => {
    store.answer = silent
    const first = await here.serve({ config: config() })
    const driver = await rotatingNode(here)
    const kubelet = startKubelet(driver)
    for (let index = 0; index < 20; index += 1) kubelet.add(valueVolume(index, `key${index}`))
    const mounting = kubelet.tick()
    await asked(12) // as many as one namespace may run at once
    await first.stop('SIGKILL')
    store.answer = (_key, _request, response) => response.writeHead(200).end('served')
    await here.serve({ config: config() })
    await mounting
    await kubelet.advance(5000)
    expectNobodyTrapped(kubelet)
    expectFilled(kubelet)
  })

  it('driver 4 replaced with pods waiting: the old process finishes, the new one serves the rest', async () => {
    const held: (() => void)[] = []
    store.answer = (_key, _request, response) => held.push(() => response.writeHead(200).end('served'))
    const first = await here.serve({ config: config() })
    const driver = await rotatingNode(here)
    const kubelet = startKubelet(driver)
    for (let index = 0; index < 6; index += 1) kubelet.add(valueVolume(index, `key${index}`))
    const mounting = kubelet.tick()
    await asked(6)
    const second = await here.serve({ config: config() }) // a surge: two at once
    const socket = join(here.sockets, 'http-values.sock')
    const inode = statSync(socket).ino
    const over = first.stop('SIGTERM')
    await first.line('draining')
    const late = driver.publish(documentVolume(100))
    for (const answer of held) answer()
    await Promise.all([mounting, over])
    expect(await late).toMatchObject({ code: 'OK' })
    expect(statSync(socket).ino).toBe(inode)
    expect(second.output()).toContain('"pod":"web-100"')
    expectNobodyTrapped(kubelet)
    expectFilled(kubelet)
    // Each was served at its first attempt: a replacement costs nobody a retry.
    for (const { attempts } of kubelet.volumes) expect(attempts).toHaveLength(1)
  })

  it('driver 4 a drain that ends while a mount hangs is told with a final code', async () => {
    store.answer = silent
    const first = await here.serve({
      config: here.config({ ...store.configuration, limits: { drain: '100ms' } }),
    })
    const driver = await rotatingNode(here)
    const kubelet = startKubelet(driver)
    const volume = kubelet.add(valueVolume(0))
    const mounting = kubelet.tick()
    await asked(1)
    await first.stop('SIGTERM')
    await mounting
    expect(volume.attempts.map(({ result }) => result.code)).toEqual(['FailedPrecondition'])
    store.answer = holding({ db: 'new' })
    await here.serve({ config: config() })
    await kubelet.advance(2000)
    expectNobodyTrapped(kubelet)
    expectFilled(kubelet)
  })

  it('driver 5 killed and restarted five times under mounts of documents: all pods get their files', async () => {
    const driver = await rotatingNode(here)
    const kubelet = startKubelet(driver)
    let process = await here.serve({ config: config() })
    for (let round = 0; round < 5; round += 1) {
      for (let index = 0; index < 8; index += 1) kubelet.add(documentVolume(round * 8 + index))
      const mounting = kubelet.tick()
      await process.stop('SIGKILL')
      process = await here.serve({ config: config() })
      await mounting
    }
    await kubelet.advance(5000)
    expectNobodyTrapped(kubelet)
    expectFilled(kubelet)
  })

  it('driver 5 started late: the pods that waited for its socket start', async () => {
    const driver = await rotatingNode(here)
    const kubelet = startKubelet(driver)
    const volume = kubelet.add(documentVolume(0))
    await kubelet.advance(2000)
    expect(volume.attempts.at(-1)?.result.message).toContain('provider not found')
    await here.serve({ config: config() })
    await kubelet.advance(130_000)
    expectNobodyTrapped(kubelet)
    expectFilled(kubelet)
  })
})
