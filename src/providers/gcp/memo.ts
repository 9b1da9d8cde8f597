/** Owns a value that is read once for the process: kept when it is found, asked for again a while after a failure. */

/** `failedForMs`: how long a failure is given to everyone who asks. */
export function memo<T>(read: () => Promise<T>, failedForMs: number): () => Promise<T> {
  let kept: Promise<T> | undefined
  return () => {
    if (kept !== undefined) return kept
    const current = Promise.resolve().then(read)
    kept = current
    current.catch(() => {
      setTimeout(() => {
        if (kept === current) kept = undefined
      }, failedForMs).unref()
    })
    return current
  }
}
