/**
 * Owns the clockwork of tokens and leases: when to renew, when a poll must fetch anew, what a renewal
 * means (vault sections 7 and 9). Pure: times are milliseconds and come in as arguments.
 */

/** The life of a token or of a leased secret. */
export interface Span {
  readonly issuedAt: number
  /** `Infinity`: never ends, e.g. a root token. */
  readonly expiresAt: number
  /** What was asked for at each renewal, in milliseconds. */
  readonly durationMs: number
  /** False also after a renewal fell short: its end is then certain. */
  readonly renewable: boolean
  /** Earliest time for the next try, after one that failed for now. */
  readonly notBefore: number
  /** Part of the life after which it is fetched anew, for what can only be issued again. */
  readonly reissueAt?: number
}

/** Kubelet republishes about this often; assumed until two polls have been seen. */
export const USUAL_POLL_GAP_MS = 75_000

/**
 * What to take for the usual time between polls after one of `gapMs`. It may grow fourfold at once: a
 * pause of hours says nothing about the polls after it.
 */
export function usualGap(knownMs: number, gapMs: number): number {
  return Math.min(gapMs, 4 * knownMs)
}

export function span(now: number, seconds: number, renewable: boolean): Span {
  const durationMs = seconds * 1000
  const expiresAt = seconds === 0 ? Infinity : now + durationMs
  return { issuedAt: now, expiresAt, durationMs, renewable: renewable && seconds > 0, notBefore: now }
}

/** Something that ends at `expiresAt` and is issued again at two thirds of its life, e.g. a certificate. */
export function expiringSpan(now: number, expiresAt: number): Span {
  const durationMs = Math.max(0, expiresAt - now)
  return {
    issuedAt: now,
    expiresAt,
    durationMs,
    renewable: false,
    notBefore: now,
    reissueAt: now + (durationMs * 2) / 3,
  }
}

/** Time before the end at which a poll must bring a new secret, because the next poll could be too late. */
export function margin(life: Pick<Span, 'durationMs'>, pollGapMs: number): number {
  return Math.max(life.durationMs / 10, 2 * pollGapMs + 30_000)
}

/**
 * When to renew next; undefined when it cannot be. At two thirds of the life, and early enough that a
 * renewal which falls short still leaves a poll its {@link margin}. `spread` (−1…1) moves it by a tenth.
 */
export function renewAt(life: Span, pollGapMs: number, spread = 0): number | undefined {
  if (!life.renewable || life.expiresAt === Infinity) return undefined
  const early = life.durationMs - margin(life, pollGapMs)
  const after = Math.max(life.durationMs / 10, Math.min((life.durationMs * 2) / 3, early))
  const renewed = life.expiresAt - life.durationMs
  return Math.max(renewed + after * (1 + spread / 10), life.notBefore)
}

/** Whether a poll at `now` must fetch anew. `tokenEnd`: when the token that issued it certainly ends. */
export function mustRefresh(life: Span, now: number, pollGapMs: number, tokenEnd = Infinity): boolean {
  const end = Math.min(life.expiresAt, tokenEnd)
  if (life.reissueAt !== undefined) return now >= Math.min(life.reissueAt, tokenEnd)
  if (end === Infinity) return false
  const whole = Math.min(life.durationMs, tokenEnd - life.issuedAt)
  const keep = margin({ durationMs: whole }, pollGapMs)
  if (whole < keep) return true
  // While renewals are granted in full there is no end in sight, only a next renewal.
  const endless = life.renewable && tokenEnd === Infinity
  return endless ? now >= end : now + keep >= end
}

/** Whether it can still be served when fetching anew fails. */
export function isAlive(life: Span, now: number, tokenEnd = Infinity): boolean {
  return now < Math.min(life.expiresAt, tokenEnd)
}

/** After a renewal that granted `seconds`. Less than nine tenths of the request means that the maximum is near. */
export function renewed(life: Span, now: number, seconds: number): Span {
  const granted = seconds * 1000
  const full = granted >= life.durationMs * 0.9
  return { ...life, expiresAt: now + granted, renewable: life.renewable && full, notBefore: now }
}

/** After a renewal that failed in a way that may pass: again soon, within what is left. */
export function postponed(life: Span, now: number): Span {
  const left = Math.max(0, life.expiresAt - now)
  return { ...life, notBefore: now + Math.max(1000, Math.min(30_000, left / 4)) }
}

/** After the server refused to renew: it ends when it ends. */
export function final(life: Span): Span {
  return { ...life, renewable: false }
}

/** After the server said that it does not exist any more. */
export function ended(life: Span, now: number): Span {
  return { ...life, renewable: false, expiresAt: Math.min(life.expiresAt, now) }
}

/** After a refused renewal, which can mean that it was revoked: not renewed, and fetched anew at the next poll. */
export function suspect(life: Span, now: number): Span {
  return { ...life, renewable: false, reissueAt: now }
}

/** When the token ends for certain: not while it can be renewed. */
export function certainEnd(token: Span): number {
  return token.renewable ? Infinity : token.expiresAt
}
