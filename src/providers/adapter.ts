/**
 * The interfaces between the host and an adapter. A platform engineer who adds a secret store reads
 * this file and `docs/adapters.md`, nothing else.
 *
 * - A {@link Dialect} is the parameter language behind one `spec.provider` name. Pure: parameters in,
 *   plan out.
 * - A {@link Backend} is one kind of secret store. Effectful: refs in, values out.
 * - The {@link Host} is everything a backend may touch.
 *
 * The host owns paths, modes, ordering, duplicates, de-duplication, selection, limits, retries,
 * caching, error mapping and redaction: an adapter cannot lose a file, leak a value or share one
 * across identities.
 */
import type { KeyObject } from 'node:crypto'
import type { GenericSchema } from 'valibot'
import type { HttpClient } from '../net/http.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/metrics.ts'
import type { SecretBytes } from '../telemetry/secret-bytes.ts'

export { SecretBytes } from '../telemetry/secret-bytes.ts'

// ---------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------

/**
 * Every way a fetch can fail. gRPC code, retry, failover, metrics label and `onRevoked` follow from
 * the kind (driver.md section 8.3).
 */
export const ERROR_KINDS = [
  'config',
  'unauthenticated',
  'denied',
  'not-found',
  'gone',
  'throttled',
  'unavailable',
  'timeout',
  'malformed',
  'too-large',
  'internal',
] as const
export type ErrorKind = (typeof ERROR_KINDS)[number]

export interface AdapterErrorOptions {
  readonly kind: ErrorKind
  /**
   * Stable, documented upper-case word that a user can search for, e.g. `MAC_MISMATCH`. Dialects
   * prefix theirs with the vendor, e.g. `AWS_NO_OBJECTS`.
   */
  readonly code: string
  /** What is wrong, naming the object. No value, no token, no request id, no time (driver.md section 3). */
  readonly message: string
  /** What to do about it, one sentence. */
  readonly remedy?: string | undefined
  /** The backend asked not to be called again before this many milliseconds (`Retry-After`). */
  readonly retryAfterMs?: number | undefined
  /**
   * For `denied`, `not-found` and `gone`: not the object was refused or is absent but something on the way to
   * it, such as a login, the network, a right of the provider, a directory that is not mounted. It may come back
   * by itself, so it never takes a file away (`onRevoked`). Whatever a {@link Host} method throws counts as such.
   */
  readonly indirect?: boolean | undefined
}

/** A failure of one ref. Returned by {@link Backend.resolve} in place of a value, or thrown for all refs. */
export class BackendError extends Error {
  override readonly name = 'BackendError'
  readonly kind: ErrorKind
  readonly code: string
  readonly remedy: string | undefined
  readonly retryAfterMs: number | undefined
  readonly indirect: boolean

  constructor(options: AdapterErrorOptions) {
    super(options.message)
    this.kind = options.kind
    this.code = options.code
    this.remedy = options.remedy
    this.retryAfterMs = options.retryAfterMs
    this.indirect = options.indirect ?? false
  }
}

/** One fault of an SPC's parameters. */
export interface Problem {
  /** Default `config`. `denied`: well-formed, but not allowed to this pod. */
  readonly kind?: 'config' | 'denied'
  /** Stable upper-case word, e.g. `INVALID_PARAMETER`. */
  readonly code: string
  /** Names parameter and object, e.g. `objects[2] "db": filePermission "0999" is not an octal mode`. */
  readonly message: string
  readonly remedy?: string
  /** Parameter in which the fault is, e.g. `objects`. */
  readonly parameter?: string
  /** Position inside that parameter's text, both from 1. */
  readonly line?: number
  readonly column?: number
}

/** Every fault of an SPC's parameters, at once. The gRPC code is INVALID_ARGUMENT. */
export class PlanError extends Error {
  override readonly name = 'PlanError'
  readonly problems: readonly Problem[]
  /**
   * The plan of everything else, where the problems say only what this pod may not use. A volume that is
   * published again may lose what was withdrawn and keep the rest (`onRevoked`).
   */
  readonly permitted: Plan | undefined

  constructor(problems: readonly Problem[], permitted?: Plan) {
    super(problems.map((p) => `${p.code}: ${p.message}`).join('; '))
    this.problems = problems
    this.permitted = permitted
  }
}

// ---------------------------------------------------------------------------------------------
// Dialect: parameters in, plan out
// ---------------------------------------------------------------------------------------------

/** Facts about the pod that kubelet supplies (`csi.storage.k8s.io/*`); a user cannot override them. */
export interface PodFacts {
  readonly name: string
  readonly namespace: string
  readonly uid: string
  readonly serviceAccount: string
}

/** What a dialect may look at. */
export interface PlanRequest {
  readonly pod: PodFacts
  /**
   * SPC parameters and the pod's volumeAttributes, merged by the driver: hostile, and no trust
   * boundary. Kubelet's keys and the tokens are not among them.
   */
  readonly parameters: ReadonlyMap<string, string>
  /** Names of the keys in the node-publish Secret (never the token key); empty without one. */
  readonly nodePublishKeys: ReadonlySet<string>
  /** Mode that `permission` asks for, 0..511; normally 0o644. */
  readonly defaultMode: number
  /** Name under which the dialect was called, e.g. `gcp` or its alias `gke`. */
  readonly provider: string
}

/** Whose credentials a fetch uses. Never falls back from the first to the second. */
export type Identity = 'pod' | 'node'

/** Where to fetch from: a backend kind, its settings, and whose credentials to use. */
export interface StoreUse {
  /** {@link Backend.kind}. */
  readonly backend: string
  /** Settings of that backend, as its `storeSchema` describes them. Plain data: it becomes a cache key. */
  readonly store: unknown
  readonly identity: Identity
  /**
   * Name in the configuration's `stores`, where the SPC used one. Policy takes identity and address of such a
   * store for the operator's word, so nothing of them may be the SPC's.
   */
  readonly name?: string
}

/** What to fetch. Outputs that name equal sources share one fetch. */
export interface Source extends StoreUse {
  /** The backend's own ref. Plain data. */
  readonly ref: unknown
}

/**
 * Turns fetched bytes into file bytes, e.g. picks a JSON field or decodes base64. Pure.
 * @throws SelectError when the bytes do not have what was asked for.
 */
export type Select = (bytes: Uint8Array) => Uint8Array

/** A value is not what the SPC expects of it. The message never quotes the value. */
export class SelectError extends Error {
  override readonly name = 'SelectError'
  readonly kind: ErrorKind
  readonly code: string
  readonly remedy: string | undefined

  constructor(options: AdapterErrorOptions) {
    super(options.message)
    this.kind = options.kind
    this.code = options.code
    this.remedy = options.remedy
  }
}

interface OutputBase {
  readonly source: Source
  /** Name of the object as the SPC's author knows it; used in errors, audit and metrics. */
  readonly object: string
  /** File mode, 0..511. */
  readonly mode: number
  /** When the object does not exist (`not-found`, `gone`), leave it out instead of failing the mount. */
  readonly optional?: boolean
}

/** One file. */
export interface FileOutput extends OutputBase {
  readonly kind: 'file'
  /** Path in the volume, checked by the host (driver.md section 3). */
  readonly path: string
  readonly select?: Select
  /** Id reported with the version. Default: the path. */
  readonly versionId?: string
  /**
   * The version to report where the store has none ({@link Value.version} empty), for a dialect whose
   * versions other tools know. Keyed with the node's version key. Default: a keyed digest of path and
   * contents.
   */
  readonly version?: (made: VersionFacts) => string
}

/** What a version can be made from. */
export interface VersionFacts {
  /** Secret of this node, at least 16 bytes: the same for all mounts while the node's state lives. */
  readonly key: KeyObject
  /** The file's bytes. */
  readonly contents: Uint8Array
  /** The fetched bytes that {@link FileOutput.select} was given. */
  readonly value: Uint8Array
}

/** As many files as the value has {@link Value.parts}: `<into>/<part name>`. */
export interface ExpandOutput extends OutputBase {
  readonly kind: 'expand'
  /** Directory in the volume, or `''` for its root. */
  readonly into: string
  /** Id reported for a part. Default: its path. */
  readonly versionId?: (partName: string) => string
  /**
   * Makes the parts out of the fetched bytes, in place of {@link Value.parts}. Pure.
   * @throws SelectError when the bytes are no document.
   */
  readonly split?: (bytes: Uint8Array) => readonly { readonly name: string; readonly bytes: Uint8Array }[]
}

/** One of the objects that a {@link GatherOutput} is made of. */
export interface Gathered {
  readonly source: Source
  /** Name of the object as the SPC's author knows it. */
  readonly object: string
  /** When the object does not exist, {@link GatherOutput.combine} is given `undefined` for it. */
  readonly optional?: boolean
  readonly select?: Select
}

/** One file made of several objects. Its version is a keyed digest of path and contents. */
export interface GatherOutput extends OutputBase {
  readonly kind: 'gather'
  readonly path: string
  /** At least one; {@link OutputBase.source} is the first one's. */
  readonly sources: readonly Gathered[]
  /**
   * The file's bytes, from what was selected of each of {@link sources}, in their order. Pure.
   * @throws SelectError when the values do not fit the document.
   */
  readonly combine: (values: readonly (Uint8Array | undefined)[]) => Uint8Array
}

export type Output = FileOutput | ExpandOutput | GatherOutput

/**
 * What becomes of the files of a running pod when the store denies their objects, or no longer has them:
 * they stay as they are, or they are taken away at the next republish (sops B5).
 */
export const ON_REVOKED = ['keep', 'remove'] as const
export type OnRevoked = (typeof ON_REVOKED)[number]

export interface Plan {
  /** In the order of the SPC. */
  readonly outputs: readonly Output[]
  /**
   * What two outputs with one path mean: an error (default), or what the vendor's provider does.
   * `last-wins` logs a warning.
   */
  readonly duplicates?: 'error' | 'last-wins'
  /** What this SPC wants of files whose objects are revoked. Default: the operator's `policy.onRevoked`. */
  readonly onRevoked?: OnRevoked
  /** Things the SPC's author should know although the mount goes on, e.g. a deprecated parameter. */
  readonly warnings?: readonly string[]
}

/** What a dialect's mounts may read besides parameters. Anything not named here is not handed over. */
export interface Needs {
  /** Token audiences, for documentation and `doctor`; backends ask for the one they use. */
  readonly audiences?: readonly string[]
  /** Service-account annotations. */
  readonly annotations?: readonly string[]
  /** Node labels. */
  readonly nodeLabels?: readonly string[]
  /** Whether the node-publish Secret may be read. */
  readonly nodePublishSecret?: boolean
  /** Keys with which that Secret makes a plan possible; a class is checked offline as if they were there. */
  readonly nodePublishKeys?: readonly string[]
}

/** The parameter language behind one `spec.provider` name. */
export interface Dialect {
  /** Name of its socket, e.g. `aws`. */
  readonly name: string
  /** Further socket names that mean the same, e.g. `gke`. */
  readonly aliases?: readonly string[]
  readonly needs: Needs
  /** Names of the parameters that mean something to it, for editors: the published JSON Schema lists them. */
  readonly parameters?: readonly string[]
  /** Name and version that the `Version` RPC reports; default `keyferry` and our version. */
  readonly runtimeName?: string
  /**
   * Awaited before {@link plan} with the same request. For importing code that only some classes need, and
   * nothing else: what it does changes when a plan can be made, never what is in it.
   */
  prepare?(request: Pick<PlanRequest, 'parameters'>): Promise<void>
  /**
   * Pure: no I/O, no clock, no environment. Equal requests give equal plans. Where parameters may take long to read,
   * the plan comes as a generator that yields every millisecond or so: others have their turn then (T17).
   * @throws PlanError with every problem of the parameters.
   */
  plan(request: PlanRequest): Plan | Generator<undefined, Plan>
}

// ---------------------------------------------------------------------------------------------
// Backend: refs in, values out
// ---------------------------------------------------------------------------------------------

/** A secret that the store will take back; the host renews it and lets it go when the pod is gone. */
export interface Lease {
  readonly id: string
  readonly renewable: boolean
}

/** One of the files a value consists of, e.g. the top-level keys of a document. */
export interface ValuePart {
  /** Relative path below the output's directory. */
  readonly name: string
  readonly bytes: SecretBytes
  /** Default: the value's version. */
  readonly version?: string
}

/** What a store holds under a ref. */
export interface Value {
  readonly bytes: SecretBytes
  /**
   * Opaque, changes with the content, and says nothing about it (T23). Empty: the host reports a
   * keyed digest of the file instead.
   */
  readonly version: string
  /** For a ref that stands for several files. */
  readonly parts?: readonly ValuePart[]
  /** The value is useless after this time and is never served from the cache then. */
  readonly expiresAt?: Date
  readonly lease?: Lease
  /** The ref names a version that can never change: the cache may keep it longer. */
  readonly immutable?: boolean
}

/** A projected service-account token as the driver handed it over: a credential to present, never a fact. */
export interface ServiceAccountToken {
  readonly token: SecretBytes
  readonly expiresAt: Date
}

/** Credentials or a client, opened for one identity. */
export interface OpenedSession<S> {
  readonly session: S
  /** The session is not used from 60 s before this time on. */
  readonly expiresAt: Date
}

/** Everything an adapter may touch. One is made for each mount. */
export interface Host {
  readonly pod: PodFacts
  /** Whose credentials this fetch must use. A backend that cannot honour it throws `config`. */
  readonly identity: Identity
  /** Fires when the mount's budget ends or its caller is gone. */
  readonly signal: AbortSignal
  readonly log: Logger
  readonly http: HttpClient
  readonly now: () => Date
  /**
   * The pod's token for `audience`.
   * @throws BackendError `unauthenticated`, naming the audience and the chart value to set.
   */
  token(audience: string): Promise<ServiceAccountToken>
  /** Audiences for which the driver handed over a token. */
  readonly audiences: ReadonlySet<string>
  /** A value of the pod's node-publish Secret. */
  nodePublishSecret(key: string): SecretBytes | undefined
  /** An annotation of the pod's service account; read from the API server and cached. */
  serviceAccountAnnotation(name: string): Promise<string | undefined>
  /** A label of this node. */
  nodeLabel(name: string): Promise<string | undefined>
  /**
   * A session for this identity and `key`: opened once however many mounts ask, kept until near
   * expiry. The first part of `key` is the vendor's name, so that its backends can share a session. Sessions of different identities never meet. A failure to open is not kept.
   */
  session<S>(key: readonly string[], open: () => Promise<OpenedSession<S>>): Promise<S>
  /** Drops a session that the store no longer accepts. */
  dropSession(key: readonly string[]): void
}

/** How a `provider: keyferry` SPC names what it wants. */
export interface RefItem {
  /** UID of the pod that asks, for refs that no other pod may share. */
  readonly podUid?: string
  readonly key: string
  readonly version?: string
  readonly args?: Readonly<Record<string, string>>
}

/** One kind of secret store. */
export interface Backend<Store = unknown, Ref = unknown> {
  /** E.g. `aws-secrets-manager`. */
  readonly kind: string
  /** Shape of a store's settings, for `stores:` in configuration and SPCs. Strict: unknown keys fail. */
  readonly storeSchema: GenericSchema<unknown, Store>
  /** Most refs in one {@link Backend.resolve}. Default: no limit. */
  readonly maxBatch?: number
  /** A ref for the keyferry dialect. @throws PlanError */
  ref(item: RefItem): Ref
  /** Equal keys are fetched once and share a cache entry. Must not contain a secret. */
  refKey(ref: Ref): string
  /**
   * What is asked for, as the operator's policy matches it (`keys` of a rule), e.g.
   * `['shop/db']`. It must name everything that is read: of a ref that reads all names with a prefix, the
   * prefix and `<prefix>/**`. Default: the ref's key.
   */
  keys?(store: Store, ref: Ref): readonly string[]
  /**
   * Host names or URLs that the store or the ref makes this backend call although neither the operator
   * nor a closed list of the vendor's names them, for policy. Those of a store in the configuration count as
   * the operator's, so a host belongs into the store, never into the ref. Default: none.
   */
  addresses?(store: Store, ref: Ref): readonly string[]
  /**
   * Whether this mount may be answered at all: asked once for every mount, before the cache is looked into
   * and before a fetch of another mount is joined. For what a cache key cannot hold, such as proof of the caller.
   * @throws BackendError to refuse
   */
  admit?(host: Host): Promise<void>
  /**
   * Fetches refs of one store with the host's identity.
   * @returns values or errors, one per ref, in input order.
   * @throws BackendError when no ref could be tried, e.g. no credentials.
   */
  resolve(store: Store, refs: readonly Ref[], host: Host): Promise<readonly (Value | BackendError)[]>
  /** Lets a lease go. Called when its pod is gone. */
  revoke?(store: Store, lease: Lease, host: Host): Promise<void>
  /** Releases what the backend holds, at shutdown. */
  close?(): Promise<void>
}

/** What a module that adds a backend or a dialect exports as `adapter`; built-in and out-of-tree alike. */
export interface Adapter {
  readonly dialects?: readonly Dialect[]
  readonly backends?: readonly BackendFactory[]
  readonly keyServices?: readonly KeyServiceFactory[]
}

export interface BackendFactory {
  readonly kind: string
  /** Shape of `backends.<kind>` in the configuration file. Default: no settings. */
  readonly settingsSchema?: GenericSchema
  create(context: BackendContext): Backend
}

/** Unwraps the data keys of documents that a vendor's key service protects (sops A10). */
export interface KeyService {
  /** Kind of the documents' entries, e.g. `hc_vault`. */
  readonly kind: string
  /**
   * The plaintext of an entry, asked for with the host's identity. Everything in the entry is hostile:
   * nothing may be sent to an address that the operator has not listed.
   * @param version version of the tool that wrote the document
   * @throws BackendError
   */
  unwrap(entry: { readonly kind: string }, host: Host, version: string): Promise<Buffer>
}

export interface KeyServiceFactory {
  /** Kind of the documents' entries that it unwraps. */
  readonly kind: string
  /** Key below `backends` in the configuration. The service is on only where that key is present. */
  readonly settingsName: string
  readonly settingsSchema: GenericSchema
  create(context: BackendContext): KeyService
}

/** What a backend is made from, once for the process. */
export interface BackendContext {
  /** `backends.<kind>` of the configuration file, validated by `settingsSchema`; `{}` without one. */
  readonly settings: unknown
  readonly log: Logger
  readonly http: HttpClient
  /** Environment of the process: only for variables that the vendor's spec lists. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly meter: Meter
  /** News of this node's pods, for what must be given back. Absent without a Kubernetes API. */
  readonly pods?: PodWatch
  /** The service for entries of `kind`; `undefined` where the operator has not switched it on. */
  keyService(kind: string): Promise<KeyService | undefined>
}

/** Says when pods of this node are gone. */
export interface PodWatch {
  /** False while the API cannot be asked: then nobody is reported as gone. */
  readonly watching: () => boolean
  /**
   * Calls `listener` with the UID of each pod of `held` that is gone. Nothing is asked while `held` is
   * empty. Returns how to stop it.
   */
  onGone(held: () => Iterable<string>, listener: (podUid: string) => void): () => void
}
