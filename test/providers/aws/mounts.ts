/**
 * Owns the way from an AWS SPC's parameters to what the driver would get, for tests: the real decoder,
 * pipeline, resolver, hosts and HTTP, over whatever AWS the settings lead to.
 */
import { createSessionCache } from '../../../src/identity/session-cache.ts'
import type { MountAnswer } from '../../../src/mount/answer.ts'
import { MountFailure } from '../../../src/mount/errors.ts'
import { createCallers } from '../../../src/mount/host.ts'
import { createPipeline, DEFAULT_LIMITS } from '../../../src/mount/pipeline.ts'
import { compatPolicy } from '../../../src/mount/policy.ts'
import { decodeMountRequest } from '../../../src/mount/request.ts'
import { createResolver } from '../../../src/mount/resolver.ts'
import type { CacheSettings } from '../../../src/mount/resolver.ts'
import { createHttpClient } from '../../../src/net/client.ts'
import { adapter } from '../../../src/providers/aws/adapter.ts'
import type { BackendError } from '../../../src/providers/adapter.ts'
import { createRegistry } from '../../../src/providers/registry.ts'
import type { LogFields, Logger } from '../../../src/telemetry/log.ts'
import { silentMeter } from '../../../src/telemetry/metrics.ts'
import type { FakeCluster } from './fake-identity.ts'
import { ROLE } from './web-role.ts'

/** A file as the pod would see it, and the version reported for it. */
export interface SeenFile {
  readonly mode: number
  readonly bytes: Buffer
  readonly text: string
  readonly version: string | undefined
}

export interface Pod {
  readonly name?: string
  readonly uid?: string
  readonly namespace?: string
  readonly serviceAccount?: string
  /** Replaces the whole token text; `null` leaves the attribute out. */
  readonly tokens?: string | null
  readonly permission?: string
}

export interface MountsOptions {
  readonly cluster: FakeCluster
  /** Settings of both backends. */
  readonly settings: Readonly<Record<string, unknown>>
  readonly env?: Readonly<Record<string, string>>
  readonly cache?: Partial<CacheSettings>
}

export interface Mounts {
  /** Annotations of service accounts: `namespace/name` → annotation → text. */
  readonly annotations: Map<string, Record<string, string>>
  readonly nodeLabels: Map<string, string>
  /** What Kubernetes reads fail with. */
  kubernetesFailure: BackendError | undefined
  /** Kubernetes reads so far. */
  readonly kubernetesCalls: string[]
  /** Log lines of level warn and error. */
  readonly warnings: { readonly message: string; readonly fields: LogFields }[]
  /** The raw answer. @throws MountFailure */
  answer(parameters: Readonly<Record<string, string>>, pod?: Pod): Promise<MountAnswer>
  /** Files by path. @throws MountFailure */
  mount(parameters: Readonly<Record<string, string>>, pod?: Pod): Promise<Map<string, SeenFile>>
  /** The failure of a mount that must fail. */
  failure(parameters: Readonly<Record<string, string>>, pod?: Pod): Promise<MountFailure>
  stop(): Promise<void>
}

/** Kubelet's token text for a pod. */
export function tokenText(cluster: FakeCluster, pod: Pod, audiences: readonly string[]): string {
  return JSON.stringify(
    Object.fromEntries(
      audiences.map((audience) => [
        audience,
        cluster.token({
          namespace: pod.namespace ?? 'shop',
          serviceAccount: pod.serviceAccount ?? 'web',
          audience,
          podUid: pod.uid ?? 'uid-1',
        }),
      ]),
    ),
  )
}

/** Kubelet's side of a node whose AWS is where `settings` says. */
export function createMounts(options: MountsOptions): Mounts {
  const { cluster, settings } = options
  const annotations = new Map([['shop/web', { 'eks.amazonaws.com/role-arn': ROLE }]])
  const nodeLabels = new Map<string, string>()
  const kubernetesCalls: string[] = []
  const warnings: { message: string; fields: LogFields }[] = []
  const log: Logger = {
    debug: () => {},
    info: () => {},
    warn: (message, fields = {}) => void warnings.push({ message, fields }),
    error: (message, fields = {}) => void warnings.push({ message, fields }),
    with: () => log,
  }
  const http = createHttpClient({ rules: { refused: [] } })
  const registry = createRegistry({
    entries: [
      {
        dialects: ['aws'],
        backends: ['aws-secrets-manager', 'aws-parameter-store'],
        load: () => Promise.resolve({ adapter }),
      },
    ],
    settings: { 'aws-secrets-manager': settings, 'aws-parameter-store': settings },
    log,
    http,
    env: options.env ?? {},
    meter: silentMeter,
  })
  const pipeline = createPipeline({
    dialect: (name) => registry.dialect(name),
    resolver: createResolver({
      backend: (kind) => registry.backend(kind),
      cache: { freshForMs: 0, staleIfErrorMs: 0, immutableForMs: 0, maxBytes: 1 << 24, ...options.cache },
      meter: silentMeter,
      now: Date.now,
      random: () => 0,
    }),
    caller: createCallers({
      http,
      sessions: createSessionCache({ now: Date.now, meter: silentMeter }),
      log,
      now: () => new Date(),
      annotation: (namespace, serviceAccount, name) => {
        kubernetesCalls.push(`annotation ${namespace}/${serviceAccount} ${name}`)
        if (mounts.kubernetesFailure) return Promise.reject(mounts.kubernetesFailure)
        const found = new Map(Object.entries(annotations.get(`${namespace}/${serviceAccount}`) ?? {}))
        return Promise.resolve(found.get(name))
      },
      nodeLabel: (name) => {
        kubernetesCalls.push(`label ${name}`)
        if (mounts.kubernetesFailure) return Promise.reject(mounts.kubernetesFailure)
        return Promise.resolve(nodeLabels.get(name))
      },
    }),
    addresses: () => Promise.resolve([]),
    policy: compatPolicy,
    versionKey: Buffer.alloc(32, 7),
    limits: DEFAULT_LIMITS,
    audit: () => {},
    meter: silentMeter,
    log,
    now: Date.now,
  })
  const answer: Mounts['answer'] = async (parameters, pod = {}) => {
    const tokens =
      pod.tokens === undefined
        ? tokenText(cluster, pod, ['sts.amazonaws.com', 'pods.eks.amazonaws.com'])
        : pod.tokens
    const request = decodeMountRequest({
      attributes: JSON.stringify({
        ...parameters,
        secretProviderClass: 'web-secrets',
        'csi.storage.k8s.io/pod.name': pod.name ?? 'web-0',
        'csi.storage.k8s.io/pod.namespace': pod.namespace ?? 'shop',
        'csi.storage.k8s.io/pod.uid': pod.uid ?? 'uid-1',
        'csi.storage.k8s.io/serviceAccount.name': pod.serviceAccount ?? 'web',
        ...(tokens === null ? {} : { 'csi.storage.k8s.io/serviceAccount.tokens': tokens }),
      }),
      secrets: '',
      target_path: '/target',
      permission: pod.permission ?? '420',
    })
    return pipeline(request, {
      provider: 'aws',
      signal: AbortSignal.timeout(25_000),
      deadline: Date.now() + 25_000,
    })
  }
  const mounts: Mounts = {
    kubernetesFailure: undefined,
    annotations,
    nodeLabels,
    kubernetesCalls,
    warnings,
    answer,
    mount: async (parameters, pod) => {
      const { files, versions } = await answer(parameters, pod)
      const byId = new Map(versions.map(({ id, version }) => [id, version]))
      return new Map(
        files.map(({ path, mode, contents }) => [
          path,
          { mode, bytes: contents, text: contents.toString(), version: byId.get(path) },
        ]),
      )
    },
    failure: async (parameters, pod) => {
      try {
        await answer(parameters, pod)
      } catch (error) {
        if (error instanceof MountFailure) return error
        throw error
      }
      throw new Error('the mount succeeded, but should have failed')
    },
    stop: async () => {
      await registry.close()
      http.close()
    },
  }
  return mounts
}
