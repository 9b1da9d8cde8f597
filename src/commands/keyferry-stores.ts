/** Owns the way from `stores` of the configuration file to the dialect `keyferry`. */
import * as v from 'valibot'
import { issueOf, type LoadedConfig } from '../config.ts'
import type { Backend, Dialect } from '../providers/adapter.ts'
import type { Reader } from '../providers/keyferry/dialect.ts'
import type { ConfiguredStore } from '../providers/keyferry/stores.ts'
import type { AdapterEntry, Registry } from '../providers/registry.ts'

/** The dialect's place in the registry, whose backends it plans over. */
export function keyferryEntry(loaded: LoadedConfig, registry: () => Registry, reader: Reader): AdapterEntry {
  return {
    dialects: ['keyferry'],
    backends: [],
    load: async () => ({ adapter: { dialects: [await keyferryDialectOf(loaded, registry(), reader)] } }),
  }
}

/** The dialect over the stores of one configuration. @throws ConfigError */
export async function keyferryDialectOf(
  loaded: LoadedConfig,
  registry: Registry,
  reader: Reader,
): Promise<Dialect> {
  const { keyferryDialect } = await import('../providers/keyferry/dialect.ts')
  const stores = await configuredStores(loaded, registry)
  const inline = loaded.config.policy.inlineStores === 'allow' ? await usableBackends(registry) : 'deny'
  const { fileBytes: maxFileBytes } = loaded.config.limits
  return keyferryDialect({ stores, inline, reader, maxFileBytes })
}

/** @throws ConfigError with file, line and column of the first store that cannot be used. */
async function configuredStores(
  { config, fault }: LoadedConfig,
  registry: Registry,
): Promise<readonly ConfiguredStore[]> {
  const { nodeIdentityFault } = await import('../providers/keyferry/kinds.ts')
  const stores: ConfiguredStore[] = []
  for (const [name, { backend: kind, settings, identity, allow }] of Object.entries(config.stores)) {
    const at = ['stores', name]
    if (!registry.backends.includes(kind))
      throw fault([...at, 'backend'], `is "${kind}"; there are ${registry.backends.join(', ')}`)
    const backend = await registry.backend(kind)
    const result = v.safeParse(backend.storeSchema, settings)
    if (!result.success) {
      const [path, reason] = issueOf(result.issues)
      throw fault([...at, 'settings', ...path], reason)
    }
    const refused = identity === 'node' ? nodeIdentityFault(kind) : undefined
    if (refused !== undefined) throw fault([...at, 'identity'], `cannot be node: ${refused}`)
    stores.push({ name, backend, settings: result.output, identity, allow })
  }
  return stores
}

/** Every backend that works without settings of the operator, or has them. */
async function usableBackends(registry: Registry): Promise<ReadonlyMap<string, Backend>> {
  const backends = new Map<string, Backend>()
  for (const kind of registry.backends) {
    const backend = await registry.backend(kind).catch(() => undefined)
    if (backend) backends.set(kind, backend)
  }
  return backends
}
