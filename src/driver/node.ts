/**
 * Owns the driver's side as a test or a command uses it: a node with a driver of either generation, from
 * publish to unpublish. See docs/testing.md for an example.
 */
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { ATTRIBUTE, tokensText, volumeContext, volumeId, type PodFacts, type Tokens } from './attributes.ts'
import { movableClock, type Clock } from './clock.ts'
import { statusText } from './codes.ts'
import { openProviders, type Profile, type Providers } from './dial.ts'
import type { Driver, DriverFaults } from './driver.ts'
import { emptyEvents, emptyMetrics, type Events, type Metrics } from './metrics.ts'
import { openMounts, type MountKind } from './mounts.ts'
import { publishVolume, unpublishVolume, type PublishVolumeResult } from './node-server.ts'
import { emptyObjects, objectKey, type Objects } from './objects.ts'
import { startReconciler, type Rotation } from './reconciler.ts'
import { tree, visibleFiles, type TreeEntry, type VisibleFile } from './tree.ts'
import {
  boundTokens,
  podFacts,
  registerObjects,
  spcName,
  targetOf,
  volumeName,
  type TokenTexts,
  type VolumeRequest,
} from './volume-request.ts'

/** Kubelet's limit on one CSI call, in milliseconds. */
const CSI_TIMEOUT_MS = 120_000

/** The driver's default `--rotation-poll-interval`, in milliseconds. */
export const DEFAULT_ROTATION_POLL_INTERVAL = 120_000

export interface NodeOptions {
  /** Driver generation: `1.6`, or `1.5` for 1.4.0 to 1.5.6. */
  readonly profile: Profile
  /** Socket directories in search order: additional paths first, then the provider volume (driver.md section 2). */
  readonly providerDirs: readonly string[]
  /** Kubelet's root directory. Default: a new directory under the system's temporary one, removed at `close`. */
  readonly root?: string
  /** Default `auto`: a real tmpfs where possible, the emulation otherwise; `node.mounts` tells which. */
  readonly mounts?: MountKind | 'auto'
  /** `--rotation-poll-interval` in milliseconds, or `off` (default): without rotation a volume is filled once. */
  readonly rotation?: number | 'off'
  /** Default: a clock of its own that shows the wall clock's time until it is moved. */
  readonly clock?: Clock
  readonly nodeName?: string
  /** Tokens per the CSIDriver's `tokenRequests`, for pods whose publish names none. */
  readonly tokens?: (pod: PodFacts) => Promise<TokenTexts> | TokenTexts
  /** Kubelet sends tokens among the secrets instead of the context (`serviceAccountTokenInSecrets`). */
  readonly tokensInSecrets?: boolean
  /** Overrides the profile's `:authority`; see DialOptions. */
  readonly authority?: string
  /** `--max-call-recv-msg-size`. Default 4 MiB. */
  readonly maxReceiveBytes?: number
  /** First redial wait in milliseconds. Default 1000, as in the driver. */
  readonly reconnectBackoffMs?: number
}

export interface VolumeResult extends PublishVolumeResult {
  readonly target: string
  /** The event on the pod, if the publish failed: what its owner reads. */
  readonly event?: string
}

/** A node with one driver. */
export interface TestNode {
  readonly profile: Profile
  /** What the volumes really are. */
  readonly mounts: MountKind
  readonly root: string
  readonly clock: Clock
  /** The driver's rotation poll interval; undefined without rotation. */
  readonly rotationPollInterval: number | undefined
  readonly objects: Objects
  readonly metrics: Metrics
  readonly events: Events
  readonly faults: DriverFaults
  /** The driver itself, for CSI calls that kubelet would not make: see publishVolume. */
  readonly driver: Driver
  /** The driver's log lines that section 3 names. */
  readonly log: readonly string[]
  /** Sends one publish as kubelet does. Never throws for a provider's or a pod's fault. */
  publish(request: VolumeRequest): Promise<VolumeResult>
  /** Sends one unpublish, by request or target. Repeatable; the provider is not told. */
  unpublish(volume: VolumeRequest | string): Promise<{ readonly code: string; readonly message: string }>
  /**
   * One round of rotation: moves the clock on by the poll interval, then (1.6) publishes every published
   * volume again, or (1.5) lets the reconciler do what is due.
   */
  tick(): Promise<readonly (VolumeResult | Rotation)[]>
  /** Rotation of profile 1.5 by the clock: when it is due next (never: Infinity), and doing it. */
  readonly reconciler: { dueAt(): number; runDue(): Promise<readonly Rotation[]> }
  /** One round of `--provider-health-check`. */
  healthCheck: Providers['healthCheck']
  /** Kubelet's path of a volume: `<root>/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount`. */
  target(request: VolumeRequest): string
  /** Where this process finds a path of the node; another one than `path` if the volumes are real. */
  at(path: string): string
  /** Everything in a volume: path, kind, mode, size, link target. */
  tree(target: string): readonly TreeEntry[]
  /** The files a pod finds in it. */
  files(target: string): ReadonlyMap<string, VisibleFile>
  /** Whether a file system is mounted there. */
  isMounted(target: string): boolean
  /** Drops connections and unmounts everything. */
  close(): Promise<void>
}

/** Starts a node. Call `close` when done, also after a failure. */
export async function startNode(options: NodeOptions): Promise<TestNode> {
  const mounts = await openMounts(options.mounts ?? 'auto')
  const root =
    options.root === undefined ? fs.mkdtempSync(join(tmpdir(), 'keyferry-node-')) : resolve(options.root)
  const log: string[] = []
  const published = new Map<string, VolumeRequest>()
  const given = new Map<string, TokenTexts>()
  const tokens = async (pod: PodFacts): Promise<Tokens | undefined> => {
    const texts = given.get(pod.uid) ?? (await options.tokens?.(pod))
    return texts === undefined || Object.keys(texts).length === 0 ? undefined : boundTokens(texts)
  }
  const interval = options.rotation === 'off' ? undefined : options.rotation
  const driver: Driver = {
    profile: options.profile,
    nodeName: options.nodeName ?? 'node-0',
    rotationPollInterval: interval,
    mounts,
    providers: openProviders(options),
    objects: emptyObjects(),
    metrics: emptyMetrics(),
    events: emptyEvents(),
    clock: options.clock ?? movableClock(),
    log: (line) => log.push(line),
    tokens,
    faults: { dieAfterTmpfs: false },
  }
  const reconciler =
    options.profile === '1.5' && interval !== undefined
      ? startReconciler(driver, interval)
      : { dueAt: () => Infinity, runDue: async () => [] }

  const target = (request: VolumeRequest): string => targetOf(root, request)
  const publish = async (request: VolumeRequest): Promise<VolumeResult> => {
    const pod = podFacts(request.pod)
    const path = target(request)
    registerObjects(driver.objects, request, pod)
    if (request.tokens !== undefined) given.set(pod.uid, request.tokens)
    published.set(path, request)
    const bound = await tokens(pod)
    const text = bound === undefined ? undefined : tokensText(bound)
    const secrets = new Map(Object.entries(request.secrets ?? {}))
    if (text !== undefined && options.tokensInSecrets === true) secrets.set(ATTRIBUTE.tokens, text)
    const attributes = new Map(Object.entries(request.volumeAttributes ?? {}))
    if (!attributes.has(ATTRIBUTE.secretProviderClass)) {
      attributes.set(ATTRIBUTE.secretProviderClass, spcName(request))
    }
    fs.mkdirSync(mounts.at(dirname(path)), { recursive: true, mode: 0o750 })
    const timeoutMs = request.timeoutMs ?? CSI_TIMEOUT_MS
    const startedReal = performance.now()
    const answer = await publishVolume(driver, {
      volumeId: volumeId(pod.uid, volumeName(request)),
      targetPath: path,
      volumeContext: volumeContext(pod, attributes, options.tokensInSecrets === true ? undefined : text),
      secrets,
      readOnly: request.readOnly ?? true,
      capability: true,
      timeoutMs,
    })
    if (answer.code === 'OK') return { ...answer, target: path }
    // At its own limit kubelet has hung up and never reads the driver's text.
    const late = answer.code === 'DeadlineExceeded' && performance.now() - startedReal >= timeoutMs - 1
    const message = late ? 'context deadline exceeded' : answer.message
    const event = `MountVolume.SetUp failed for volume "${volumeName(request)}" : ${statusText(answer.code, message)}`
    driver.events.add({
      pod: objectKey(pod.namespace, pod.name),
      type: 'Warning',
      reason: 'FailedMount',
      message: event,
    })
    return { ...answer, message, target: path, event }
  }

  return {
    profile: options.profile,
    mounts: mounts.kind,
    root,
    clock: driver.clock,
    rotationPollInterval: interval,
    objects: driver.objects,
    metrics: driver.metrics,
    events: driver.events,
    faults: driver.faults,
    driver,
    log,
    publish,
    async unpublish(volume) {
      const path = typeof volume === 'string' ? volume : target(volume)
      const result = await unpublishVolume(driver, { volumeId: 'csi', targetPath: path })
      if (result.code === 'OK') published.delete(path)
      return result
    },
    async tick() {
      if (interval === undefined)
        throw new Error('rotation is off: start the node with rotation: <milliseconds>')
      await driver.clock.advance(interval)
      if (options.profile === '1.5') return reconciler.runDue()
      return Promise.all([...published.values()].map(publish))
    },
    reconciler,
    healthCheck: () => driver.providers.healthCheck(),
    target,
    at: (path) => mounts.at(path),
    tree: (path) => tree(mounts.at(path)),
    files: (path) => visibleFiles(mounts.at(path)),
    isMounted: (path) => fs.existsSync(mounts.at(path)) && mounts.isMountPoint(path),
    async close() {
      driver.providers.close()
      await mounts.close()
      if (options.root === undefined) fs.rmSync(root, { recursive: true, force: true })
    },
  }
}
