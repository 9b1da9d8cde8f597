/** Owns the rotation of drivers up to 1.5: a ticker, one worker, its own attributes and events (driver.md section 4). */
import { legacyRotationAttributes, tokensText } from './attributes.ts'
import { goJsonMap, goQuote } from './go-text.ts'
import { mountContent, writeStatus, type Driver } from './driver.ts'
import { objectKey, type PodObject, type PodStatus, type SecretProviderClass } from './objects.ts'

/** A failed volume comes round again after this long. */
const REQUEUE_MS = 10_000

/** What one pass over one volume came to. */
export interface Rotation {
  /** `namespace/name` of the pod status. */
  readonly status: string
  /** `rotated` if versions differed, whatever happened to the files. */
  readonly result: 'rotated' | 'same' | 'skipped' | 'failed'
  /** With `failed`. */
  readonly message?: string
}

export interface Reconciler {
  /** When there is something to do next, in the driver's clock. */
  dueAt(): number
  /** Does what is due, one volume after the other, without any deadline: a hung provider holds up all of them. */
  runDue(): Promise<readonly Rotation[]>
}

class RotationFailure extends Error {
  readonly errorType: string
  constructor(errorType: string, message: string) {
    super(message)
    this.errorType = errorType
  }
}

/** Starts the ticker: the first round is due one `interval` (milliseconds) from now. */
export function startReconciler(driver: Driver, interval: number): Reconciler {
  let nextRound = driver.clock.now() + interval
  const requeued = new Map<string, number>()
  return {
    dueAt: () => Math.min(nextRound, ...requeued.values()),
    async runDue() {
      const now = driver.clock.now()
      const keys = new Set<string>()
      for (const [key, at] of requeued) if (at <= now) keys.add(key)
      if (nextRound <= now) {
        for (const [key, status] of driver.objects.statuses)
          if (status.node === driver.nodeName) keys.add(key)
        nextRound += interval * Math.ceil((now - nextRound + 1) / interval)
      }
      const rotations: Rotation[] = []
      for (const key of keys) {
        requeued.delete(key)
        const status = driver.objects.statuses.get(key)
        if (status === undefined) continue
        const rotation = await rotate(driver, status)
        if (rotation.result === 'failed') requeued.set(key, driver.clock.now() + REQUEUE_MS)
        rotations.push(rotation)
      }
      return rotations
    },
  }
}

async function rotate(driver: Driver, status: PodStatus): Promise<Rotation> {
  const key = objectKey(status.namespace, status.name)
  const progress = { provider: '', rotated: false, called: false }
  const labels = () => ({ provider: progress.provider, rotated: String(progress.rotated) })
  try {
    const pod = findPod(driver, status)
    const ended = pod.terminating || pod.phase === 'Succeeded' || pod.phase === 'Failed'
    if (!ended) await reconcile(driver, status, pod, progress)
    driver.metrics.add('rotation_reconcile_total', labels())
    return { status: key, result: ended ? 'skipped' : progress.rotated ? 'rotated' : 'same' }
  } catch (error) {
    const failure =
      error instanceof RotationFailure ? error : new RotationFailure('FailedToRotate', String(error))
    driver.metrics.add('rotation_reconcile_error_total', { ...labels(), error_type: failure.errorType })
    driver.log(`failed to reconcile spc for pod: ${failure.message}`)
    return { status: key, result: 'failed', message: failure.message }
  }
}

async function reconcile(
  driver: Driver,
  status: PodStatus,
  pod: PodObject,
  progress: { provider: string; rotated: boolean; called: boolean },
): Promise<void> {
  const spc = findClass(driver, status)
  const volume = findVolume(status, pod, spc)
  const tokens = await driver.tokens(pod)
  const fail = (errorType: string, message: string, event = message): never => {
    driver.events.add(rotationFailed(pod, event))
    throw new RotationFailure(errorType, message)
  }

  let secrets: ReadonlyMap<string, string> = new Map()
  if (volume.secretRef !== undefined) {
    const secret = driver.objects.secrets.get(objectKey(status.namespace, volume.secretRef))
    if (secret?.labelledUsed !== true) {
      const name = `${status.namespace}/${volume.secretRef}`
      const text = `failed to get node publish secret ${name}, err: secrets "${volume.secretRef}" not found`
      return fail('NodePublishSecretRefNotFound', text)
    }
    secrets = secret.data
  }

  progress.provider = spc.provider ?? ''
  const before = new Map(status.status.objects.map(({ id, version }) => [id, version]))
  const outcome = await mountContent(driver, progress, {
    attributes: legacyRotationAttributes(
      new Map(Object.entries(spc.parameters ?? {})),
      pod,
      tokens === undefined ? undefined : tokensText(tokens),
    ),
    secrets: goJsonMap(secrets),
    targetPath: status.status.targetPath,
    versions: shuffled(status.status.objects),
    timeoutMs: undefined,
  })
  if (!outcome.ok) {
    if (!progress.called) {
      const text = `failed to lookup provider client: ${goQuote(progress.provider)}`
      return fail('FailedToLookupProviderGRPCClient', text)
    }
    const text = `failed to rotate objects for pod ${pod.namespace}/${pod.name}, err: ${outcome.message}`
    return fail(outcome.errorType, text, `provider mount err: ${outcome.message}`)
  }
  const after = outcome.versions.map(({ id, version }) => ({ id: id.trim(), version: version.trim() }))
  progress.rotated =
    after.length !== before.size || after.some(({ id, version }) => before.get(id)?.trim() !== version)
  if (!progress.rotated) return
  driver.events.add({
    pod: objectKey(pod.namespace, pod.name),
    type: 'Normal',
    reason: 'MountRotationComplete',
    message: `successfully rotated mounted contents for spc ${spc.namespace}/${spc.name}`,
  })
  writeStatus(driver, pod, spc, status.status.targetPath, after)
}

function findPod(driver: Driver, status: PodStatus): PodObject {
  const name = status.status.podName
  const pod = driver.objects.pods.get(objectKey(status.namespace, name))
  if (pod !== undefined) return pod
  throw new RotationFailure(
    'PodNotFound',
    `failed to get pod ${status.namespace}/${name}, err: Pod "${name}" not found`,
  )
}

function findClass(driver: Driver, status: PodStatus): SecretProviderClass {
  const name = status.status.secretProviderClassName
  const spc = driver.objects.classes.get(objectKey(status.namespace, name))
  if (spc !== undefined) return spc
  const why = `SecretProviderClass.secrets-store.csi.x-k8s.io "${name}" not found`
  const text = `failed to get secret provider class ${status.namespace}/${name}, err: ${why}`
  throw new RotationFailure('SecretProviderClassNotFound', text)
}

/** The first volume of the pod with that class: a second one with the same class fails both. */
function findVolume(status: PodStatus, pod: PodObject, spc: SecretProviderClass) {
  const named = `${pod.namespace}/${pod.name}`
  const volume = pod.volumes.find(({ spcName }) => spcName === spc.name)
  if (volume === undefined) {
    const text = `could not find secret provider class pod status volume for pod ${named}`
    throw new RotationFailure('PodVolumeNotFound', text)
  }
  // …/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount
  const parts = status.status.targetPath.split('/')
  const prefix = 'secret provider class pod status(spcps)'
  if (parts.at(-6) !== 'pods' || parts.at(-5) !== pod.uid) {
    throw new RotationFailure(
      'UnexpectedTargetPath',
      `${prefix} targetPath did not match pod UID for pod ${named}`,
    )
  }
  if (parts.at(-2) !== volume.name) {
    const text = `${prefix} volume name does not match the volume name in the pod ${named}`
    throw new RotationFailure('UnexpectedTargetPath', text)
  }
  return volume
}

function rotationFailed(pod: PodObject, message: string) {
  const name = objectKey(pod.namespace, pod.name)
  return { pod: name, type: 'Warning', reason: 'MountRotationFailed', message } as const
}

/** Go hands over a map: any order. */
function shuffled<T>(items: readonly T[]): readonly T[] {
  return items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
