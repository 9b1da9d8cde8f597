/** Owns the tests of provider processes that die, restart and overlap, for either driver. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import type { RunningProvider } from './provider.ts'
import type { DriverVersion, PodVolume } from './real-driver.ts'
import { sceneFor } from './scene.ts'
import type { Scene } from './scene.ts'
import type { SubjectFactory } from './subject.ts'

/** The driver logs this line just before it calls Mount. */
function mountStarted({ stage, subject }: Scene, { pod }: PodVolume): boolean {
  return stage.driver.log().includes(`"Using gRPC client" provider="${subject.provider}" pod="${pod}"`)
}

export function processTests(version: DriverVersion, factory: SubjectFactory): void {
  // Without rotation: a reconciler of 1.5 would wait for ever for a provider that is gone.
  const here = sceneFor(factory, { version })
  let successor: RunningProvider | undefined
  afterAll(async () => {
    await successor?.stop()
  })
  const current = () => successor ?? here().provider
  const socket = () => join(here().stage.socketDirs.main, `${here().subject.provider}.sock`)

  test(`driver 5 real-${version} a mount cut off by SIGKILL succeeds against the process started next`, async () => {
    const { stage, subject } = here()
    await subject.yields('killed', { user: 'app' })
    // The connection stands before the process is stopped in its tracks.
    expect(await stage.driver.publish(stage.pod('killed'))).toMatchObject({ code: 0 })
    const pod = stage.pod('killed')
    current().signal('SIGSTOP')
    const cut = stage.driver.publish(pod, 60_000)
    await eventually('the Mount to be under way', () => mountStarted(here(), pod))
    await current().kill()
    successor = await subject.start()
    expect(await cut).toMatchObject({ code: 0 })
    expect(stage.driver.tree(pod).files['user']).toBe('app')
  })

  test(`driver 5 real-${version} two overlapping processes: no publish fails while one takes over`, async () => {
    const { stage, subject } = here()
    await subject.yields('surge', { user: 'app' })
    const old = current()
    expect(await stage.driver.publish(stage.pod('surge'))).toMatchObject({ code: 0 })
    // The successor takes the path over; the driver's connection stays with the old process, which is
    // stopped so that the Mounts are surely under way when it is told to end.
    successor = await subject.start()
    old.signal('SIGSTOP')
    const inFlight = Array.from({ length: 20 }, () => stage.pod('surge'))
    const first = inFlight.map((pod) => stage.driver.publish(pod))
    await eventually('20 Mounts under way', () => inFlight.every((pod) => mountStarted(here(), pod)))
    old.signal('SIGCONT')
    const ended = old.stop()
    const later = Array.from({ length: 20 }, () => stage.pod('surge'))
    const results = await Promise.all([...first, ...later.map((pod) => stage.driver.publish(pod))])
    expect(results.filter(({ code }) => code !== 0)).toEqual([])
    expect(await ended).toMatchObject({ code: 0 })
    for (const pod of [...inFlight, ...later]) expect(stage.driver.tree(pod).files['user']).toBe('app')
    expect(existsSync(socket())).toBe(true)
    expect(successor.running()).toBe(true)
  })

  test(`driver 5 real-${version} the socket left by SIGKILL is replaced, and nothing else stays in the folder`, async () => {
    const { stage, subject } = here()
    await subject.yields('leftover', { user: 'app' })
    await current().kill()
    expect(existsSync(socket())).toBe(true)
    successor = await subject.start()
    const pod = stage.pod('leftover')
    expect(await stage.driver.publish(pod, 60_000)).toMatchObject({ code: 0 })
    const others = readdirSync(stage.socketDirs.main).filter((name) => !name.endsWith('.sock'))
    expect(others).toEqual([])
  })
}
