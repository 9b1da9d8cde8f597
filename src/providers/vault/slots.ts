/** Owns what is kept for one pod: its tokens, what they issued, and when something is due. Pure but for its fields. */
import type { SecretBytes } from '../../telemetry/secret-bytes.ts'
import { margin, renewAt, type Span } from './leases.ts'

/** Time as the keeper knows it; tests bring their own. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Calls once after `ms`; never keeps the process alive. Returns how to cancel it. */
  after(ms: number, call: () => void): () => void
}

/** The calls that can be made in a slot's name at any time, its pod alive or not. */
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
  /** The server has refused a new one since: it is kept to be revoked with its pod, and never served again. */
  refused?: true
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
  /** Its renewals are under way. */
  busy: boolean
}

/** A token is not used for new requests in the last seconds of its life, nor near an end that no renewal moves. */
const TOKEN_MARGIN_MS = 10_000
/** A pod that was polled this often is being polled regularly. */
const REGULAR_POLLS = 3

export function holds(slot: Slot): readonly Hold[] {
  return slot.current ? [...slot.older, slot.current] : [...slot.older]
}

/** Entries with a lease, of one token or of all. */
export function leases(slot: Slot, hold?: Hold): readonly Entry[] {
  return [...slot.entries.values()].filter(
    (entry) => entry.leaseId !== '' && (hold === undefined || entry.hold === hold),
  )
}

/** Whether a token may carry a new request. */
export function usable(slot: Slot, hold: Hold | undefined, now: number): hold is Hold {
  if (hold === undefined || hold.usesLeft <= 0) return false
  const { life } = hold
  const left = life.expiresAt - now
  if (life.renewable || life.expiresAt === Infinity) return left > TOKEN_MARGIN_MS
  return left > Math.max(TOKEN_MARGIN_MS, Math.min(life.durationMs / 3, margin(life, slot.gapMs)))
}

/** When a token is renewed: for its leases, or while polls come. Two missed ones and it may lapse. */
export function tokenRenewAt(slot: Slot, hold: Hold, now: number): number | undefined {
  const polled = hold === slot.current && now - slot.lastPoll <= 2 * slot.gapMs + 30_000
  return hold.own && (polled || leases(slot, hold).length > 0)
    ? renewAt(hold.life, slot.gapMs, slot.spread)
    : undefined
}

export function entryRenewAt(slot: Slot, entry: Entry): number | undefined {
  return entry.leaseId === '' ? undefined : renewAt(entry.life, slot.gapMs, slot.spread)
}

/** When silence means that the pod is gone; undefined when it never does. */
export function disusedAt(slot: Slot, disuseMs: number): number | undefined {
  if (disuseMs === 0 || slot.polls < REGULAR_POLLS) return undefined
  return slot.lastPoll + Math.max(disuseMs, 3 * slot.gapMs)
}

/** The next moment at which a slot needs attention; `Infinity` for never. */
export function dueAt(slot: Slot, now: number, disuseMs: number): number {
  return Math.min(
    ...holds(slot).map((hold) => tokenRenewAt(slot, hold, now) ?? hold.life.expiresAt),
    ...[...slot.entries.values()].map((entry) => entryRenewAt(slot, entry) ?? entry.life.expiresAt),
    disusedAt(slot, disuseMs) ?? Infinity,
  )
}
