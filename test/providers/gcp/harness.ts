/**
 * Owns the way from a Google SPC's parameters to what the driver would get: the real provider process
 * without its sockets (request decoder, pipeline, resolver, hosts, HTTP, Kubernetes client) over the fake
 * Google, reached through a proxy under Google's real names with real TLS.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createProviderProcess } from '../../../src/commands/provider-process.ts'
import { parseConfig } from '../../../src/config.ts'
import type { MountAnswer } from '../../../src/mount/answer.ts'
import { MountFailure } from '../../../src/mount/errors.ts'
import { decodeMountRequest } from '../../../src/mount/request.ts'
import { createMeter } from '../../../src/telemetry/metrics.ts'
import { recordingLogger } from '../../support/recording-logger.ts'
import type { PodOfToken } from './fake-cluster.ts'
import { FakeGoogle } from './fake-google.ts'

export const POOL = 'acme-prod.svc.id.goog'
/** The pod's service account as bindings name it. */
export const WEB = `serviceAccount:${POOL}[shop/web]`
export const SECRET = 'projects/acme-prod/secrets/db'
export const LATEST = `${SECRET}/versions/latest`

export interface Pod extends Partial<PodOfToken> {
  /** Audiences of the tokens that the driver hands over; default the pool. Empty: none. */
  readonly audiences?: readonly string[]
  /** The node-publish Secret; a text replaces the JSON of `secrets`. */
  readonly secret?: Readonly<Record<string, string>> | string
  readonly permission?: string
  readonly provider?: string
  /** Replaces the JSON of `attributes`. */
  readonly attributes?: string
  readonly budgetMs?: number
}

export interface HarnessOptions {
  readonly env?: Readonly<Record<string, string>>
  /** More settings of both backends. */
  readonly settings?: Readonly<Record<string, unknown>>
  /** Top-level keys of the configuration, e.g. `cache`. */
  readonly config?: Readonly<Record<string, unknown>>
  /** More entries of `backends`, given the settings that lead to the fake. */
  readonly backends?: (settings: object) => Readonly<Record<string, unknown>>
  /** False: nobody answers where the metadata server should be. */
  readonly metadata?: boolean
  /** Whether the provider may mint tokens; default true. */
  readonly tokenRequests?: boolean
}

/** A mount as the pod and the cluster would see it. */
export interface Mounted {
  readonly files: readonly {
    readonly path: string
    readonly mode: number
    readonly text: string
    readonly bytes: Buffer
  }[]
  readonly versions: readonly { readonly id: string; readonly version: string }[]
}

export interface Harness {
  readonly google: FakeGoogle
  /** Everything logged, at every level. */
  readonly logs: string[]
  /** Prometheus text. */
  metrics(): Promise<string>
  /** `secrets` as text, or the entries of it (JSON is YAML). @throws MountFailure */
  mount(secrets: Secrets, pod?: Pod, more?: Record<string, string>): Promise<Mounted>
  failure(secrets: Secrets, pod?: Pod, more?: Record<string, string>): Promise<MountFailure>
  stop(): Promise<void>
}

export type Secrets = string | readonly Readonly<Record<string, unknown>>[] | undefined

export async function startHarness(options: HarnessOptions = {}): Promise<Harness> {
  const google = await new FakeGoogle().start()
  google.identity.pools.add(POOL)
  google.cluster.accounts.set('shop/web', {})
  const { listeners } = google
  const directory = mkdtempSync(join(tmpdir(), 'kf-gcp-'))
  const caFile = join(directory, 'ca.pem')
  writeFileSync(caFile, listeners.ca)
  const settings = { proxy: listeners.proxy, caFile, ...options.settings }
  const config = {
    cache: { freshFor: 0 },
    kubernetes: { server: listeners.plain, tokenRequests: options.tokenRequests ?? true },
    backends: {
      'gcp-secret-manager': settings,
      'gcp-parameter-manager': settings,
      ...options.backends?.(settings),
    },
    ...options.config,
  }
  const logs: string[] = []
  const meter = await createMeter()
  const release = async (): Promise<void> => {
    await google.stop()
    rmSync(directory, { recursive: true })
  }
  const provider = await createProviderProcess({
    loaded: parseConfig('test.yaml', JSON.stringify(config)),
    log: recordingLogger(logs),
    audit: (record) => void logs.push(JSON.stringify(record)),
    meter,
    env: {
      // Port 1: nobody listens.
      GCE_METADATA_HOST: options.metadata === false ? '127.0.0.1:1' : listeners.plainHost,
      ...options.env,
    },
  }).catch(async (error: unknown) => {
    await release()
    throw error
  })
  const mount: Harness['mount'] = async (secrets, pod = {}, more = {}) => {
    const request = decodeMountRequest({
      attributes: pod.attributes ?? attributes(google, secrets, pod, more),
      secrets: typeof pod.secret === 'string' ? pod.secret : JSON.stringify(pod.secret ?? {}),
      target_path: '/target',
      permission: pod.permission ?? '420',
    })
    const budget = pod.budgetMs ?? 25_000
    const answer = await provider.pipeline(request, {
      provider: pod.provider ?? 'gcp',
      signal: AbortSignal.timeout(budget),
      deadline: Date.now() + budget,
    })
    return seen(answer)
  }
  return {
    google,
    logs,
    metrics: () => meter.text(),
    mount,
    failure: async (...args) => {
      try {
        await mount(...args)
      } catch (error) {
        if (error instanceof MountFailure) return error
        throw error
      }
      throw new Error('the mount succeeded, but should have failed')
    },
    stop: async () => {
      await provider.close()
      await release()
    },
  }
}

function attributes(google: FakeGoogle, secrets: Secrets, pod: Pod, more: Record<string, string>): string {
  const facts = {
    namespace: pod.namespace ?? 'shop',
    serviceAccount: pod.serviceAccount ?? 'web',
    podName: pod.podName ?? 'web-0',
    podUid: pod.podUid ?? 'u1',
  }
  const audiences = pod.audiences ?? [POOL]
  const tokens = Object.fromEntries(
    audiences.map((audience) => [
      audience,
      {
        token: google.cluster.token(facts, [audience]),
        expirationTimestamp: new Date(Date.now() + 3_600_000).toISOString(),
      },
    ]),
  )
  return JSON.stringify({
    ...(secrets !== undefined && {
      secrets: typeof secrets === 'string' ? secrets : JSON.stringify(secrets),
    }),
    ...more,
    secretProviderClass: 'web-secrets',
    'csi.storage.k8s.io/pod.name': facts.podName,
    'csi.storage.k8s.io/pod.namespace': facts.namespace,
    'csi.storage.k8s.io/pod.uid': facts.podUid,
    'csi.storage.k8s.io/serviceAccount.name': facts.serviceAccount,
    ...(audiences.length > 0 && { 'csi.storage.k8s.io/serviceAccount.tokens': JSON.stringify(tokens) }),
  })
}

function seen(answer: MountAnswer): Mounted {
  const { files, versions } = answer
  const copies = files.map(({ path, mode, contents }) => ({
    path,
    mode,
    text: contents.toString(),
    bytes: Buffer.from(contents),
  }))
  answer.release()
  return { files: copies, versions }
}
