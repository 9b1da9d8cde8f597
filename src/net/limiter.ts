/** Owns a bound on how many calls run at once. */

/** Lets `limit` tasks run at once; the others wait in order. */
export function limiter(limit: number): <T>(task: () => Promise<T>) => Promise<T> {
  let running = 0
  const waiting: (() => void)[] = []
  return async (task) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve))
    else running += 1
    try {
      return await task()
    } finally {
      const next = waiting.shift()
      // The slot goes straight to the next in line, so that nobody can slip in between.
      if (next === undefined) running -= 1
      else next()
    }
  }
}
