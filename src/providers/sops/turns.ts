/**
 * Owns how many documents are worked on at once: large ones take turns, because each can need tens of
 * megabytes while it is read (threat model T14). Small ones never wait.
 */

/** Bytes from which on a document has to wait for its turn: sixteen smaller ones cost no more than one large. */
const LARGE_BYTES = 32 * 1024

/** One document's part in it. */
export interface Turn {
  /** Waits until it may be worked on. */
  enter(): Promise<void>
  /** Lets the next one in; for good, or while it waits for others. */
  leave(): void
}

/** Gives each document its turn, in the order of `enter`. */
export type Turns = (bytes: number) => Turn

/** A document that waits for nobody. */
export const ALONE: Turn = { enter: () => Promise.resolve(), leave: () => {} }

/** The turns of one process. */
export function createTurns(): Turns {
  const waiting: (() => void)[] = []
  let busy = false
  const turn: Turn = {
    async enter() {
      if (busy) await new Promise<void>((resolve) => waiting.push(resolve))
      busy = true
    },
    leave() {
      const next = waiting.shift()
      // Handed over without a gap, so that nobody slips in between.
      if (next) next()
      else busy = false
    },
  }
  return (bytes) => (bytes < LARGE_BYTES ? ALONE : turn)
}
