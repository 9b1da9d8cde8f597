/** Owns the names of sources in the cache: equal exactly when a value may be shared (threat model T7). */
import type { Backend, Source } from '../providers/adapter.ts'
import type { Caller } from './caller.ts'

/** What names a source apart from the caller. Mounts of one plan share its sources, so it is worth keeping. */
const ownKeys = new WeakMap<Source, string>()

function ownKey(source: Source, backend: Backend): string {
  const known = ownKeys.get(source)
  if (known !== undefined) return known
  const key = JSON.stringify([source.backend, canonical(source.store), backend.refKey(source.ref)])
  ownKeys.set(source, key)
  return key
}

/**
 * Equal for two sources exactly when they may share a value. No part can run into the next: the first is
 * JSON, which has no line feed outside of its strings' escapes.
 */
export function sourceKey(source: Source, backend: Backend, caller: Pick<Caller, 'identityKey'>): string {
  return `${ownKey(source, backend)}\n${caller.identityKey(source.identity)}`
}

/** Equal for two sources that one call of a backend can fetch together. */
export function batchKey(source: Source): string {
  return `${endpointKey(source)} ${source.identity}`
}

/** Equal for two sources of one store: what fails together. */
export function endpointKey(source: Source): string {
  return JSON.stringify([source.backend, canonical(source.store)])
}

/** Plain data with its keys in order, so that equal settings give equal texts; a list is no mapping. */
function canonical(data: unknown): unknown {
  if (Array.isArray(data)) return data.map(canonical)
  if (typeof data !== 'object' || data === null) return data
  const pairs = Object.entries(data)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([key, value]) => [key, canonical(value)])
  return { pairs }
}
