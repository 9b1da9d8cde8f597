/**
 * Owns what is kept for each pod: its token, what that token issued, and their renewal and revocation
 * (vault sections 7 and 9). One keeper per process; nothing is shared between pods.
 */
import { createHmac, randomBytes } from 'node:crypto'
import type { Logger } from '../../telemetry/log.ts'
import type { Meter } from '../../telemetry/metrics.ts'
import type { SecretBytes } from '../../telemetry/secret-bytes.ts'
import { BackendError } from '../adapter.ts'
import type { VaultToken } from './auth.ts'
import {
  certainEnd,
  ended,
  final,
  isAlive,
  margin,
  mustRefresh,
  postponed,
  renewAt,
  renewed,
  span,
  suspect,
  USUAL_POLL_GAP_MS,
  usualGap,
  type Span,
} from './leases.ts'

/** Time as the keeper knows it; tests bring their own. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Calls once after `ms`; never keeps the process alive. Returns how to cancel it. */
  after(ms: number, call: () => void): () => void
}

/** The calls that a slot's owner can make in its name, at any time. */
export interface SlotCalls {
  renewToken(token: SecretBytes, incrementSeconds: number): Promise<number>
  renewLease(token: SecretBytes, id: string, incrementSeconds: number): Promise<number>
  revokeToken(token: SecretBytes): Promise<void>
  revokeLease(token: SecretBytes, id: string): Promise<void>
}

/** A token of one pod. */
export interface Hold {
  readonly token: SecretBytes
  readonly type: string
  /** Logged in by us, so ours to renew and to revoke; false for an operator's token. */
  readonly own: boolean
  life: Span
  /** Uses left; `Infinity` without a limit. */
  usesLeft: number
  /** It has issued a lease: when it is replaced it stays known, so that it can be revoked with the pod. */
  issued: boolean
}

/** A secret that stays good for a while. */
export interface Entry {
  readonly hold: Hold
  /** Empty for what has an end but no lease. */
  readonly leaseId: string
  /** Canonical envelope. */
  readonly body: SecretBytes
  life: Span
}

/** Everything kept for one pod and one way of logging in. */
export interface Slot {
  readonly key: string
  readonly podUid: string
  calls: SlotCalls
  current: Hold | undefined
  login: Promise<Hold> | undefined
  readonly entries: Map<string, Entry>
  /** Replaced tokens that have issued leases. */
  readonly older: Set<Hold>
  lastPoll: number
  polls: number
  gapMs: number
  /** −1…1: moves its renewals, so that those of a node do not come at once. */
  readonly spread: number
}

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
  /** UIDs of the pods for which something is kept. */
  pods(): Iterable<string>
  /** Revokes and forgets everything of a pod. */
  podGone(podUid: string): void
  /** Counts, for tests and status. */
  counts(): { readonly slots: number; readonly tokens: number; readonly leases: number }
  /** Ends when no renewal or revocation is under way. */
  idle(): Promise<void>
  /** Waits for calls under way, then forgets everything. Revokes nothing: the pods live on. */
  close(): Promise<void>
}

const METRIC = { backend: 'vault' } as const
/** A token is not used for new requests in the last seconds of its life, nor near an end that no renewal moves. */
const TOKEN_MARGIN_MS = 10_000
/** Entry bytes kept per process; beyond it secrets are issued anew at each poll. */
const MAX_KEPT_BYTES = 32 * 1024 * 1024
/** Polls closer together belong to one mount or to several volumes of one pod. */
const SAME_POLL_MS = 1000
/** A pod that was polled this often is being polled regularly. */
const REGULAR_POLLS = 3

export function createKeeper(options: KeeperOptions): Keeper {
  const { clock, log, meter } = options
  const slots = new Map<string, Slot>()
  const salt = randomBytes(32)
  const running = new Set<Promise<void>>()
  let cancelTimer = (): void => {}
  let closed = false
  let keptBytes = 0

  const event = (name: string): void => meter.count('keyferry_lease_events_total', { ...METRIC, event: name })

  function showGauges(): void {
    let leases = 0
    for (const slot of slots.values())
      for (const entry of slot.entries.values()) if (entry.leaseId !== '') leases += 1
    meter.gauge('keyferry_leases', leases, METRIC)
  }

  function run(work: Promise<void>): void {
    const guarded = work.catch((error: unknown) => {
      log.error('lease keeping failed in a way it should not', {
        error: error instanceof Error ? error.name : typeof error,
      })
    })
    running.add(guarded)
    void guarded.then(() => running.delete(guarded))
  }

  function forget(slot: Slot, key: string): void {
    const entry = slot.entries.get(key)
    if (!entry) return
    slot.entries.delete(key)
    keptBytes -= entry.body.length
    entry.body.wipe()
  }

  function opened(slot: Slot, token: VaultToken): Hold {
    const hold: Hold = {
      token: token.token,
      type: token.type,
      own: true,
      life: span(clock.now(), token.ttl, token.renewable),
      usesLeft: token.uses === 0 ? Infinity : token.uses,
      issued: false,
    }
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
    const attempt = login().then(
      (token) => {
        meter.count('keyferry_sessions_opened_total', { ...METRIC, outcome: 'ok' })
        return opened(slot, token)
      },
      (error: unknown) => {
        const outcome = error instanceof BackendError ? error.kind : 'internal'
        meter.count('keyferry_sessions_opened_total', { ...METRIC, outcome })
        throw error
      },
    )
    slot.login = attempt
    const done = (): void => {
      slot.login = undefined
    }
    attempt.then(done, done)
    return attempt
  }

  function usable(slot: Slot, hold: Hold | undefined): hold is Hold {
    if (hold === undefined || hold.usesLeft <= 0) return false
    const { life } = hold
    const left = life.expiresAt - clock.now()
    if (life.renewable || life.expiresAt === Infinity) return left > TOKEN_MARGIN_MS
    return left > Math.max(TOKEN_MARGIN_MS, Math.min(life.durationMs / 3, margin(life, slot.gapMs)))
  }

  /** The next moment at which something is due. */
  function schedule(): void {
    cancelTimer()
    if (closed) return
    let due = Infinity
    for (const slot of slots.values()) due = Math.min(due, ...dueTimes(slot))
    if (due === Infinity) return
    cancelTimer = clock.after(Math.min(Math.max(20, due - clock.now()), 2 ** 31 - 1), () => run(work()))
  }

  function* dueTimes(slot: Slot): Generator<number> {
    for (const hold of holds(slot)) {
      const at = hold.own && needed(slot, hold) ? renewAt(hold.life, slot.gapMs, slot.spread) : undefined
      if (at !== undefined) yield at
      else if (hold.life.expiresAt !== Infinity) yield hold.life.expiresAt
    }
    for (const { leaseId, life } of slot.entries.values()) {
      const at = leaseId === '' ? undefined : renewAt(life, slot.gapMs, slot.spread)
      yield at ?? life.expiresAt
    }
    const silent = disusedAt(slot)
    if (silent !== undefined) yield silent
  }

  /** Tokens are renewed for their leases, or while polls come: two missed ones and it may lapse. */
  function needed(slot: Slot, hold: Hold): boolean {
    if (carries(slot, hold)) return true
    return hold === slot.current && clock.now() - slot.lastPoll <= 2 * slot.gapMs + 30_000
  }

  function disusedAt(slot: Slot): number | undefined {
    const disuseMs = options.disuseMs()
    if (disuseMs === 0 || slot.polls < REGULAR_POLLS) return undefined
    return slot.lastPoll + Math.max(disuseMs, 3 * slot.gapMs)
  }

  async function work(): Promise<void> {
    const now = clock.now()
    for (const slot of slots.values()) {
      const silent = disusedAt(slot)
      if (silent !== undefined && silent <= now) {
        log.info('a pod is no longer polled; its leases are let go', { pod: slot.podUid })
        drop(slot)
        continue
      }
      await renewSlot(slot, now)
      for (const [key, entry] of slot.entries) if (!isAlive(entry.life, now)) lost(slot, key)
      for (const hold of slot.older) if (!isAlive(hold.life, now)) slot.older.delete(hold)
      if (slot.current && !isAlive(slot.current.life, now)) slot.current = undefined
      if (!slot.current && !slot.login && slot.entries.size === 0 && now - slot.lastPoll > 3_600_000)
        slots.delete(slot.key)
    }
    showGauges()
    schedule()
  }

  function lost(slot: Slot, key: string): void {
    if (slot.entries.get(key)?.leaseId !== '') event('lost')
    forget(slot, key)
  }

  async function renewSlot(slot: Slot, now: number): Promise<void> {
    for (const hold of holds(slot)) {
      const at = hold.own && needed(slot, hold) ? renewAt(hold.life, slot.gapMs, slot.spread) : undefined
      if (at === undefined || at > now) continue
      const seconds = Math.round(hold.life.durationMs / 1000)
      const { life } = await afterRenewal(hold.life, () => slot.calls.renewToken(hold.token, seconds))
      hold.life = life
      // A refused token may be revoked, and what it issued with it: the next poll shall find out.
      if (life.reissueAt !== undefined) {
        for (const entry of slot.entries.values())
          if (entry.hold === hold) entry.life = suspect(entry.life, clock.now())
      }
    }
    for (const entry of slot.entries.values()) {
      const at = entry.leaseId === '' ? undefined : renewAt(entry.life, slot.gapMs, slot.spread)
      if (at === undefined || at > now) continue
      const seconds = Math.round(entry.life.durationMs / 1000)
      const { life, ok } = await afterRenewal(entry.life, () =>
        slot.calls.renewLease(entry.hold.token, entry.leaseId, seconds),
      )
      entry.life = life
      event(ok ? 'renewed' : 'renewal-failed')
    }
  }

  async function afterRenewal(life: Span, call: () => Promise<number>): Promise<{ life: Span; ok: boolean }> {
    try {
      const seconds = await call()
      return { life: renewed(life, clock.now(), seconds), ok: true }
    } catch (error) {
      const kind = error instanceof BackendError ? error.kind : 'internal'
      const reason = error instanceof BackendError ? error.message : 'internal error'
      log.warn('a renewal failed', { kind, reason })
      const now = clock.now()
      if (kind === 'denied') return { life: suspect(life, now), ok: false }
      if (kind !== 'config' && kind !== 'not-found') return { life: postponed(life, now), ok: false }
      return { life: /lease (?:not found|expired)/.test(reason) ? ended(life, now) : final(life), ok: false }
    }
  }

  /** Lets go of everything of a slot, on the server too where that is wanted. */
  function drop(slot: Slot): void {
    slots.delete(slot.key)
    const kept = [...slot.entries.values()]
    const tokens = holds(slot).filter((hold) => isAlive(hold.life, clock.now()))
    if (options.revoke) run(revokeAll(slot.calls, tokens, kept))
    else for (const entry of kept) entry.body.wipe()
    for (const entry of kept) keptBytes -= entry.body.length
    slot.entries.clear()
    showGauges()
  }

  async function revokeAll(calls: SlotCalls, tokens: readonly Hold[], kept: readonly Entry[]): Promise<void> {
    for (const hold of tokens) {
      const issued = kept.filter((entry) => entry.hold === hold && entry.leaseId !== '')
      const whole = hold.own && hold.type !== 'batch'
      const done = whole
        ? await tried(() => calls.revokeToken(hold.token))
        : (
            await Promise.all(
              issued.map((entry) => tried(() => calls.revokeLease(hold.token, entry.leaseId))),
            )
          ).every(Boolean)
      for (const _ of issued) event(done ? 'revoked' : 'revocation-failed')
      if (hold.own) hold.token.wipe()
    }
    for (const entry of kept) entry.body.wipe()
  }

  /** Three tries within a few seconds; after that the lease ends by its own time. */
  async function tried(call: () => Promise<void>): Promise<boolean> {
    for (const wait of [1000, 5000, undefined]) {
      try {
        await call()
        return true
      } catch (error) {
        const kind = error instanceof BackendError ? error.kind : 'internal'
        if (wait === undefined || kind === 'denied' || kind === 'config' || closed) {
          log.warn('a lease could not be revoked; it ends by itself', { kind })
          return false
        }
        await new Promise<void>((resolve) => clock.after(wait, resolve))
      }
    }
    return false
  }

  return {
    poll(parts, podUid, calls) {
      const key = createHmac('sha256', salt)
        .update(JSON.stringify([podUid, ...parts]))
        .digest('base64url')
      const now = clock.now()
      const known = slots.get(key)
      if (known) {
        const gap = now - known.lastPoll
        if (gap > SAME_POLL_MS) {
          known.gapMs = usualGap(known.gapMs, gap)
          known.polls += 1
          known.lastPoll = now
          schedule()
        }
        known.calls = calls
        return known
      }
      const slot: Slot = {
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
        spread: options.spread(),
      }
      slots.set(key, slot)
      return slot
    },
    async token(slot, login) {
      const fresh = !usable(slot, slot.current)
      const hold = usable(slot, slot.current) ? slot.current : await logIn(slot, login)
      hold.usesLeft -= 1
      return { hold, fresh }
    },
    async replacement(slot, refused, login) {
      const other = slot.current
      const hold = usable(slot, other) && other !== refused ? other : await logIn(slot, login)
      hold.usesLeft -= 1
      return hold
    },
    adopt(slot, token) {
      const known = slot.current
      if (known && known.token.reveal().equals(token.reveal())) return known
      const hold: Hold = {
        token,
        type: 'service',
        own: false,
        life: span(clock.now(), 0, false),
        usesLeft: Infinity,
        issued: false,
      }
      slot.current = hold
      if (known?.issued) slot.older.add(known)
      return hold
    },
    fresh(slot, key) {
      const entry = slot.entries.get(key)
      const tokenEnd = entry ? certainEnd(entry.hold.life) : 0
      return entry && !mustRefresh(entry.life, clock.now(), slot.gapMs, tokenEnd) ? entry : undefined
    },
    alive(slot, key) {
      const entry = slot.entries.get(key)
      return entry && isAlive(entry.life, clock.now(), entry.hold.life.expiresAt) ? entry : undefined
    },
    keep(slot, key, entry) {
      if (entry.leaseId !== '') {
        event(slot.entries.has(key) ? 'replaced' : 'issued')
        markIssued(entry.hold)
      }
      forget(slot, key)
      const unknown = slots.get(slot.key) !== slot
      // The pod went while its secret was being issued.
      if (unknown && options.revoke && !closed) run(revokeAll(slot.calls, [entry.hold], [entry]))
      if (closed || unknown || keptBytes + entry.body.length > MAX_KEPT_BYTES) {
        if (!unknown) log.warn('too many leased secrets are kept; this one is issued anew at each poll')
        return
      }
      slot.entries.set(key, entry)
      keptBytes += entry.body.length
      showGauges()
      schedule()
    },
    pods: () => new Set([...slots.values()].map((slot) => slot.podUid)),
    podGone(podUid) {
      for (const slot of slots.values()) if (slot.podUid === podUid) drop(slot)
    },
    counts() {
      const all = [...slots.values()]
      return {
        slots: all.length,
        tokens: all.flatMap(holds).length,
        leases: all.flatMap((slot) => [...slot.entries.values()].filter((entry) => entry.leaseId !== ''))
          .length,
      }
    },
    async idle() {
      while (running.size > 0) await Promise.all(running)
    },
    async close() {
      closed = true
      cancelTimer()
      await Promise.all(running)
      for (const slot of slots.values()) {
        for (const entry of slot.entries.values()) entry.body.wipe()
        for (const hold of holds(slot)) if (hold.own) hold.token.wipe()
      }
      slots.clear()
    },
  }
}

function carries(slot: Slot, hold: Hold): boolean {
  for (const entry of slot.entries.values()) if (entry.hold === hold && entry.leaseId !== '') return true
  return false
}

function markIssued(hold: Hold): void {
  const kept = hold
  kept.issued = true
}

function holds(slot: Slot): readonly Hold[] {
  return slot.current ? [...slot.older, slot.current] : [...slot.older]
}
