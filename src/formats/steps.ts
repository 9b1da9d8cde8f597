/**
 * Owns running a long computation in small steps: a generator that yields where others may have their
 * turn, so that no input holds the process for long (threat model T17).
 */
import { setImmediate as nextTurn } from 'node:timers/promises'

/** A computation that may be left for a while at each `yield`. */
export type Steps<T> = Generator<undefined, T>

/** Milliseconds of work between two turns of the event loop. */
export const SLICE_MS = 8

/** Runs to the end without a rest. */
export function resultOf<T>(steps: Generator<unknown, T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
  }
}

/** Runs to the end, and lets others run in between. */
export async function inSlices<T>(steps: Steps<T>): Promise<T> {
  let since = performance.now()
  for (;;) {
    const step = steps.next()
    if (step.done === true) return step.value
    if (performance.now() - since < SLICE_MS) continue
    await nextTurn()
    since = performance.now()
  }
}
