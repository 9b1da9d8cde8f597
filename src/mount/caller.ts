/** Owns what fetching knows of the mount that asks. */
import type { Host, Identity, Source } from '../providers/adapter.ts'

/** How long values are used. */
export interface CacheTimes {
  /** Identical requests within this many milliseconds cost one call; 0 switches that off. */
  readonly freshForMs: number
  /** How old a value may be that is served when its backend cannot answer; 0: never. */
  readonly staleIfErrorMs: number
  /** How long a version that can never change is kept. */
  readonly immutableForMs: number
}

/** The mount that asks. */
export interface Caller {
  /** Part of every key: what is fetched for one identity is never given to another. */
  identityKey(identity: Identity): string
  /** A host for a fetch in this mount's name. */
  host(source: Source, signal: AbortSignal): Host
  /** Namespace of the pod: what fails for one is held against no other, also where they share an identity (T18). */
  readonly namespace?: string
  readonly signal: AbortSignal
  /** End of the mount's budget, milliseconds since the epoch. */
  readonly deadline: number
  /** What its configuration says; default: the resolver's own. */
  readonly cache?: CacheTimes
}
