/** Owns the backend `aws-secrets-manager`: secrets by name or ARN, version or stage, one call each or batched. */
import type {
  GetSecretValueCommandOutput,
  SecretsManagerClient,
  SecretValueEntry,
} from '@aws-sdk/client-secrets-manager'
import type * as SdkModule from '@aws-sdk/client-secrets-manager'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Backend, BackendContext, Host, RefItem, Value } from '../adapter.ts'
import { BackendError, PlanError } from '../adapter.ts'
import type { AwsSession, SessionOpener } from './credentials.ts'
import { sessionOpener } from './credentials.ts'
import { jsonParts, prefixParts } from './parts.ts'
import { AwsFailure, failureOf, refusal } from './failures.ts'
import { arnRegionFault } from './names.ts'
import { limiter, NAMESPACE_SHARE, type Limiter } from '../../net/limiter.ts'
import { askRegions } from './regions.ts'
import { refArguments } from './ref-arguments.ts'
import { againAfterClockSkew, clientConfig } from './sdk.ts'
import type { AwsEnvironment, AwsStore } from './settings.ts'
import { awsEnvironment, regionsOf, storeSchema } from './settings.ts'

export const SECRETS_MANAGER = 'aws-secrets-manager'

/** What to ask a region for. */
export interface SecretQuery {
  /** Name, full ARN or partial ARN. */
  readonly id: string
  readonly versionId?: string
  /** Staging label; default AWSCURRENT. */
  readonly stage?: string
}

/** A secret, and what it is called in the failover region where that differs. */
export interface SecretRef extends SecretQuery {
  readonly failover?: SecretQuery
  /** `json`: one part for each top-level scalar. `prefix`: one part for each secret whose name begins with `id`. */
  readonly expand?: 'json' | 'prefix'
}

/** Fetches of one mount at a time, and of the process (aws.md section 11). */
const PER_MOUNT = 32
const PER_PROCESS = 64

/** Fewer unpinned secrets than this are not worth a batch call. */
const BATCH_FROM = 4
const BATCH_SIZE = 20
const NO_BATCH_MS = 10 * 60_000

type Sdk = typeof SdkModule

/** One region of one resolve: its session and client, opened once. */
interface Region {
  readonly sdk: Sdk
  readonly client: SecretsManagerClient
  readonly session: AwsSession
}

export function secretsManagerBackend(context: BackendContext): Backend<AwsStore, SecretRef> {
  const environment = awsEnvironment(context)
  const sessions = sessionOpener(environment)
  const slot = limiter(PER_PROCESS, NAMESPACE_SHARE)
  return {
    kind: SECRETS_MANAGER,
    storeSchema,
    ref: secretRef,
    refKey: (ref) =>
      JSON.stringify([...queryKey(ref), ref.expand ?? '', ...(ref.failover ? queryKey(ref.failover) : [])]),
    keys: (_store, ref) => keysOf(ref),
    resolve: async (store, refs, host) => {
      const regions = await regionsOf(store, environment, host)
      const mount = new SecretMount(environment, sessions, store, host, slot)
      if (environment.batch) await mount.prefetch(regions[0], refs)
      return Promise.all(refs.map((ref) => mount.value(regions, ref)))
    },
  }
}

/** What AWS is asked for, for policy: of a prefix everything that begins with it. */
function keysOf({ id, expand, failover }: SecretRef): readonly string[] {
  if (expand === 'prefix') return [id, `${id}/**`]
  return failover === undefined ? [id] : [id, failover.id]
}

const queryKey = (query: SecretQuery): readonly string[] => [
  query.id,
  query.versionId ?? '',
  query.stage ?? '',
]

/** @throws PlanError */
function secretRef(item: RefItem): SecretRef {
  const args = refArguments(item, ['stage', 'expand'])
  const expand = args.get('expand')
  const stage = args.get('stage')
  if (expand !== undefined && expand !== 'json' && expand !== 'prefix')
    throw new PlanError([{ code: 'INVALID_PARAMETER', message: `"${item.key}": expand is json or prefix` }])
  if (expand === 'prefix' && (item.version !== undefined || stage !== undefined))
    throw new PlanError([
      { code: 'INVALID_PARAMETER', message: `"${item.key}": a prefix takes neither version nor stage` },
    ])
  return {
    id: item.key,
    ...(item.version === undefined ? {} : { versionId: item.version }),
    ...(stage === undefined ? {} : { stage }),
    ...(expand === undefined ? {} : { expand }),
  }
}

/** One call of `resolve`. */
class SecretMount {
  readonly #environment: AwsEnvironment
  readonly #sessions: SessionOpener
  readonly #store: AwsStore
  readonly #host: Host
  readonly #slot: Limiter
  readonly #mountSlot = limiter(PER_MOUNT)
  readonly #regions = new Map<string, Promise<Region>>()
  /** Secrets asked for already: a file and its expansion are one call. */
  readonly #fetched = new Map<string, Promise<Value>>()
  /** What a batch call brought for unpinned secrets of the primary region, by id. */
  readonly #prefetched = new Map<string, Value | AwsFailure>()

  constructor(
    environment: AwsEnvironment,
    sessions: SessionOpener,
    store: AwsStore,
    host: Host,
    slot: Limiter,
  ) {
    this.#environment = environment
    this.#sessions = sessions
    this.#store = store
    this.#host = host
    this.#slot = slot
  }

  async value(regions: readonly [string, string?], ref: SecretRef): Promise<Value | BackendError> {
    const eager =
      this.#store.failoverMode === 'eager' && ref.versionId === undefined && ref.expand !== 'prefix'
    const second: SecretQuery = ref.failover ?? ref
    try {
      const value = await askRegions<Value>(
        regions,
        {
          ask: (region, isSecond) =>
            ref.expand === 'prefix'
              ? this.#withPrefix(region, ref.id)
              : this.#secret(region, isSecond ? second : ref, isSecond),
          check: eager ? (region, found) => this.#labelled(region, second, found.version) : undefined,
        },
        this.#host,
      )
      return ref.expand === 'json' ? { ...value, parts: jsonParts(value, ref.id) } : value
    } catch (error) {
      if (error instanceof BackendError) return error
      throw error
    }
  }

  /** Opened once however many secrets wait for it. */
  #region(name: string): Promise<Region> {
    const known = this.#regions.get(name)
    if (known !== undefined) return known
    const opened = this.#openRegion(name)
    // A failed session is forgotten, so that the repeat of a call asks STS anew.
    opened.catch(() => this.#regions.delete(name))
    this.#regions.set(name, opened)
    return opened
  }

  async #openRegion(name: string): Promise<Region> {
    const [sdk, session] = await Promise.all([
      import('@aws-sdk/client-secrets-manager'),
      this.#sessions.open(this.#store, name, this.#host),
    ])
    const client = session.client(
      `${SECRETS_MANAGER} ${name}`,
      () =>
        new sdk.SecretsManagerClient(
          clientConfig(this.#host.http, this.#environment, 'secretsmanager', name, session.source),
        ),
    )
    return { sdk, client, session }
  }

  /** One call, within the limits; a corrected clock is worth a second try. @throws AwsFailure */
  async #call<T>(regionName: string, call: (region: Region, signal: AbortSignal) => Promise<T>): Promise<T> {
    const region = await this.#region(regionName)
    return this.#mountSlot(() =>
      this.#slot(async () => {
        try {
          return await againAfterClockSkew(() => call(region, this.#host.signal))
        } catch (error) {
          const failure = failureOf(error)
          if (failure.kind === 'unauthenticated') {
            this.#regions.delete(regionName)
            await this.#sessions.drop(this.#store, regionName, this.#host)
          }
          throw failure
        }
      }, this.#host.pod.namespace),
    )
  }

  /** A value of the caller's own: the host wipes what it is given. @throws AwsFailure */
  async #secret(region: string, query: SecretQuery, isSecond: boolean): Promise<Value> {
    const key = JSON.stringify([region, ...queryKey(query)])
    const known = this.#fetched.get(key)
    const fetched = known ?? this.#fetch(region, query, isSecond)
    this.#fetched.set(key, fetched)
    // A repeat of the call must be a call.
    fetched.catch(() => this.#fetched.delete(key))
    const value = await fetched
    return known === undefined ? value : { ...value, bytes: SecretBytes.copyOf(value.bytes.reveal()) }
  }

  async #fetch(region: string, query: SecretQuery, isSecond: boolean): Promise<Value> {
    const fault = arnRegionFault(query.id, region)
    if (fault !== undefined) throw fault
    const pinned = query.versionId !== undefined
    const known = isSecond || pinned || query.stage !== undefined ? undefined : this.#prefetched.get(query.id)
    if (known instanceof AwsFailure) throw known
    if (known !== undefined) return known
    const output = await this.#call(region, ({ sdk, client }, abortSignal) =>
      client.send(
        new sdk.GetSecretValueCommand({
          SecretId: query.id,
          ...(query.versionId === undefined ? {} : { VersionId: query.versionId }),
          ...(query.stage === undefined ? {} : { VersionStage: query.stage }),
        }),
        { abortSignal },
      ),
    )
    return valueOf(output, pinned)
  }

  /** Eager failover as AWS's provider does it: the second region must know the secret, too. */
  async #labelled(regionName: string, query: SecretQuery, version: string): Promise<void> {
    const { VersionIdsToStages } = await this.#call(regionName, ({ sdk, client }, abortSignal) =>
      client.send(new sdk.DescribeSecretCommand({ SecretId: query.id }), { abortSignal }),
    )
    const stages = new Map(Object.entries(VersionIdsToStages ?? {})).get(version) ?? []
    if (!stages.includes(query.stage ?? 'AWSCURRENT')) await this.#secret(regionName, query, true)
  }

  /** Every current secret whose name begins with `prefix`. */
  async #withPrefix(regionName: string, prefix: string): Promise<Value> {
    const found: SecretValueEntry[] = []
    let next: string | undefined
    do {
      const page = await this.#call(regionName, ({ sdk, client }, abortSignal) =>
        client.send(
          new sdk.BatchGetSecretValueCommand({
            Filters: [{ Key: 'name', Values: [prefix] }],
            ...(next === undefined ? {} : { NextToken: next }),
          }),
          { abortSignal },
        ),
      )
      const refused = page.Errors?.[0]
      if (refused !== undefined) throw refusal(refused.ErrorCode ?? 'UnknownError', refused.Message ?? '')
      found.push(...(page.SecretValues ?? []))
      next = page.NextToken
    } while (next !== undefined)
    return prefixParts(
      prefix,
      found.map((entry) => ({ name: entry.Name ?? '', value: valueOf(entry, false) })),
    )
  }

  /** Current secrets twenty at a time. Whatever it does not bring is fetched singly. */
  async prefetch(regionName: string, refs: readonly SecretRef[]): Promise<void> {
    const plain = refs.filter(
      (r) => r.versionId === undefined && r.stage === undefined && r.expand !== 'prefix',
    )
    const ids = [...new Set(plain.map((ref) => ref.id))]
    if (ids.length < BATCH_FROM) return
    const chunks = Array.from({ length: Math.ceil(ids.length / BATCH_SIZE) }, (_, i) =>
      ids.slice(i * BATCH_SIZE, (i + 1) * BATCH_SIZE),
    )
    await Promise.all(chunks.map((chunk) => this.#prefetchChunk(regionName, chunk)))
  }

  async #prefetchChunk(regionName: string, ids: readonly string[]): Promise<void> {
    const now = this.#host.now().getTime()
    let session: AwsSession | undefined
    try {
      session = (await this.#region(regionName)).session
      if (session.batchRefusedAt !== undefined && now - session.batchRefusedAt < NO_BATCH_MS) return
      const { SecretValues, Errors } = await this.#call(regionName, ({ sdk, client }, abortSignal) =>
        client.send(new sdk.BatchGetSecretValueCommand({ SecretIdList: [...ids] }), { abortSignal }),
      )
      for (const id of ids) {
        const entry = SecretValues?.find((e) => e.Name === id || e.ARN === id || isPartialArn(id, e.ARN))
        const error = Errors?.find((e) => e.SecretId === id)
        if (entry !== undefined) this.#prefetched.set(id, valueOf(entry, false))
        else if (error !== undefined)
          this.#prefetched.set(id, refusal(error.ErrorCode ?? 'UnknownError', error.Message ?? ''))
      }
    } catch (error) {
      if (!(error instanceof AwsFailure)) return
      if (error.kind === 'denied' && session !== undefined) session.batchRefusedAt = now
      this.#host.log.debug('batch call refused, fetching secrets one by one', { awsCode: error.awsCode })
    }
  }
}

/** A partial ARN lacks the hyphen and six characters that AWS appends. */
function isPartialArn(id: string, arn: string | undefined): boolean {
  return (
    arn !== undefined && id.startsWith('arn:') && arn.length === id.length + 7 && arn.startsWith(`${id}-`)
  )
}

/** @throws AwsFailure when the answer lacks what every answer has. */
function valueOf(output: GetSecretValueCommandOutput | SecretValueEntry, pinned: boolean): Value {
  const { VersionId, SecretString, SecretBinary } = output
  const content = SecretString ?? SecretBinary
  if (!VersionId || content === undefined)
    throw new AwsFailure({
      kind: 'malformed',
      awsCode: 'malformed',
      message: VersionId
        ? 'the answer holds neither SecretString nor SecretBinary'
        : 'the answer has no VersionId',
    })
  return { bytes: SecretBytes.copyOf(content), version: VersionId, ...(pinned ? { immutable: true } : {}) }
}
