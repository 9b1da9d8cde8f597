/** Owns waiting for something that another process will do on its own clock. */
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Asks every 20 ms until the answer is not undefined and not false.
 * @throws Error naming what was awaited after `withinMs`, default 15 000.
 */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  withinMs = 15_000,
): Promise<T> {
  const until = Date.now() + withinMs
  for (;;) {
    const answer = await ask()
    if (answer !== undefined && answer !== false) return answer
    if (Date.now() > until) throw new Error(`did not happen within ${withinMs} ms: ${what}`)
    await sleep(20)
  }
}
