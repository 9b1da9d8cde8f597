/**
 * Owns: what one namespace notices of another's storm. A keeps 500 mounts in flight, of 500 service accounts;
 * B mounts one after the other, first alone and then beside it. A store answers in 20 ms; in a variant A's
 * never does.
 */
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { valueStore, type ValueStore } from '../test/support/value-store.ts'
import { median, quantile, repeated, row, type BenchContext, type Row, type Scenario } from './scenario.ts'
import { mountCall, mountOnce, startGenerator, type Generator, type JobCall } from './support/load.ts'
import { startBenchServer, type BenchServer } from './support/server.ts'
import { mountRequest } from './support/sops.ts'

const LATENCY_MS = 20
const STORM = 500
const MOST_RATIO = 2
/** Mounts of one storm, in times of those in flight: a new one is sent for each that is answered. */
const LASTING = 6

const NOISY = 'noisy'
const QUIET = 'quiet'

export const fairness: Scenario = {
  name: 'fairness',
  title: `One namespace against another: A keeps ${STORM} mounts in flight, B one; a store answers in ${LATENCY_MS} ms`,
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
      const working = await beside(bench, 'A storms', (during) => storming(bench, during))
      const hanging = await beside(bench, 'A storms and its store hangs', async (during) => {
        hangs = true
        try {
          // What A gets is no matter here: its calls may time out before they are let go.
          const all = bench.storm.run(await stormJob(bench)).catch(() => undefined)
          while (held.length < 1) await sleep(5)
          await during()
          hangs = false
          for (const response of held.splice(0)) response.end(NOISY)
          await all
        } finally {
          hangs = false
          for (const response of held.splice(0)) response.end(NOISY)
        }
      })
      return [...working, ...hanging]
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

/** B alone and B beside what `disturb` does, in turns. */
async function beside(
  { context, server, quiet }: Bench,
  what: string,
  disturb: (during: () => Promise<void>) => Promise<void>,
): Promise<readonly Row[]> {
  const { quick, progress } = context
  const socket = server.socket('http-values')
  const calls = [await callOf(socket, QUIET, 0)]
  const measure = async (): Promise<readonly number[]> => {
    const { latenciesMs } = await quiet.run({ socket, calls, inFlight: 1, total: quick ? 50 : 400 })
    return latenciesMs[0] ?? []
  }
  await measure()
  const runs = await repeated(quick ? 1 : 3, async (index) => {
    progress(`fairness: ${what}, run ${index + 1}`)
    const alone = await measure()
    let together: readonly number[] = []
    await disturb(async () => {
      together = await measure()
    })
    return { alone, together }
  })
  const of = (name: 'alone' | 'together', share: number): number =>
    median(runs.map((run) => quantile(run[name], share)))
  const ratios = runs.map(({ alone, together }) => quantile(together, 0.99) / quantile(alone, 0.99))
  return [
    row({
      what: `${what}: p99 of B's mounts against B alone`,
      value: median(ratios),
      unit: '×',
      target: { atMost: MOST_RATIO },
      note: `${ratios.map((ratio) => ratio.toFixed(2)).join(', ')} in ${runs.length} runs; p50 ${(of('together', 0.5) / of('alone', 0.5)).toFixed(2)} ×`,
    }),
    row({ what: '  p99 of B alone', value: of('alone', 0.99), unit: 'ms' }),
    row({ what: '  p99 of B beside A', value: of('together', 0.99), unit: 'ms' }),
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
