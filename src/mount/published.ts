/**
 * Owns the memory of volumes that were published, because the protocol does not tell a first mount from a
 * republish (driver.md section 1). Losing an entry only means that nothing is removed from that volume
 * (`onRevoked`); a wrong one would let a pod start without its files. So an entry holds for this boot of the node
 * only: after another one the tmpfs is gone and the same pod is mounted for the first time again.
 */
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../telemetry/log.ts'
import type { MountRequest } from './request.ts'

/** What a volume is known by, and what the driver says about it. */
export type Publication = Pick<MountRequest, 'targetPath' | 'holdsVersions'> & {
  readonly pod: Pick<MountRequest['pod'], 'uid'>
}

export interface PublishedVolumes {
  /** Whether the volume was published before, so that its pod may be running. */
  isRepublish(request: Publication): boolean
  /** The volume's files were handed to the driver. */
  delivered(request: Publication): void
  /** Writes what is not written yet. */
  close(): Promise<void>
}

/** Remembers nothing: every mount is a first one. */
export const nothingPublished: PublishedVolumes = {
  isRepublish: () => false,
  delivered: () => {},
  close: () => Promise.resolve(),
}

export interface PublishedOptions {
  /** Directory (0700) for the state file. Absent: a restart forgets. */
  readonly stateDir?: string | undefined
  /** Names this boot of the node. Absent: a restart forgets, since nobody could tell what still holds. */
  readonly bootId?: string | undefined
  readonly log: Logger
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Milliseconds from a change to its write, so that a hundred pods that start cost one. Default 1000. */
  readonly writeAfterMs?: number
}

const FILE = 'published.json'
const FORMAT = 1
/** More than a node has volumes. */
const MAX_VOLUMES = 4096
const MAX_FILE_BYTES = 1024 * 1024
const HOUR_MS = 3_600_000
/** A volume that was not asked for in this time is not there any more: republishes come every minute or two. */
const FORGET_AFTER_MS = 24 * HOUR_MS
/** How often times alone are written. */
const WRITE_TIMES_EVERY_MS = HOUR_MS
const KEY = /^[0-9a-f]{32}$/

/** What is remembered; the file holds the same, and for which boot. */
interface Memory {
  /** When a request last named versions that the driver holds; 0: never. */
  versionsAt: number
  /** Digest of pod and target → when it was last asked for, in milliseconds. The oldest come first. */
  readonly volumes: Map<string, number>
}

/** Where a memory outlives its process. */
interface Kept {
  readonly stateDir: string
  readonly bootId: string
}

/** The memory, with what an earlier process of this boot left behind. Never fails: without it nothing is removed. */
export async function openPublished(options: PublishedOptions): Promise<PublishedVolumes> {
  const { stateDir, bootId, log, now, writeAfterMs = 1000 } = options
  const kept = stateDir !== undefined && bootId !== undefined ? { stateDir, bootId } : undefined
  const memory = (kept && (await readMemory(kept, log, now()))) ?? { versionsAt: 0, volumes: new Map() }
  let timer: NodeJS.Timeout | undefined
  let writing = Promise.resolve()
  let writtenAt = now()
  let warned = false

  const warnOnce = (error: unknown): void => {
    if (!warned)
      log.warn('published volumes cannot be kept: after a restart onRevoked: remove begins anew', {
        file: join(stateDir ?? '', FILE),
        reason: codeOf(error),
      })
    warned = true
  }
  const write = (): void => {
    clearTimeout(timer)
    timer = undefined
    if (!kept) return
    writtenAt = now()
    const text = textOf(memory, kept)
    writing = writing.then(() => replaceFile(kept.stateDir, text)).catch(warnOnce)
  }
  const writeSoon = (): void => {
    if (kept) timer ??= setTimeout(write, writeAfterMs).unref()
  }
  const seen = (key: string): void => {
    const isNew = !memory.volumes.delete(key)
    memory.volumes.set(key, now())
    for (const oldest of memory.volumes.keys()) {
      if (memory.volumes.size <= MAX_VOLUMES) break
      memory.volumes.delete(oldest)
    }
    if (isNew || now() - writtenAt > WRITE_TIMES_EVERY_MS) writeSoon()
  }
  const isKnown = (key: string): boolean => {
    const at = memory.volumes.get(key)
    return at !== undefined && now() - at <= FORGET_AFTER_MS
  }
  /**
   * Drivers up to 1.5 name the versions they hold when they rotate, and none at a first mount; 1.6 never names
   * any. So a known volume without versions is mounted anew where a driver was seen that names them.
   */
  const driverNamesVersions = (): boolean => now() - memory.versionsAt <= FORGET_AFTER_MS

  return {
    isRepublish(request) {
      const key = keyOf(request)
      if (key === undefined) return false
      if (request.holdsVersions) memory.versionsAt = now()
      if (!isKnown(key)) return false
      if (!request.holdsVersions && driverNamesVersions()) return false
      seen(key)
      return true
    },
    delivered(request) {
      const key = keyOf(request)
      if (key !== undefined) seen(key)
    },
    async close() {
      if (timer) write()
      await writing
    },
  }
}

/** Undefined for a caller that names no target, such as the controller that syncs Secrets: it has no volume. */
function keyOf({ pod, targetPath }: Publication): string | undefined {
  if (pod.uid === '' || targetPath === '') return undefined
  return createHash('sha256')
    .update(JSON.stringify([pod.uid, targetPath]))
    .digest('hex')
    .slice(0, 32)
}

function textOf({ versionsAt, volumes }: Memory, { bootId }: Kept): string {
  return JSON.stringify({ format: FORMAT, boot: bootId, versionsAt, volumes: Object.fromEntries(volumes) })
}

/** Processes overlap in an upgrade: whichever writes last has written a whole file. */
async function replaceFile(stateDir: string, text: string): Promise<void> {
  await mkdir(stateDir, { recursive: true, mode: 0o700 })
  const temporary = join(stateDir, `.${FILE}.${randomBytes(6).toString('hex')}`)
  try {
    await writeFile(temporary, text, { mode: 0o600, flag: 'wx', flush: true })
    await rename(temporary, join(stateDir, FILE))
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw error
  }
}

/** What the file says of this boot; undefined when there is none, or none that can be read. */
async function readMemory({ stateDir, bootId }: Kept, log: Logger, now: number): Promise<Memory | undefined> {
  const path = join(stateDir, FILE)
  try {
    if ((await stat(path)).size > MAX_FILE_BYTES) throw new TypeError('too large')
    return memoryIn(JSON.parse(await readFile(path, 'utf8')), bootId, now)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    log.warn('published volumes of an earlier process cannot be read: onRevoked: remove begins anew', {
      file: path,
      reason: codeOf(error),
    })
    return undefined
  }
}

/** @throws TypeError when the content is not ours */
function memoryIn(content: unknown, bootId: string, now: number): Memory | undefined {
  if (typeof content !== 'object' || content === null || !('format' in content) || content.format !== FORMAT)
    throw new TypeError('unknown format')
  if (!('boot' in content && 'versionsAt' in content && 'volumes' in content))
    throw new TypeError('incomplete')
  const { boot, versionsAt, volumes } = content
  if (boot !== bootId) return undefined
  if (!isTime(versionsAt) || typeof volumes !== 'object' || volumes === null)
    throw new TypeError('incomplete')
  const entries: [string, number][] = []
  for (const [key, at] of Object.entries(volumes) as [string, unknown][]) {
    if (!KEY.test(key) || !isTime(at)) throw new TypeError('no volume')
    // A clock that was set back must not make an entry last longer.
    entries.push([key, Math.min(at, now)])
  }
  entries.sort(([, a], [, b]) => a - b)
  return { versionsAt: Math.min(versionsAt, now), volumes: new Map(entries.slice(-MAX_VOLUMES)) }
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

/** Linux names each boot of a machine; containers see it, too. Undefined elsewhere. */
export function readBootId(): string | undefined {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}

/** System code of an error, or its class: a parser's own words could quote the file. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error'
  return 'code' in error ? String(error.code) : error.name
}
