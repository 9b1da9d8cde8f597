/**
 * Owns the way from an Azure SPC's parameters to what the driver would get, for tests: the real decoder,
 * pipeline, resolver, hosts and HTTP, over the fake Azure.
 */
import { createSessionCache } from '../../../src/identity/session-cache.ts'
import type { MountAnswer } from '../../../src/mount/answer.ts'
import { MountFailure } from '../../../src/mount/errors.ts'
import { createCallers } from '../../../src/mount/host.ts'
import { createPipeline, DEFAULT_LIMITS } from '../../../src/mount/pipeline.ts'
import { compatPolicy, type Policy } from '../../../src/mount/policy.ts'
import { decodeMountRequest, type MountRequest } from '../../../src/mount/request.ts'
import { createResolver, type CacheSettings } from '../../../src/mount/resolver.ts'
import { backendContext } from '../../support/backend-context.ts'
import { createHttpClient } from '../../../src/net/client.ts'
import type { BackendContext, Host } from '../../../src/providers/adapter.ts'
import { adapter } from '../../../src/providers/azure/adapter.ts'
import { dialect } from '../../../src/providers/azure/dialect.ts'
import { KEY_VAULT } from '../../../src/providers/azure/store.ts'
import { createRegistry } from '../../../src/providers/registry.ts'
import type { LogFields, Logger } from '../../../src/telemetry/log.ts'
import { silentMeter } from '../../../src/telemetry/metrics.ts'
import { FakeAzure } from './fake-azure.ts'

/** Parameters that every conformance case has unless it says otherwise. */
export const BASE = { keyvaultName: 'testkv', tenantID: 't1', useVMManagedIdentity: 'true' } as const
export const VAULT_HOST = 'testkv.vault.azure.net'

export interface SeenFile {
  readonly path: string
  readonly mode: number
  readonly text: string
  readonly bytes: Buffer
}

export interface Seen {
  readonly files: readonly SeenFile[]
  readonly versions: readonly { readonly id: string; readonly version: string }[]
}

export interface Pod {
  readonly name?: string
  readonly namespace?: string
  readonly serviceAccount?: string
  /** The node-publish Secret. */
  readonly secrets?: Readonly<Record<string, string>>
  /** Audiences for which kubelet hands over a token. */
  readonly audiences?: readonly string[]
  /** The whole token text instead. */
  readonly tokens?: string
  readonly signal?: AbortSignal
}

export interface HarnessOptions {
  readonly env?: (fake: FakeAzure) => Readonly<Record<string, string>>
  readonly settings?: (fake: FakeAzure) => Readonly<Record<string, unknown>>
  readonly cache?: Partial<CacheSettings>
  readonly policy?: Policy
}

export type Parameters = Readonly<Record<string, string>>

export interface Harness {
  readonly fake: FakeAzure
  /** Annotations of service accounts: `namespace/name` → annotation → text. */
  readonly annotations: Map<string, Readonly<Record<string, string>>>
  readonly logged: { readonly level: string; readonly message: string; readonly fields: LogFields }[]
  /** @throws MountFailure */
  answer(parameters: Parameters, pod?: Pod): Promise<MountAnswer>
  /** @throws MountFailure */
  mount(parameters: Parameters, pod?: Pod): Promise<Seen>
  /** The failure of a mount that must fail. */
  failure(parameters: Parameters, pod?: Pod): Promise<MountFailure>
  /** What a backend or key service would be given. */
  host(identity: 'pod' | 'node', pod?: Pod): Host
  /** What a key service is made from. */
  context(settings: Readonly<Record<string, unknown>>): BackendContext
  stop(): Promise<void>
}

export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const fake = await new FakeAzure().start()
  fake.vault(VAULT_HOST)
  const annotations: Harness['annotations'] = new Map()
  const logged: { level: string; message: string; fields: LogFields }[] = []
  const logger = (inherited: LogFields): Logger => {
    const line =
      (level: string) =>
      (message: string, fields: LogFields = {}): void =>
        void logged.push({ level, message, fields: { ...inherited, ...fields } })
    return {
      debug: line('debug'),
      info: line('info'),
      warn: line('warn'),
      error: line('error'),
      with: (fields) => logger({ ...inherited, ...fields }),
    }
  }
  const log = logger({})
  const http = createHttpClient({ rules: { refused: [] } })
  const registry = createRegistry({
    entries: [{ dialects: ['azure'], backends: [KEY_VAULT], load: () => Promise.resolve({ adapter }) }],
    settings: {
      [KEY_VAULT]: {
        caFile: fake.caFile,
        proxy: fake.proxyUrl,
        imdsEndpoint: fake.agentUrl,
        nmiEndpoint: fake.agentUrl,
        arcTokenDirectory: fake.directory,
        environmentDirectories: [fake.directory],
        tokenProxy: { url: fake.tlsUrl, apiServer: fake.tlsUrl, caFile: fake.caFile },
        ...options.settings?.(fake),
      },
    },
    log,
    http,
    meter: silentMeter,
    env: options.env?.(fake) ?? {},
  })
  const callers = createCallers({
    http,
    sessions: createSessionCache({ now: Date.now, meter: silentMeter }),
    log,
    now: () => new Date(),
    annotation: (namespace, serviceAccount, name) =>
      Promise.resolve(
        new Map(Object.entries(annotations.get(`${namespace}/${serviceAccount}`) ?? {})).get(name),
      ),
    nodeLabel: () => Promise.resolve(undefined),
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
    caller: callers,
    addresses: async (source) =>
      (await registry.backend(source.backend)).addresses?.(source.store, source.ref) ?? [],
    policy: options.policy ?? compatPolicy,
    versionKey: Buffer.alloc(32, 7),
    limits: DEFAULT_LIMITS,
    audit: () => {},
    meter: silentMeter,
    log,
    now: Date.now,
  })
  const requestOf = (parameters: Parameters, pod: Pod): MountRequest => {
    const { namespace = 'ns1', serviceAccount = 'web' } = pod
    const tokens =
      pod.tokens ??
      JSON.stringify(
        Object.fromEntries(
          (pod.audiences ?? []).map((audience) => [
            audience,
            fake.cluster.token({ namespace, serviceAccount, audience }),
          ]),
        ),
      )
    return decodeMountRequest({
      attributes: JSON.stringify({
        ...parameters,
        secretProviderClass: 'web-secrets',
        'csi.storage.k8s.io/pod.name': pod.name ?? 'pod1',
        'csi.storage.k8s.io/pod.namespace': namespace,
        'csi.storage.k8s.io/pod.uid': `uid-${pod.name ?? 'pod1'}`,
        'csi.storage.k8s.io/serviceAccount.name': serviceAccount,
        'csi.storage.k8s.io/serviceAccount.tokens': tokens,
      }),
      secrets: pod.secrets === undefined ? 'null' : JSON.stringify(pod.secrets),
      target_path: '/target',
      permission: '420',
    })
  }
  const context = (request: Pod) => ({
    provider: 'azure',
    signal: request.signal ?? AbortSignal.timeout(25_000),
    deadline: Date.now() + 25_000,
  })
  const answer: Harness['answer'] = async (parameters, pod = {}) =>
    pipeline(requestOf(parameters, pod), context(pod))
  return {
    fake,
    annotations,
    logged,
    answer,
    mount: async (parameters, pod) => {
      const { files, versions } = await answer(parameters, pod)
      const seen = files.map(({ path, mode, contents }) => ({
        path,
        mode,
        text: contents.toString(),
        bytes: contents,
      }))
      return { files: seen, versions }
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
    host: (identity, pod = {}) => {
      const caller = callers(requestOf({}, pod), context(pod), dialect)
      return caller.host({ backend: 'test', store: {}, identity, ref: {} }, context(pod).signal)
    },
    context: (settings) =>
      backendContext({
        settings: { caFile: fake.caFile, proxy: fake.proxyUrl, imdsEndpoint: fake.agentUrl, ...settings },
        log,
        http,
      }),
    stop: async () => {
      await registry.close()
      http.close()
      await fake.stop()
    },
  }
}

/** `objects` as the vendor wants it: each object a text of its own. */
export function objects(...list: readonly Readonly<Record<string, string | number>>[]): string {
  const blocks = list.map((object) => {
    const lines = Object.entries(object).map(([key, value]) => `    ${key}: ${value}`)
    return `  - |\n${lines.join('\n')}`
  })
  return `array:\n${blocks.join('\n')}\n`
}
