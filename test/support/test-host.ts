/** Owns a {@link Host} for tests of one backend: real HTTP, tokens and annotations from the test, sessions remembered. */
import { createHttpClient } from '../../src/net/client.ts'
import type { ClosableHttpClient } from '../../src/net/client.ts'
import type { Host, OpenedSession, PodFacts } from '../../src/providers/adapter.ts'
import { BackendError } from '../../src/providers/adapter.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import type { Logger } from '../../src/telemetry/log.ts'
import { SecretBytes } from '../../src/telemetry/secret-bytes.ts'

export interface TestHostOptions {
  readonly pod?: Partial<PodFacts>
  readonly identity?: Host['identity']
  /** Audience → token, as the driver hands them over. */
  readonly tokens?: Readonly<Record<string, { readonly token: string; readonly expirationTimestamp: string }>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly nodeLabels?: Readonly<Record<string, string>>
  readonly nodePublishSecret?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
  readonly now?: () => Date
  readonly http?: ClosableHttpClient
  readonly log?: Logger
  /** Hosts that are given one map share their sessions, as mounts of one identity do. */
  readonly sessions?: Map<string, Promise<OpenedSession<unknown>>>
}

/** What the host was asked for. */
export interface TestHost extends Host {
  readonly asked: {
    readonly annotations: string[]
    readonly nodeLabels: string[]
    readonly audiences: string[]
  }
}

/** One client for the file; close it in `afterAll`. */
export function testHttp(): ClosableHttpClient {
  return createHttpClient({ rules: { refused: [] } })
}

export function testHost(options: TestHostOptions = {}): TestHost {
  const sessions = options.sessions ?? new Map<string, Promise<OpenedSession<unknown>>>()
  const tokens = new Map(Object.entries(options.tokens ?? {}))
  const asked = { annotations: [] as string[], nodeLabels: [] as string[], audiences: [] as string[] }
  const now = options.now ?? (() => new Date())
  return {
    asked,
    pod: { name: 'web-0', namespace: 'shop', uid: 'pod-uid', serviceAccount: 'web', ...options.pod },
    identity: options.identity ?? 'pod',
    signal: options.signal ?? AbortSignal.timeout(20_000),
    log: options.log ?? silentLogger,
    http: options.http ?? testHttp(),
    now,
    audiences: new Set(tokens.keys()),
    token: (audience) => {
      asked.audiences.push(audience)
      const found = tokens.get(audience)
      return found === undefined
        ? Promise.reject(
            new BackendError({
              kind: 'unauthenticated',
              code: 'TOKEN_MISSING',
              message: `no token for ${audience}`,
            }),
          )
        : Promise.resolve({
            token: SecretBytes.copyOf(found.token),
            expiresAt: new Date(found.expirationTimestamp),
          })
    },
    nodePublishSecret: (key) => {
      const found = new Map(Object.entries(options.nodePublishSecret ?? {})).get(key)
      return found === undefined ? undefined : SecretBytes.copyOf(found)
    },
    serviceAccountAnnotation: (name) => {
      asked.annotations.push(name)
      return Promise.resolve(new Map(Object.entries(options.annotations ?? {})).get(name))
    },
    nodeLabel: (name) => {
      asked.nodeLabels.push(name)
      return Promise.resolve(new Map(Object.entries(options.nodeLabels ?? {})).get(name))
    },
    session: async <S>(key: readonly string[], open: () => Promise<OpenedSession<S>>): Promise<S> => {
      const id = JSON.stringify(key)
      const known = sessions.get(id) as Promise<OpenedSession<S>> | undefined
      const kept = await known?.catch(() => undefined)
      if (kept !== undefined && kept.expiresAt.getTime() - now().getTime() > 60_000) return kept.session
      const fresh = open()
      sessions.set(id, fresh)
      fresh.catch(() => sessions.delete(id))
      return (await fresh).session
    },
    dropSession: (key) => {
      sessions.delete(JSON.stringify(key))
    },
  }
}
