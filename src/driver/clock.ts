/** Owns the time the driver's side lives in: the wall clock, which a test can move forward. */
import { setTimeout as sleep } from 'node:timers/promises'

/** Runs with the wall clock, plus every step a test made it take. */
export interface Clock {
  /** Milliseconds since 1970 in this clock. */
  now(): number
  /** Moves the clock `ms` milliseconds forward. Takes some 25 ms of real time, see below. */
  advance(ms: number): Promise<void>
  /** What this clock showed when the file system recorded `mtimeMs`. */
  at(mtimeMs: number): number
}

/**
 * The kernel stamps files with its last timer tick, which can lie this far behind the wall clock.
 * A step waits that long on its far side, so that every stamp falls clearly before or after it.
 */
const KERNEL_TICK_MS = 12

/** A clock that shows the wall clock's time until it is moved. */
export function movableClock(): Clock {
  const steps: { readonly after: number; readonly offset: number }[] = []
  const offsetAt = (real: number): number => steps.findLast((step) => real > step.after)?.offset ?? 0
  return {
    now: () => Date.now() + (steps.at(-1)?.offset ?? 0),
    at: (mtimeMs) => mtimeMs + offsetAt(mtimeMs),
    async advance(ms) {
      const after = Date.now() + 1 // stamps of this very millisecond still belong before the step
      steps.push({ after, offset: (steps.at(-1)?.offset ?? 0) + ms })
      while (Date.now() < after + KERNEL_TICK_MS) await sleep(KERNEL_TICK_MS)
    },
  }
}
