/**
 * Owns what the Google backends can be told: a store's schema, the operator's settings, and Google's own
 * environment variables, put together once for a backend (gcp.md section 11).
 */
import { readFileSync } from 'node:fs'
import * as v from 'valibot'
import type { Destination } from '../../net/http.ts'
import { BackendError } from '../adapter.ts'
import type { BackendContext } from '../adapter.ts'

/** Settings of one store: in `stores:`, or made by the `gcp` dialect from an SPC. */
export const storeSchema = v.strictObject({
  /** Project of names that do not begin with `projects/`. */
  project: v.optional(v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9.:-]{0,127}$/, 'is not a project'))),
  /** Region of such names. Default: global. */
  location: v.optional(v.pipe(v.string(), v.regex(/^[a-z][a-z0-9-]{0,29}$/, 'is not a region'))),
  /** Set when the SPC chose explicitly; a `key.json` beside it is a contradiction then. */
  auth: v.optional(v.picklist(['pod-adc', 'provider-adc'])),
})
export type GcpStore = v.InferOutput<typeof storeSchema>

/** Types of documents with keys. */
export const KEY_TYPES = ['service_account', 'authorized_user', 'impersonated_service_account'] as const
export type KeyType = (typeof KEY_TYPES)[number]

/** A token must not travel in the clear: plain HTTP only to this machine. */
export function isEndpoint(text: string): boolean {
  if (!URL.canParse(text.replaceAll('{location}', 'location'))) return false
  const { protocol, hostname } = new URL(text.replaceAll('{location}', 'location'))
  return (
    protocol === 'https:' || (protocol === 'http:' && /^(?:127\.[\d.]+|localhost|\[::1\])$/.test(hostname))
  )
}

const url = v.pipe(v.string(), v.url())
/** Address of an API, by the operator. */
export const endpointSchema = v.pipe(
  v.string(),
  v.check(isEndpoint, 'is not an https address (http is possible on loopback only)'),
)

/** What tells who the pod is: the same under every Google backend and the key service. */
export const identityEntries = {
  /** Project, name and location of the cluster. Default: `PROJECT`, `CLUSTER_NAME`, `CLUSTER_LOCATION`, else the metadata server. */
  project: v.optional(v.string()),
  clusterName: v.optional(v.string()),
  clusterLocation: v.optional(v.string()),
  /** Credential configuration. Default: `GOOGLE_APPLICATION_CREDENTIALS`. */
  credentialsFile: v.optional(v.string()),
  /** `host:port` of the metadata server. Default: `GCE_METADATA_HOST`, else `metadata.google.internal`. */
  metadataHost: v.optional(v.string()),
  /** Default: `GAIA_TOKEN_EXCHANGE_ENDPOINT`, else securetoken or, for federation, sts.googleapis.com. */
  tokenExchangeEndpoint: v.optional(endpointSchema),
  iamCredentialsEndpoint: v.optional(endpointSchema),
  /** Where the keys of `key.json` documents are exchanged, whatever their `token_uri` says. */
  oauthEndpoint: v.optional(endpointSchema),
  /** First part of a cluster's provider name. Default: `GKE_WORKLOAD_IDENTITY_ENDPOINT`. Never called. */
  workloadIdentityEndpoint: v.optional(v.string()),
  /** `off`: the service account's annotations are not read, and nobody is impersonated. */
  impersonation: v.optional(v.picklist(['annotation', 'off'])),
  /** Whether a pod may bring a `key.json`. Default: `ALLOW_NODE_PUBLISH_SECRET`, else false. */
  allowNodePublishSecret: v.optional(v.boolean()),
  /** Document types that `key.json` may have. */
  keyTypes: v.optional(v.array(v.picklist(KEY_TYPES))),
  /** Whether an SPC may say `auth: provider-adc`. Default true, as in Google's provider. */
  allowProviderAdc: v.optional(v.boolean()),
  /** PEM file with the trust anchors to use instead of the public ones. */
  caFile: v.optional(v.string()),
  proxy: v.optional(url),
  /** Time one call has. Default 10000. */
  requestTimeoutMs: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(120_000))),
}

/** `backends.gcp-secret-manager` and `backends.gcp-parameter-manager`. */
export const settingsSchema = v.strictObject({
  ...identityEntries,
  /** Instead of Google's endpoint for global resources, e.g. Private Service Connect. */
  endpoint: v.optional(endpointSchema),
  /** The same for regional ones; `{location}` stands for the region. */
  regionalEndpoint: v.optional(endpointSchema),
})

const identitySchema = v.object(identityEntries)
type IdentitySettings = v.InferOutput<typeof identitySchema>

/** Settings and environment put together. */
export interface GcpEnvironment {
  readonly context: BackendContext
  /** For Google's APIs. */
  readonly to: Destination
  /** For the metadata server, which no proxy can reach. */
  readonly direct: Destination
  readonly userAgent: string
  readonly requestTimeoutMs: number
  readonly metadataUrl: string
  readonly project: string | undefined
  readonly clusterName: string | undefined
  readonly clusterLocation: string | undefined
  readonly credentialsFile: string | undefined
  readonly tokenExchangeEndpoint: string | undefined
  readonly iamCredentialsEndpoint: string
  readonly oauthEndpoint: string
  readonly workloadIdentityEndpoint: string
  readonly readsAnnotations: boolean
  /** @throws BackendError `config` when the environment variable is no boolean. */
  readonly allowsNodePublishSecret: () => boolean
  readonly keyTypes: ReadonlySet<KeyType>
  readonly allowsProviderAdc: boolean
}

/** Go's `strconv.ParseBool`. */
const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'TRUE', 'true', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'FALSE', 'false', 'False'].map((text) => [text, false] as const),
])

const EXCHANGE_VARIABLE = 'GAIA_TOKEN_EXCHANGE_ENDPOINT'
const NODE_PUBLISH_VARIABLE = 'ALLOW_NODE_PUBLISH_SECRET'

/** @throws Error when `caFile` cannot be read, or a variable of the operator's is no address. */
export function gcpEnvironment(context: BackendContext): GcpEnvironment {
  const settings = v.parse(identitySchema, context.settings)
  const { env, log } = context
  // An empty variable counts as absent.
  const variable = (name: string): string | undefined => env[name] || undefined
  const tls = settings.caFile === undefined ? {} : { tls: { ca: [readFileSync(settings.caFile, 'utf8')] } }
  const exchange = variable(EXCHANGE_VARIABLE)
  if (exchange !== undefined && !isEndpoint(exchange))
    throw new Error(`the environment variable ${EXCHANGE_VARIABLE} is not an https address`)
  const flag = allowsNodePublishSecret(settings, variable(NODE_PUBLISH_VARIABLE))
  if (flag === undefined)
    log.error('environment variable is not a boolean', { variable: NODE_PUBLISH_VARIABLE })
  return {
    context,
    to: { origin: 'operator', ...tls, ...(settings.proxy !== undefined && { proxy: settings.proxy }) },
    direct: { origin: 'operator' },
    userAgent: variable('USER_AGENT') ?? 'keyferry',
    requestTimeoutMs: settings.requestTimeoutMs ?? 10_000,
    metadataUrl: `http://${settings.metadataHost ?? variable('GCE_METADATA_HOST') ?? 'metadata.google.internal'}/computeMetadata/v1`,
    project: settings.project ?? variable('PROJECT'),
    clusterName: settings.clusterName ?? variable('CLUSTER_NAME'),
    clusterLocation: settings.clusterLocation ?? variable('CLUSTER_LOCATION'),
    credentialsFile: settings.credentialsFile ?? variable('GOOGLE_APPLICATION_CREDENTIALS'),
    tokenExchangeEndpoint: settings.tokenExchangeEndpoint ?? exchange,
    iamCredentialsEndpoint: settings.iamCredentialsEndpoint ?? 'https://iamcredentials.googleapis.com',
    oauthEndpoint: settings.oauthEndpoint ?? 'https://oauth2.googleapis.com/token',
    workloadIdentityEndpoint:
      settings.workloadIdentityEndpoint ??
      variable('GKE_WORKLOAD_IDENTITY_ENDPOINT') ??
      'https://container.googleapis.com/v1',
    readsAnnotations: settings.impersonation !== 'off',
    allowsNodePublishSecret: () => {
      if (flag !== undefined) return flag
      throw new BackendError({
        kind: 'config',
        code: 'GCP_ENVIRONMENT',
        message: `the provider's environment variable ${NODE_PUBLISH_VARIABLE} is not a boolean`,
        remedy: `Set ${NODE_PUBLISH_VARIABLE} to true or false on the DaemonSet.`,
      })
    },
    keyTypes: new Set<KeyType>(settings.keyTypes ?? ['service_account', 'authorized_user']),
    allowsProviderAdc: settings.allowProviderAdc ?? true,
  }
}

function allowsNodePublishSecret(settings: IdentitySettings, text: string | undefined): boolean | undefined {
  return settings.allowNodePublishSecret ?? (text === undefined ? false : BOOLEANS.get(text))
}
