/** Owns a small cache of reads: one call for all who ask at once, kept for a while, failures not kept. */

export interface TimedCache<T> {
  /** The value under `key`; `read` is called when there is none that is fresh. */
  get(key: string, read: () => Promise<T>): Promise<T>
}

/** `keepMs`: how long a value stays fresh, counted from when it was asked for. The oldest go first. */
export function createTimedCache<T>(keepMs: number, maxEntries: number, now: () => number): TimedCache<T> {
  const kept = new Map<string, { readonly value: Promise<T>; readonly until: number }>()
  return {
    get(key, read) {
      const known = kept.get(key)
      if (known !== undefined && known.until > now()) return known.value
      const entry = { value: Promise.resolve().then(read), until: now() + keepMs }
      entry.value.catch(() => {
        if (kept.get(key) === entry) kept.delete(key)
      })
      kept.delete(key)
      kept.set(key, entry)
      const oldest = kept.keys().next().value
      if (kept.size > maxEntries && oldest !== undefined) kept.delete(oldest)
      return entry.value
    },
  }
}
