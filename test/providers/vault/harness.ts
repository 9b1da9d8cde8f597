/** Owns a whole mount over the Vault adapter for tests: the real pipeline, resolver and HTTP client, a clock by hand. */
import { parse } from 'valibot'
import { MountFailure } from '../../../src/mount/errors.ts'
import { createPipeline, DEFAULT_LIMITS } from '../../../src/mount/pipeline.ts'
import { compatPolicy } from '../../../src/mount/policy.ts'
import { createResolver } from '../../../src/mount/resolver.ts'
import { createHttpClient } from '../../../src/net/client.ts'
import type { HttpClient, HttpRequest } from '../../../src/net/http.ts'
import {
  BackendError,
  type Host,
  type Identity,
  type PodFacts,
  type PodWatch,
} from '../../../src/providers/adapter.ts'
import { createVaultBackend, type VaultBackend } from '../../../src/providers/vault/backend.ts'
import { openbaoDialect, vaultDialect } from '../../../src/providers/vault/dialect.ts'
import type { Clock } from '../../../src/providers/vault/slots.ts'
import { settingsSchema } from '../../../src/providers/vault/settings.ts'
import { silentAudit } from '../../../src/telemetry/audit.ts'
import type { Meter } from '../../../src/telemetry/metrics.ts'
import { SecretBytes } from '../../../src/telemetry/secret-bytes.ts'
import { backendContext } from '../../support/backend-context.ts'
import { recordingLogger } from '../../support/recording-logger.ts'

export const POD: PodFacts = { name: 'web-0', namespace: 'shop', uid: 'uid-1', serviceAccount: 'web' }

export interface HarnessOptions {
  /** `backends.vault`. */
  readonly settings?: Readonly<Record<string, unknown>>
  readonly env?: Readonly<Record<string, string>>
  /** Audience → token text. */
  readonly tokens?: Readonly<Record<string, string>>
  readonly freshForMs?: number
  /** Key of versions. */
  readonly versionKey?: Uint8Array
  /** Reports gone pods; without it the backend goes by disuse. */
  readonly watch?: TestPodWatch
  readonly provider?: 'vault' | 'openbao'
  readonly identity?: Identity
  /** Real time instead of the clock by hand. */
  readonly realTime?: boolean
}

export interface Mounted {
  /** Path → content as UTF-8. */
  readonly files: Readonly<Record<string, string>>
  readonly modes: Readonly<Record<string, number>>
  readonly versions: Readonly<Record<string, string>>
  readonly order: readonly string[]
}

export interface Harness {
  mount(parameters: Readonly<Record<string, string>>, pod?: PodFacts): Promise<Mounted>
  /** The failure of a mount that must not succeed. */
  failure(parameters: Readonly<Record<string, string>>, pod?: PodFacts): Promise<MountFailure>
  readonly clock: ManualClock
  readonly http: HttpClient
  /** A host of {@link POD} outside of a mount. */
  host(): Host
  readonly backend: VaultBackend
  /** Everything logged, as text. */
  readonly logs: string[]
  /** `name{label values}` → last gauge or sum of counts. */
  readonly figures: Map<string, number>
  /** Whose turn the calls took that were made. */
  readonly turns: ReadonlySet<string | undefined>
  /** Audiences asked for. */
  readonly asked: string[]
  close(): Promise<void>
}

/** Time that moves only when told to. */
export interface ManualClock extends Clock {
  /** Moves on, running what comes due, and waits for the calls it makes. */
  advance(ms: number): Promise<void>
}

export interface TestPodWatch extends PodWatch {
  gone(uid: string): void
}

export function testPodWatch(): TestPodWatch {
  const listeners = new Set<(uid: string) => void>()
  return {
    watching: () => true,
    onGone(_held, listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    gone: (uid) => {
      for (const listener of listeners) listener(uid)
    },
  }
}

export function manualClock(settle: () => Promise<void>): ManualClock {
  let now = 1_800_000_000_000
  const timers = new Set<{ readonly at: number; readonly call: () => void }>()
  return {
    now: () => now,
    after(ms, call) {
      const timer = { at: now + ms, call }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    async advance(ms) {
      const end = now + ms
      for (;;) {
        const [next] = [...timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)
        if (!next) break
        timers.delete(next)
        now = Math.max(now, next.at)
        next.call()
        await settle()
      }
      now = end
    },
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

function testMeter(figures: Map<string, number>): Meter {
  const key = (name: string, labels: Readonly<Record<string, string>> = {}): string =>
    `${name}{${Object.values(labels).join(',')}}`
  return {
    count: (name, labels, by = 1) =>
      void figures.set(key(name, labels), (figures.get(key(name, labels)) ?? 0) + by),
    gauge: (name, value = 0, labels) => void figures.set(key(name, labels), value),
    time: () => {},
  }
}

const realClock: ManualClock = {
  now: () => Date.now(),
  after: (ms, call) => {
    const timer = setTimeout(call, ms)
    return () => clearTimeout(timer)
  },
  advance: pause,
}

export function createHarness(options: HarnessOptions = {}): Harness {
  const logs: string[] = []
  const figures = new Map<string, number>()
  const asked: string[] = []
  const log = recordingLogger(logs)
  const meter = testMeter(figures)
  const pool = createHttpClient({ rules: { refused: [] } })
  const turns = new Set<string | undefined>()
  const http = {
    ...pool,
    send: (request: HttpRequest) => {
      turns.add(request.turn)
      return pool.send(request)
    },
  }
  const manual = manualClock(async () => {
    await Promise.race([backend.keeper.idle(), pause(2000)])
  })
  const clock = options.realTime ? realClock : manual
  const backend: VaultBackend = createVaultBackend(
    backendContext({
      settings: parse(settingsSchema, options.settings ?? {}),
      log,
      http,
      env: options.env ?? {},
      meter,
      ...(options.watch && { pods: options.watch }),
    }),
    { clock, pause: () => pause(1), spread: () => 0 },
  )
  const tokens = new Map(Object.entries(options.tokens ?? { vault: 'jwt-of-pod', openbao: 'jwt-of-pod' }))
  const provider = options.provider ?? 'vault'
  const dialect = provider === 'vault' ? vaultDialect : openbaoDialect

  const host = (pod: PodFacts, signal: AbortSignal): Host => ({
    pod,
    identity: options.identity ?? 'pod',
    signal,
    log,
    http,
    now: () => new Date(clock.now()),
    audiences: new Set(tokens.keys()),
    token: (audience) => {
      asked.push(audience)
      const token = tokens.get(audience)
      if (token !== undefined) {
        return Promise.resolve({
          token: SecretBytes.copyOf(token),
          expiresAt: new Date(clock.now() + 3_600_000),
        })
      }
      const message = `no token for ${audience}`
      return Promise.reject(new BackendError({ kind: 'unauthenticated', code: 'NO_TOKEN', message }))
    },
    nodePublishSecret: () => undefined,
    serviceAccountAnnotation: () => Promise.resolve(undefined),
    nodeLabel: () => Promise.resolve(undefined),
    session: async (_key, open) => (await open()).session,
    dropSession: () => {},
  })

  const pipeline = createPipeline({
    dialect: () => Promise.resolve(dialect),
    resolver: createResolver({
      backend: () => Promise.resolve(backend as never),
      cache: { freshForMs: options.freshForMs ?? 0, staleIfErrorMs: 0, immutableForMs: 0, maxBytes: 1 << 20 },
      meter,
      now: () => clock.now(),
      random: () => 0,
      sleep: (ms) => clock.advance(ms),
    }),
    caller: (request, context) => ({
      identityKey: () => `${request.pod.namespace}/${request.pod.serviceAccount}`,
      host: (_source, signal) => host(request.pod, signal),
      signal: context.signal,
      deadline: clock.now() + 20_000,
    }),
    addresses: () => Promise.resolve([]),
    policy: compatPolicy,
    versionKey: options.versionKey ?? Buffer.alloc(32, 'k'),
    limits: DEFAULT_LIMITS,
    audit: silentAudit,
    meter,
    log,
    now: () => clock.now(),
  })

  const mount: Harness['mount'] = async (parameters, pod = POD) => {
    const answer = await pipeline(
      {
        pod,
        secretProviderClass: 'spc',
        parameters: new Map(Object.entries(parameters)),
        tokens: undefined,
        nodePublishSecret: new Map(),
        defaultMode: 0o644,
        targetPath: '',
      },
      { provider, signal: AbortSignal.timeout(20_000), deadline: Date.now() + 20_000 },
    )
    return {
      files: Object.fromEntries(answer.files.map((file) => [file.path, file.contents.toString()])),
      modes: Object.fromEntries(answer.files.map((file) => [file.path, file.mode])),
      versions: Object.fromEntries(answer.versions.map(({ id, version }) => [id, version])),
      order: answer.files.map((file) => file.path),
    }
  }

  return {
    mount,
    failure: async (parameters, pod) => {
      const outcome = await mount(parameters, pod).catch((error: unknown) => error)
      if (outcome instanceof MountFailure) return outcome
      throw outcome instanceof Error ? outcome : new Error('the mount succeeded')
    },
    clock,
    http,
    host: () => host(POD, AbortSignal.timeout(20_000)),
    backend,
    logs,
    figures,
    asked,
    turns,
    close: async () => {
      await backend.close?.()
      http.close()
    },
  }
}
