/** Owns fetched values between mounts: bounded by bytes, in memory only, wiped on eviction (design.md section 6). */
import type { Value } from '../providers/adapter.ts'

interface Entry {
  readonly value: Value
  readonly fetchedAt: number
  readonly bytes: number
  /** Mounts that are reading the value now: it is not wiped under them. */
  holders: number
  evicted: boolean
}

/** A value that stays readable until {@link Held.release}. */
export interface Held {
  readonly value: Value
  /** Milliseconds since it was fetched. */
  readonly ageMs: number
  /** A further hold on the same value. Only while this one is not released. */
  share(): Held
  release(): void
}

/**
 * Values by key. The key must name backend, store, ref and identity: nothing is shared across
 * identities (T7). Least recently used values go first when `maxBytes` is passed; one that is still
 * being read is wiped when its last reader lets go.
 */
export class ValueCache {
  readonly #entries = new Map<string, Entry>()
  readonly #maxBytes: number
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Bytes held, keys and entries counted, evicted ones not. */
  get bytes(): number {
    return this.#bytes
  }

  /** The value under `key`, whatever its age, unless it has expired. */
  get(key: string, now: number): Held | undefined {
    const entry = this.#entries.get(key)
    if (!entry) return undefined
    if (entry.value.expiresAt && entry.value.expiresAt.getTime() <= now) {
      this.delete(key)
      return undefined
    }
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return hold(entry, now)
  }

  /** Keeps `value`; one that alone is over the bound is only held for its readers. */
  put(key: string, value: Value, now: number): Held {
    this.delete(key)
    const entry: Entry = { value, fetchedAt: now, bytes: sizeOf(key, value), holders: 0, evicted: false }
    const held = hold(entry, now)
    if (entry.bytes > this.#maxBytes) {
      entry.evicted = true
      return held
    }
    this.#entries.set(key, entry)
    this.#bytes += entry.bytes
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes) break
      this.delete(oldest)
    }
    return held
  }

  delete(key: string): void {
    const entry = this.#entries.get(key)
    if (!entry) return
    this.#entries.delete(key)
    this.#bytes -= entry.bytes
    entry.evicted = true
    if (entry.holders === 0) wipe(entry.value)
  }

  /** Drops what was fetched before `time` (milliseconds since the epoch). */
  deleteOlderThan(time: number): void {
    for (const [key, entry] of this.#entries) if (entry.fetchedAt < time) this.delete(key)
  }

  clear(): void {
    for (const key of this.#entries.keys()) this.delete(key)
  }
}

/** A value that is in no cache: wiped as soon as its last holder lets go. */
export function holdUncached(value: Value): Held {
  return hold({ value, fetchedAt: 0, bytes: 0, holders: 0, evicted: true }, 0)
}

function hold(entry: Entry, now: number): Held {
  entry.holders += 1
  let released = false
  return {
    value: entry.value,
    ageMs: now - entry.fetchedAt,
    share: () => hold(entry, now),
    release: () => {
      if (released) return
      released = true
      entry.holders -= 1
      if (entry.evicted && entry.holders === 0) wipe(entry.value)
    },
  }
}

function wipe(value: Value): void {
  value.bytes.wipe()
  for (const part of value.parts ?? []) part.bytes.wipe()
}

/** What an entry takes beside its key and its value: without it any number of empty secrets would fit. */
const ENTRY_BYTES = 512

function sizeOf(key: string, value: Value): number {
  let size = ENTRY_BYTES + key.length + value.bytes.length
  for (const part of value.parts ?? []) size += part.name.length + part.bytes.length
  return size
}
