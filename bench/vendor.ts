/**
 * Owns what is measured with every vendor's store: the first table of design.md section 7, over the
 * vendor's own fake on loopback. A vendor's file says how its fake is started and what a mount of it
 * looks like; the scenario is the same for all.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { WireMountRequest } from '../src/rpc/contract.ts'
import { median, repeated, row, spread, type BenchContext, type Row, type Scenario } from './scenario.ts'
import { mountCall, mountOnce, startGenerator, type Generator } from './support/load.ts'
import { startBenchServer, type BenchServer } from './support/server.ts'
import { checkFiles } from './support/sops.ts'

/** One call that came to the fake. */
export interface SeenCall {
  /** For credentials rather than for an object. */
  readonly isCredentials: boolean
  /** When it came, in milliseconds on any clock. */
  readonly at: number
}

/** A vendor's fake with objects in it. */
export interface VendorFake {
  /** Sections of the configuration file: `backends` and what else the vendor needs. */
  readonly config: Readonly<Record<string, unknown>>
  /** A Mount of the first `objects` objects, for a pod of namespace `bench`. */
  request(
    pod: { readonly serviceAccount: string; readonly pod: string; readonly uid: string },
    objects: number,
  ): WireMountRequest
  /** Milliseconds until it answers any call. */
  latency(ms: number): void
  calls(): readonly SeenCall[]
  /** Forgets calls. */
  forget(): void
  stop(): Promise<void>
}

/** What the vendor's own Go provider does on the same work (design.md section 7). */
export interface VendorFigures {
  readonly roundTrips: string
  readonly firstMount: string
  readonly calls: string
  readonly allAnswered: string
  readonly rate: string
  readonly processor: string
  readonly memory: string
}

export interface Vendor {
  /** Socket name. */
  readonly dialect: string
  /** As people call it. */
  readonly name: string
  readonly own: VendorFigures
  /** A fake that holds these values under these file names and lets these service accounts in. */
  start(values: ReadonlyMap<string, Buffer>, serviceAccounts: readonly string[]): Promise<VendorFake>
}

const LATENCY_MS = 20
const PODS = 200
const MANY = 20
const FEW = 10
const VALUE_BYTES = 1024

/** Service accounts with the cache off: twice as many as mounts in flight, so that no two share a fetch. */
const APART = 16

/** Name of the service account of a pod that nobody has mounted for. */
const fresh = (index: number): string => `fresh-${index}`
const apart = (index: number): string => `apart-${index}`
const numbered = (count: number, name: (index: number) => string): string[] =>
  Array.from({ length: count }, (_, index) => name(index))

/** The scenario of a vendor. */
export function vendorScenario(vendor: Vendor): Scenario {
  return {
    name: vendor.dialect,
    title: `${vendor.name}: 20 objects, 200 pods, cache off; fake on the same cores`,
    run: async (context) => {
      const values = new Map(
        Array.from({ length: MANY }, (_, i) => [`object-${i}`, Buffer.alloc(VALUE_BYTES, `${i}-value.`)]),
      )
      const accounts = ['web', 'warm', ...numbered(10, fresh), ...numbered(APART, apart)]
      const fake = await vendor.start(values, accounts)
      const generator = startGenerator()
      const bench: Bench = { vendor, context, fake, generator, values }
      try {
        return [
          ...(await withServer(bench, 'cached', {}, (server) => cached(bench, server))),
          ...(await withServer(bench, 'uncached', { cache: { freshFor: 0 } }, (server) =>
            uncached(bench, server),
          )),
        ]
      } finally {
        await generator.stop()
        await fake.stop()
      }
    },
  }
}

interface Bench {
  readonly vendor: Vendor
  readonly context: BenchContext
  readonly fake: VendorFake
  readonly generator: Generator
  readonly values: ReadonlyMap<string, Buffer>
}

async function withServer(
  { vendor, context, fake }: Bench,
  name: string,
  more: Readonly<Record<string, unknown>>,
  measure: (server: BenchServer) => Promise<readonly Row[]>,
): Promise<readonly Row[]> {
  const directory = join(context.directory, name)
  await mkdir(directory)
  const server = await startBenchServer({
    directory,
    config: JSON.stringify({ kubernetes: 'off', ...fake.config, ...more }),
    dialects: [vendor.dialect],
  })
  try {
    return await measure(server)
  } finally {
    await server.stop()
  }
}

/** First mounts, and 200 pods at once, with the cache as shipped. */
async function cached(
  { vendor, context, fake, generator, values }: Bench,
  server: BenchServer,
): Promise<readonly Row[]> {
  const { own, name, dialect } = vendor
  const { quick, progress } = context
  const socket = server.socket(dialect)
  const others = (figure: string): { readonly others: Readonly<Record<string, string>> } => ({
    others: { [name]: figure },
  })
  fake.latency(LATENCY_MS)
  const first = async (serviceAccount: string): Promise<FirstMount> => {
    const request = fake.request({ serviceAccount, pod: 'p', uid: `uid-${serviceAccount}` }, MANY)
    fake.forget()
    const started = performance.now()
    const answer = await mountOnce(socket, request)
    const ms = performance.now() - started
    checkFiles(answer, values)
    return { ms, roundTrips: roundTrips(fake.calls()), calls: fake.calls().length }
  }
  progress(`${dialect}: first mounts`)
  const veryFirst = await first('warm')
  const firsts = await repeated(quick ? 2 : 9, (index) => first(fresh(index)))

  progress(`${dialect}: ${PODS} pods at once`)
  const requests = Array.from({ length: PODS }, (_, i) =>
    fake.request({ serviceAccount: 'web', pod: `web-${i}`, uid: `uid-${i}` }, MANY),
  )
  // All answers have the length of any right one: same files, versions of the same length.
  const right = await mountOnce(
    socket,
    fake.request({ serviceAccount: 'warm', pod: 'p', uid: 'uid-warm' }, MANY),
  )
  checkFiles(right, values)
  fake.forget()
  const calls = requests.map((request) => mountCall(request, right))
  const { seconds } = await generator.run({ socket, calls, inFlight: PODS, total: PODS })
  const seen = fake.calls()
  const credentials = seen.filter((call) => call.isCredentials).length
  const wall = firsts.map(({ ms }) => ms)
  return [
    row({
      what: 'first mount of a service account, 20 objects, 20 ms a call: sequential round trips',
      value: median(firsts.map((one) => one.roundTrips)),
      unit: '',
      target: { atMost: 2 },
      note: `${median(firsts.map((one) => one.calls))} calls`,
      ...others(own.roundTrips),
    }),
    row({
      what: 'the same, wall time',
      value: median(wall),
      unit: 'ms',
      target: { atMost: 85 },
      note: `${spread(wall, 'ms')}; the very first of the process, which loads the vendor's code: ${veryFirst.ms.toFixed(0)} ms`,
      ...others(own.firstMount),
    }),
    row({
      what: `${PODS} pods of one service account × 20 objects at once: calls for objects`,
      value: seen.length - credentials,
      unit: '',
      target: { atMost: MANY },
      ...others(own.calls),
    }),
    row({ what: '  calls for credentials', value: credentials, unit: '', target: { atMost: 1 } }),
    row({
      what: 'the same, time until all are answered',
      value: seconds,
      unit: 's',
      target: { atMost: 1 },
      ...others(own.allAnswered),
    }),
  ]
}

interface FirstMount {
  readonly ms: number
  readonly roundTrips: number
  readonly calls: number
}

/** Most calls of which each came after the one before it had been answered: those that waited for one another. */
function roundTrips(calls: readonly SeenCall[]): number {
  let trips = 0
  let free = Number.NEGATIVE_INFINITY
  for (const { at } of calls.toSorted((a, b) => a.at - b.at)) {
    if (at < free) continue
    trips += 1
    free = at + LATENCY_MS
  }
  return trips
}

/** Mounts a second, processor time and memory with the cache off. */
async function uncached(
  { vendor, context, fake, generator, values }: Bench,
  server: BenchServer,
): Promise<readonly Row[]> {
  const { own, name, dialect } = vendor
  const { quick, progress } = context
  const socket = server.socket(dialect)
  fake.latency(0)
  const requests = numbered(APART, apart).map((serviceAccount) =>
    fake.request({ serviceAccount, pod: serviceAccount, uid: `uid-${serviceAccount}` }, FEW),
  )
  const calls = await Promise.all(
    requests.map(async (request) => {
      const first = await mountOnce(socket, request)
      checkFiles(first, new Map([...values].slice(0, FEW)))
      return mountCall(request, first)
    }),
  )
  const total = quick ? 32 : 200
  const run = (): Promise<{ seconds: number }> => generator.run({ socket, calls, inFlight: 8, total })
  await run()
  const runs = await repeated(quick ? 1 : 4, async (index) => {
    progress(`${dialect}: cache off, run ${index + 1}`)
    fake.forget()
    const before = server.processorMs()
    const { seconds } = await run()
    return {
      rate: total / seconds,
      processorMs: (server.processorMs() - before) / total,
      calls: fake.calls().length / total,
    }
  })
  const rates = runs.map((one) => one.rate)
  return [
    row({
      what: 'mounts a second, 10 objects of 1 KiB, 8 in flight, cache off, by the clock',
      value: median(rates),
      unit: '/s',
      target: { atLeast: 250 },
      note: `${spread(rates, '/s')}; ${median(runs.map((one) => one.calls)).toFixed(1)} calls a mount`,
      others: { [name]: own.rate },
    }),
    row({
      what: 'processor time of such a mount',
      value: median(runs.map((one) => one.processorMs)),
      unit: 'ms',
      target: { atMost: 4 },
      others: { [name]: own.processor },
    }),
    row({
      what: `resident memory after ${total * (runs.length + 1)} such mounts, this dialect alone`,
      value: server.memory().resident,
      unit: 'MiB',
      target: { atMost: 90 },
      others: { [name]: own.memory },
    }),
  ]
}
