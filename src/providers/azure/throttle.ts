/** Owns restraint towards vaults: how many calls at once, and the pause that all mounts keep after a 429 (azure section 14). */
import { limiter, NAMESPACE_SHARE, type Limiter } from '../../net/limiter.ts'

/** Calls to one vault from the whole process: as many as connections are kept, so that bursts make no new ones. */
const PER_VAULT = 32
const BASE_MS = 1000
const LONGEST_MS = 30_000
/** A vault may ask for a longer pause than ours; nothing is believed beyond this. */
const LONGEST_ASKED_MS = 10 * 60_000
const MAX_VAULTS = 1000

/** What the process remembers of one vault. */
export interface VaultPace {
  /** Waits for a free place; namespaces take turns. */
  readonly slot: Limiter
  /** Milliseconds until the vault may be called again; 0 when it may now. */
  pausedFor(now: Date): number
  /** The vault answered 429. @returns milliseconds of the pause. */
  throttled(now: Date, retryAfterMs: number | undefined): number
  /** The vault answered. */
  answered(): void
}

/** One pace for each vault, by host name. */
export function vaultPaces(random: () => number = Math.random): (host: string) => VaultPace {
  const paces = new Map<string, VaultPace>()
  return (host) => {
    const known = paces.get(host)
    if (known !== undefined) return known
    if (paces.size >= MAX_VAULTS) paces.clear()
    const pace = createPace(random)
    paces.set(host, pace)
    return pace
  }
}

function createPace(random: () => number): VaultPace {
  let until = 0
  let inARow = 0
  return {
    slot: limiter(PER_VAULT, NAMESPACE_SHARE),
    pausedFor: (now) => Math.max(0, until - now.getTime()),
    throttled: (now, retryAfterMs) => {
      // Many calls in flight are refused together: they are one refusal.
      if (until <= now.getTime()) inARow += 1
      const own = Math.min(LONGEST_MS, BASE_MS * 2 ** Math.min(inARow - 1, 10)) * (0.5 + random() / 2)
      const pause = Math.min(retryAfterMs ?? own, LONGEST_ASKED_MS)
      until = Math.max(until, now.getTime() + pause)
      return until - now.getTime()
    },
    answered: () => {
      inARow = 0
    },
  }
}
