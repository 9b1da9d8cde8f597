/** Owns the stores that the converted classes need: their names, their settings, and the rules that allow what is named. */
import { createHash } from 'node:crypto'
import type { Identity } from '../../providers/adapter.ts'

/** What a store is told. Checked by the backend's own schema at the end. */
export interface StoreDefinition {
  readonly backend: string
  readonly settings: Readonly<Record<string, unknown>>
  readonly identity: Identity
}

/** A store of this run. */
export interface StoreHandle extends StoreDefinition {
  readonly name: string
  /** The objects it was made of, e.g. `SecretStore shop/aws`. */
  readonly sources: Set<string>
  /** Namespace → keys that its classes name. */
  readonly allowed: Map<string, Set<string>>
}

/** The stores of one run. */
export interface StoreBook {
  /** A store of its own, under a name as close to `wanted` as can be. */
  add(wanted: string, definition: StoreDefinition, source: string): StoreHandle
  /** The store that says the same as another already, or a new one. */
  shared(wanted: string, definition: StoreDefinition, source: string): StoreHandle
  /** All of them, by name. */
  all(): readonly StoreHandle[]
}

const MAX_NAME = 63

export function createStoreBook(): StoreBook {
  const byName = new Map<string, StoreHandle>()
  const byContent = new Map<string, StoreHandle>()

  const add: StoreBook['add'] = (wanted, definition, source) => {
    const base = storeName(wanted)
    let name = base
    for (let n = 2; byName.has(name); n += 1) name = `${base.slice(0, MAX_NAME - 8)}-${n}`
    const handle = {
      ...definition,
      name,
      sources: new Set([source]),
      allowed: new Map<string, Set<string>>(),
    }
    byName.set(name, handle)
    return handle
  }
  return {
    add,
    shared(wanted, definition, source) {
      const { backend, settings, identity } = definition
      const content = JSON.stringify([backend, Object.entries(settings).sort(), identity])
      const known = byContent.get(content)
      if (known) {
        known.sources.add(source)
        return known
      }
      const handle = add(wanted, definition, source)
      byContent.set(content, handle)
      return handle
    },
    all: () => [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
  }
}

/** Lets a namespace read a key of a store. */
export function allow({ allowed }: StoreHandle, namespace: string, key: string): void {
  const keys = allowed.get(namespace) ?? new Set<string>()
  allowed.set(namespace, keys.add(key))
}

/** A text as a name that the configuration takes: lower-case letters, digits and `-`, at most 63. */
function storeName(text: string): string {
  const plain = text
    .toLowerCase()
    .slice(0, 1000)
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replace(/^-/, '')
    .replace(/-$/, '')
  if (plain !== '' && plain.length <= MAX_NAME) return plain
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 8)
  return plain === '' ? `store-${digest}` : `${plain.slice(0, MAX_NAME - 9)}-${digest}`
}

/** The entry of `stores` in the node's configuration. */
export function storeConfiguration({ backend, settings, identity, allowed }: StoreHandle) {
  return {
    backend,
    ...(Object.keys(settings).length > 0 && { settings }),
    ...(identity === 'node' && { identity }),
    allow: Array.from(allowed, ([namespace, keys]) => ({
      namespaces: [namespace],
      keys: [...keys].sort(),
    })).sort((a, b) => ((a.namespaces[0] ?? '') < (b.namespaces[0] ?? '') ? -1 : 1)),
  }
}
