/** Owns a bound on how many calls run at once, shared fairly: no namespace's storm fills it for the others (threat model T18). */

/**
 * Runs a task when there is a place for it. `who` (a namespace) takes turns with the others that wait; within
 * one it is first come, first served.
 */
export type Limiter = <T>(task: () => Promise<T>, who?: string) => Promise<T>

/** What of a process-wide bound one namespace may hold, so that one whose store hangs leaves room for others. */
export const NAMESPACE_SHARE = 0.75

/**
 * Lets `limit` tasks run at once; the others wait.
 * @param share part of `limit` that one `who` may hold, 0 to 1
 */
export function limiter(limit: number, share = 1): Limiter {
  const most = Math.ceil(limit * share)
  const running = new Map<string, number>()
  // Insertion order is the order of turns: who had a turn goes to the end.
  const waiting = new Map<string, (() => void)[]>()
  let total = 0

  const hasRoom = (who: string): boolean => total < limit && (running.get(who) ?? 0) < most
  const occupy = (who: string): void => {
    total += 1
    running.set(who, (running.get(who) ?? 0) + 1)
  }
  const leave = (who: string): void => {
    total -= 1
    const left = (running.get(who) ?? 0) - 1
    if (left > 0) running.set(who, left)
    else running.delete(who)
    for (const [next, queue] of waiting) {
      if (!hasRoom(next)) continue
      const begin = queue.shift()
      waiting.delete(next)
      if (queue.length > 0) waiting.set(next, queue)
      // The place goes straight to the next in line, so that nobody can slip in between.
      occupy(next)
      begin?.()
      return
    }
  }

  return async (task, who = '') => {
    const queue = waiting.get(who)
    if (queue === undefined && hasRoom(who)) occupy(who)
    else
      await new Promise<void>((begin) => {
        if (queue === undefined) waiting.set(who, [begin])
        else queue.push(begin)
      })
    try {
      return await task()
    } finally {
      leave(who)
    }
  }
}
