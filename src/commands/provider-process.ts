/** Owns how the rooms are put together into one provider process, from a configuration. */
import { ConfigError, type Config, type LoadedConfig } from '../config.ts'
import { createSessionCache } from '../identity/session-cache.ts'
import type { MountPipeline } from '../mount/answer.ts'
import { createCallers } from '../mount/host.ts'
import { createPipeline } from '../mount/pipeline.ts'
import { openPublished, readBootId, type PublishedVolumes } from '../mount/published.ts'
import { createPolicy, policyHash } from '../mount/policy.ts'
import type { CacheTimes } from '../mount/caller.ts'
import { createResolver } from '../mount/resolver.ts'
import { createParameterCheck, type ParameterCheck } from '../mount/verify-parameters.ts'
import { loadVersionKey } from '../mount/version-key.ts'
import { createPodWatch } from '../kubernetes/pod-watch.ts'
import { createHttpClient } from '../net/client.ts'
import type { Reader } from '../providers/keyferry/dialect.ts'
import {
  BUILT_IN,
  createRegistry,
  outOfTree,
  SettingsError,
  type Registry,
  type RegistryOptions,
} from '../providers/registry.ts'
import { DEFAULT_ADMISSION } from '../server/admission.ts'
import { startServer, type RunningServer, type ServerLimits, type ServerOptions } from '../server/server.ts'
import type { Audit } from '../telemetry/audit.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/metrics.ts'
import { VERSION } from '../version.ts'
import { keyferryDialectOf, keyferryEntry } from './keyferry-stores.ts'
import { createKubernetesReads, type KubernetesReads } from './kubernetes-reads.ts'

/** What `Version` calls us, under every socket name. */
export const RUNTIME_NAME = 'keyferry'

export interface ProcessOptions {
  readonly loaded: LoadedConfig
  readonly log: Logger
  readonly audit: Audit
  readonly meter: Meter
  readonly env: Readonly<Record<string, string | undefined>>
  /** Which volumes were published. Default: those that this node's state directory remembers. */
  readonly published?: PublishedVolumes
}

/** A provider without its sockets. */
export interface ProviderProcess {
  readonly registry: Registry
  readonly pipeline: MountPipeline
  /** The rules in force; equal hashes mean equal policies and stores (threat model T28). */
  readonly policy: PolicyName
  /**
   * Puts the policy, the stores and the cache times of another configuration in force; everything else stays
   * as it was at the start. Mounts under way end under the rules they began with.
   * @throws ConfigError when they cannot be used: the old ones stay then
   */
  apply(loaded: LoadedConfig): Promise<void>
  /** Binds the sockets. Directories and names are the configuration's. @throws SocketError */
  listen(options: Pick<ServerOptions, 'directories' | 'alsoSearched'>): Promise<RunningServer>
  /** Forgets every value and closes backends. */
  close(): Promise<void>
}

interface PolicyName {
  readonly profile: string
  readonly hash: string
}

/** What mounts are judged by, made of one reading of the configuration: never changed, only replaced as a whole. */
interface Rules {
  readonly pipeline: MountPipeline
  readonly policy: PolicyName
}

/** @throws ConfigError when the configuration names what is not there or cannot be used. */
export async function createProviderProcess(options: ProcessOptions): Promise<ProviderProcess> {
  const { loaded, log, meter } = options
  const { config } = loaded
  const http = createHttpClient({ rules: { refused: apiServerNames(config, options.env) } })
  const reads = createKubernetesReads(config, http, options.env)
  const pods =
    reads.client && reads.nodeName !== undefined
      ? createPodWatch({ client: reads.client, node: reads.nodeName, log })
      : undefined
  const registry = await loadRegistry(loaded, { log, http, env: options.env, meter, pods })
  await placed(loaded, () => registry.check())
  const names = providerNames(loaded, registry)
  const resolver = createResolver({
    backend: (kind) => registry.backend(kind),
    cache: { ...cacheTimes(config.cache), maxBytes: config.cache.maxBytes },
    meter,
    now: Date.now,
    steady: () => performance.now(),
    random: Math.random,
  })
  const versionKey = await placed(loaded, () =>
    loadVersionKey({ file: config.node.versionKeyFile, stateDir: config.node.stateDir, log }),
  )
  const published =
    options.published ??
    (await openPublished({ stateDir: config.node.stateDir, bootId: readBootId(), log, now: Date.now }))
  const callers = createCallers({
    http,
    sessions: createSessionCache({ now: Date.now, meter }),
    log,
    now: () => new Date(),
    ...(reads.mint && { mint: reads.mint }),
    annotation: reads.annotation,
    nodeLabel: reads.nodeLabel,
  })

  /** A pipeline of its own for each reading: with it go the plans that were made with older stores. */
  async function rulesOf(reading: LoadedConfig): Promise<Rules> {
    const { policy, stores, cache } = reading.config
    const keyferry = await placed(reading, () => keyferryDialectOf(reading, registry, 'tenant'))
    const verifyParameters = parameterCheck(reading, reads)
    const times = cacheTimes(cache)
    const pipeline = createPipeline({
      dialect: async (provider) => (provider === keyferry.name ? keyferry : registry.dialect(provider)),
      resolver,
      caller: (...mount) => ({ ...callers(...mount), cache: times }),
      addresses: async (source) =>
        (await registry.backend(source.backend)).addresses?.(source.store, source.ref) ?? [],
      keys: async (source) => {
        const backend = await registry.backend(source.backend)
        return backend.keys?.(source.store, source.ref) ?? [backend.refKey(source.ref)]
      },
      policy: createPolicy(policy),
      onRevoked: policy.onRevoked,
      published,
      ...(verifyParameters && { verifyParameters }),
      versionKey,
      limits: {
        maxOutputs: config.limits.objects,
        maxFileBytes: config.limits.fileBytes,
        maxTotalBytes: config.limits.responseBytes,
      },
      audit: options.audit,
      meter,
      log,
      now: Date.now,
    })
    return { pipeline, policy: { hash: policyHash({ policy, stores }), profile: policy.profile } }
  }

  let inForce = await rulesOf(loaded)
  meter.gauge('keyferry_policy_info', 1, { ...inForce.policy })
  const pipeline: MountPipeline = (request, context) => inForce.pipeline(request, context)
  return {
    registry,
    pipeline,
    get policy() {
      return inForce.policy
    },
    async apply(reading) {
      const before = inForce.policy
      inForce = await rulesOf(reading)
      const { hash, profile } = inForce.policy
      if (hash === before.hash) return
      meter.gauge('keyferry_policy_info', undefined, { ...before })
      meter.gauge('keyferry_policy_info', 1, { hash, profile })
      log.info('policy changed', { from: before.hash, to: hash, profile })
    },
    listen: (where) =>
      startServer({
        ...where,
        providers: names.map((name) => ({ name, runtimeName: RUNTIME_NAME, runtimeVersion: VERSION })),
        takeover: config.sockets.takeover,
        pipeline,
        limits: serverLimits(config),
        log,
        onRefusedConnection: () => meter.count('keyferry_connections_refused_total', { reason: 'protocol' }),
        onMount: (report) => {
          meter.count('keyferry_mounts_total', { provider: report.provider, outcome: report.outcome })
          meter.time('keyferry_mount_seconds', report.durationMs / 1000, { provider: report.provider })
          log[report.grpcCode === 0 ? 'debug' : 'warn']('mount ended', {
            provider: report.provider,
            namespace: report.namespace,
            code: report.grpcCode,
            outcome: report.outcome,
            ms: report.durationMs,
          })
        },
      }),
    async close() {
      resolver.clear()
      await published.close()
      await registry.close()
      http.close()
    },
  }
}

/** Every adapter, built in or configured; their backends are made when they are used. @throws ConfigError */
export async function loadRegistry(
  loaded: LoadedConfig,
  context: Omit<RegistryOptions, 'entries' | 'settings'>,
  reader: Reader = 'tenant',
): Promise<Registry> {
  return placed(loaded, async () => {
    const added = await outOfTree(loaded.config.adapters, (specifier) => import(specifier))
    const registry: Registry = createRegistry({
      entries: [...BUILT_IN, ...added, keyferryEntry(loaded, () => registry, reader)],
      settings: loaded.config.backends,
      ...context,
    })
    return registry
  })
}

/**
 * A namespace may hold three quarters of the slots, so that one whose store hangs leaves room for others, and half of
 * them while others come (T18).
 */
const NAMESPACE_SHARE = { alone: 0.75, beside: 0.5 } as const

/** What the configuration's `limits` mean to the server. */
export function serverLimits({ limits }: Config): Partial<ServerLimits> {
  return {
    admission: {
      ...DEFAULT_ADMISSION,
      running: limits.running,
      runningPerNamespace: Math.ceil(limits.running * NAMESPACE_SHARE.alone),
      runningBeside: Math.ceil(limits.running * NAMESPACE_SHARE.beside),
    },
    budgetMs: limits.budget,
    maxResponseBytes: limits.responseBytes,
    responseBytes: limits.inFlightBytes,
  }
}

function cacheTimes({ freshFor, staleIfError, immutableFor }: Config['cache']): CacheTimes {
  return { freshForMs: freshFor, staleIfErrorMs: staleIfError, immutableForMs: immutableFor }
}

/** The socket names to serve: all there are, or those the configuration lists. */
export function providerNames({ config, fault }: LoadedConfig, registry: Registry): readonly string[] {
  const wanted = config.sockets.dialects ?? registry.providers
  for (const [index, name] of wanted.entries()) {
    if (!registry.providers.includes(name)) {
      throw fault(
        ['sockets', 'dialects', index],
        `is "${name}", which is not served; there are ${registry.providers.join(', ')}`,
      )
    }
  }
  return wanted
}

/** The check that `policy.verifyParameters` asks for. @throws ConfigError when it cannot be made. */
function parameterCheck(
  { config, fault }: LoadedConfig,
  { secretProviderClass }: KubernetesReads,
): ParameterCheck | undefined {
  if (config.policy.verifyParameters === 'off') return undefined
  if (secretProviderClass) return createParameterCheck(secretProviderClass)
  throw fault(
    ['policy', 'verifyParameters'],
    'is spc, which needs the Kubernetes API: set kubernetes, and grant get on secretproviderclasses',
  )
}

/** Gives a setting's error its place in the configuration file. */
async function placed<T>(loaded: LoadedConfig, make: () => Promise<T>): Promise<T> {
  try {
    return await make()
  } catch (error) {
    if (error instanceof ConfigError) throw error
    if (error instanceof SettingsError) throw loaded.fault(error.path, error.message)
    if (error instanceof Error) throw new ConfigError(error.message)
    throw error
  }
}

/** Where a parameter must never lead: the API server, under the names pods know it by (threat model T11). */
function apiServerNames({ kubernetes }: Config, env: Readonly<Record<string, string | undefined>>): string[] {
  const host = env['KUBERNETES_SERVICE_HOST']
  const server = kubernetes === 'off' ? undefined : kubernetes.server
  return [
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    'kubernetes.default.svc.cluster.local',
    ...(host ? [host] : []),
    ...(server === undefined ? [] : [new URL(server).hostname.replace(/^\[|\]$/g, '')]),
  ]
}
