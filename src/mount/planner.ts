/** Owns the step from a request to a plan whose outputs have been checked. */
import { PlanError, type Dialect, type Plan, type PlanRequest } from '../providers/adapter.ts'
import { MountFailure } from './errors.ts'
import { planProblems } from './outputs.ts'
import type { MountRequest } from './request.ts'

/** How many plans are kept: one per SPC variant on a node, not per pod. */
const KEPT_PLANS = 256

/** A dialect is pure, so equal requests share one plan: a republish parses nothing. */
function planMemo(): (dialect: Dialect, request: PlanRequest) => Plan {
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

export interface PlanLimits {
  /** Most objects one SPC may name. */
  readonly maxOutputs: number
}

/** Gives the plan of a request. @throws MountFailure with every fault of the SPC. */
export type Planner = (dialect: Dialect, request: MountRequest, provider: string) => Plan

export function createPlanner(limits: PlanLimits): Planner {
  const planOf = planMemo()
  return (dialect, request, provider) => {
    const names = dialect.needs.nodePublishSecret ? request.nodePublishSecret.keys() : []
    try {
      const plan = planOf(dialect, {
        pod: request.pod,
        parameters: request.parameters,
        nodePublishKeys: new Set(names),
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
}
