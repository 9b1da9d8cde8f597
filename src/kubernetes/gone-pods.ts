/** Owns noticing that a pod has left this node, so that what was leased for it can be given back. */
import type { Logger } from '../telemetry/log.ts'
import type { KubernetesClient } from './client.ts'
import { KubernetesError } from './access.ts'

export interface GonePodsOptions {
  readonly client: Pick<KubernetesClient, 'podUidsOnNode'>
  readonly node: string
  /** UIDs that somebody waits for; nothing is asked while there are none. */
  readonly watched: () => Iterable<string>
  /** Called once a pod is gone; may be called again as long as it stays watched. */
  readonly onGone: (uid: string) => void
  readonly log: Logger
  /** Milliseconds between reads. Default 30 000. */
  readonly everyMs?: number
}

/**
 * Reads the pods of the node now and then. A read that fails calls nobody gone.
 * @returns a function that stops it.
 */
export function watchGonePods({
  client,
  node,
  watched,
  onGone,
  log,
  everyMs = 30_000,
}: GonePodsOptions): () => void {
  const stop = new AbortController()
  let reading = false
  const look = async () => {
    // Taken before the read: a pod that begins meanwhile is missing from the list for another reason.
    const uids = [...watched()]
    if (uids.length === 0) return
    const present = await client.podUidsOnNode(node, stop.signal)
    for (const uid of uids) if (!present.has(uid) && !stop.signal.aborted) onGone(uid)
  }
  const tick = () => {
    if (reading) return
    reading = true
    look()
      .catch((error: unknown) => {
        if (stop.signal.aborted) return
        log.warn('cannot tell which pods are gone', {
          reason: error instanceof KubernetesError ? error.message : 'unexpected error',
        })
      })
      .finally(() => {
        reading = false
      })
  }
  const timer = setInterval(tick, everyMs)
  timer.unref()
  return () => {
    clearInterval(timer)
    stop.abort()
  }
}
