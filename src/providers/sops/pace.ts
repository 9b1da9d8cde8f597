/** Owns the pacing of long computations: nothing holds the event loop for long or for ever (sops A15, T17). */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { SLICE_MS } from '../../formats/steps.ts'
import { withinLimit, type Limits } from './limits.ts'
import { ALONE, type Turn } from './turns.ts'

/** Counts the processor time of one document and lets others run in between. */
export interface Pace {
  /** Ends the turn when it has lasted long enough. @throws BackendError `LIMIT_EXCEEDED` over `cpuMs` */
  rest(): Promise<void>
  /** Runs a generator to its end, resting between its steps. */
  run<T>(steps: Generator<unknown, T>): Promise<T>
  /** Waits for work done elsewhere (thread pool, network), whose time is not ours and which needs no turn. */
  outside<T>(work: Promise<T>): Promise<T>
}

/** A pace for one document, which has its turn, from now on. */
export function pace(limits: Limits, turn: Turn = ALONE): Pace {
  let spent = 0
  let since = performance.now()
  const settle = (): void => {
    const now = performance.now()
    spent += now - since
    since = now
    withinLimit(limits, 'cpuMs', spent)
  }
  const rest = async (): Promise<void> => {
    if (performance.now() - since < SLICE_MS) return
    settle()
    await nextTurn()
    since = performance.now()
  }
  return {
    rest,
    async run(steps) {
      for (;;) {
        const step = steps.next()
        if (step.done === true) return step.value
        if (performance.now() - since >= SLICE_MS) await rest()
      }
    },
    async outside(work) {
      settle()
      turn.leave()
      try {
        return await work
      } finally {
        await turn.enter()
        since = performance.now()
      }
    },
  }
}
