/**
 * Owns what is kept for the pods of this node: a slot each, their logins, the timer that renews, and
 * what happens when a pod is gone (vault sections 7 and 9). One keeper per process; nothing is shared
 * between pods.
 */
import { createHmac, createSecretKey, randomBytes } from 'node:crypto'
import type { Logger } from '../../telemetry/log.ts'
import type { Meter } from '../../telemetry/metrics.ts'
import type { SecretBytes } from '../../telemetry/secret-bytes.ts'
import { BackendError } from '../adapter.ts'
import type { VaultToken } from './auth.ts'
import { certainEnd, isAlive, mustRefresh, span, usualGap, USUAL_POLL_GAP_MS } from './leases.ts'
import { renewSlot, revokeAll, type Renewing } from './renewals.ts'
import {
  disusedAt,
  dueAt,
  holds,
  leases,
  usable,
  type Clock,
  type Entry,
  type Hold,
  type Slot,
  type SlotCalls,
} from './slots.ts'

export interface KeeperOptions {
  readonly clock: Clock
  readonly log: Logger
  readonly meter: Meter
  /** −1…1, a number for each slot. */
  readonly spread: () => number
  /** Revoke when the pod is gone. */
  readonly revoke: boolean
  /** How long a regularly polled pod may be silent; 0 while gone pods are reported, or for ever. */
  readonly disuseMs: () => number
}

export interface Keeper {
  /** The slot for a pod, made on first use; counts as a poll. `parts` identify pod, store and role. */
  poll(parts: readonly string[], podUid: string, calls: SlotCalls): Slot
  /** A usable token: the kept one, or one from `login`, which runs once however many ask. */
  token(slot: Slot, login: () => Promise<VaultToken>): Promise<{ hold: Hold; fresh: boolean }>
  /** A token other than `refused`, which the server no longer takes. */
  replacement(slot: Slot, refused: Hold, login: () => Promise<VaultToken>): Promise<Hold>
  /** Takes a token that is not ours to renew or revoke. */
  adopt(slot: Slot, token: SecretBytes): Hold
  /** What can be served without a call. */
  fresh(slot: Slot, key: string): Entry | undefined
  /** What can be served when a call failed. */
  alive(slot: Slot, key: string): Entry | undefined
  keep(slot: Slot, key: string, entry: Entry): void
  /** The server refuses a new one for good: what is kept is not served again. */
  refused(slot: Slot, key: string): void
  /** UIDs of the pods for which something is kept. */
  pods(): Iterable<string>
  /** Revokes and forgets everything of a pod. */
  podGone(podUid: string): void
  /** Counts, for tests and status. */
  counts(): { readonly slots: number; readonly tokens: number; readonly leases: number }
  /** Ends when no renewal or revocation is under way. */
  idle(): Promise<void>
  /** Waits a little for calls under way, then forgets everything. Revokes nothing: the pods live on. */
  close(): Promise<void>
}

const METRIC = { backend: 'vault' } as const
/** Entry bytes kept per process; beyond it secrets are issued anew at each poll. */
const MAX_KEPT_BYTES = 32 * 1024 * 1024
/** Polls closer together belong to one mount or to several volumes of one pod. */
const SAME_POLL_MS = 1000
/** An empty slot of a pod that was not polled for this long is dropped. */
const FORGET_AFTER_MS = 3_600_000
/** A timer is set no shorter, so that no slot can keep the process busy. */
const SHORTEST_WAIT_MS = 20
const LONGEST_WAIT_MS = 2 ** 31 - 1
/** How long the end of the process waits for calls under way. */
const CLOSING_MS = 3000

export function createKeeper(options: KeeperOptions): Keeper {
  const { clock, log, meter } = options
  const slots = new Map<string, Slot>()
  const salt = createSecretKey(randomBytes(32))
  const running = new Set<Promise<void>>()
  let cancelTimer = (): void => {}
  let closed = false
  let keptBytes = 0

  const event = (name: string): void => meter.count('keyferry_lease_events_total', { ...METRIC, event: name })
  const renewing: Renewing = { clock, log, event, closed: () => closed }
  const leaseCount = (): number => [...slots.values()].reduce((sum, slot) => sum + leases(slot).length, 0)
  const showGauge = (): void => meter.gauge('keyferry_leases', leaseCount(), METRIC)

  function run(work: Promise<void>): void {
    const guarded = work.catch((error: unknown) => {
      const name = error instanceof Error ? error.name : typeof error
      log.error('lease keeping failed in a way it should not', { error: name })
    })
    running.add(guarded)
    void guarded.then(() => running.delete(guarded))
  }

  // --- tokens -------------------------------------------------------------------------------

  function opened(slot: Slot, { token, type, ttl, renewable, uses }: VaultToken): Hold {
    const life = span(clock.now(), ttl, renewable)
    const usesLeft = uses === 0 ? Infinity : uses
    const hold: Hold = { token, type, own: true, life, usesLeft, issued: false }
    const before = slot.current
    slot.current = hold
    if (before) retire(slot, before)
    schedule()
    return hold
  }

  /** A replaced token lives on only for its leases. */
  function retire(slot: Slot, hold: Hold): void {
    if (hold.issued) slot.older.add(hold)
    else if (options.revoke && hold.own && hold.type !== 'batch' && isAlive(hold.life, clock.now())) {
      run(slot.calls.revokeToken(hold.token).catch(() => {}))
    }
  }

  function logIn(slot: Slot, login: () => Promise<VaultToken>): Promise<Hold> {
    if (slot.login) return slot.login
    const count = (outcome: string): void =>
      meter.count('keyferry_sessions_opened_total', { ...METRIC, outcome })
    const attempt = login()
      .then(
        (token) => {
          count('ok')
          return opened(slot, token)
        },
        (error: unknown) => {
          count(error instanceof BackendError ? error.kind : 'internal')
          throw error
        },
      )
      .finally(() => {
        slot.login = undefined
      })
    slot.login = attempt
    return attempt
  }

  // --- time ---------------------------------------------------------------------------------

  /** Sets the timer to the next moment at which any slot needs attention. */
  function schedule(): void {
    cancelTimer()
    if (closed) return
    const now = clock.now()
    const disuseMs = options.disuseMs()
    let due = Infinity
    for (const slot of slots.values()) if (!slot.busy) due = Math.min(due, dueAt(slot, now, disuseMs))
    if (due === Infinity) return
    cancelTimer = clock.after(Math.min(Math.max(SHORTEST_WAIT_MS, due - now), LONGEST_WAIT_MS), attend)
  }

  /** Looks after every slot that is due, each by itself: a slow server delays nobody else's renewals. */
  function attend(): void {
    const now = clock.now()
    const disuseMs = options.disuseMs()
    for (const slot of slots.values()) {
      const silent = disusedAt(slot, disuseMs)
      if (silent !== undefined && silent <= now) {
        log.info('a pod is no longer polled; its leases are let go', { pod: slot.podUid })
        drop(slot)
      } else if (!slot.busy && dueAt(slot, now, disuseMs) <= now) {
        slot.busy = true
        run(lookAfter(slot))
      } else if (slot.entries.size === 0 && !slot.current && now - slot.lastPoll > FORGET_AFTER_MS) {
        slots.delete(slot.key)
      }
    }
    schedule()
  }

  async function lookAfter(slot: Slot): Promise<void> {
    try {
      await renewSlot(slot, renewing)
      const now = clock.now()
      for (const [key, entry] of slot.entries) {
        if (isAlive(entry.life, now, entry.hold.life.expiresAt)) continue
        if (entry.leaseId !== '') event('lost')
        forget(slot, key)
      }
      for (const hold of slot.older) if (!isAlive(hold.life, now)) slot.older.delete(hold)
      if (slot.current && !isAlive(slot.current.life, now)) slot.current = undefined
    } finally {
      slot.busy = false
      showGauge()
      schedule()
    }
  }

  // --- entries ------------------------------------------------------------------------------

  function forget(slot: Slot, key: string): void {
    const entry = slot.entries.get(key)
    if (!entry) return
    slot.entries.delete(key)
    keptBytes -= entry.body.length
    entry.body.wipe()
  }

  /** Lets go of everything of a slot, on the server too where that is wanted. */
  function drop(slot: Slot): void {
    slots.delete(slot.key)
    const kept = [...slot.entries.values()]
    slot.entries.clear()
    for (const entry of kept) keptBytes -= entry.body.length
    const tokens = holds(slot).filter((hold) => isAlive(hold.life, clock.now()))
    if (options.revoke) run(revokeAll(slot.calls, tokens, kept, renewing))
    else for (const entry of kept) entry.body.wipe()
    showGauge()
  }

  return {
    poll(parts, podUid, calls) {
      const text = JSON.stringify([podUid, ...parts])
      const key = createHmac('sha256', salt).update(text).digest('base64url')
      const now = clock.now()
      const known = slots.get(key)
      if (!known) {
        const slot = newSlot(key, podUid, calls, now, options.spread())
        slots.set(key, slot)
        return slot
      }
      const gap = now - known.lastPoll
      if (gap > SAME_POLL_MS) {
        known.gapMs = usualGap(known.gapMs, gap)
        known.polls += 1
        known.lastPoll = now
        schedule()
      }
      known.calls = calls
      return known
    },
    async token(slot, login) {
      const kept = slot.current
      const good = usable(slot, kept, clock.now())
      const hold = good ? kept : await logIn(slot, login)
      hold.usesLeft -= 1
      return { hold, fresh: !good }
    },
    async replacement(slot, refused, login) {
      const other = slot.current
      const hold = other !== refused && usable(slot, other, clock.now()) ? other : await logIn(slot, login)
      hold.usesLeft -= 1
      return hold
    },
    adopt(slot, token) {
      const known = slot.current
      if (known?.token.reveal().equals(token.reveal())) return known
      const life = span(clock.now(), 0, false)
      const hold: Hold = { token, type: 'service', own: false, life, usesLeft: Infinity, issued: false }
      slot.current = hold
      if (known?.issued) slot.older.add(known)
      return hold
    },
    fresh(slot, key) {
      const entry = slot.entries.get(key)
      if (!entry) return undefined
      const tokenEnd = certainEnd(entry.hold.life)
      return entry.refused || mustRefresh(entry.life, clock.now(), slot.gapMs, tokenEnd) ? undefined : entry
    },
    alive(slot, key) {
      const entry = slot.entries.get(key)
      if (!entry || entry.refused) return undefined
      return isAlive(entry.life, clock.now(), entry.hold.life.expiresAt) ? entry : undefined
    },
    refused(slot, key) {
      const entry = slot.entries.get(key)
      if (entry) entry.refused = true
    },
    keep(slot, key, entry) {
      const { hold, leaseId, body } = entry
      if (leaseId !== '') {
        event(slot.entries.has(key) ? 'replaced' : 'issued')
        hold.issued = true
      }
      forget(slot, key)
      if (closed) return
      if (slots.get(slot.key) !== slot) {
        // The pod went while its secret was being issued.
        if (options.revoke) run(revokeAll(slot.calls, [hold], [entry], renewing))
      } else if (keptBytes + body.length > MAX_KEPT_BYTES) {
        log.warn('too many leased secrets are kept; this one is issued anew at each poll')
      } else {
        slot.entries.set(key, entry)
        keptBytes += body.length
        showGauge()
        schedule()
      }
    },
    pods: () => new Set([...slots.values()].map((slot) => slot.podUid)),
    podGone(podUid) {
      for (const slot of slots.values()) if (slot.podUid === podUid) drop(slot)
    },
    counts: () => ({
      slots: slots.size,
      tokens: [...slots.values()].flatMap(holds).length,
      leases: leaseCount(),
    }),
    async idle() {
      while (running.size > 0) await Promise.all(running)
    },
    async close() {
      closed = true
      cancelTimer()
      const soon = new Promise<void>((resolve) => clock.after(CLOSING_MS, resolve))
      await Promise.race([Promise.all(running), soon])
      for (const slot of slots.values()) {
        for (const entry of slot.entries.values()) entry.body.wipe()
        for (const hold of holds(slot)) if (hold.own) hold.token.wipe()
      }
      slots.clear()
    },
  }
}

function newSlot(key: string, podUid: string, calls: SlotCalls, now: number, spread: number): Slot {
  return {
    key,
    podUid,
    calls,
    current: undefined,
    login: undefined,
    entries: new Map(),
    older: new Set(),
    lastPoll: now,
    polls: 1,
    gapMs: USUAL_POLL_GAP_MS,
    spread,
    busy: false,
  }
}
