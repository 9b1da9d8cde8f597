/** Owns the stores that an SPC defines for itself, where policy permits that. */
import * as v from 'valibot'
import type { Steps } from '../../formats/steps.ts'
import type { Backend, Problem } from '../adapter.ts'
import { readStores } from './language.ts'
import type { UsableStore } from './stores.ts'

/** Policy does not permit stores in an SPC. */
export type InlineRefusal = 'deny'

export interface OwnStores {
  readonly stores: ReadonlyMap<string, UsableStore>
  /** Names of stores that cannot be used; {@link problems} say why. */
  readonly broken: ReadonlySet<string>
  readonly problems: readonly Problem[]
}

/** The stores of the parameter `stores`; always with the pod's identity. */
export function* inlineStores(
  text: string | undefined,
  backends: ReadonlyMap<string, Backend> | InlineRefusal,
): Steps<OwnStores> {
  const stores = new Map<string, UsableStore>()
  const broken = new Set<string>()
  if (text === undefined || text.trim() === '') return { stores, broken, problems: [] }
  if (backends === 'deny') {
    const refusal: Problem = {
      kind: 'denied',
      code: 'KEYFERRY_INLINE_STORES',
      message: 'stores: a SecretProviderClass may not define stores on this node',
      remedy: 'Use a store of the operator, or ask for policy.inlineStores: allow',
      parameter: 'stores',
    }
    // Their names are read all the same, so that entries that use them are not told of once more.
    const { value = {} } = yield* readStores(text)
    return { stores, broken: new Set(Object.keys(value)), problems: [refusal] }
  }
  const reading = yield* readStores(text)
  const problems = [...reading.problems]
  for (const [name, own] of Object.entries(reading.value ?? {})) {
    if (!own) {
      broken.add(name)
      continue
    }
    const { backend: kind, settings } = own
    const backend = backends.get(kind)
    if (!backend) {
      const message = `is "${kind.slice(0, 100)}"; there are ${[...backends.keys()].sort().join(', ')}`
      problems.push(reading.problemAt([name, 'backend'], { code: 'KEYFERRY_STORES', message }))
      broken.add(name)
      continue
    }
    const result = v.safeParse(backend.storeSchema, settings)
    if (result.success) {
      const identity = 'pod'
      const base = { name, backend, identity, configured: false, allows: () => true } as const
      stores.set(name, { ...base, settings: result.output })
      continue
    }
    broken.add(name)
    for (const issue of result.issues) {
      const path = (issue.path ?? []).map((item) =>
        typeof item.key === 'number' ? item.key : String(item.key),
      )
      const unknown = issue.type === 'strict_object' && issue.expected === 'never'
      problems.push(
        reading.problemAt([name, 'settings', ...path], {
          code: 'KEYFERRY_STORES',
          message: unknown ? 'is not a known key' : `cannot be used: ${issue.message}`,
        }),
      )
    }
  }
  return { stores, broken, problems }
}
