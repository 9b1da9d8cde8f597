/** Owns: what a warm mount takes longer than an empty gRPC call on the same socket. */
import { quantile, repeated, median, row, spread, type Row, type Scenario } from './scenario.ts'
import { mountCall, mountOnce, startGenerator, versionAnswerBytes, versionCall } from './support/load.ts'
import { startBenchServer } from './support/server.ts'
import { createIdentity, inlineMount, randomValues, sopsConfig } from './support/sops.ts'

/** freshFor is far above the length of a run: every mount after the first is warm. */
const WARM = { cache: { freshFor: '10m' } }

export const latency: Scenario = {
  name: 'latency',
  title: 'Warm mount (4 KiB, one file) against an empty call',
  run: async ({ quick, directory, progress }) => {
    const identity = await createIdentity(directory)
    const server = await startBenchServer({
      directory,
      config: sopsConfig(identity, WARM),
      dialects: ['sops'],
    })
    const generator = startGenerator()
    try {
      const socket = server.socket('sops')
      const mount = await inlineMount(randomValues(1, 4096), identity.recipient)
      const first = await mountOnce(socket, mount.request)
      mount.check(first)
      const calls = [versionCall(await versionAnswerBytes(socket)), mountCall(mount.request, first)]
      // The two kinds in turns, one in flight: what disturbs the machine disturbs both.
      const run = (total: number) => generator.run({ socket, calls, inFlight: 1, total })
      await run(quick ? 200 : 4000)
      const runs = await repeated(quick ? 2 : 7, async (index) => {
        progress(`latency: run ${index + 1}`)
        const [empty = [], warm = []] = (await run(quick ? 400 : 6000)).latenciesMs
        return {
          empty: quantile(empty, 0.5),
          warm: quantile(warm, 0.5),
          added: quantile(warm, 0.5) - quantile(empty, 0.5),
          added99: quantile(warm, 0.99) - quantile(empty, 0.99),
        }
      })
      return rows(runs)
    } finally {
      await generator.stop()
      await server.stop()
    }
  },
}

interface Run {
  readonly empty: number
  readonly warm: number
  readonly added: number
  readonly added99: number
}

function rows(runs: readonly Run[]): readonly Row[] {
  const added = runs.map((run) => run.added)
  return [
    row({
      what: 'added time of a warm mount over an empty call, p50',
      value: median(added),
      unit: 'ms',
      target: { atMost: 0.3 },
      note: spread(added, 'ms'),
    }),
    row({ what: '  empty call (Version), p50', value: median(runs.map((run) => run.empty)), unit: 'ms' }),
    row({ what: '  warm mount, p50', value: median(runs.map((run) => run.warm)), unit: 'ms' }),
    row({
      what: '  added at p99',
      value: median(runs.map((run) => run.added99)),
      unit: 'ms',
      note: 'what else runs on the machine shows here first',
    }),
  ]
}
