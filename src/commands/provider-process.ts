/** Owns how the rooms are put together into one provider process, from a configuration. */
import { ConfigError, type Config, type LoadedConfig } from '../config.ts'
import { createSessionCache } from '../identity/session-cache.ts'
import type { MountPipeline } from '../mount/answer.ts'
import { createCallers } from '../mount/host.ts'
import { createPipeline } from '../mount/pipeline.ts'
import { createPolicy, policyHash } from '../mount/policy.ts'
import { createResolver } from '../mount/resolver.ts'
import { createParameterCheck, type ParameterCheck } from '../mount/verify-parameters.ts'
import { loadVersionKey } from '../mount/version-key.ts'
import { createPodWatch } from '../kubernetes/pod-watch.ts'
import { createHttpClient } from '../net/client.ts'
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
import { keyferryEntry } from './keyferry-stores.ts'
import { createKubernetesReads, type KubernetesReads } from './kubernetes-reads.ts'

/** What `Version` calls us, under every socket name. */
export const RUNTIME_NAME = 'keyferry'

export interface ProcessOptions {
  readonly loaded: LoadedConfig
  readonly log: Logger
  readonly audit: Audit
  readonly meter: Meter
  readonly env: Readonly<Record<string, string | undefined>>
}

/** A provider without its sockets. */
export interface ProviderProcess {
  readonly registry: Registry
  readonly pipeline: MountPipeline
  /** The policy in force; equal hashes mean equal rules (threat model T28). */
  readonly policy: { readonly profile: string; readonly hash: string }
  /** Binds the sockets. Directories and names are the configuration's. @throws SocketError */
  listen(options: Pick<ServerOptions, 'directories' | 'alsoSearched'>): Promise<RunningServer>
  /** Forgets every value and closes backends. */
  close(): Promise<void>
}

/** @throws ConfigError when the configuration names what is not there or cannot be used. */
export async function createProviderProcess(options: ProcessOptions): Promise<ProviderProcess> {
  const { loaded, log, meter } = options
  const { config } = loaded
  const http = createHttpClient({ rules: { refused: apiServerNames(options.env) } })
  const reads = createKubernetesReads(config, http, options.env)
  const pods =
    reads.client && reads.nodeName !== undefined
      ? createPodWatch({ client: reads.client, node: reads.nodeName, log })
      : undefined
  const registry = await loadRegistry(loaded, { log, http, env: options.env, meter, pods })
  await placed(loaded, () => registry.check())
  // Loads the stores of the configuration, so that mistakes stop the start.
  await placed(loaded, () => registry.dialect('keyferry'))
  const names = providerNames(loaded, registry)
  const resolver = createResolver({
    backend: (kind) => registry.backend(kind),
    cache: {
      freshForMs: config.cache.freshFor,
      staleIfErrorMs: config.cache.staleIfError,
      immutableForMs: config.cache.immutableFor,
      maxBytes: config.cache.maxBytes,
    },
    meter,
    now: Date.now,
    random: Math.random,
  })
  const verifyParameters = parameterCheck(loaded, reads)
  const policy = { hash: policyHash(config.policy), profile: config.policy.profile }
  meter.gauge('keyferry_policy_info', 1, policy)
  const versionKey = await placed(loaded, () =>
    loadVersionKey({ file: config.node.versionKeyFile, stateDir: config.node.stateDir, log }),
  )
  const pipeline = createPipeline({
    dialect: (provider) => registry.dialect(provider),
    resolver,
    caller: createCallers({
      http,
      sessions: createSessionCache({ now: Date.now, meter }),
      log,
      now: () => new Date(),
      ...(reads.mint && { mint: reads.mint }),
      annotation: reads.annotation,
      nodeLabel: reads.nodeLabel,
    }),
    addresses: async (source) =>
      (await registry.backend(source.backend)).addresses?.(source.store, source.ref) ?? [],
    keys: async (source) => {
      const backend = await registry.backend(source.backend)
      return backend.keys?.(source.store, source.ref) ?? [backend.refKey(source.ref)]
    },
    policy: createPolicy(config.policy),
    ...(verifyParameters && { verifyParameters }),
    versionKey,
    limits: { maxOutputs: config.limits.objects, maxFileBytes: config.limits.fileBytes },
    audit: options.audit,
    meter,
    log,
    now: Date.now,
  })
  return {
    registry,
    pipeline,
    policy,
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
      await registry.close()
      http.close()
    },
  }
}

/** Every adapter, built in or configured; their backends are made when they are used. @throws ConfigError */
export async function loadRegistry(
  loaded: LoadedConfig,
  context: Omit<RegistryOptions, 'entries' | 'settings'>,
): Promise<Registry> {
  return placed(loaded, async () => {
    const added = await outOfTree(loaded.config.adapters, (specifier) => import(specifier))
    const registry: Registry = createRegistry({
      entries: [...BUILT_IN, ...added, keyferryEntry(loaded, () => registry)],
      settings: loaded.config.backends,
      ...context,
    })
    return registry
  })
}

/** A namespace may hold three quarters of the slots, so that one whose store hangs leaves room for others (T18). */
const NAMESPACE_SHARE = 0.75

/** What the configuration's `limits` mean to the server. */
export function serverLimits({ limits }: Config): Partial<ServerLimits> {
  return {
    admission: {
      ...DEFAULT_ADMISSION,
      running: limits.running,
      runningPerNamespace: Math.ceil(limits.running * NAMESPACE_SHARE),
    },
    budgetMs: limits.budget,
    maxResponseBytes: limits.responseBytes,
    responseBytes: limits.inFlightBytes,
  }
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
function apiServerNames(env: Readonly<Record<string, string | undefined>>): string[] {
  const host = env['KUBERNETES_SERVICE_HOST']
  return [
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    'kubernetes.default.svc.cluster.local',
    ...(host ? [host] : []),
  ]
}
