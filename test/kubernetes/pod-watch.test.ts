/** The pod watch that backends are handed. */
import { expect, it } from 'vitest'
import { createPodWatch } from '../../src/kubernetes/pod-watch.ts'
import { silentLogger } from '../../src/telemetry/log.ts'

it('9 reports pods that are no longer on the node, and says when it cannot tell', async () => {
  const present = new Set(['a', 'b'])
  let broken = false
  const watch = createPodWatch({
    client: {
      podUidsOnNode: () => (broken ? Promise.reject(new Error('forbidden')) : Promise.resolve(present)),
    },
    node: 'node-1',
    log: silentLogger,
    everyMs: 5,
  })
  const gone: string[] = []
  const held = new Set(['a', 'b'])
  const stop = watch.onGone(
    () => held,
    (uid) => {
      gone.push(uid)
      held.delete(uid)
    },
  )
  try {
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect([gone, watch.watching()]).toEqual([[], true])
    broken = true
    present.delete('a')
    await expect.poll(watch.watching).toBe(false)
    expect(gone).toEqual([])
    broken = false
    await expect.poll(() => gone).toEqual(['a'])
    expect(watch.watching()).toBe(true)
  } finally {
    stop()
  }
})
