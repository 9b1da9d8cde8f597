/** Owns the table from names to adapters. Built-in and out-of-tree adapters take the very same path. */
import * as v from 'valibot'
import type { HttpClient } from '../net/http.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/metrics.ts'
import type { Adapter, Backend, BackendContext, Dialect, KeyService, PodWatch } from './adapter.ts'

/** An adapter that is imported when one of its names is first used. */
export interface AdapterEntry {
  /** Socket names that its dialects answer to, aliases included. */
  readonly dialects: readonly string[]
  /** Backend kinds. */
  readonly backends: readonly string[]
  /** Key services: kind of entry → key below `backends` that switches it on. */
  readonly keyServices?: Readonly<Record<string, string>>
  readonly load: () => Promise<{ readonly adapter: Adapter }>
}

/** What ships with Keyferry. */
export const BUILT_IN: readonly AdapterEntry[] = [
  {
    dialects: ['aws'],
    backends: ['aws-parameter-store', 'aws-secrets-manager'],
    keyServices: { kms: 'aws-kms' },
    load: () => import('./aws/adapter.ts'),
  },
  {
    dialects: ['azure'],
    backends: ['azure-key-vault'],
    keyServices: { azure_kv: 'azure-key-vault-keys' },
    load: () => import('./azure/adapter.ts'),
  },
  { dialects: ['sops'], backends: ['sops'], load: () => import('./sops/adapter.ts') },
  {
    dialects: ['gcp', 'gke'],
    backends: ['gcp-parameter-manager', 'gcp-secret-manager'],
    keyServices: { gcp_kms: 'gcp-kms' },
    load: () => import('./gcp/adapter.ts'),
  },
  {
    dialects: ['vault', 'openbao'],
    backends: ['vault'],
    keyServices: { hc_vault: 'vault-transit' },
    load: () => import('./vault/adapter.ts'),
  },
]

export interface RegistryOptions {
  readonly entries: readonly AdapterEntry[]
  /** `backends.<kind>` of the configuration file. */
  readonly settings: Readonly<Record<string, unknown>>
  readonly log: Logger
  readonly http: HttpClient
  readonly env: Readonly<Record<string, string | undefined>>
  readonly meter: Meter
  readonly pods?: PodWatch | undefined
}

/** A setting under `backends.<kind>` that cannot be used. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError'
  /** Path below the configuration's root. */
  readonly path: readonly (string | number)[]

  constructor(path: readonly (string | number)[], reason: string) {
    super(reason)
    this.path = path
  }
}

export interface Registry {
  /** Every socket name, sorted. */
  readonly providers: readonly string[]
  /** Every backend kind, sorted. */
  readonly backends: readonly string[]
  /** @throws Error for a name that is not in {@link Registry.providers}. */
  dialect(provider: string): Promise<Dialect>
  /** One backend per kind and process. @throws Error for an unknown kind, SettingsError for bad settings. */
  backend(kind: string): Promise<Backend>
  /** Makes every backend that the configuration has settings for, so that mistakes stop the start. @throws SettingsError */
  check(): Promise<void>
  close(): Promise<void>
}

export function createRegistry(options: RegistryOptions): Registry {
  const byDialect = new Map(
    options.entries.flatMap((entry) => entry.dialects.map((name) => [name, entry] as const)),
  )
  const byBackend = new Map(
    options.entries.flatMap((entry) => entry.backends.map((kind) => [kind, entry] as const)),
  )
  const dialects = new Map<string, Promise<Dialect>>()
  const backends = new Map<string, Promise<Backend>>()
  const keyServices = new Map<string, Promise<KeyService>>()
  /** Key below `backends` → kind of the key service that it switches on. */
  const serviceSettings = new Map(
    options.entries.flatMap(({ keyServices: services = {} }) =>
      Object.entries(services).map(([kind, name]) => [name, kind] as const),
    ),
  )

  function contextFor(name: string, schema: v.GenericSchema | undefined): BackendContext {
    return {
      settings: settingsOf(name, schema, options.settings),
      log: options.log.with({ backend: name }),
      http: options.http,
      env: options.env,
      meter: options.meter,
      ...(options.pods && { pods: options.pods }),
      keyService: async (kind) => {
        const [on] =
          [...serviceSettings].find(([key, one]) => one === kind && Object.hasOwn(options.settings, key)) ??
          []
        return on === undefined ? undefined : once(keyServices, kind, makeKeyService)
      },
    }
  }

  async function makeKeyService(kind: string): Promise<KeyService> {
    const entry = options.entries.find(({ keyServices: services = {} }) => Object.hasOwn(services, kind))
    const factory = (await entry?.load())?.adapter.keyServices?.find((one) => one.kind === kind)
    if (!factory) throw new Error(`the adapter for key service ${kind} exports no such service`)
    return factory.create(contextFor(factory.settingsName, factory.settingsSchema))
  }

  async function loadDialect(provider: string): Promise<Dialect> {
    const { adapter } = await found(byDialect, provider, 'provider').load()
    const dialect = adapter.dialects?.find((one) => one.name === provider || one.aliases?.includes(provider))
    if (!dialect) throw new Error(`the adapter for provider ${provider} exports no such dialect`)
    return dialect
  }

  async function makeBackend(kind: string): Promise<Backend> {
    const { adapter } = await found(byBackend, kind, 'backend').load()
    const factory = adapter.backends?.find((one) => one.kind === kind)
    if (!factory) throw new Error(`the adapter for backend ${kind} exports no such backend`)
    return factory.create(contextFor(factory.kind, factory.settingsSchema))
  }

  return {
    providers: [...byDialect.keys()].sort(),
    backends: [...byBackend.keys()].sort(),
    dialect: (provider) => once(dialects, provider, loadDialect),
    backend: (kind) => once(backends, kind, makeBackend),
    async check() {
      for (const kind of Object.keys(options.settings)) {
        const service = serviceSettings.get(kind)
        if (service !== undefined) {
          await once(keyServices, service, makeKeyService)
          continue
        }
        if (!byBackend.has(kind)) {
          throw new SettingsError(
            ['backends', kind],
            `is not a backend; there are ${[...byBackend.keys(), ...serviceSettings.keys()].sort().join(', ')}`,
          )
        }
        await once(backends, kind, makeBackend)
      }
    },
    async close() {
      for (const backend of backends.values()) {
        const made = await backend.catch(() => undefined)
        await made?.close?.()
      }
    },
  }
}

/** Loads out-of-tree adapters named in `adapters:` of the configuration: paths or package names. */
export async function outOfTree(
  specifiers: readonly string[],
  load: (specifier: string) => Promise<unknown>,
): Promise<AdapterEntry[]> {
  const entries: AdapterEntry[] = []
  for (const [index, specifier] of specifiers.entries()) {
    const module = await load(specifier).catch((error: unknown) => {
      throw new SettingsError(
        ['adapters', index],
        `cannot be loaded: ${error instanceof Error ? error.message.split(' imported from')[0] : 'unknown error'}`,
      )
    })
    if (!isAdapterModule(module))
      throw new SettingsError(['adapters', index], 'is a module that exports no `adapter`')
    const { adapter } = module
    entries.push({
      dialects: (adapter.dialects ?? []).flatMap((dialect) => [dialect.name, ...(dialect.aliases ?? [])]),
      backends: (adapter.backends ?? []).map((backend) => backend.kind),
      keyServices: Object.fromEntries(
        (adapter.keyServices ?? []).map((service) => [service.kind, service.settingsName]),
      ),
      load: () => Promise.resolve({ adapter }),
    })
  }
  return entries
}

function isAdapterModule(module: unknown): module is { adapter: Adapter } {
  return (
    typeof module === 'object' && module !== null && 'adapter' in module && typeof module.adapter === 'object'
  )
}

function settingsOf(
  name: string,
  schema: v.GenericSchema | undefined,
  all: Readonly<Record<string, unknown>>,
): unknown {
  const given = Object.hasOwn(all, name) ? all[name] : {}
  const result = v.safeParse(schema ?? v.strictObject({}), given)
  if (result.success) return result.output
  const [issue] = result.issues
  const path = (issue.path ?? []).map((item) => (typeof item.key === 'number' ? item.key : String(item.key)))
  const unknownKey = issue.type === 'strict_object' && issue.expected === 'never'
  throw new SettingsError(['backends', name, ...path], unknownKey ? 'is not a known key' : issue.message)
}

function found<T>(table: ReadonlyMap<string, T>, name: string, what: string): T {
  const entry = table.get(name)
  if (entry === undefined)
    throw new Error(`there is no ${what} ${name}; there are ${[...table.keys()].sort().join(', ')}`)
  return entry
}

/** A failure is not kept: the next caller tries again. */
function once<T>(
  made: Map<string, Promise<T>>,
  name: string,
  make: (name: string) => Promise<T>,
): Promise<T> {
  const known = made.get(name)
  if (known) return known
  const fresh = make(name)
  made.set(name, fresh)
  fresh.catch(() => made.delete(name))
  return fresh
}
