/** Owns the way of a mount: plan → outputs checked → policy → resolver → select → versions → answer (design.md section 3). */
import { createSecretKey } from 'node:crypto'
import { inSlices, type Steps } from '../formats/steps.ts'
import { BackendError, type Dialect, type OnRevoked, type Plan, type Source } from '../providers/adapter.ts'
import type { Audit } from '../telemetry/audit.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter, MetricName } from '../telemetry/metrics.ts'
import type { MountContext, MountPipeline } from './answer.ts'
import { assembleAnswer, wipeFiles } from './assemble-answer.ts'
import type { Caller } from './caller.ts'
import { MountFailure, type ObjectFailure } from './errors.ts'
import { objectsOf } from './outputs.ts'
import { createPlanner } from './planner.ts'
import type { Policy, PolicyMark } from './policy.ts'
import { nothingPublished, type PublishedVolumes } from './published.ts'
import { render, type Rendered } from './render.ts'
import { report, reportRefusal } from './report.ts'
import type { MountRequest } from './request.ts'
import type { Resolution, Resolver } from './resolver.ts'
import { createRevocationReport } from './revocation-report.ts'
import { mayRemove, withoutRevoked, type Standing } from './revocation.ts'
import type { ParameterCheck } from './verify-parameters.ts'

/** Warnings remembered as told. */
const MAX_WARNED = 1000

export interface MountLimits {
  /** Most objects one SPC may name. */
  readonly maxOutputs: number
  /** Most bytes one file may have. */
  readonly maxFileBytes: number
  /** Most bytes all files together may have: more would not fit into a response. */
  readonly maxTotalBytes: number
}

export const DEFAULT_LIMITS: MountLimits = {
  maxOutputs: 1000,
  maxFileBytes: 1024 * 1024,
  maxTotalBytes: 4 * 1024 * 1024,
}

export interface PipelineOptions {
  /** The dialect behind a socket name. */
  readonly dialect: (provider: string) => Promise<Dialect>
  readonly resolver: Resolver
  /** The mount's side of its fetches: identity keys and hosts. */
  readonly caller: (request: MountRequest, context: MountContext, dialect: Dialect) => Caller
  /** Host names or URLs that the SPC chose for a fetch. */
  readonly addresses: (source: Source) => Promise<readonly string[]>
  /** What a fetch asks its store for, as policy's `keys` match it. Absent: rules with `keys` cover nothing. */
  readonly keys?: (source: Source) => Promise<readonly string[]>
  readonly policy: Policy
  /** What becomes of files whose objects are denied to a running pod, where its class does not say. Default keep. */
  readonly onRevoked?: OnRevoked
  /** Which volumes were published. Default: none, so nothing is ever removed. */
  readonly published?: PublishedVolumes
  /** Absent: volumeAttributes may override the class, as in the driver. */
  readonly verifyParameters?: ParameterCheck
  /** The node's key for versions that a store does not give. */
  readonly versionKey: Uint8Array
  readonly limits: MountLimits
  readonly audit: Audit
  readonly meter: Meter
  readonly log: Logger
  readonly now: () => number
}

/**
 * Makes the function that the server calls for each Mount. It keeps nothing between mounts but what the resolver
 * caches and which volumes were published.
 */
export function createPipeline(options: PipelineOptions): MountPipeline {
  const planner = createPlanner(options.limits)
  const published = options.published ?? nothingPublished
  const reportRevocation = createRevocationReport(options)
  const rendering = {
    // Made once: a digest with bytes as its key spends most of its time on preparing them.
    versionKey: createSecretKey(options.versionKey),
    maxFileBytes: options.limits.maxFileBytes,
    maxTotalBytes: options.limits.maxTotalBytes,
    log: options.log,
  }

  /** A volume is published again every minute: each warning about a class is logged once, not each time. */
  const warned = new Set<string>()
  function warnOnce(warning: string, request: MountRequest, context: MountContext): void {
    const secretProviderClass = request.secretProviderClass ?? ''
    const key = JSON.stringify([request.pod.namespace, secretProviderClass, context.provider, warning])
    if (warned.has(key)) return
    if (warned.size >= MAX_WARNED) warned.clear()
    warned.add(key)
    options.log.warn('SecretProviderClass warning', {
      ...where(request, context),
      secretProviderClass,
      warning,
    })
  }

  /** @throws MountFailure for a class that cannot be mounted, or not by this pod */
  async function admit(
    request: MountRequest,
    context: MountContext,
    dialect: Dialect,
    republish: boolean,
  ): Promise<Admitted> {
    await options.verifyParameters?.(request, context)
    if (dialect.prepare) await dialect.prepare(request)
    const { plan, refused } = await planner(dialect, request, context.provider)
    const standing = { republish, onRevoked: plan.onRevoked ?? options.onRevoked ?? 'keep' }
    if (refused && !mayRemove(standing)) throw refused
    const { marks, denied, warnings } = await checkPolicy(options, plan, request, context)
    const [first, ...rest] = denied.values()
    if (first && !mayRemove(standing)) throw new MountFailure([first, ...rest])
    for (const warning of [...(plan.warnings ?? []), ...warnings]) warnOnce(warning, request, context)
    return { plan, marks, standing, denied, refused: refused?.failures ?? [] }
  }

  /** One resolution per object: what policy denied is not fetched. */
  async function resolved({ plan, denied }: Admitted, caller: Caller): Promise<readonly Resolution[]> {
    const sources = plan.outputs.flatMap((output) => objectsOf(output).map(({ source }) => source))
    const fetched = await options.resolver.resolve(
      sources.filter((_, index) => !denied.has(index)),
      caller,
    )
    let taken = 0
    return sources.map((_, index) => {
      const failure = denied.get(index)
      if (failure) return new BackendError(failure)
      taken += 1
      return fetched[taken - 1] ?? new BackendError(UNANSWERED)
    })
  }

  /** Files of each output, or why there are none; selections and templates may be long, so others have their turn. */
  function* filesOf(
    plan: Plan,
    resolutions: readonly Resolution[],
    signal: AbortSignal,
  ): Steps<readonly Rendered[]> {
    const settings = { ...rendering, signal }
    const all: Rendered[] = []
    let taken = 0
    let bytes = 0
    for (const output of plan.outputs) {
      const { length } = objectsOf(output)
      // A thousand files of one large object would fill the memory of the node before anybody adds them up.
      if (bytes > options.limits.maxTotalBytes) {
        all.push({ failures: [tooLarge(options.limits)] })
        continue
      }
      const one = yield* render(output, resolutions.slice(taken, taken + length), settings)
      if ('files' in one) for (const { contents } of one.files) bytes += contents.length
      all.push(one)
      taken += length
      yield
    }
    return all
  }

  return async (request, context) => {
    const started = options.now()
    const dialect = await options.dialect(context.provider)
    const republish = published.isRepublish(request)
    const admitted = await admit(request, context, dialect, republish).catch((error: unknown) => {
      if (error instanceof MountFailure) {
        reportRefusal(options, request, context, error, options.now() - started)
        reportRevocation.refused(request, context, error, republish)
      }
      throw error
    })
    const { plan, marks, standing, refused } = admitted
    const resolutions = await resolved(admitted, options.caller(request, context, dialect))
    const all = await inSlices(filesOf(plan, resolutions, context.signal)).finally(() => {
      for (const resolution of resolutions) if (!(resolution instanceof BackendError)) resolution.release()
    })
    // What the plan leaves out counts as one more output that was denied.
    const [first, ...rest] = refused
    const whole: readonly Rendered[] = first ? [...all, { failures: [first, ...rest] }] : all
    const rendered = withoutRevoked(whole, standing)
    const settled = assembleAnswer(plan, rendered, options.log, mayRemove(standing))
    report(options, request, context, { plan, marks, rendered, settled }, options.now() - started)
    // A mount that fails after all (its answer is too large, say) has taken nothing away.
    const told = settled instanceof MountFailure ? whole : rendered
    reportRevocation.settled(request, context, { plan, rendered: told, republish })
    if (settled instanceof MountFailure) {
      wipeFiles(rendered)
      throw settled
    }
    return { ...settled, delivered: () => published.delivered(request) }
  }
}

function tooLarge({ maxTotalBytes }: MountLimits): ObjectFailure {
  return {
    kind: 'too-large',
    code: 'RESPONSE_TOO_LARGE',
    message: `the files of this volume have more than ${maxTotalBytes} bytes together`,
    remedy:
      'Split the SecretProviderClass, or raise maxCallRecvMsgSize of the driver and the limit of keyferry together',
  }
}

/** A mount that may go on. */
interface Admitted {
  readonly plan: Plan
  readonly marks: Marks
  readonly standing: Standing
  /** Objects that policy denies, by their place among those of the plan; a volume published before may lose them. */
  readonly denied: ReadonlyMap<number, ObjectFailure>
  /** What the plan leaves out because the pod may not use it; the same holds. */
  readonly refused: readonly ObjectFailure[]
}

/** A resolver owes one resolution per source. */
const UNANSWERED = {
  kind: 'internal',
  code: 'INTERNAL',
  message: 'no answer was kept for this object',
} as const

function where(
  request: MountRequest,
  context: MountContext,
): { namespace: string; pod: string; provider: string } {
  return { namespace: request.pod.namespace, pod: request.pod.name, provider: context.provider }
}

/** Of each object, in the order of the plan. */
type Marks = readonly (readonly PolicyMark[])[]

/** Mark → what counts its uses. */
const METRIC_OF_MARK = {
  'node-identity': 'keyferry_node_identity_total',
  'spc-address': 'keyferry_spc_addresses_total',
} as const satisfies Record<PolicyMark, MetricName>

/** Asks the policy about every object. */
async function checkPolicy(
  options: PipelineOptions,
  plan: Plan,
  { pod }: MountRequest,
  { provider }: MountContext,
): Promise<{
  readonly marks: Marks
  readonly denied: ReadonlyMap<number, ObjectFailure>
  readonly warnings: ReadonlySet<string>
}> {
  const denied = new Map<number, ObjectFailure>()
  const marks: (readonly PolicyMark[])[] = []
  const warnings = new Set<string>()
  const objects = plan.outputs.flatMap(objectsOf)
  for (const [index, { source, object }] of objects.entries()) {
    const addresses = await options.addresses(source)
    // Most fetches need no rule, and a warm mount should not pay for what only rules look at.
    const needsRule = source.name === undefined && (source.identity === 'node' || addresses.length > 0)
    const keys = needsRule ? ((await options.keys?.(source)) ?? []) : []
    const answer = options.policy({ pod, provider, source, addresses, keys })
    if (answer.allowed) {
      marks.push(answer.marks)
      if (answer.warning !== undefined) warnings.add(answer.warning)
    } else {
      const { reason: message, remedy } = answer
      marks.push([])
      denied.set(index, { kind: 'denied', code: 'POLICY_DENIED', message, remedy, object })
    }
  }
  for (const [index, { source }] of objects.entries())
    for (const mark of marks[index] ?? [])
      options.meter.count(METRIC_OF_MARK[mark], { backend: source.backend })
  return { marks, denied, warnings }
}
