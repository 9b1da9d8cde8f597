/** Owns a clock on which hours pass in seconds: work that waits only on it, and on nothing outside of the process. */
import { setImmediate as nextTurn } from 'node:timers/promises'

export interface VirtualTime {
  /** Milliseconds since the epoch. */
  now(): number
  /** Ends after `ms`, or when `signal` fires. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** Lets the time pass up to `until`, doing everything when it is due. */
  run(until: number): Promise<void>
}

interface Due {
  readonly at: number
  readonly wake: () => void
}

/** Ends when everything has been done up to its next wait, also what lets others have a turn in between. */
async function settled(): Promise<void> {
  do await nextTurn()
  while (process.getActiveResourcesInfo().includes('Immediate'))
}

export function virtualTime(start: number): VirtualTime {
  /** Latest first. */
  const waiting: Due[] = []
  let time = start

  function insert(due: Due): void {
    let [low, high] = [0, waiting.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((waiting[middle]?.at ?? 0) > due.at) low = middle + 1
      else high = middle
    }
    // Before those of the same time: they were asked for first, and the end is taken first.
    waiting.splice(low, 0, due)
  }

  return {
    now: () => time,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve()
        signal?.addEventListener('abort', () => resolve(), { once: true })
        insert({ at: time + Math.max(0, ms), wake: resolve })
      }),
    async run(until) {
      await settled()
      for (let due = waiting.at(-1); due && due.at <= until; due = waiting.at(-1)) {
        waiting.pop()
        time = due.at
        due.wake()
        // Everything that follows from it, up to the next wait.
        await settled()
      }
      time = until
    },
  }
}

/** Numbers in [0, 1), the same ones for the same seed. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x9e3779b9) >>> 0
    let mixed = state
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32
  }
}
