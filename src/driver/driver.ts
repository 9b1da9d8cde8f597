/** Owns what one driver process holds, and the steps that publishing and the rotation of 1.5 share. */
import { PERMISSION, type PodFacts, type Tokens } from './attributes.ts'
import type { Clock } from './clock.ts'
import type { CodeName } from './codes.ts'
import type { ObjectVersion } from '../rpc/contract.ts'
import { LookupError, type Profile, type Providers } from './dial.ts'
import { goQuote } from './go-text.ts'
import type { Events, Metrics } from './metrics.ts'
import type { Mounts } from './mounts.ts'
import { statusName, type Objects, type SecretProviderClass } from './objects.ts'
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

/** A CSI call the driver turns down, with the code its caller gets and the metric label `error_type`. */
export class Refusal extends Error {
  readonly code: CodeName
  readonly errorType: string
  constructor(code: CodeName, errorType: string, message: string) {
    super(message)
    this.code = code
    this.errorType = errorType
  }
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
