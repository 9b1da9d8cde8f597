/** Owns what a Vault store and ref look like: the plain data that plans carry and cache keys are made of. */
import * as v from 'valibot'

/** Which of the two products an SPC speaks to: parameter names, default audience and trust differ (section 11). */
export type Flavour = 'vault' | 'openbao'

const path = v.pipe(v.string(), v.minLength(1))

/**
 * Where and as whom to read. Every field but `flavour` may be absent: then the operator's setting under
 * `backends.vault` counts, then the environment, then the vendor's default.
 */
export const storeSchema = v.strictObject({
  flavour: v.optional(v.picklist(['vault', 'openbao']), 'vault'),
  /** `https://host:port[/prefix]`, or `unix:///path` where the operator lists it. */
  address: v.optional(path),
  /** Sent as `X-Vault-Namespace` on login and reads. */
  namespace: v.optional(path),
  /** Role to log in with. Needed with identity `pod`. */
  role: v.optional(path),
  /** Auth mount below `auth/`, for Kubernetes and JWT auth alike. Default `kubernetes`. */
  authMount: v.optional(path),
  /** Audience of the service-account token to log in with. Default: the flavour's name. */
  audience: v.optional(path),
  /** PEM bundle in the provider's container, below an operator's directory. */
  caFile: v.optional(path),
  caDirectory: v.optional(path),
  clientCertFile: v.optional(path),
  clientKeyFile: v.optional(path),
  /** Name for SNI and verification. */
  serverName: v.optional(path),
  /** Only for addresses where the operator allows it. */
  skipVerify: v.optional(v.boolean()),
})
export type VaultStore = v.InferOutput<typeof storeSchema>

/** One request to the API. Plain data; holds no secret except what an SPC's author wrote into `secretArgs`. */
export interface VaultRef {
  /** Path and query below the address, normalised, e.g. `/v1/secret/data/app?version=3`. */
  readonly path: string
  /** Upper case. */
  readonly method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE' | 'LIST'
  /** Request body: JSON with sorted keys. Absent sends none. */
  readonly body?: string
  /**
   * What the value's bytes are. `envelope`: the whole answer, re-serialised (section 5.2); `data`: the
   * secret alone (the inner data of KV v2), for the keyferry dialect.
   */
  readonly shape: 'envelope' | 'data'
  /** UID of the only pod that may share the answer, for requests that issue something (section 3.1). */
  readonly pod?: string
  /** The request Go would have shared instead, where it differs; used with `legacyDedupe`. */
  readonly legacy?: VaultRef
}
