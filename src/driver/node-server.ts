/** Owns NodePublishVolume and NodeUnpublishVolume, in the driver's order and words (driver.md sections 3 to 5). */
import * as fs from 'node:fs'
import { join } from 'node:path'
import {
  ATTRIBUTE,
  PERMISSION,
  publishAttributes,
  secretsText,
  tokensText,
  type PodFacts,
  type Tokens,
} from './attributes.ts'
import type { Clock } from './clock.ts'
import type { CodeName } from './codes.ts'
import type { ObjectVersion } from './contract.ts'
import { LookupError, type Profile, type Providers } from './dial.ts'
import { errnoOf, errnoText, goQuote } from './go-text.ts'
import type { Events, Metrics } from './metrics.ts'
import type { Mounts } from './mounts.ts'
import { objectKey, statusName, type Objects, type SecretProviderClass } from './objects.ts'
import { settleMount, type MountOutcome } from './response.ts'

/** Everything one driver process holds. */
export interface Driver {
  readonly profile: Profile
  readonly nodeName: string
  /** `--rotation-poll-interval` in milliseconds; undefined without `--enable-secret-rotation`. */
  readonly rotationPollInterval: number | undefined
  readonly mounts: Mounts
  readonly providers: Providers
  readonly objects: Objects
  readonly metrics: Metrics
  readonly events: Events
  readonly clock: Clock
  readonly log: (line: string) => void
  /** Tokens per the CSIDriver's tokenRequests; drivers up to 1.5 mint some themselves. */
  readonly tokens: (pod: PodFacts) => Promise<Tokens | undefined>
  readonly faults: DriverFaults
}

/** Faults a test may switch on. */
export interface DriverFaults {
  /** The driver is killed in its next first mount, after the tmpfs is mounted and before anything is written. */
  dieAfterTmpfs: boolean
}

/** A CSI `NodePublishVolume` request, as far as the driver reads it. */
export interface PublishVolumeRequest {
  readonly volumeId: string
  readonly targetPath: string
  readonly volumeContext: ReadonlyMap<string, string>
  readonly secrets: ReadonlyMap<string, string>
  readonly readOnly: boolean
  /** Whether a volume capability was given. */
  readonly capability: boolean
  /** The caller's deadline in milliseconds from now; undefined for none. */
  readonly timeoutMs: number | undefined
}

/** What the caller of a CSI method gets, and what only a test can know. */
export interface PublishVolumeResult {
  readonly code: CodeName
  /** Empty with `OK`. */
  readonly message: string
  /** Whether the provider was called. */
  readonly called: boolean
  /** A failed rotation that profile 1.6 reports as `OK`: what follows `err: ` in the driver's log. */
  readonly masked?: string
  /** The metric label `error_type` of a failure, masked ones included. */
  readonly errorType?: string
  /** What happened to the files, if the provider's answer was taken. */
  readonly files?: 'written' | 'unchanged' | 'none'
}

class Refusal extends Error {
  readonly code: CodeName
  readonly errorType: string
  constructor(code: CodeName, errorType: string, message: string) {
    super(message)
    this.code = code
    this.errorType = errorType
  }
}

class DriverDied extends Error {}

/** Progress of one publish, for its metrics and its cleanup. */
interface Progress {
  provider: string
  mounted: boolean
  remount: boolean
  skipped: boolean
  called: boolean
}

/** Serves one `NodePublishVolume`. Never throws for anything a provider or a pod can cause. */
export async function publishVolume(
  driver: Driver,
  request: PublishVolumeRequest,
): Promise<PublishVolumeResult> {
  const progress: Progress = {
    provider: request.volumeContext.get(ATTRIBUTE.providerName) ?? '',
    mounted: false,
    remount: false,
    skipped: false,
    called: false,
  }
  try {
    const outcome = await publish(driver, request, progress)
    const { called } = progress
    if (outcome !== undefined && !outcome.ok) {
      driver.log(
        `failed to mount secrets store object content isRemountRequest=true err=${goQuote(outcome.message)}`,
      )
      countFailure(driver, progress, outcome.errorType)
      return { code: 'OK', message: '', called, masked: outcome.message, errorType: outcome.errorType }
    }
    countSuccess(driver, progress)
    return outcome === undefined
      ? { code: 'OK', message: '', called }
      : { code: 'OK', message: '', called, files: outcome.files }
  } catch (error) {
    const { called } = progress
    if (error instanceof DriverDied) {
      return { code: 'Unavailable', message: 'error reading from server: EOF', called }
    }
    const { code, errorType, message } = error instanceof Refusal ? error : unexpected(error)
    if (progress.mounted && !progress.remount) {
      await driver.mounts.unmount(request.targetPath).catch((failure: unknown) => {
        driver.log(`failed to unmounting target path: ${String(failure)}`)
      })
    }
    countFailure(driver, progress, errorType)
    return { code, message, called, errorType }
  }
}

/** The flow of driver.md section 4. Undefined means that the provider was not asked; a failed outcome is a masked one. */
async function publish(
  driver: Driver,
  request: PublishVolumeRequest,
  progress: Progress,
): Promise<MountOutcome | undefined> {
  const startedAt = driver.clock.now()
  const startedReal = performance.now()
  checkPresence(request)
  const { targetPath, volumeContext: context } = request
  const rotates = driver.profile === '1.6' && driver.rotationPollInterval !== undefined

  if (
    rotates &&
    startedAt < (lastUpdate(driver, targetPath) ?? -Infinity) + (driver.rotationPollInterval ?? 0)
  ) {
    progress.skipped = true
    return undefined
  }
  progress.mounted = await ensureMountPoint(driver, targetPath)
  progress.remount = progress.mounted
  if (!rotates && progress.mounted) {
    progress.skipped = true
    return undefined
  }
  if (progress.provider.toLowerCase() === 'mock_provider') {
    if (!rotates && !progress.mounted) await driver.mounts.mount(targetPath)
    return undefined
  }

  const pod = podOf(context)
  const spc = findClass(driver, context.get(ATTRIBUTE.secretProviderClass) ?? '', pod.namespace)
  if ((spc.provider ?? '') === '') throw failedToMount(`provider not set in ${spc.namespace}/${spc.name}`)
  progress.provider = spc.provider ?? ''
  const parameters = new Map(Object.entries(spc.parameters ?? {}))
  if (parameters.size === 0) throw failedToMount(`parameters not set in ${spc.namespace}/${spc.name}`)
  const tokens = await tokensFor(driver, request, parameters, pod)
  if (!request.readOnly)
    throw new Refusal('InvalidArgument', 'FailedToMount', 'Readonly is not true in request')

  if (!progress.mounted) {
    await driver.mounts.mount(targetPath)
    progress.mounted = true
    if (driver.faults.dieAfterTmpfs) {
      driver.faults.dieAfterTmpfs = false
      throw new DriverDied()
    }
  }
  const timeoutMs =
    request.timeoutMs === undefined ? undefined : request.timeoutMs - (performance.now() - startedReal)
  const outcome = await mountContent(driver, progress, {
    attributes: publishAttributes(parameters, context, tokens),
    secrets: secretsText(request.secrets),
    targetPath,
    versions: [],
    timeoutMs,
  })
  if (!outcome.ok) {
    if (progress.remount) return outcome
    const text = `failed to mount secrets store objects for pod ${pod.namespace}/${pod.name}, err: ${outcome.message}`
    throw new Refusal(outcome.code, outcome.errorType, text)
  }
  try {
    writeStatus(driver, pod, spc, targetPath, outcome.versions)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    if (progress.remount) return { ok: false, code: 'Unknown', message, errorType: '' }
    const text = `failed to create secret provider class pod status for pod ${pod.namespace}/${pod.name}, err: ${message}`
    throw new Refusal('Unknown', '', text)
  }
  return outcome
}

function checkPresence(request: PublishVolumeRequest): void {
  const missing = [
    !request.capability && 'Volume capability',
    request.volumeId === '' && 'Volume ID',
    request.targetPath === '' && 'Target path',
    request.volumeContext.size === 0 && 'Volume attributes',
  ].find((what) => what !== false)
  if (missing !== undefined)
    throw new Refusal('InvalidArgument', 'FailedToMount', `${missing} missing in request`)
}

/** When the root of the target last changed; undefined if there is none. */
function lastUpdate(driver: Driver, targetPath: string): number | undefined {
  try {
    return driver.clock.at(fs.statSync(driver.mounts.at(targetPath)).mtimeMs)
  } catch (error) {
    driver.log(`could not find last modification time for targetpath: ${errnoText(errnoOf(error))}`)
    return undefined
  }
}

/** Whether something is mounted there already. Creates a missing directory. */
async function ensureMountPoint(driver: Driver, targetPath: string): Promise<boolean> {
  const { mounts } = driver
  try {
    if (!mounts.isMountPoint(targetPath)) return false
    try {
      fs.readdirSync(mounts.at(targetPath))
      return true
    } catch {
      await mounts.unmount(targetPath) // mounted, but broken: mounted anew
      return false
    }
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') {
      const text = `failed to check if target path ${targetPath} is mount point, err: ${textOf(error)}`
      throw new Refusal('Internal', 'FailedToEnsureMountPoint', text)
    }
  }
  try {
    fs.mkdirSync(mounts.at(targetPath), { recursive: true, mode: 0o750 })
  } catch (error) {
    const text = `failed to create target path ${targetPath}, err: mkdir ${targetPath}: ${errnoText(errnoOf(error))}`
    throw new Refusal('Internal', 'FailedToMount', text)
  }
  return false
}

function findClass(driver: Driver, name: string, namespace: string): SecretProviderClass {
  if (name === '') throw failedToMount('secretProviderClass is not set')
  const spc = driver.objects.classes.get(objectKey(namespace, name))
  if (spc !== undefined) return spc
  const why = `SecretProviderClass.secrets-store.csi.x-k8s.io "${name}" not found`
  const text = `failed to get secretproviderclass ${namespace}/${name}, error: ${why}`
  throw new Refusal('Unknown', 'SecretProviderClassNotFound', text)
}

async function tokensFor(
  driver: Driver,
  request: PublishVolumeRequest,
  parameters: ReadonlyMap<string, string>,
  pod: PodFacts,
): Promise<string | undefined> {
  const given = request.volumeContext.get(ATTRIBUTE.tokens)
  if (driver.profile === '1.6') return request.secrets.get(ATTRIBUTE.tokens) ?? given
  if ((given ?? parameters.get(ATTRIBUTE.tokens) ?? '') !== '') return given
  const minted = await driver.tokens(pod)
  return minted === undefined ? undefined : tokensText(minted)
}

/** One Mount call and what the driver makes of its answer; shared with the rotation of 1.5. */
export async function mountContent(
  driver: Driver,
  progress: { readonly provider: string; called: boolean },
  call: {
    readonly attributes: string
    readonly secrets: string
    readonly targetPath: string
    readonly versions: readonly ObjectVersion[]
    readonly timeoutMs: number | undefined
  },
): Promise<MountOutcome> {
  const writable = progress
  try {
    writable.called = true
    const answer = await driver.providers.mount(
      progress.provider,
      {
        attributes: call.attributes,
        secrets: call.secrets,
        target_path: call.targetPath,
        permission: PERMISSION,
        current_object_version: call.versions,
      },
      call.timeoutMs,
    )
    return settleMount(
      answer,
      { dir: driver.mounts.at(call.targetPath), shownDir: call.targetPath },
      driver.log,
    )
  } catch (error) {
    if (!(error instanceof LookupError)) throw error
    writable.called = false
    const message = `error connecting to provider ${goQuote(progress.provider)}: ${error.message}`
    return { ok: false, code: 'Unknown', message, errorType: '' }
  }
}

/** Writes the pod status that belongs to a mounted volume. Throws ApiError. */
export function writeStatus(
  driver: Driver,
  pod: PodFacts,
  spc: SecretProviderClass,
  targetPath: string,
  objects: readonly ObjectVersion[],
): void {
  driver.objects.writeStatus({
    name: statusName(pod.name, pod.namespace, spc.name),
    namespace: pod.namespace,
    node: driver.nodeName,
    owner: { kind: 'Pod', name: pod.name, uid: pod.uid },
    status: { podName: pod.name, secretProviderClassName: spc.name, mounted: true, targetPath, objects },
  })
}

/** Serves one `NodeUnpublishVolume`: empties, unmounts, removes; repeatable. The provider is not told. */
export async function unpublishVolume(
  driver: Driver,
  request: { readonly volumeId: string; readonly targetPath: string },
): Promise<{ readonly code: CodeName; readonly message: string }> {
  try {
    await unpublish(driver, request)
    driver.metrics.add('node_unpublish_total')
    return { code: 'OK', message: '' }
  } catch (error) {
    driver.metrics.add('node_unpublish_error_total')
    return error instanceof Refusal
      ? { code: error.code, message: error.message }
      : { code: 'Internal', message: textOf(error) }
  }
}

async function unpublish(
  { mounts, log }: Driver,
  request: { readonly volumeId: string; readonly targetPath: string },
): Promise<void> {
  if (request.volumeId === '') throw new Refusal('InvalidArgument', '', 'Volume ID missing in request')
  if (request.targetPath === '') throw new Refusal('InvalidArgument', '', 'Target path missing in request')
  const dir = mounts.at(request.targetPath)
  if (!fs.existsSync(dir)) return
  for (const name of fs.readdirSync(dir)) {
    try {
      fs.rmSync(join(dir, name), { recursive: true, force: true })
    } catch (error) {
      log(`failed to delete file from target path: ${errnoText(errnoOf(error))}`)
    }
  }
  if (mounts.isMountPoint(request.targetPath)) await mounts.unmount(request.targetPath)
  fs.rmdirSync(dir)
}

function podOf(context: ReadonlyMap<string, string>): PodFacts {
  return {
    name: context.get(ATTRIBUTE.podName) ?? '',
    namespace: context.get(ATTRIBUTE.podNamespace) ?? '',
    uid: context.get(ATTRIBUTE.podUid) ?? '',
    serviceAccount: context.get(ATTRIBUTE.serviceAccount) ?? '',
  }
}

function failedToMount(message: string): Refusal {
  return new Refusal('Unknown', 'FailedToMount', message)
}

function unexpected(error: unknown): Refusal {
  return failedToMount(textOf(error))
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function countSuccess({ metrics }: Driver, { provider, remount, skipped }: Progress): void {
  if (remount && !skipped) metrics.add('rotation_reconcile_total', { provider, rotated: 'true' })
  metrics.add('node_publish_total', { provider })
}

function countFailure(
  { metrics }: Driver,
  { provider, remount, skipped }: Progress,
  error_type: string,
): void {
  metrics.add('node_publish_error_total', { provider, error_type })
  if (remount && !skipped)
    metrics.add('rotation_reconcile_error_total', { provider, error_type, rotated: 'true' })
}
