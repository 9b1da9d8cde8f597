/**
 * Owns what is known about stores that fail (threat model T29): a circuit breaker for each endpoint and
 * identity, the time before which a store asked not to be called, and a budget of retries for each endpoint.
 * Clock and randomness are handed in; it makes no call and sets no timer itself.
 */
import { BackendError } from '../providers/adapter.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/metrics.ts'

/** Calls without an answer, one after the other, that stop further ones. */
export const OPEN_AFTER = 5
/** How long nothing is called: this at first, doubled each time a probe fails, never more than the second. */
const OPEN_FIRST_MS = 1000
/** Half of kubelet's shortest republish rhythm of 60 s, so that the next republish after a recovery sees it. */
export const OPEN_MOST_MS = 30_000
/** Who comes while a quick probe is under way waits for it, so that a volume of several batches can mount. */
const PROBE_PATIENCE_MS = 1000
const PROBE_POLL_MS = 50
/** A probe that nobody has heard of for so long is replaced; no mount lives longer. */
const PROBE_LOST_MS = 10 * 60_000
/** After a successful probe calls begin this far apart; the gap shrinks to nothing over the ramp. */
const RAMP_GAP_MS = 200
export const RAMP_MS = 5000
/** Spreads those who wait for the same moment. */
const SPREAD_MS = 50
/** A store may ask for a longer pause; nothing is believed beyond this. */
export const LONGEST_ASKED_MS = 5 * 60_000
/** Retries that an endpoint may cost at once, and what each answered call gives back: one in four in the long run. */
export const RETRIES = { most: 10, perAnswer: 0.25 } as const
/** Lines and endpoints remembered, of those that have failed; the least recently used are forgotten first. */
const MAX_REMEMBERED = 1000

/** Where a call goes, and with whose credentials. */
export interface Place {
  /** Backend kind, the metrics' label. */
  readonly backend: string
  /** Backend kind and store settings: equal for equal stores. */
  readonly endpoint: string
  /** Whose failures count together: one identity in one namespace. They never stop another's calls. */
  readonly identity: string
}

/** How a call went. `unknown`: it says nothing about the store, e.g. there were no credentials to call it with. */
export interface Outcome {
  readonly result: 'answered' | 'failed' | 'unknown'
  /** Of the failure: stable, goes into texts. */
  readonly code?: string
  /** The store asked not to be called again before this many milliseconds. */
  readonly retryAfterMs?: number
}

/** A call that may be made now. Its end must be told, and is believed once. */
export interface Call {
  ended(outcome: Outcome): void
}

/** No call now. `waitMs`: ask again then; absent when the wait is not worth it. */
export interface NotNow {
  readonly waitMs?: number
  /** For whoever cannot wait. The same text from call to call (driver.md section 3). */
  readonly refusal: BackendError
}

export interface EndpointHealth {
  /** Whether a call may be made. `log` is told when this call turns out to change that. */
  ask(place: Place, log: Logger): Call | NotNow
  /** Takes one retry out of the endpoint's budget. @returns false when it is spent. */
  mayRetry(place: Place): boolean
  /** Lines and endpoints remembered. */
  readonly size: number
}

interface Line {
  phase: 'closed' | 'open' | 'probing' | 'ramp'
  /** Calls that began before the last opening say nothing about the time after it. */
  era: number
  /** Failed calls one after the other. */
  failures: number
  /** Openings since it was last closed. */
  openings: number
  /** Code of the failure that opened it first: the text stays the same until it closes. */
  cause: string
  /** End of `open`, begin of `probing`, end of `ramp`. Milliseconds of the clock handed in, as all times here. */
  at: number
  /** Next call of the ramp. */
  nextAt: number
  notBefore: number
}

export interface HealthOptions {
  readonly now: () => number
  /** 0 ≤ x < 1. */
  readonly random: () => number
  readonly meter: Meter
}

export function createEndpointHealth({ now, random, meter }: HealthOptions): EndpointHealth {
  /** Lines that have failed lately; one without trouble is not remembered. */
  const lines = new Map<string, Line & { readonly backend: string }>()
  /** Retries left, of endpoints that have not all of them. */
  const budgets = new Map<string, number>()
  let eras = 0

  function showOpen(backend: string): void {
    const open = [...lines.values()].filter((line) => line.backend === backend && isOpen(line))
    meter.gauge('keyferry_circuits_open', open.length, { backend })
  }

  function change(backend: string, event: 'opened' | 'reopened' | 'closed'): void {
    meter.count('keyferry_circuit_events_total', { backend, event })
    showOpen(backend)
  }

  function lineFor(key: string, backend: string): Line {
    const known = lines.get(key)
    if (known) return known
    const line = { ...HEALTHY, backend }
    for (const evicted of remember(lines, key, line)) if (isOpen(evicted)) showOpen(evicted.backend)
    return line
  }

  function open(line: Line, backend: string, log: Logger, code: string): void {
    const isNews = line.phase !== 'probing'
    eras += 1
    line.era = eras
    line.phase = 'open'
    line.failures = 0
    line.openings += 1
    if (line.cause === '') line.cause = code
    const longest = Math.min(OPEN_MOST_MS, OPEN_FIRST_MS * 2 ** Math.min(line.openings - 1, 20))
    line.at = now() + longest * (0.5 + random() / 2)
    change(backend, isNews ? 'opened' : 'reopened')
    if (isNews) log.warn('a store keeps failing and is not called for a while', { code: line.cause })
  }

  function ramp(line: Line, from: number): void {
    line.phase = 'ramp'
    line.failures = 0
    line.at = from + RAMP_MS
    line.nextAt = from
  }

  function failed(key: string, era: number, place: Place, log: Logger, outcome: Outcome): void {
    const line = lineFor(key, place.backend)
    if (line.era !== era) return
    settle(line)
    line.failures += 1
    if (line.phase === 'open') return
    if (line.phase !== 'closed' || line.failures >= OPEN_AFTER)
      open(line, place.backend, log, outcome.code ?? 'INTERNAL')
  }

  function answered(key: string, era: number, place: Place, log: Logger): void {
    giveBack(place.endpoint)
    const line = lines.get(key)
    if (line?.era !== era) return
    line.failures = 0
    if (line.phase === 'probing') {
      ramp(line, now())
      change(place.backend, 'closed')
      log.info('a store answers again', { code: line.cause })
    }
    forgetIfHealthy(key, line)
  }

  function giveBack(endpoint: string): void {
    const left = budgets.get(endpoint)
    if (left === undefined) return
    if (left + RETRIES.perAnswer >= RETRIES.most) budgets.delete(endpoint)
    else remember(budgets, endpoint, left + RETRIES.perAnswer)
  }

  /** A ramp ends by itself. */
  function settle(line: Line): void {
    if (line.phase === 'ramp' && now() >= line.at)
      Object.assign(line, { phase: 'closed', openings: 0, cause: '' })
  }

  function forgetIfHealthy(key: string, line: Line): void {
    settle(line)
    if (line.phase === 'closed' && line.failures === 0 && line.notBefore <= now()) lines.delete(key)
  }

  function callAt(key: string, era: number, place: Place, log: Logger): Call {
    let isOver = false
    return {
      ended(outcome) {
        if (isOver) return
        isOver = true
        if (outcome.result === 'failed') failed(key, era, place, log, outcome)
        if (outcome.result === 'answered') answered(key, era, place, log)
        const line = lines.get(key)
        // A probe that says nothing leaves the question open: the next call is a probe, too.
        if (outcome.result === 'unknown' && line?.era === era && line.phase === 'probing') {
          line.phase = 'open'
          line.at = now()
        }
        if (outcome.retryAfterMs !== undefined && outcome.retryAfterMs > 0)
          wait(lineFor(key, place.backend), now() + Math.min(outcome.retryAfterMs, LONGEST_ASKED_MS))
      },
    }
  }

  /** The store's word: nobody before `time`, and then one after the other. */
  function wait(line: Line, time: number): void {
    if (time <= line.notBefore) return
    line.notBefore = time
    if (line.phase === 'closed' || line.phase === 'ramp') ramp(line, time)
  }

  function withheld(
    place: Place,
    reason: 'circuit-open' | 'asked-to-wait',
    line: Line,
    waitMs?: number,
  ): NotNow {
    // Who waits has not been refused yet.
    if (waitMs === undefined) meter.count('keyferry_calls_withheld_total', { backend: place.backend, reason })
    return {
      refusal: reason === 'circuit-open' ? circuitOpen(line.cause) : askedToWait(),
      ...(waitMs !== undefined && { waitMs: waitMs + random() * SPREAD_MS }),
    }
  }

  return {
    ask(place, log) {
      const key = JSON.stringify([place.endpoint, place.identity])
      const line = lines.get(key)
      if (!line) return callAt(key, 0, place, log)
      remember(lines, key, line)
      const time = now()
      const call = (): Call => callAt(key, line.era, place, log)
      if (line.notBefore > time) return withheld(place, 'asked-to-wait', line, line.notBefore - time)
      if (line.phase === 'open' && time < line.at) return withheld(place, 'circuit-open', line)
      if (line.phase === 'probing') {
        const since = time - line.at
        if (since < PROBE_PATIENCE_MS) return withheld(place, 'circuit-open', line, PROBE_POLL_MS)
        if (since < PROBE_LOST_MS) return withheld(place, 'circuit-open', line)
      }
      if (isOpen(line)) {
        line.phase = 'probing'
        line.at = time
        return call()
      }
      settle(line)
      if (line.phase === 'ramp') {
        const reason = line.cause === '' ? 'asked-to-wait' : 'circuit-open'
        if (time < line.nextAt) return withheld(place, reason, line, line.nextAt - time)
        line.nextAt = time + (RAMP_GAP_MS * (line.at - time)) / RAMP_MS
      }
      return call()
    },
    mayRetry({ backend, endpoint }) {
      const left = budgets.get(endpoint) ?? RETRIES.most
      if (left < 1) {
        meter.count('keyferry_calls_withheld_total', { backend, reason: 'retry-budget' })
        return false
      }
      remember(budgets, endpoint, left - 1)
      return true
    },
    get size() {
      return lines.size + budgets.size
    },
  }
}

const HEALTHY: Line = {
  phase: 'closed',
  era: 0,
  failures: 0,
  openings: 0,
  cause: '',
  at: 0,
  nextAt: 0,
  notBefore: 0,
}

function isOpen({ phase }: Line): boolean {
  return phase === 'open' || phase === 'probing'
}

/** Keeps `value` as the most recently used. @returns what had to go for it. */
function remember<V>(map: Map<string, V>, key: string, value: V): V[] {
  map.delete(key)
  map.set(key, value)
  const evicted: V[] = []
  for (const [oldest, old] of map) {
    if (map.size <= MAX_REMEMBERED) break
    map.delete(oldest)
    evicted.push(old)
  }
  return evicted
}

function circuitOpen(cause: string): BackendError {
  return new BackendError({
    kind: 'unavailable',
    code: 'BACKEND_CIRCUIT_OPEN',
    message: `the store failed again and again (${cause}) and is not called for a while`,
    remedy:
      'Check that the store can be reached from this node; it is tried again within half a minute, and kubelet tries again by itself',
  })
}

function askedToWait(): BackendError {
  return new BackendError({
    kind: 'throttled',
    code: 'BACKEND_ASKED_TO_WAIT',
    message: 'the store asked not to be called for a while',
    remedy: 'Kubelet tries again by itself; if it lasts, raise cache.freshFor or the quota of the store',
  })
}
