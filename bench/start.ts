/** Owns: how long a process takes until its sockets are bound. */
import { spawnSync } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { median, repeated, row, spread, type Scenario } from './scenario.ts'
import { startBenchServer } from './support/server.ts'
import { createIdentity, sopsConfig } from './support/sops.ts'

export const start: Scenario = {
  name: 'start',
  title: 'Process start',
  run: async ({ quick, directory, progress }) => {
    const identity = await createIdentity(directory)
    const once = async (index: number): Promise<StartRun> => {
      progress(`start: ${index + 1}`)
      const own = join(directory, String(index))
      await mkdir(own)
      // The directory's watcher needs to know which name is the last: one dialect, all else as shipped.
      const server = await startBenchServer({
        directory: own,
        config: sopsConfig(identity),
        dialects: ['sops'],
      })
      const processor = server.processorMs()
      await server.stop()
      return { bound: server.boundMs, ready: server.readyMs, processor }
    }
    await once(-1)
    const floors: number[] = []
    const runs = await repeated(quick ? 3 : 11, async (index) => {
      floors.push(emptyProcessMs())
      return once(index)
    })
    const bound = runs.map((run) => run.bound)
    const processor = runs.map((run) => run.processor)
    return [
      row({
        what: 'process start to sockets bound',
        value: median(bound),
        unit: 'ms',
        target: { atMost: 120 },
        others: { AWS: '10–28', Azure: '10–28', GCP: '10–28', Vault: '10–28' },
        note: spread(bound, 'ms'),
      }),
      row({
        what: '  to the line `ready`, after a first call to ourselves',
        value: median(runs.map((run) => run.ready)),
        unit: 'ms',
      }),
      row({
        what: '  processor time until then, all threads',
        value: median(processor),
        unit: 'ms',
        note: spread(processor, 'ms'),
      }),
      row({
        what: '  an empty Node process, start to end, between the runs',
        value: median(floors),
        unit: 'ms',
        note: `${spread(floors, 'ms')}; about 30 ms on a quiet machine, so this tells how quiet it was`,
      }),
    ]
  },
}

interface StartRun {
  readonly bound: number
  readonly ready: number
  readonly processor: number
}

function emptyProcessMs(): number {
  const started = performance.now()
  spawnSync(process.execPath, ['-e', '0'])
  return performance.now() - started
}
