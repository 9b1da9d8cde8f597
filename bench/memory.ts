/** Owns: resident memory of the server, idle and after many mounts. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { median, repeated, row, spread, type Scenario } from './scenario.ts'
import { mountCall, mountOnce, startGenerator } from './support/load.ts'
import { delay, startBenchServer } from './support/server.ts'
import { createIdentity, inlineMount, randomValues, sopsConfig } from './support/sops.ts'

/** A rise between the second and the third ten thousand that is no rise, in MiB. */
const FLAT_MIB = 5

export const memory: Scenario = {
  name: 'memory',
  title: 'Resident memory, idle and after 10 000 mounts',
  run: async ({ quick, directory, progress }) => {
    const identity = await createIdentity(directory)
    const runs = await repeated(quick ? 1 : 3, async (index) => {
      const own = join(directory, String(index))
      await mkdir(own)
      // As shipped: all dialects, freshFor and everything else at its default.
      const server = await startBenchServer({ directory: own, config: sopsConfig(identity) })
      const generator = startGenerator()
      try {
        const settle = quick ? 500 : 30_000
        await delay(quick ? 500 : 3000)
        const idle = server.memory()
        const socket = server.socket('sops')
        const mount = await inlineMount(randomValues(10, 1024), identity.recipient)
        const first = await mountOnce(socket, mount.request)
        mount.check(first)
        const calls = [mountCall(mount.request, first)]
        const total = quick ? 500 : 10_000
        const after: number[] = []
        for (const round of [1, 2, 3]) {
          progress(`memory: process ${index + 1}, round ${round} of 3: ${total} mounts, then quiet`)
          await generator.run({ socket, calls, inFlight: 8, total })
          // The figure asked for is after the first round; the others show whether it goes on rising.
          await delay(round === 1 ? settle : Math.min(settle, 5000))
          after.push(server.memory().resident)
        }
        return { idle: idle.resident, anonymous: idle.anonymous, after, peak: server.peak() }
      } finally {
        await generator.stop()
        await server.stop()
      }
    })
    const [idle, first, rise] = [
      runs.map((run) => run.idle),
      runs.map((run) => run.after[0] ?? Number.NaN),
      runs.map((run) => (run.after[2] ?? Number.NaN) - (run.after[1] ?? Number.NaN)),
    ]
    return [
      row({
        what: 'resident memory, idle, all dialects served',
        value: median(idle),
        unit: 'MiB',
        target: { atMost: 70 },
        others: { 'all four together': '121' },
        note: spread(idle, 'MiB'),
      }),
      row({
        what: '  of it anonymous',
        value: median(runs.map((run) => run.anonymous)),
        unit: 'MiB',
        note: 'the rest is the file-mapped node binary, shared and reclaimable',
      }),
      row({
        what: 'resident memory 30 s after 10 000 mounts',
        value: median(first),
        unit: 'MiB',
        target: { atMost: 120 },
        note: spread(first, 'MiB'),
      }),
      row({
        what: 'flat: rise from the second to the third 10 000',
        value: median(rise),
        unit: 'MiB',
        target: { atMost: FLAT_MIB },
      }),
      row({ what: '  peak', value: median(runs.map((run) => run.peak)), unit: 'MiB' }),
    ]
  },
}
