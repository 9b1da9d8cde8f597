/** Owns the step from a request to a plan whose outputs have been checked. */
import { hash } from 'node:crypto'
import { inSlices, resultOf } from '../formats/steps.ts'
import { PlanError, type Dialect, type Plan, type PlanRequest, type Problem } from '../providers/adapter.ts'
import { MountFailure } from './errors.ts'
import { planProblems } from './outputs.ts'
import type { MountRequest } from './request.ts'

/** How many plans are kept, and how many characters of parameters they were made from together. */
const KEPT = { plans: 256, characters: 4 * 1024 * 1024 }

interface KeptPlan {
  readonly plan: Plan
  readonly characters: number
}

/** Parameters may carry whole documents: from this length on a digest stands for the text. */
const LONG_TEXT = 1024

/** What stands for a text in the key of a plan; a text never equals a digest's object. */
function short(text: string): string | { readonly digest: string } {
  return text.length < LONG_TEXT ? text : { digest: digestOf(text) }
}

function digestOf(text: string): string {
  return hash('sha256', text, 'base64')
}

function sizeOf({ parameters }: PlanRequest): number {
  let size = 0
  for (const [name, value] of parameters) size += name.length + value.length
  return size
}

/** A dialect is pure, so equal requests share one plan: a republish parses nothing. */
function planMemo(): (dialect: Dialect, request: PlanRequest) => Promise<Plan> {
  const plans = new Map<string, KeptPlan>()
  let characters = 0
  const forget = (key: string): void => {
    characters -= plans.get(key)?.characters ?? 0
    plans.delete(key)
  }
  const keep = (key: string, kept: KeptPlan): void => {
    plans.set(key, kept)
    characters += kept.characters
  }
  return async (dialect, request) => {
    const text = JSON.stringify([
      dialect.name,
      request.provider,
      request.defaultMode,
      [...request.nodePublishKeys],
      request.pod.namespace,
      request.pod.serviceAccount,
      request.pod.name,
      request.pod.uid,
      ...Array.from(request.parameters, ([name, value]) => [name, short(value)]),
    ])
    const key = digestOf(text)
    const known = plans.get(key)
    if (known) {
      forget(key)
      keep(key, known)
      return known.plan
    }
    const made = dialect.plan(request)
    const plan = 'outputs' in made ? made : await inSlices(made)
    forget(key)
    keep(key, { plan, characters: sizeOf(request) })
    for (const oldest of plans.keys()) {
      if (plans.size <= KEPT.plans && characters <= KEPT.characters) break
      forget(oldest)
    }
    return plan
  }
}

export interface PlanLimits {
  /** Most objects one SPC may name. */
  readonly maxOutputs: number
}

/** The same failure, of which every part may take a file away. */
function withdrawn({ failures }: MountFailure): MountFailure {
  const [first, ...rest] = failures.map((failure) => ({ ...failure, withdrawn: true }))
  return first ? new MountFailure([first, ...rest]) : MountFailure.ofProblems([])
}

/** A part of a plan may have no outputs left. */
function faultsOf(plan: Plan, limits: PlanLimits): readonly Problem[] {
  return plan.outputs.length === 0 ? [] : planProblems(plan, limits)
}

/** The plan of a request, made without a rest: for command lines and tests. @throws PlanError */
export function planNow(dialect: Dialect, request: PlanRequest): Plan {
  const made = dialect.plan(request)
  return 'outputs' in made ? made : resultOf(made)
}

/** The plan, whose outputs can all be in one volume. @throws PlanError with every fault of them */
export function checkedPlan(plan: Plan, limits: PlanLimits): Plan {
  const problems = planProblems(plan, limits)
  if (problems.length > 0) throw new PlanError(problems)
  return plan
}

/** What a request may have, and why it may not have the rest. */
export interface Planned {
  readonly plan: Plan
  /** Every refusal, where the SPC is sound but names what this pod may not use. */
  readonly refused?: MountFailure
}

/** Gives the plan of a request. @throws MountFailure with every fault of the SPC. */
export type Planner = (dialect: Dialect, request: MountRequest, provider: string) => Promise<Planned>

export function createPlanner(limits: PlanLimits): Planner {
  const planOf = planMemo()
  return async (dialect, request, provider) => {
    const names = dialect.needs.nodePublishSecret ? request.nodePublishSecret.keys() : []
    try {
      const plan = await planOf(dialect, {
        pod: request.pod,
        parameters: request.parameters,
        nodePublishKeys: new Set(names),
        defaultMode: request.defaultMode,
        provider,
      })
      return { plan: checkedPlan(plan, limits) }
    } catch (error) {
      if (!(error instanceof PlanError)) throw error
      const failure = MountFailure.ofProblems(error.problems)
      const { permitted } = error
      if (permitted === undefined || faultsOf(permitted, limits).length > 0) throw failure
      return { plan: permitted, refused: withdrawn(failure) }
    }
  }
}
