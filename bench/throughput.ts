/** Owns: warm mounts a second with eight in flight, and their processor time. */
import { median, repeated, row, spread, type Scenario } from './scenario.ts'
import { mountCall, mountOnce, startGenerator } from './support/load.ts'
import { startBenchServer } from './support/server.ts'
import { createIdentity, inlineMount, randomValues, sopsConfig } from './support/sops.ts'

export const throughput: Scenario = {
  name: 'throughput',
  title: 'Warm mounts a second (10 files of 1 KiB, 8 in flight)',
  run: async ({ quick, directory, progress }) => {
    const identity = await createIdentity(directory)
    const server = await startBenchServer({
      directory,
      config: sopsConfig(identity, { cache: { freshFor: '10m' } }),
      dialects: ['sops'],
    })
    const generator = startGenerator()
    try {
      const socket = server.socket('sops')
      const mount = await inlineMount(randomValues(10, 1024), identity.recipient)
      const first = await mountOnce(socket, mount.request)
      mount.check(first)
      const calls = [mountCall(mount.request, first)]
      const run = (total: number) => generator.run({ socket, calls, inFlight: 8, total })
      await run(quick ? 200 : 6000)
      const runs = await repeated(quick ? 2 : 7, async (index) => {
        progress(`throughput: run ${index + 1}`)
        const total = quick ? 400 : 6000
        const before = server.processorMs()
        const result = await run(total)
        return {
          rate: total / result.seconds,
          processorMs: (server.processorMs() - before) / total,
          generatorMs: (result.processorSeconds * 1000) / total,
        }
      })
      const rates = runs.map((one) => one.rate)
      const processor = median(runs.map((one) => one.processorMs))
      return [
        row({
          what: 'warm mounts a second, by the clock',
          value: median(rates),
          unit: '/s',
          target: { atLeast: 3000 },
          note: `${spread(rates, '/s')}; other programs on the machine count against it`,
        }),
        row({
          what: 'warm mounts per second of processor time of the server',
          value: 1000 / processor,
          unit: '/s',
          target: { atLeast: 3000 },
          note: 'one whole core, whatever else runs',
        }),
        row({
          what: 'processor time of a warm mount',
          value: processor,
          unit: 'ms',
          target: { atMost: 0.4 },
          others: { AWS: '4.4', Azure: '2.4', GCP: '2.5', Vault: '1.8' },
          note: "the vendors' providers fetch on every mount",
        }),
        row({
          what: '  processor time of the load generator, a mount',
          value: median(runs.map((one) => one.generatorMs)),
          unit: 'ms',
          note: 'in its own process; far below the server, so it is not the limit',
        }),
      ]
    } finally {
      await generator.stop()
      await server.stop()
    }
  },
}
