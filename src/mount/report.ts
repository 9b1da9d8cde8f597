/** Owns what a mount leaves behind: audit records and object counts (T27). */
import type { Plan } from '../providers/adapter.ts'
import type { Audit, AuditRecord } from '../telemetry/audit.ts'
import type { Meter } from '../telemetry/metrics.ts'
import type { MountAnswer, MountContext } from './answer.ts'
import { MountFailure } from './errors.ts'
import { objectsOf } from './outputs.ts'
import type { Rendered } from './render.ts'
import type { MountRequest } from './request.ts'

export interface ReportOptions {
  readonly audit: Audit
  readonly meter: Meter
}

/** What every audit record of a mount says. */
function auditBase(
  request: MountRequest,
  context: MountContext,
): Pick<AuditRecord, 'namespace' | 'serviceAccount' | 'pod' | 'podUid' | 'secretProviderClass' | 'provider'> {
  return {
    namespace: request.pod.namespace,
    serviceAccount: request.pod.serviceAccount,
    pod: request.pod.name,
    podUid: request.pod.uid,
    secretProviderClass: request.secretProviderClass,
    provider: context.provider,
  }
}

/** Of an object that no store was asked for. */
const NOTHING_FETCHED = {
  backend: '',
  store: undefined,
  identity: 'pod',
  files: [],
  version: undefined,
  marks: [],
  from: 'none',
} as const

/** A mount that was refused before anything was fetched: one record for the object at fault, or for all (`*`). */
export function reportRefusal(
  options: ReportOptions,
  request: MountRequest,
  context: MountContext,
  error: MountFailure,
  latencyMs: number,
): void {
  const [first] = error.failures
  options.audit({
    ...auditBase(request, context),
    ...NOTHING_FETCHED,
    object: first?.object ?? '*',
    outcome: 'failed',
    kind: error.kind,
    code: first?.code,
    latencyMs,
  })
}

/** What became of a mount that got as far as fetching. */
export interface Fetched {
  readonly plan: Plan
  /** What policy marked, by object: an output that gathers has several. */
  readonly marks: readonly (readonly string[])[]
  /** By output. */
  readonly rendered: readonly Rendered[]
  readonly settled: MountAnswer | MountFailure
}

/** One record per object of a mount that got as far as fetching. */
export function report(
  options: ReportOptions,
  request: MountRequest,
  context: MountContext,
  { plan, marks, rendered, settled }: Fetched,
  latencyMs: number,
): void {
  let seen = 0
  for (const [index, output] of plan.outputs.entries()) {
    const one = rendered[index]
    const objects = objectsOf(output)
    const first = seen
    seen += objects.length
    if (!one) continue
    const revoked = 'files' in one ? one.revoked : undefined
    const failures = 'failures' in one ? one.failures : (revoked ?? [])
    const files = 'files' in one ? one.files : []
    const omitted = 'files' in one && one.omitted === true
    const from = 'from' in one ? one.from : 'none'
    const outcome: AuditRecord['outcome'] =
      'failures' in one || settled instanceof MountFailure
        ? 'failed'
        : revoked
          ? 'revoked'
          : omitted
            ? 'omitted'
            : 'delivered'
    for (const [nth, { source, object }] of objects.entries()) {
      const failure = failures.find((candidate) => candidate.object === object)
      options.meter.count('keyferry_objects_total', {
        backend: source.backend,
        outcome: revoked ? outcome : (failure?.kind ?? outcome),
        from,
      })
      options.audit({
        ...auditBase(request, context),
        backend: source.backend,
        store: source.name,
        identity: source.identity,
        object,
        files: files.map((file) => file.path),
        version: outcome === 'delivered' ? files[0]?.version : undefined,
        marks: marks[first + nth] ?? [],
        outcome,
        kind: failure?.kind,
        code: failure?.code,
        from,
        latencyMs,
      })
    }
  }
  for (const one of rendered.slice(plan.outputs.length))
    reportWithheld(options, request, context, one, latencyMs)
}

/** What the plan left out because the pod may not use it: nothing is known of its store. */
function reportWithheld(
  options: ReportOptions,
  request: MountRequest,
  context: MountContext,
  one: Rendered,
  latencyMs: number,
): void {
  const failures = 'failures' in one ? one.failures : (one.revoked ?? [])
  for (const { object = '*', kind, code } of failures)
    options.audit({
      ...auditBase(request, context),
      ...NOTHING_FETCHED,
      object,
      outcome: 'failures' in one ? 'failed' : 'revoked',
      kind,
      code,
      latencyMs,
    })
}
