/** Owns sessions: credentials or clients that were opened for one identity, kept until near expiry. */
import type { OpenedSession } from '../providers/adapter.ts'
import type { Meter } from '../telemetry/metrics.ts'

/** A session is not handed out in the last part of its life, in milliseconds. */
const MARGIN_MS = 60_000

export interface SessionCache {
  /**
   * The session under `key`, opened by `open` unless there is one or it is being opened. The key's first
   * part is the identity, so sessions of two identities never meet (threat model T7); its second is the
   * vendor, which the metric names.
   * A failure to open reaches everyone who waits for it and is not kept.
   */
  get<S>(key: readonly string[], open: () => Promise<OpenedSession<S>>): Promise<S>
  /** Forgets a session that its store no longer accepts. */
  drop(key: readonly string[]): void
  /** Sessions held or being opened. */
  readonly size: number
}

export interface SessionCacheOptions {
  readonly now: () => number
  readonly meter: Meter
  /** Most sessions kept; the least recently used go first. */
  readonly maxSessions?: number
}

interface Kept {
  readonly opened: Promise<OpenedSession<unknown>>
  /** Unknown while the session is being opened. */
  expiresAt: number | undefined
}

export function createSessionCache({ now, meter, maxSessions = 1000 }: SessionCacheOptions): SessionCache {
  const kept = new Map<string, Kept>()

  function usable({ expiresAt }: Kept): boolean {
    return expiresAt === undefined || expiresAt - MARGIN_MS > now()
  }

  function open(id: string, backend: string, opener: () => Promise<OpenedSession<unknown>>): Kept {
    const entry: Kept = { opened: Promise.resolve().then(opener), expiresAt: undefined }
    kept.set(id, entry)
    entry.opened.then(
      ({ expiresAt }) => {
        entry.expiresAt = expiresAt.getTime()
        meter.count('keyferry_sessions_opened_total', { backend, outcome: 'ok' })
      },
      () => {
        if (kept.get(id) === entry) kept.delete(id)
        meter.count('keyferry_sessions_opened_total', { backend, outcome: 'failed' })
      },
    )
    for (const oldest of kept.keys()) {
      if (kept.size <= maxSessions) break
      kept.delete(oldest)
    }
    return entry
  }

  return {
    async get<S>(key: readonly string[], opener: () => Promise<OpenedSession<S>>): Promise<S> {
      const id = JSON.stringify(key)
      const known = kept.get(id)
      if (known && usable(known)) {
        kept.delete(id)
        kept.set(id, known)
      }
      const entry = known && usable(known) ? known : open(id, key[1] ?? '', opener)
      const { session } = await entry.opened
      return session as S
    },
    drop: (key) => void kept.delete(JSON.stringify(key)),
    get size() {
      return kept.size
    },
  }
}
