/**
 * Owns: what one namespace notices of another's storm. A keeps 500 mounts in flight, of 500 service accounts;
 * B mounts one or eight at a time, first alone and then beside it. A store answers in 20 ms; in a variant A's
 * never does.
 */
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { valueStore, type ValueStore } from '../test/support/value-store.ts'
import { quantile, repeated, row, type BenchContext, type Row, type Scenario } from './scenario.ts'
import { mountCall, mountOnce, startGenerator, type Generator, type JobCall } from './support/load.ts'
import { startBenchServer, type BenchServer } from './support/server.ts'
import { mountRequest } from './support/sops.ts'

const LATENCY_MS = 20
const STORM = 500
const MOST_RATIO = 2
/** Until a burst of requests has been read. */
const SETTLE_MS = 1000
/** Mounts of B at a time: a trickle, and half of the slots. */
const IN_FLIGHT = [1, 8]
/** Mounts of one storm, in times of those in flight: a new one is sent for each that is answered. */
const LASTING = 6

const NOISY = 'noisy'
const QUIET = 'quiet'

export const fairness: Scenario = {
  name: 'fairness',
  title: `One namespace against another: A keeps ${STORM} mounts in flight; a store answers in ${LATENCY_MS} ms`,
  run: async (context) => {
    const held: ServerResponse[] = []
    let hangs = false
    const store = await valueStore((key, _request, response) => {
      if (hangs && key === NOISY) held.push(response)
      else setTimeout(() => response.end(key), LATENCY_MS)
    })
    const server = await startBenchServer({
      directory: context.directory,
      config: JSON.stringify({ kubernetes: 'off', ...store.configuration, cache: { freshFor: 0 } }),
      dialects: ['http-values'],
    })
    const bench: Bench = { context, store, server, storm: startGenerator(), quiet: startGenerator() }
    try {
      const hanging = async (during: () => Promise<void>): Promise<void> => {
        hangs = true
        // What A gets is no matter here: its calls may time out before they are let go.
        const all = bench.storm.run(await stormJob(bench)).catch(() => undefined)
        try {
          while (held.length < 1) await sleep(5)
          // All 500 have been read by then.
          await sleep(SETTLE_MS)
          await during()
        } finally {
          hangs = false
          for (const response of held.splice(0)) response.end(NOISY)
          await all
        }
      }
      const rows: Row[] = []
      for (const inFlight of IN_FLIGHT)
        rows.push(
          ...(await beside(bench, 'A storms', inFlight, (during) => storming(bench, during))),
          ...(await beside(bench, 'A storms and its store hangs', inFlight, hanging)),
        )
      return rows
    } finally {
      await bench.storm.stop()
      await bench.quiet.stop()
      await server.stop()
      await store.down()
    }
  },
}

interface Bench {
  readonly context: BenchContext
  readonly store: ValueStore
  readonly server: BenchServer
  readonly storm: Generator
  readonly quiet: Generator
}

/** B alone and B beside what `disturb` does, in turns, so that what else runs on the machine disturbs both. */
async function beside(
  { context, server, quiet }: Bench,
  what: string,
  inFlight: number,
  disturb: (during: () => Promise<void>) => Promise<void>,
): Promise<readonly Row[]> {
  const { quick, progress } = context
  const socket = server.socket('http-values')
  const calls = await Promise.all(
    Array.from({ length: inFlight }, (_, index) => callOf(socket, QUIET, index)),
  )
  const measure = async (): Promise<readonly number[]> => {
    const total = (quick ? 25 : 100) * inFlight
    return (await quiet.run({ socket, calls, inFlight, total })).latenciesMs.flat()
  }
  await measure()
  const runs = await repeated(quick ? 2 : 6, async (index) => {
    progress(`fairness: ${what}, B ${inFlight} at a time, run ${index + 1}`)
    const alone = await measure()
    let together: readonly number[] = []
    await disturb(async () => {
      together = await measure()
    })
    return { alone, together }
  })
  const of = (name: 'alone' | 'together', share: number): number =>
    quantile(
      runs.flatMap((run) => run[name]),
      share,
    )
  const ratio = (share: number): number => of('together', share) / of('alone', share)
  return [
    row({
      what: `${what}, B ${inFlight} at a time: p99 of B's mounts against B alone`,
      value: ratio(0.99),
      unit: '×',
      target: { atMost: MOST_RATIO },
      note: `${of('alone', 0.99).toFixed(1)} ms and ${of('together', 0.99).toFixed(1)} ms; p50 ${ratio(0.5).toFixed(2)} ×, p90 ${ratio(0.9).toFixed(2)} ×`,
    }),
  ]
}

/** A's storm, which lasts as long as `during` takes. It has begun, all of it, before `during` does. */
async function storming(bench: Bench, during: () => Promise<void>): Promise<void> {
  const job = await stormJob(bench)
  const over = new AbortController()
  const storm = (async () => {
    while (!over.signal.aborted) await bench.storm.run({ ...job, total: STORM * LASTING })
  })()
  try {
    const before = bench.store.calls.length
    while (bench.store.calls.length < before + STORM / 2) await sleep(5)
    await during()
  } finally {
    over.abort()
    await storm
  }
}

let jobCalls: readonly JobCall[] | undefined

async function stormJob({ server }: Bench): Promise<Parameters<Generator['run']>[0]> {
  const socket = server.socket('http-values')
  jobCalls ??= await Promise.all(Array.from({ length: STORM }, (_, index) => callOf(socket, NOISY, index)))
  return { socket, calls: jobCalls, inFlight: STORM, total: STORM }
}

/** A mount of one object of 20 ms; the namespace is the object's name. */
async function callOf(socket: string, namespace: string, index: number): Promise<JobCall> {
  const token = { token: 'a.service-account.token', expirationTimestamp: '2099-01-01T00:00:00Z' }
  const request = mountRequest({
    namespace,
    serviceAccount: `sa-${index}`,
    pod: `pod-${index}`,
    uid: `uid-${index}`,
    tokens: JSON.stringify({ 'http-values': token }),
    parameters: { keys: namespace },
  })
  return mountCall(request, await mountOnce(socket, request))
}
