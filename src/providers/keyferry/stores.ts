/** Owns who may use a store that the configuration defines: deny unless a rule allows (threat model T1). */
import { matchesGlob } from '../../formats/glob.ts'
import type { Backend, Identity, PodFacts } from '../adapter.ts'

/** One entry of a store's `allow`. Every list needs a match. */
export interface AllowRule {
  readonly namespaces: readonly string[]
  readonly serviceAccounts: readonly string[]
  readonly keys: readonly string[]
}

/** A store that a file can be fetched from. */
export interface UsableStore {
  readonly name: string
  readonly backend: Backend
  /** What the backend's `storeSchema` made of the settings. */
  readonly settings: unknown
  readonly identity: Identity
  /** The operator's, so that its name stands in audit records; else the SPC's own. */
  readonly configured: boolean
  /** Whether a rule allows this key. */
  readonly allows: (key: string) => boolean
}

/** A store of the configuration. */
export interface ConfiguredStore {
  readonly name: string
  readonly backend: Backend
  readonly settings: unknown
  readonly identity: Identity
  readonly allow: readonly AllowRule[]
}

const any = (patterns: readonly string[], text: string): boolean =>
  patterns.some((pattern) => matchesGlob(pattern, text, '/'))

/**
 * The stores that a pod may know of: those with a rule for its namespace and service account. About any
 * other it must not even learn that it exists.
 */
export function visibleStores(
  stores: Iterable<ConfiguredStore>,
  pod: PodFacts,
): ReadonlyMap<string, UsableStore> {
  const visible = new Map<string, UsableStore>()
  for (const { name, backend, settings, identity, allow } of stores) {
    const rules = allow.filter(
      (rule) => any(rule.namespaces, pod.namespace) && any(rule.serviceAccounts, pod.serviceAccount),
    )
    if (rules.length === 0) continue
    const allows = (key: string): boolean => rules.some((rule) => any(rule.keys, key))
    visible.set(name, { name, backend, settings, identity, configured: true, allows })
  }
  return visible
}
