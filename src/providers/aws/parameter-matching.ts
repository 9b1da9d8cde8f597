/** Owns which entry of Parameter Store's answer belongs to which question (aws.md section 7). */
import type { Parameter } from '@aws-sdk/client-ssm'

/** What to ask a region for. */
export interface ParameterQuery {
  /** Name or ARN, without selector. */
  readonly name: string
  /** Version number or label. */
  readonly selector?: string
}

/**
 * The entry of the answer that belongs to `query`. AWS names the selector; where it does not, a pinned
 * version is known by its number, the newest version answers the plain name, and a label what is left.
 */
export function matching(
  query: ParameterQuery,
  found: readonly Parameter[],
  queries: readonly ParameterQuery[],
): Parameter | undefined {
  const name = query.name.trim()
  const same = found.filter((p) => p.Name === name || p.ARN === name || isParameterArn(name, p))
  const selector = query.selector?.trim()
  const named = same.find((p) =>
    selector === undefined ? false : p.Selector === `:${selector}` || p.Selector === selector,
  )
  if (named !== undefined) return named
  const plain = same.filter((p) => !p.Selector)
  if (plain.length === 0) return undefined
  const newest = plain.reduce((a, b) => ((b.Version ?? 0) > (a.Version ?? 0) ? b : a))
  if (selector === undefined) return newest
  const pinned = plain.find((p) => String(p.Version) === selector)
  if (pinned !== undefined || isVersion(selector)) return pinned
  // A label: neither pinned by another ref, nor the newest if that was asked for by its plain name.
  const others = queries.filter((other) => other.name.trim() === name && other.selector?.trim() !== selector)
  const taken = new Set(
    others.flatMap((other) => (other.selector === undefined ? [] : [other.selector.trim()])),
  )
  const wantsNewest = others.some((other) => other.selector === undefined)
  const left = plain.filter((p) => !taken.has(String(p.Version)) && !(wantsNewest && p === newest))
  // Two labels on one version come back as one entry.
  return left.length === 0
    ? plain.length === 1
      ? plain[0]
      : undefined
    : left.length === 1
      ? left[0]
      : undefined
}

const isVersion = (selector: string): boolean => /^\d{1,15}$/.test(selector)

/** Asked by ARN, answered with the name and perhaps without an ARN. */
function isParameterArn(asked: string, parameter: Parameter): boolean {
  if (!asked.startsWith('arn:') || parameter.Name === undefined) return false
  const resource = asked.split(':').slice(5).join(':')
  return resource === `parameter${parameter.Name.startsWith('/') ? '' : '/'}${parameter.Name}`
}
