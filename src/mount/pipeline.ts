/** Owns the way of a mount: plan → outputs checked → policy → resolver → select → versions → answer (design.md section 3). */
import { createSecretKey } from 'node:crypto'
import { BackendError, type Dialect, type Plan, type Source } from '../providers/adapter.ts'
import type { Audit } from '../telemetry/audit.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter, MetricName } from '../telemetry/metrics.ts'
import type { MountContext, MountPipeline } from './answer.ts'
import { assembleAnswer, wipeFiles } from './assemble-answer.ts'
import { MountFailure, type ObjectFailure } from './errors.ts'
import { objectsOf } from './outputs.ts'
import { createPlanner } from './planner.ts'
import type { Policy, PolicyMark } from './policy.ts'
import { render } from './render.ts'
import { report, reportRefusal } from './report.ts'
import type { MountRequest } from './request.ts'
import type { Caller, Resolver } from './resolver.ts'
import type { ParameterCheck } from './verify-parameters.ts'

/** Warnings remembered as told. */
const MAX_WARNED = 1000

export interface MountLimits {
  /** Most objects one SPC may name. */
  readonly maxOutputs: number
  /** Most bytes one file may have. */
  readonly maxFileBytes: number
}

export const DEFAULT_LIMITS: MountLimits = { maxOutputs: 1000, maxFileBytes: 1024 * 1024 }

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
/** Makes the function that the server calls for each Mount. It keeps nothing between mounts but what the resolver caches. */
export function createPipeline(options: PipelineOptions): MountPipeline {
  const planner = createPlanner(options.limits)
  const rendering = {
    // Made once: a digest with bytes as its key spends most of its time on preparing them.
    versionKey: createSecretKey(options.versionKey),
    maxFileBytes: options.limits.maxFileBytes,
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

  async function admit(
    request: MountRequest,
    context: MountContext,
    dialect: Dialect,
  ): Promise<{ readonly plan: Plan; readonly marks: Marks }> {
    await options.verifyParameters?.(request, context)
    const plan = await planner(dialect, request, context.provider)
    const { marks, warnings } = await checkPolicy(options, plan, request, context)
    for (const warning of [...(plan.warnings ?? []), ...warnings]) warnOnce(warning, request, context)
    return { plan, marks }
  }

  return async (request, context) => {
    const started = options.now()
    const dialect = await options.dialect(context.provider)
    const { plan, marks } = await admit(request, context, dialect).catch((error: unknown) => {
      if (error instanceof MountFailure)
        reportRefusal(options, request, context, error, options.now() - started)
      throw error
    })
    const sources = plan.outputs.flatMap((output) => objectsOf(output).map(({ source }) => source))
    const caller = options.caller(request, context, dialect)
    const resolutions = await options.resolver.resolve(sources, caller)
    let taken = 0
    const rendered = plan.outputs.map((output) => {
      const { length } = objectsOf(output)
      taken += length
      return render(output, resolutions.slice(taken - length, taken), rendering)
    })
    for (const resolution of resolutions) if (!(resolution instanceof BackendError)) resolution.release()
    const settled = assembleAnswer(plan, rendered, options.log)
    report(options, request, context, { plan, marks, rendered, settled }, options.now() - started)
    if (settled instanceof MountFailure) {
      wipeFiles(rendered)
      throw settled
    }
    return settled
  }
}

function where(
  request: MountRequest,
  context: MountContext,
): { namespace: string; pod: string; provider: string } {
  return { namespace: request.pod.namespace, pod: request.pod.name, provider: context.provider }
}

/** Of each output, in the order of the plan. */
type Marks = readonly (readonly PolicyMark[])[]

/** Mark → what counts its uses. */
const METRIC_OF_MARK = {
  'node-identity': 'keyferry_node_identity_total',
  'spc-address': 'keyferry_spc_addresses_total',
} as const satisfies Record<PolicyMark, MetricName>

/** Asks the policy about every output. @throws MountFailure naming each that is refused. */
async function checkPolicy(
  options: PipelineOptions,
  plan: Plan,
  { pod }: MountRequest,
  { provider }: MountContext,
): Promise<{ readonly marks: Marks; readonly warnings: ReadonlySet<string> }> {
  const refused: ObjectFailure[] = []
  const marks: (readonly PolicyMark[])[] = []
  const warnings = new Set<string>()
  for (const { source, object } of plan.outputs.flatMap(objectsOf)) {
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
      refused.push({ kind: 'denied', code: 'POLICY_DENIED', message, remedy, object })
    }
  }
  const [first, ...rest] = refused
  if (first) throw new MountFailure([first, ...rest])
  for (const [index, { source }] of plan.outputs.entries())
    for (const mark of marks[index] ?? [])
      options.meter.count(METRIC_OF_MARK[mark], { backend: source.backend })
  return { marks, warnings }
}
