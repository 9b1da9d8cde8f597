/**
 * Owns one fetch of several sources of one store: the endpoint's turn → call → what the answers mean for
 * the cache and for the endpoint → retry within the budgets (design.md section 3).
 */
import { setTimeout } from 'node:timers/promises'
import {
  BackendError,
  type Backend,
  type ErrorKind,
  type Host,
  type Source,
  type Value,
} from '../providers/adapter.ts'
import type { Meter } from '../telemetry/metrics.ts'
import { brokenAdapter, callBackend } from './backend-call.ts'
import type { Call, EndpointHealth, Outcome, Place } from './endpoint-health.ts'
import type { Caller } from './caller.ts'
import { endpointKey } from './source-key.ts'
import type { Held } from './value-cache.ts'

/** Failures that may pass by themselves: retried inside a mount, and hidden by `staleIfError`. */
export const TRANSIENT: ReadonlySet<ErrorKind> = new Set<ErrorKind>(['throttled', 'unavailable', 'timeout'])

/**
 * The store's word that this identity may not have the value, or that there is none: what was cached is
 * deleted, so that no later outage can bring it back through `staleIfError` (threat model T25).
 * `unauthenticated` is one of them: most stores say so when they no longer know the identity (a role deleted, a
 * trust withdrawn), and nobody can tell that from a token that has expired. Failing closed costs one fetch.
 */
const DEFINITIVE: ReadonlySet<ErrorKind> = new Set<ErrorKind>([
  'denied',
  'not-found',
  'gone',
  'unauthenticated',
])

/** Answers that show that the store can be reached, whatever it said. */
const REACHED: ReadonlySet<ErrorKind> = new Set<ErrorKind>(['denied', 'not-found', 'gone', 'too-large'])

/** Reasons to end a batch early: the budget of whoever waited longest was spent, or they went away. */
export const HUNG = 'hung'
export const LEFT = 'left'

const MAX_ATTEMPTS = 3
const RETRY_BASE_MS = 200
/** A mount that would have to wait longer than this for one retry fails instead: kubelet comes again. */
const MAX_RETRY_WAIT_MS = 10_000

/** A source under its key in the cache. */
export interface Wanted {
  readonly key: string
  readonly source: Source
}

/** What a fetch brings for one key. The hold is the batch's own: waiters share it. */
export type Fetched = Held | BackendError

export interface FetchOptions {
  readonly backend: (kind: string) => Promise<Backend>
  readonly health: EndpointHealth
  readonly meter: Meter
  readonly now: () => number
  /** 0 ≤ x < 1; spreads retries. */
  readonly random: () => number
  /** Waits, at most until `signal` fires. Default: real time. */
  readonly sleep?: ((ms: number, signal: AbortSignal) => Promise<void>) | undefined
  /**
   * Takes a value over.
   * @param late nobody waits for it any more: a younger fetch may know better, so it must not be kept
   */
  readonly arrived: (key: string, value: Value, caller: Caller, late: boolean) => Held
  /** The store will not give this value any more. */
  readonly denied: (key: string) => void
}

/** Fetches sources of one store for one identity. Ends early when `signal` fires, with {@link HUNG} or {@link LEFT}. */
export type FetchBatch = (
  wanted: readonly Wanted[],
  caller: Caller,
  signal: AbortSignal,
) => Promise<ReadonlyMap<string, Fetched>>

export function createFetchBatch(options: FetchOptions): FetchBatch {
  const { health, meter, now, sleep = pause } = options

  /** Leave to make one call, after a wait if need be, or why there is none. */
  async function turn(place: Place, host: Host, deadline: number): Promise<Call | BackendError> {
    const patienceEnd = Math.min(now() + MAX_RETRY_WAIT_MS, deadline)
    for (;;) {
      const answer = health.ask(place, host.log)
      if ('ended' in answer) return answer
      const { waitMs = Number.POSITIVE_INFINITY, refusal } = answer
      if (now() + waitMs >= patienceEnd || host.signal.aborted) return refusal
      await sleep(waitMs, host.signal)
    }
  }

  /** One call of the backend; the endpoint's health hears how it went, also when it never ends. */
  async function called(
    backend: Backend,
    wanted: readonly Wanted[],
    host: Host,
    call: Call,
  ): Promise<readonly (Value | BackendError)[]> {
    const ended = (): void =>
      call.ended(
        host.signal.reason === HUNG ? { result: 'failed', code: 'BUDGET_EXHAUSTED' } : { result: 'unknown' },
      )
    host.signal.addEventListener('abort', ended, { once: true })
    try {
      const answers = await callBackend(backend, wanted, host)
      meter.count('keyferry_backend_calls_total', { backend: backend.kind, outcome: outcomeOf(answers) })
      call.ended(healthOf(answers))
      return answers
    } finally {
      host.signal.removeEventListener('abort', ended)
    }
  }

  return async function fetchBatch(
    wanted: readonly Wanted[],
    caller: Caller,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, Fetched>> {
    const results = new Map<string, Fetched>()
    const first = wanted[0]
    if (!first) return results
    const backend = await options.backend(first.source.backend)
    const host = caller.host(first.source, signal)
    const place: Place = {
      backend: backend.kind,
      endpoint: endpointKey(first.source),
      identity: JSON.stringify([caller.identityKey(first.source.identity), caller.namespace]),
    }
    let left = wanted
    for (let attempt = 1; left.length > 0; attempt += 1) {
      const call = await turn(place, host, caller.deadline)
      if (call instanceof BackendError) {
        // After a first attempt its own errors say more.
        if (attempt === 1) for (const { key } of left) results.set(key, call)
        break
      }
      const answers = await called(backend, left, host, call)
      const again: Wanted[] = []
      let waitMs = 0
      for (const [index, item] of left.entries()) {
        const answer = answers[index] ?? brokenAdapter(backend.kind)
        if (answer instanceof BackendError) {
          if (DEFINITIVE.has(answer.kind)) options.denied(item.key)
          if (TRANSIENT.has(answer.kind) && attempt < MAX_ATTEMPTS) {
            again.push(item)
            waitMs = Math.max(waitMs, answer.retryAfterMs ?? 0)
          }
          results.set(item.key, answer)
        } else {
          results.set(item.key, options.arrived(item.key, answer, caller, signal.aborted))
        }
      }
      const backoff = RETRY_BASE_MS * 2 ** (attempt - 1) * (0.5 + options.random())
      waitMs = Math.max(waitMs, backoff)
      if (again.length === 0 || waitMs > MAX_RETRY_WAIT_MS || now() + waitMs >= caller.deadline) break
      if (!health.mayRetry(place)) break
      await sleep(waitMs, signal)
      if (signal.aborted) break
      left = again
    }
    return results
  }
}

/** What a call's answers say about its endpoint. */
function healthOf(answers: readonly (Value | BackendError)[]): Outcome {
  const errors = answers.filter((answer) => answer instanceof BackendError)
  const transient = errors.filter(({ kind }) => TRANSIENT.has(kind))
  const reached = errors.length < answers.length || errors.some(({ kind }) => REACHED.has(kind))
  const failed = transient.length === answers.length && answers.length > 0
  const waitMs = Math.max(0, ...transient.map(({ retryAfterMs = 0 }) => retryAfterMs))
  return {
    result: reached ? 'answered' : failed ? 'failed' : 'unknown',
    ...(transient[0] && { code: transient[0].code }),
    ...(waitMs > 0 && { retryAfterMs: waitMs }),
  }
}

function outcomeOf(answers: readonly (Value | BackendError)[]): string {
  return answers.find((answer) => answer instanceof BackendError)?.kind ?? 'ok'
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await setTimeout(ms, undefined, { signal }).catch(() => {})
}
