/**
 * Owns how much work runs at once: a fair queue for mounts and a budget of bytes (dependencies.md
 * section 6, threat model T18). Pure data structures without clock, timer or promise; the caller says
 * what happens when.
 */

export interface AdmissionLimits {
  /** Most mounts running at once. */
  readonly running: number
  /** Most of them from one namespace, so that a namespace whose store hangs leaves room for others. */
  readonly runningPerNamespace: number
  /** Most of them from one namespace while mounts of others come: also the processor is shared then. */
  readonly runningBeside: number
  /** Most mounts waiting. */
  readonly waiting: number
  /** Most of them from one namespace. */
  readonly waitingPerNamespace: number
}

export const DEFAULT_ADMISSION: AdmissionLimits = {
  running: 16,
  runningPerNamespace: 12,
  runningBeside: 8,
  waiting: 1000,
  waitingPerNamespace: 500,
}

/** A namespace counts as coming while one of its mounts is among the last so many that began. */
const RECENT = 100

/** `run`: it holds a slot now. `wait`: {@link Admission.finish} will name it. `refused`: the queue is full. */
export type Offer = 'run' | 'wait' | 'refused'

/** A queue in which namespaces take turns, and within a namespace the earliest deadline goes first. */
export interface Admission<Item> {
  /** @param deadline milliseconds since the epoch */
  offer(namespace: string, deadline: number, item: Item): Offer
  /** A mount of `namespace` that ran is over. @returns the waiting mounts that hold slots now. */
  finish(namespace: string): readonly Item[]
  /** Takes a mount that waits out of the queue. @returns false when it does not wait. */
  withdraw(namespace: string, item: Item): boolean
  counts(): { readonly running: number; readonly waiting: number }
}

interface Waiting<Item> {
  readonly deadline: number
  readonly item: Item
}

export function createAdmission<Item>(limits: AdmissionLimits): Admission<Item> {
  const running = new Map<string, number>()
  // Insertion order is the order of turns: a namespace that had its turn goes to the end.
  const waiting = new Map<string, Waiting<Item>[]>()
  let runningTotal = 0
  let waitingTotal = 0

  let begun = 0
  /** The last mount that began, and the last one of another namespace than that. */
  let last = { namespace: '', at: Number.NEGATIVE_INFINITY }
  let lastOther = last

  const othersCome = (namespace: string): boolean =>
    begun - (last.namespace === namespace ? lastOther : last).at < RECENT

  const roomFor = (namespace: string): boolean =>
    runningTotal < limits.running &&
    (running.get(namespace) ?? 0) <
      (othersCome(namespace) ? limits.runningBeside : limits.runningPerNamespace)

  const occupy = (namespace: string): void => {
    begun++
    if (last.namespace !== namespace) lastOther = last
    last = { namespace, at: begun }
    runningTotal++
    running.set(namespace, (running.get(namespace) ?? 0) + 1)
  }

  const takeNext = (): Waiting<Item> | undefined => {
    for (const [candidate, queue] of waiting) {
      if (!roomFor(candidate)) continue
      const next = queue.shift()
      waiting.delete(candidate)
      if (queue.length > 0) waiting.set(candidate, queue)
      if (!next) continue
      waitingTotal--
      occupy(candidate)
      return next
    }
    return undefined
  }

  return {
    offer: (namespace, deadline, item) => {
      const queue = waiting.get(namespace) ?? []
      if (queue.length === 0 && roomFor(namespace)) {
        occupy(namespace)
        return 'run'
      }
      if (waitingTotal >= limits.waiting || queue.length >= limits.waitingPerNamespace) return 'refused'
      const later = queue.findIndex((entry) => entry.deadline > deadline)
      queue.splice(later < 0 ? queue.length : later, 0, { deadline, item })
      waiting.set(namespace, queue)
      waitingTotal++
      return 'wait'
    },
    finish: (namespace) => {
      const left = (running.get(namespace) ?? 0) - 1
      if (left < 0) throw new Error('a mount finished that was not running')
      runningTotal--
      if (left === 0) running.delete(namespace)
      else running.set(namespace, left)
      const next: Item[] = []
      // More than one when a namespace has more room now than before.
      for (let item = takeNext(); item; item = takeNext()) next.push(item.item)
      return next
    },
    withdraw: (namespace, item) => {
      const queue = waiting.get(namespace) ?? []
      const index = queue.findIndex((entry) => entry.item === item)
      if (index < 0) return false
      queue.splice(index, 1)
      if (queue.length === 0) waiting.delete(namespace)
      waitingTotal--
      return true
    },
    counts: () => ({ running: runningTotal, waiting: waitingTotal }),
  }
}

/**
 * Which of those that wait give way when others cannot even be read: of the namespace that holds most bytes the
 * last to come, until `bytes` are free.
 * @param waiting in the order in which they came
 */
export function givingWay<Call extends { readonly namespace: string; readonly bytes: number }>(
  waiting: readonly Call[],
  bytes: number,
): readonly Call[] {
  const held = (calls: readonly Call[]): number => calls.reduce((sum, call) => sum + call.bytes, 0)
  const byNamespace = [...Map.groupBy(waiting, ({ namespace }) => namespace).values()]
  const [heaviest = []] = byNamespace.sort((a, b) => held(b) - held(a))
  const last = heaviest.toReversed()
  const enough = last.findIndex((_, index) => held(last.slice(0, index + 1)) >= bytes)
  return enough < 0 ? last : last.slice(0, enough + 1)
}

/** Part of a {@link ByteBudget} that somebody holds or waits for. */
export interface ByteClaim {
  /** Gives back all but `bytes`. */
  shrinkTo(bytes: number): void
  /** Gives everything back, or leaves the queue. May be called again. */
  release(): void
}

/** A number of bytes that may be in use at once, given out first come, first served. */
export interface ByteBudget {
  /**
   * Calls `granted` once `bytes` are free, possibly before this returns. A claim over the whole budget
   * counts as the whole budget, so that it is served alone rather than never.
   */
  claim(bytes: number, granted: () => void): ByteClaim
  counts(): { readonly used: number; readonly waiting: number }
}

export function createByteBudget(total: number): ByteBudget {
  interface Claim {
    bytes: number
    readonly granted: () => void
  }
  const queue: Claim[] = []
  const holders = new Set<Claim>()
  let used = 0

  const serve = (): void => {
    for (let head = queue[0]; head && used + head.bytes <= total; head = queue[0]) {
      queue.shift()
      used += head.bytes
      holders.add(head)
      head.granted()
    }
  }
  return {
    claim: (bytes, granted) => {
      const claim: Claim = { bytes: Math.min(bytes, total), granted }
      queue.push(claim)
      serve()
      return {
        shrinkTo: (smaller) => {
          if (!holders.has(claim) || smaller >= claim.bytes) return
          used -= claim.bytes - smaller
          claim.bytes = smaller
          serve()
        },
        release: () => {
          if (holders.delete(claim)) used -= claim.bytes
          else if (queue.includes(claim)) queue.splice(queue.indexOf(claim), 1)
          serve()
        },
      }
    },
    counts: () => ({ used, waiting: queue.length }),
  }
}
