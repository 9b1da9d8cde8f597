/** Owns the calls that prolong and end a slot's tokens and leases, and what their answers mean (vault sections 7 and 9). */
import type { Logger } from '../../telemetry/log.ts'
import { BackendError } from '../adapter.ts'
import { ended, final, postponed, renewed, suspect, type Span } from './leases.ts'
import {
  entryRenewAt,
  holds,
  tokenRenewAt,
  type Clock,
  type Entry,
  type Hold,
  type Slot,
  type SlotCalls,
} from './slots.ts'

export interface Renewing {
  readonly clock: Clock
  readonly log: Logger
  /** Counts a lease's event. */
  readonly event: (name: string) => void
  /** The process ends: nothing is tried again. */
  readonly closed: () => boolean
}

/** Renews what is due in a slot. Never throws for an answer of the server. */
export async function renewSlot(slot: Slot, renewing: Renewing): Promise<void> {
  const { clock } = renewing
  for (const hold of holds(slot)) {
    if ((tokenRenewAt(slot, hold, clock.now()) ?? Infinity) > clock.now()) continue
    const seconds = Math.round(hold.life.durationMs / 1000)
    const { life } = await afterRenewal(hold.life, renewing, () => slot.calls.renewToken(hold.token, seconds))
    hold.life = life
    // A refused token may be revoked, and what it issued with it: the next poll shall find out.
    if (life.reissueAt === undefined) continue
    for (const entry of slot.entries.values()) {
      if (entry.hold === hold) entry.life = suspect(entry.life, clock.now())
    }
  }
  for (const entry of slot.entries.values()) {
    if ((entryRenewAt(slot, entry) ?? Infinity) > clock.now()) continue
    const seconds = Math.round(entry.life.durationMs / 1000)
    const call = (): Promise<number> => slot.calls.renewLease(entry.hold.token, entry.leaseId, seconds)
    const { life, ok } = await afterRenewal(entry.life, renewing, call)
    entry.life = life
    renewing.event(!ok ? 'renewal-failed' : life.renewable ? 'renewed' : 'capped')
  }
}

async function afterRenewal(
  life: Span,
  { clock, log }: Renewing,
  call: () => Promise<number>,
): Promise<{ readonly life: Span; readonly ok: boolean }> {
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

/**
 * Gives back tokens and, with them, all that they issued. A batch token cannot be revoked and an
 * operator's must not be: then lease by lease, where the policy permits it.
 */
export async function revokeAll(
  calls: SlotCalls,
  tokens: readonly Hold[],
  kept: readonly Entry[],
  renewing: Renewing,
): Promise<void> {
  const work = tokens.map(async (hold) => {
    const issued = kept.filter((entry) => entry.hold === hold && entry.leaseId !== '')
    const revocations =
      hold.own && hold.type !== 'batch'
        ? [() => calls.revokeToken(hold.token)]
        : issued.map((entry) => () => calls.revokeLease(hold.token, entry.leaseId))
    const done = await Promise.all(revocations.map((call) => tried(call, renewing)))
    for (const _ of issued) renewing.event(done.every(Boolean) ? 'revoked' : 'revocation-failed')
    if (hold.own) hold.token.wipe()
  })
  await Promise.all(work)
  for (const entry of kept) entry.body.wipe()
}

/** Waits between three tries; after that the lease ends by its own time. */
const REVOCATION_WAITS_MS = [1000, 5000, undefined] as const

async function tried(call: () => Promise<void>, { clock, log, closed }: Renewing): Promise<boolean> {
  for (const wait of REVOCATION_WAITS_MS) {
    try {
      await call()
      return true
    } catch (error) {
      const kind = error instanceof BackendError ? error.kind : 'internal'
      if (wait === undefined || kind === 'denied' || kind === 'config' || closed()) {
        log.warn('a lease could not be revoked; it ends by itself', { kind })
        return false
      }
      await new Promise<void>((resolve) => clock.after(wait, resolve))
    }
  }
  return false
}
