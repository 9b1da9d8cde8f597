/** Owns what is said about denied objects of running pods: two counters, and one log line for each object (T25). */
import type { Plan } from '../providers/adapter.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/metrics.ts'
import type { MountContext } from './answer.ts'
import type { MountFailure, ObjectFailure } from './errors.ts'
import { objectsOf } from './outputs.ts'
import type { Rendered } from './render.ts'
import type { MountRequest } from './request.ts'
import { keptDenials } from './revocation.ts'

/** Lines remembered as said. */
const MAX_SAID = 1000

export interface RevocationReport {
  /** A mount that was refused as a whole. */
  refused(request: MountRequest, context: MountContext, failure: MountFailure, republish: boolean): void
  /** A mount that got as far as fetching. */
  settled(
    request: MountRequest,
    context: MountContext,
    outcome: { readonly plan: Plan; readonly rendered: readonly Rendered[]; readonly republish: boolean },
  ): void
}

/** A volume is published again every minute: each is counted every time, and said once. */
export function createRevocationReport({
  meter,
  log,
}: {
  readonly meter: Meter
  readonly log: Logger
}): RevocationReport {
  const said = new Set<string>()
  function tell(
    request: MountRequest,
    { provider }: MountContext,
    { object, kind, code, message }: ObjectFailure,
    files: 'removed' | 'kept',
  ): void {
    const key = JSON.stringify([request.pod.uid, request.targetPath, object ?? message, code, files])
    if (said.has(key)) return
    if (said.size >= MAX_SAID) said.clear()
    said.add(key)
    const { namespace, name: pod } = request.pod
    log.warn('an object of a running pod is denied', { namespace, pod, provider, object, kind, code, files })
  }
  return {
    refused(request, context, { failures }, republish) {
      for (const failure of keptDenials(failures, republish)) {
        meter.count('keyferry_revoked_kept_total', { backend: '' })
        tell(request, context, failure, 'kept')
      }
    },
    settled(request, context, { plan, rendered, republish }) {
      for (const [index, one] of rendered.entries()) {
        const output = plan.outputs[index]
        const objects = output ? objectsOf(output) : []
        const backendOf = ({ object }: ObjectFailure): string =>
          objects.find((candidate) => candidate.object === object)?.source.backend ?? ''
        const removed = 'files' in one ? (one.revoked ?? []) : []
        const kept = 'failures' in one ? keptDenials(one.failures, republish) : []
        for (const failure of removed) {
          meter.count('keyferry_revoked_objects_total', { backend: backendOf(failure) })
          tell(request, context, failure, 'removed')
        }
        for (const failure of kept) {
          meter.count('keyferry_revoked_kept_total', { backend: backendOf(failure) })
          tell(request, context, failure, 'kept')
        }
      }
    },
  }
}
