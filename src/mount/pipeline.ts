/** Owns the way of a mount: plan → outputs checked → policy → resolver → select → versions → answer (design.md section 3). */
import {
  BackendError,
  PlanError,
  SelectError,
  type Dialect,
  type Output,
  type Plan,
  type PlanRequest,
  type Source,
  type ValuePart,
} from '../providers/adapter.ts'
import type { Audit, AuditRecord, Provenance } from '../telemetry/audit.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/metrics.ts'
import type { AnswerFile, MountAnswer, MountContext, MountPipeline } from './answer.ts'
import { MountFailure, type ObjectFailure } from './errors.ts'
import { collisions, pathFault, planProblems } from './outputs.ts'
import type { Policy } from './policy.ts'
import type { MountRequest } from './request.ts'
import type { Caller, Resolution, Resolver } from './resolver.ts'
import type { Digest } from './versions.ts'

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
  readonly digest: Digest
  readonly limits: MountLimits
  readonly audit: Audit
  readonly meter: Meter
  readonly log: Logger
  readonly now: () => number
}

/** Files of one output, or why there are none. */
type Rendered =
  | { readonly files: readonly RenderedFile[]; readonly from: Provenance; readonly omitted?: boolean }
  | { readonly failure: ObjectFailure }

interface RenderedFile extends AnswerFile {
  readonly id: string
  readonly version: string
}

/** Makes the function that the server calls for each Mount. It keeps nothing between mounts but what the resolver caches. */
export function createPipeline(options: PipelineOptions): MountPipeline {
  const planOf = planMemo()
  return async (request, context) => {
    const started = options.now()
    const dialect = await options.dialect(context.provider)
    const plan = checkedPlan(planOf, dialect, request, context.provider, options.limits)
    const sources = plan.outputs.map((output) => output.source)
    for (const warning of plan.warnings ?? []) {
      options.log.warn('SecretProviderClass warning', { ...where(request, context), warning })
    }
    await checkPolicy(options, plan, request, context)
    const caller = options.caller(request, context, dialect)
    const resolutions = await options.resolver.resolve(sources, caller)
    const rendered = plan.outputs.map((output, index) => render(output, resolutions[index], options))
    for (const resolution of resolutions) if (!(resolution instanceof BackendError)) resolution.release()
    const settled = settle(plan, rendered, options)
    report(options, request, context, plan, rendered, settled, started)
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

type PlanOf = (dialect: Dialect, request: PlanRequest) => Plan

/** How many plans are kept: one per SPC variant on a node, not per pod. */
const KEPT_PLANS = 256

/** A dialect is pure, so equal requests share one plan: a republish parses nothing. */
function planMemo(): PlanOf {
  const plans = new Map<string, Plan>()
  return (dialect, request) => {
    const key = JSON.stringify([
      dialect.name,
      request.provider,
      request.defaultMode,
      [...request.nodePublishKeys],
      request.pod.namespace,
      request.pod.serviceAccount,
      request.pod.name,
      request.pod.uid,
      ...request.parameters,
    ])
    const known = plans.get(key)
    if (known) {
      plans.delete(key)
      plans.set(key, known)
      return known
    }
    const plan = dialect.plan(request)
    if (key.length <= 16_384) plans.set(key, plan)
    for (const oldest of plans.keys()) {
      if (plans.size <= KEPT_PLANS) break
      plans.delete(oldest)
    }
    return plan
  }
}

function checkedPlan(
  planOf: PlanOf,
  dialect: Dialect,
  request: MountRequest,
  provider: string,
  limits: MountLimits,
): Plan {
  try {
    const plan = planOf(dialect, {
      pod: request.pod,
      parameters: request.parameters,
      nodePublishKeys: dialect.needs.nodePublishSecret
        ? new Set(request.nodePublishSecret.keys())
        : new Set(),
      defaultMode: request.defaultMode,
      provider,
    })
    const problems = planProblems(plan, limits)
    if (problems.length > 0) throw new PlanError(problems)
    return plan
  } catch (error) {
    if (error instanceof PlanError) throw MountFailure.ofProblems(error.problems)
    throw error
  }
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

/** Bytes of one output's files. Whatever a selector throws becomes the object's failure. */
function render(output: Output, resolution: Resolution | undefined, options: PipelineOptions): Rendered {
  if (resolution === undefined) return { failure: internal(output) }
  if (resolution instanceof BackendError) {
    const absent = resolution.kind === 'not-found' || resolution.kind === 'gone'
    if (output.optional && absent) return { files: [], from: 'none', omitted: true }
    return { failure: failureOf(output, resolution) }
  }
  const { value } = resolution
  try {
    const files =
      output.kind === 'file'
        ? [
            fileOf(
              output,
              output.path,
              selected(output, value.bytes.reveal()),
              value.version,
              output.versionId,
              options,
            ),
          ]
        : (value.parts ?? []).map((part) => partOf(output, part, value.version, options))
    const large = files.find((file) => file.contents.length > options.limits.maxFileBytes)
    if (large) {
      const message = `the file "${large.path}" has ${large.contents.length} bytes; the limit is ${options.limits.maxFileBytes}`
      const remedy = 'Raise limits.fileBytes in the configuration, or split the secret'
      return {
        failure: { kind: 'too-large', code: 'FILE_TOO_LARGE', message, remedy, object: output.object },
      }
    }
    return { files, from: resolution.from }
  } catch (error) {
    if (error instanceof SelectError) {
      if (output.optional && error.kind === 'not-found') return { files: [], from: 'none', omitted: true }
      return { failure: failureOf(output, error) }
    }
    options.log.error('a selector threw something that is not a SelectError', {
      object: output.object,
      error: error instanceof Error ? error.name : typeof error,
    })
    return { failure: internal(output) }
  }
}

function selected(output: Extract<Output, { kind: 'file' }>, bytes: Buffer): Uint8Array {
  return output.select ? output.select(bytes) : bytes
}

function partOf(
  output: Extract<Output, { kind: 'expand' }>,
  part: ValuePart,
  version: string,
  options: PipelineOptions,
): RenderedFile {
  const path = output.into === '' ? part.name : `${output.into}/${part.name}`
  const fault = pathFault(path)
  if (fault !== undefined) {
    throw new SelectError({
      kind: 'config',
      code: 'INVALID_PATH',
      message: `its part "${part.name}" cannot be a file: the path ${fault}`,
      remedy: 'List the objects one by one and give each a file name',
    })
  }
  return fileOf(
    output,
    path,
    part.bytes.reveal(),
    part.version ?? version,
    output.versionId?.(part.name),
    options,
  )
}

/** Copies: the answer is wiped after it was sent, the cached value is not. */
function fileOf(
  output: Output,
  path: string,
  bytes: Uint8Array,
  version: string,
  id: string | undefined,
  options: PipelineOptions,
): RenderedFile {
  const contents = Buffer.allocUnsafeSlow(bytes.byteLength)
  contents.set(bytes)
  return {
    path,
    mode: output.mode,
    contents,
    id: id ?? path,
    version: version === '' ? options.digest(path, contents) : version,
  }
}

function failureOf(output: Output, error: BackendError | SelectError): ObjectFailure {
  const file = output.kind === 'file' ? { file: output.path } : {}
  return {
    kind: error.kind,
    code: error.code,
    message: error.message,
    remedy: error.remedy,
    object: output.object,
    ...file,
  }
}

function internal(output: Output): ObjectFailure {
  return {
    kind: 'internal',
    code: 'INTERNAL',
    message: 'the provider failed in a way it should not',
    remedy: "Look into the provider's log and report it",
    object: output.object,
  }
}

/** The complete answer, or one failure: a partial file set would delete files (driver.md section 8.6). */
function settle(
  plan: Plan,
  rendered: readonly Rendered[],
  options: PipelineOptions,
): MountAnswer | MountFailure {
  const failures = rendered.flatMap((one) => ('failure' in one ? [one.failure] : []))
  const [first, ...rest] = failures
  if (first) return new MountFailure([first, ...rest])
  const named = rendered.flatMap((one, index) =>
    'files' in one ? one.files.map((file) => ({ ...file, object: plan.outputs[index]?.object ?? '' })) : [],
  )
  const files = plan.duplicates === 'last-wins' ? lastWins(named, options) : named
  const problems = collisions(files)
  if (problems.length > 0) return MountFailure.ofProblems(problems)
  if (files.length === 0) {
    return MountFailure.of(
      'not-found',
      'NO_FILES',
      'none of the objects exists, and a volume cannot be empty',
      'Create one of the optional objects, or add one that always exists',
    )
  }
  return {
    files: files.map(({ path, mode, contents }) => ({ path, mode, contents })),
    versions: versionsOf(files),
    release: () => {
      for (const { contents } of named) contents.fill(0)
    },
  }
}

function lastWins<F extends RenderedFile & { object: string }>(
  files: readonly F[],
  options: PipelineOptions,
): F[] {
  const byPath = new Map<string, F>()
  for (const file of files) {
    const other = byPath.get(file.path)
    if (other)
      options.log.warn('two objects have one file name; the later one wins', {
        objects: [other.object, file.object],
      })
    byPath.set(file.path, file)
  }
  return [...byPath.values()]
}

/** Ids are unique: files that share one id are told apart by a version made of all of theirs. */
function versionsOf(files: readonly RenderedFile[]): { id: string; version: string }[] {
  const byId = new Map<string, string>()
  for (const { id, version } of files) {
    const other = byId.get(id)
    byId.set(id, other === undefined || other === version ? version : `${other},${version}`)
  }
  return [...byId].map(([id, version]) => ({ id, version }))
}

function wipeFiles(rendered: readonly Rendered[]): void {
  for (const one of rendered) if ('files' in one) for (const file of one.files) file.contents.fill(0)
}

function report(
  options: PipelineOptions,
  request: MountRequest,
  context: MountContext,
  plan: Plan,
  rendered: readonly Rendered[],
  settled: MountAnswer | MountFailure,
  started: number,
): void {
  const latencyMs = options.now() - started
  for (const [index, output] of plan.outputs.entries()) {
    const one = rendered[index]
    if (!one) continue
    const failure = 'failure' in one ? one.failure : undefined
    const files = 'files' in one ? one.files : []
    const omitted = 'files' in one && one.omitted === true
    const from = 'from' in one ? one.from : 'none'
    const outcome: AuditRecord['outcome'] =
      failure || settled instanceof MountFailure ? 'failed' : omitted ? 'omitted' : 'delivered'
    options.meter.count('keyferry_objects_total', {
      backend: output.source.backend,
      outcome: failure?.kind ?? outcome,
      from,
    })
    options.audit({
      namespace: request.pod.namespace,
      serviceAccount: request.pod.serviceAccount,
      pod: request.pod.name,
      podUid: request.pod.uid,
      secretProviderClass: request.secretProviderClass,
      provider: context.provider,
      backend: output.source.backend,
      store: output.source.name,
      identity: output.source.identity,
      object: output.object,
      files: files.map((file) => file.path),
      version: outcome === 'delivered' ? files[0]?.version : undefined,
      outcome,
      kind: failure?.kind,
      code: failure?.code,
      from,
      latencyMs,
    })
  }
}
