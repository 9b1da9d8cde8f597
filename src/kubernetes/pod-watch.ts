/** Owns the pod watch that backends are handed: gone pods of this node, and whether anybody can tell. */
import type { PodWatch } from '../providers/adapter.ts'
import type { Logger } from '../telemetry/log.ts'
import type { KubernetesClient } from './client.ts'
import { watchGonePods } from './gone-pods.ts'

export interface PodWatchOptions {
  readonly client: Pick<KubernetesClient, 'podUidsOnNode'>
  /** Name of this node. */
  readonly node: string
  readonly log: Logger
  /** Milliseconds between reads. Default 30 000: a gone pod is noticed within half a minute. */
  readonly everyMs?: number
}

/** A pod watch over the API. It counts as watching until a read fails, and again after one that succeeds. */
export function createPodWatch({ client, ...options }: PodWatchOptions): PodWatch {
  let watching = true
  const observed: Pick<KubernetesClient, 'podUidsOnNode'> = {
    async podUidsOnNode(node, signal) {
      try {
        const uids = await client.podUidsOnNode(node, signal)
        watching = true
        return uids
      } catch (error) {
        if (!signal.aborted) watching = false
        throw error
      }
    },
  }
  return {
    watching: () => watching,
    onGone: (held, onGone) => watchGonePods({ ...options, client: observed, watched: held, onGone }),
  }
}
