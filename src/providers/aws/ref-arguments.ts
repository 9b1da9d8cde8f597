/** Owns the check of the arguments that a `provider: keyferry` entry gives for an AWS object. */
import type { RefItem } from '../adapter.ts'
import { PlanError } from '../adapter.ts'

/**
 * The item's arguments, none of them unknown.
 * @throws PlanError naming every argument that is not in `known`, or an empty key.
 */
export function refArguments(item: RefItem, known: readonly string[]): ReadonlyMap<string, string> {
  const args = new Map(Object.entries(item.args ?? {}))
  const problems = [...args.keys()]
    .filter((name) => !known.includes(name))
    .map((name) => ({
      code: 'INVALID_PARAMETER',
      message: `"${item.key}": unknown argument ${name}`,
      remedy: `Use one of: ${known.join(', ')}.`,
    }))
  if (item.key === '')
    problems.push({ code: 'INVALID_PARAMETER', message: 'key is empty', remedy: 'Name the object.' })
  if (problems.length > 0) throw new PlanError(problems)
  return args
}
