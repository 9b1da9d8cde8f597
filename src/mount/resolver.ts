/**
 * Owns the way from sources to values: fresh cache → join a fetch in flight → batch → the endpoint's
 * turn → retry → stale value on outage (design.md sections 3 and 6).
 */
import { BackendError, type Backend, type Source, type Value } from '../providers/adapter.ts'
import type { Provenance } from '../telemetry/audit.ts'
import type { Meter } from '../telemetry/metrics.ts'
import { admission, asBackendError, refusals } from './backend-call.ts'
import type { Caller, CacheTimes } from './caller.ts'
import { createEndpointHealth } from './endpoint-health.ts'
import { createFetchBatch, HUNG, LEFT, TRANSIENT, type Fetched, type Wanted } from './fetch-batch.ts'
import { batchKey, sourceKey } from './source-key.ts'
import { holdUncached, ValueCache, type Held } from './value-cache.ts'

export interface CacheSettings extends CacheTimes {
  readonly maxBytes: number
}

export interface ResolverOptions {
  readonly backend: (kind: string) => Promise<Backend>
  readonly cache: CacheSettings
  readonly meter: Meter
  readonly now: () => number
  /** Milliseconds of a clock that nobody sets: no store is called for hours less because the node's was set back. */
  readonly steady?: () => number
  /** 0 ≤ x < 1; spreads retries. */
  readonly random: () => number
  /** Waits, at most until `signal` fires. Default: real time. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>
}

/** What became of one source. */
export type Resolution = (Held & { readonly from: Provenance }) | BackendError

export interface Resolver {
  /** One resolution per source, in input order. Never throws. The caller releases what it was given. */
  resolve(sources: readonly Source[], caller: Caller): Promise<readonly Resolution[]>
  /** Forgets every value, so that the next mounts fetch anew. */
  clear(): void
}

/** A signal may fire this much before the deadline it stands for. */
const CLOCK_SLACK_MS = 50

/** A fetch that several mounts may wait for; it ends early only when all of them have gone. */
interface Batch {
  waiters: number
  readonly controller: AbortController
  readonly results: Promise<ReadonlyMap<string, Fetched>>
  readonly keys: readonly string[]
}

export function createResolver(options: ResolverOptions): Resolver {
  const { meter, now } = options
  const cache = new ValueCache(options.cache.maxBytes)
  /** Fetches in flight, by key. */
  const flights = new Map<string, Batch>()
  const timesOf = (caller: Caller): CacheTimes => caller.cache ?? options.cache

  function fresh(key: string, settings: CacheTimes): Held | undefined {
    const held = cache.get(key, now())
    if (!held) return undefined
    const limit = held.value.immutable
      ? Math.max(settings.immutableForMs, settings.freshForMs)
      : settings.freshForMs
    if (settings.freshForMs > 0 && isAge(held) && held.ageMs < limit) return held
    held.release()
    return undefined
  }

  function stale(key: string, error: BackendError, settings: CacheTimes): Held | undefined {
    if (settings.staleIfErrorMs === 0 || !TRANSIENT.has(error.kind)) return undefined
    const held = cache.get(key, now())
    if (!held) return undefined
    if (isAge(held) && held.ageMs <= settings.staleIfErrorMs) return held
    held.release()
    return undefined
  }

  /** @param late nobody waits for it any more: a younger fetch may know better, so it is not kept */
  function arrived(key: string, value: Value, caller: Caller, late: boolean): Held {
    if (keepMs(timesOf(caller)) === 0 || late) return holdUncached(value)
    const held = cache.put(key, value, now())
    meter.gauge('keyferry_cache_bytes', cache.bytes)
    return held
  }

  const fetchBatch = createFetchBatch({
    ...options,
    health: createEndpointHealth({ ...options, now: options.steady ?? now }),
    arrived,
    denied: (key) => cache.delete(key),
  })

  function launch(wanted: readonly Wanted[], caller: Caller): void {
    const controller = new AbortController()
    const keys = wanted.map(({ key }) => key)
    const results = fetchBatch(wanted, caller, controller.signal).catch((error: unknown) => {
      const failure = asBackendError(error)
      return new Map<string, Fetched>(keys.map((key) => [key, failure]))
    })
    const batch: Batch = { waiters: 0, controller, results, keys }
    for (const key of keys) flights.set(key, batch)
    void results.then(() => land(batch))
  }

  /** From now on nobody can join the batch. */
  function land(batch: Batch): void {
    for (const key of batch.keys) if (flights.get(key) === batch) flights.delete(key)
  }

  /** The last waiter has gone: an unfinished fetch is ended, and the batch's own holds are let go. */
  function abandon(batch: Batch, last: Caller): void {
    land(batch)
    batch.controller.abort(now() + CLOCK_SLACK_MS >= last.deadline ? HUNG : LEFT)
    void batch.results.then((results) => {
      for (const fetched of results.values()) if (!(fetched instanceof BackendError)) fetched.release()
    })
  }

  async function join(key: string, batch: Batch, caller: Caller): Promise<Resolution> {
    batch.waiters += 1
    try {
      const fetched = await orAborted(
        batch.results.then((results) => results.get(key) ?? noAnswer()),
        caller.signal,
      )
      if (!(fetched instanceof BackendError)) return { ...fetched.share(), from: 'backend' }
      const old = stale(key, fetched, timesOf(caller))
      return old ? { ...old, from: 'stale' } : fetched
    } finally {
      batch.waiters -= 1
      if (batch.waiters === 0) abandon(batch, caller)
    }
  }

  return {
    async resolve(sources, caller) {
      const settings = timesOf(caller)
      cache.deleteOlderThan(now() - longestMs(settings))
      const wanted: (Wanted & { readonly backend: Backend })[] = []
      for (const source of sources) {
        const backend = await options.backend(source.backend)
        wanted.push({ source, backend, key: sourceKey(source, backend, caller) })
      }
      const refused = await refusals(wanted, caller)
      // From here to the joins nothing waits, so that no batch can end before its first waiter is counted.
      const answers = new Map<string, Promise<Resolution>>()
      const batches = new Map<string, (typeof wanted)[number][]>()
      const missing = new Set<string>()
      for (const item of wanted) {
        if (answers.has(item.key) || missing.has(item.key)) continue
        const refusal = refused.get(admission(item))
        if (refusal) {
          answers.set(item.key, Promise.resolve(refusal))
          continue
        }
        const held = fresh(item.key, settings)
        if (held) {
          answers.set(item.key, Promise.resolve({ ...held, from: 'cache' }))
        } else {
          missing.add(item.key)
          if (!flights.has(item.key)) append(batches, batchKey(item.source), item)
        }
      }
      for (const items of batches.values()) {
        const size = items[0]?.backend.maxBatch ?? items.length
        for (let at = 0; at < items.length; at += size) launch(items.slice(at, at + size), caller)
      }
      for (const key of missing) {
        const batch = flights.get(key)
        answers.set(key, batch ? join(key, batch, caller) : Promise.resolve(noAnswer()))
      }
      return Promise.all(wanted.map(({ key }) => answers.get(key) ?? Promise.resolve(noAnswer())))
    },
    clear: () => cache.clear(),
  }
}

/** Of a value from the future nobody knows the age: the clock was set back. */
function isAge({ ageMs }: Held): boolean {
  return ageMs >= 0
}

/** How long a value may be of use, in milliseconds; 0: nothing is kept. */
function keepMs({ freshForMs, staleIfErrorMs }: CacheTimes): number {
  return Math.max(freshForMs, staleIfErrorMs)
}

function longestMs(settings: CacheTimes): number {
  const keep = keepMs(settings)
  return keep === 0 ? 0 : Math.max(keep, settings.immutableForMs)
}

function noAnswer(): BackendError {
  return new BackendError({
    kind: 'internal',
    code: 'INTERNAL',
    message: 'no answer was kept for this object',
  })
}

function append<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key)
  if (list) list.push(value)
  else map.set(key, [value])
}

async function orAborted(outcome: Promise<Fetched>, signal: AbortSignal): Promise<Fetched> {
  const timedOut = (): BackendError =>
    new BackendError({
      kind: 'timeout',
      code: 'BUDGET_EXHAUSTED',
      message: "the backend did not answer within the mount's time budget",
      remedy: 'Check that the backend can be reached from this node; kubelet tries again by itself',
    })
  if (signal.aborted) return timedOut()
  const { promise, resolve } = Promise.withResolvers<Fetched>()
  const onAbort = (): void => resolve(timedOut())
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([outcome, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
