/** Owns a mini-kubelet: retries, republishing, and what a container sees, by the node's clock (driver.md sections 4, 5). */
import * as fs from 'node:fs'
import { dirname } from 'node:path'
import { isFinal, type CodeName } from './codes.ts'
import type { TestNode, VolumeResult } from './node.ts'
import type { VolumeRequest } from './volume-request.ts'

const FIRST_BACKOFF_MS = 500
const MAX_BACKOFF_MS = 122_000
const REPUBLISH_MS = { from: 60_000, to: 90_000 }

export interface KubeletOptions {
  /** Numbers in [0, 1) that spread the republishes over 60 to 90 s. Default: always 0.5, so every 75 s. */
  readonly random?: () => number
  /** `requiresRepublish` of the CSIDriver object. Default true. */
  readonly requiresRepublish?: boolean
}

/** A volume of a pod on the node. */
export interface PodVolume {
  readonly request: VolumeRequest
  readonly target: string
  /** Every publish so far, with its time in the node's clock. */
  readonly attempts: readonly { readonly at: number; readonly result: VolumeResult }[]
  /** Set when the container has started: at the first publish that returned OK. */
  readonly started: { readonly at: number; readonly mounted: boolean } | undefined
  /**
   * The files the container sees. One that started before anything was mounted keeps looking at the bare
   * directory, whatever is mounted over it later: the empty-volume trap.
   */
  visibleFiles(): ReadonlyMap<string, { readonly mode: number; readonly contents: Buffer }>
}

export interface Kubelet {
  readonly volumes: readonly PodVolume[]
  /** Adds a pod volume; its first publish is due at once. */
  add(request: VolumeRequest): PodVolume
  /** Does everything that is due now, different volumes in parallel. */
  tick(): Promise<void>
  /** Lets `ms` milliseconds of the node's time pass, doing everything when it is due. */
  advance(ms: number): Promise<void>
  /** Stops looking after a volume and unpublishes it. */
  remove(volume: PodVolume): Promise<{ readonly code: string; readonly message: string }>
  /** Volumes whose container started without a mounted volume beneath it. */
  trapped(): readonly PodVolume[]
}

interface Tracked extends PodVolume {
  readonly attempts: { readonly at: number; readonly result: VolumeResult }[]
  started: PodVolume['started']
  dueAt: number
  backoff: number
}

/** A kubelet for the node. It does nothing by itself: `tick` and `advance` make its time pass. */
export function startKubelet(node: TestNode, options: KubeletOptions = {}): Kubelet {
  const random = options.random ?? (() => 0.5)
  const volumes: Tracked[] = []

  const attempt = async (volume: Tracked): Promise<void> => {
    const result = await node.publish(volume.request)
    const at = node.clock.now()
    volume.attempts.push({ at, result })
    if (result.code === 'OK') {
      volume.started ??= { at, mounted: node.isMounted(volume.target) }
      volume.backoff = FIRST_BACKOFF_MS
      volume.dueAt =
        options.requiresRepublish === false
          ? Infinity
          : at + REPUBLISH_MS.from + random() * (REPUBLISH_MS.to - REPUBLISH_MS.from)
      return
    }
    if (volume.started === undefined) cleanUp(node, volume.target, result.code)
    volume.dueAt = at + volume.backoff
    volume.backoff = Math.min(volume.backoff * 2, MAX_BACKOFF_MS)
  }
  const tick = async (): Promise<void> => {
    const now = node.clock.now()
    const due = volumes.filter(({ dueAt }) => dueAt <= now)
    // A volume is never due twice at a time, whoever calls.
    for (const volume of due) volume.dueAt = Infinity
    await Promise.all([
      ...due.map(attempt),
      node.reconciler.dueAt() <= now ? node.reconciler.runDue() : undefined,
    ])
  }

  return {
    volumes,
    tick,
    add(request) {
      const target = node.target(request)
      const volume: Tracked = {
        request,
        target,
        attempts: [],
        started: undefined,
        dueAt: node.clock.now(),
        backoff: FIRST_BACKOFF_MS,
        visibleFiles() {
          return this.started?.mounted === true ? node.files(target) : new Map()
        },
      }
      volumes.push(volume)
      return volume
    },
    async advance(ms) {
      const end = node.clock.now() + ms
      for (;;) {
        const next = Math.min(end, node.reconciler.dueAt(), ...volumes.map(({ dueAt }) => dueAt))
        const wait = next - node.clock.now()
        if (wait > 0) await node.clock.advance(wait)
        if (next >= end) break
        await tick()
      }
      await tick()
    },
    async remove(volume) {
      const index = volumes.findIndex((one) => one === volume)
      if (index >= 0) volumes.splice(index, 1)
      return node.unpublish(volume.target)
    },
    trapped: () => volumes.filter(({ started }) => started?.mounted === false),
  }
}

/** After a final code kubelet takes a first mount for undone and removes its directories; else it leaves them. */
function cleanUp(node: TestNode, target: string, code: CodeName): void {
  if (!isFinal(code) || node.isMounted(target)) return
  for (const dir of [target, dirname(target)]) {
    try {
      fs.rmdirSync(node.at(dir))
    } catch {
      return // absent, or not empty: kubelet leaves it as well
    }
  }
}
