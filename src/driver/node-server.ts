/** Owns NodePublishVolume and NodeUnpublishVolume, in the driver's order and words (driver.md sections 3 to 5). */
import { ATTRIBUTE, publishAttributes, secretsText, tokensText, type PodFacts } from './attributes.ts'
import type { CodeName } from './codes.ts'
import { mountContent, Refusal, writeStatus, type Driver } from './driver.ts'
import { goQuote } from './go-text.ts'
import { objectKey, type SecretProviderClass } from './objects.ts'
import type { MountOutcome } from './response.ts'
import { clearTarget, ensureMountPoint, lastUpdate, textOf } from './target.ts'

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

/** Serves one `NodeUnpublishVolume`: empties, unmounts, removes; repeatable. The provider is not told. */
export async function unpublishVolume(
  driver: Driver,
  request: { readonly volumeId: string; readonly targetPath: string },
): Promise<{ readonly code: CodeName; readonly message: string }> {
  try {
    if (request.volumeId === '') throw new Refusal('InvalidArgument', '', 'Volume ID missing in request')
    if (request.targetPath === '') throw new Refusal('InvalidArgument', '', 'Target path missing in request')
    await clearTarget(driver, request.targetPath)
    driver.metrics.add('node_unpublish_total')
    return { code: 'OK', message: '' }
  } catch (error) {
    driver.metrics.add('node_unpublish_error_total')
    return error instanceof Refusal
      ? { code: error.code, message: error.message }
      : { code: 'Internal', message: textOf(error) }
  }
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
