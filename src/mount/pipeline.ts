/** Owns the way of a mount: plan → outputs checked → policy → resolver → select → versions → answer (design.md section 3). */
import { BackendError, type Dialect, type Plan, type Source } from '../providers/adapter.ts'
import type { Audit } from '../telemetry/audit.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/metrics.ts'
import type { MountContext, MountPipeline } from './answer.ts'
import { assembleAnswer, wipeFiles } from './assemble-answer.ts'
import { MountFailure, type ObjectFailure } from './errors.ts'
import { createPlanner } from './planner.ts'
import type { Policy } from './policy.ts'
import { render } from './render.ts'
import { report, reportRefusal } from './report.ts'
import type { MountRequest } from './request.ts'
import type { Caller, Resolver } from './resolver.ts'

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
  /** Host names or URLs that a fetch would call, as far as the SPC decides them. */
  readonly addresses: (source: Source) => Promise<readonly string[]>
  readonly policy: Policy
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
    versionKey: options.versionKey,
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

  async function admit(request: MountRequest, context: MountContext, dialect: Dialect): Promise<Plan> {
    const plan = planner(dialect, request, context.provider)
    await checkPolicy(options, plan, request, context)
    for (const warning of plan.warnings ?? []) warnOnce(warning, request, context)
    return plan
  }

  return async (request, context) => {
    const started = options.now()
    const dialect = await options.dialect(context.provider)
    const plan = await admit(request, context, dialect).catch((error: unknown) => {
      if (error instanceof MountFailure)
        reportRefusal(options, request, context, error, options.now() - started)
      throw error
    })
    const sources = plan.outputs.map((output) => output.source)
    const caller = options.caller(request, context, dialect)
    const resolutions = await options.resolver.resolve(sources, caller)
    const rendered = plan.outputs.map((output, index) => render(output, resolutions[index], rendering))
    for (const resolution of resolutions) if (!(resolution instanceof BackendError)) resolution.release()
    const settled = assembleAnswer(plan, rendered, options.log)
    report(options, request, context, plan, rendered, settled, options.now() - started)
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

async function checkPolicy(
  options: PipelineOptions,
  plan: Plan,
  request: MountRequest,
  context: MountContext,
): Promise<void> {
  const refused: ObjectFailure[] = []
  for (const output of plan.outputs) {
    const { source } = output
    const addresses = await options.addresses(source)
    const answer = options.policy({ pod: request.pod, provider: context.provider, source, addresses })
    if (!answer.allowed) {
      refused.push({
        kind: 'denied',
        code: 'POLICY_DENIED',
        message: answer.reason,
        remedy: answer.remedy,
        object: output.object,
      })
    } else if (source.identity === 'node') {
      options.meter.count('keyferry_node_identity_total', { backend: source.backend })
    }
  }
  const [first, ...rest] = refused
  if (first) throw new MountFailure([first, ...rest])
}
