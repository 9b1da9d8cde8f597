/**
 * Owns what an AWS store and the AWS backends can be told: the store's schema (region, failover,
 * identity), the operator's settings (endpoints, FIPS, time-outs), and the region they lead to.
 */
import { readFileSync } from 'node:fs'
import * as v from 'valibot'
import type { Destination } from '../../net/http.ts'
import type { BackendContext, Host } from '../adapter.ts'
import { BackendError } from '../adapter.ts'

/** A region becomes a label of a host name, so nothing but such a label is accepted (T11). */
const REGION = /^[a-z][a-z0-9-]{1,30}$/

/** Whether a text can be a region's name; which regions exist only AWS knows. */
export function isRegionName(text: string): boolean {
  return REGION.test(text)
}

const regionName = v.pipe(
  v.string(),
  v.check(isRegionName, 'is not the name of an AWS region, e.g. eu-central-1'),
)
const roleArn = v.pipe(
  v.string(),
  v.maxLength(2048),
  v.regex(/^arn:[a-z-]+:iam::\d{12}:role\/./, 'is not the ARN of an IAM role'),
)

/** Settings of one AWS store: in `stores:`, or made by the `aws` dialect from an SPC's parameters. */
export const storeSchema = v.strictObject({
  /** Primary region. Default: `AWS_REGION`, else the node's label `topology.kubernetes.io/region`. */
  region: v.optional(regionName),
  /** Region to ask when the primary cannot answer. */
  failoverRegion: v.optional(regionName),
  /** `lazy`: the second region is called only after a failure. `eager`: always, as AWS's provider does. */
  failoverMode: v.optional(v.picklist(['lazy', 'eager'])),
  /** How the pod's token becomes credentials: `irsa` (STS web identity) or `pod-identity` (EKS agent). */
  auth: v.optional(v.picklist(['irsa', 'pod-identity'])),
  /** Address of the Pod Identity agent: `auto` tries IPv4, then IPv6. */
  addressFamily: v.optional(v.picklist(['auto', 'ipv4', 'ipv6'])),
  /** Role for `irsa` instead of the service account's annotation. */
  roleArn: v.optional(roleArn),
  /** Role to assume with the pod's own credentials, e.g. in another account. */
  assumeRoleArn: v.optional(roleArn),
  assumeRoleExternalId: v.optional(v.pipe(v.string(), v.minLength(2), v.maxLength(1224))),
  /** Seconds, 900 to 43200. */
  assumeRoleDurationSeconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(900), v.maxValue(43_200))),
})
export type AwsStore = v.InferOutput<typeof storeSchema>

const milliseconds = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(120_000))

/** `backends.<kind>` of the configuration file: the operator's word on addresses and limits. */
export const settingsSchema = v.strictObject({
  /** Instead of AWS's own endpoints; `{region}` stands for the region, e.g. a VPC endpoint or an emulator. */
  endpoint: v.optional(v.pipe(v.string(), v.url())),
  /** The same for STS. */
  stsEndpoint: v.optional(v.pipe(v.string(), v.url())),
  /** Credential URLs of the Pod Identity agent. */
  podIdentityEndpoints: v.optional(
    v.strictObject({
      ipv4: v.optional(v.pipe(v.string(), v.url())),
      ipv6: v.optional(v.pipe(v.string(), v.url())),
    }),
  ),
  /** Time the agent has for an answer. Default 5000. */
  podIdentityTimeoutMs: v.optional(milliseconds),
  /** Time one call to AWS has. Default 5000. */
  requestTimeoutMs: v.optional(milliseconds),
  /** Region where neither store, SPC nor `AWS_REGION` name one. */
  region: v.optional(regionName),
  /** Role for `irsa` where the service account has no annotation, or the Kubernetes API is switched off. */
  roleArn: v.optional(roleArn),
  /** PEM file with the trust anchors to use instead of the public ones. */
  caFile: v.optional(v.string()),
  proxy: v.optional(v.pipe(v.string(), v.url())),
  /** FIPS endpoints, STS included. Default: `AWS_USE_FIPS_ENDPOINT`. */
  fips: v.optional(v.boolean()),
  /** Dual-stack endpoints, STS included. Default: `AWS_USE_DUALSTACK_ENDPOINT`. */
  dualStack: v.optional(v.boolean()),
  /** `app/…` of the user agent. Default: `AWS_SDK_UA_APP_ID`, else `keyferry`. */
  appId: v.optional(v.pipe(v.string(), v.maxLength(50))),
  /** Fetch current secrets twenty at a time; roles need `secretsmanager:BatchGetSecretValue` on `*`. */
  batch: v.optional(v.boolean()),
})
export type AwsSettings = v.InferOutput<typeof settingsSchema>

/** Services that may have an endpoint of their own. */
export type ServiceName = 'secretsmanager' | 'ssm' | 'kms' | 'sts'

/** Suffixes of the services' `AWS_ENDPOINT_URL_…`. */
const VARIABLES: Readonly<Record<ServiceName, string>> = {
  secretsmanager: 'SECRETS_MANAGER',
  ssm: 'SSM',
  kms: 'KMS',
  sts: 'STS',
}

/** Settings and environment put together, once for a backend. */
export interface AwsEnvironment {
  /** Endpoint URL of a service in a region, or undefined for AWS's own. */
  endpoint(service: ServiceName, region: string): string | undefined
  readonly defaultRegion: string | undefined
  readonly defaultRoleArn: string | undefined
  readonly fips: boolean
  readonly dualStack: boolean
  readonly appId: string
  readonly requestTimeoutMs: number
  readonly podIdentityTimeoutMs: number
  readonly podIdentityUrls: { readonly ipv4: string; readonly ipv6: string }
  readonly to: Destination
  readonly batch: boolean
}

const isTrue = (text: string | undefined): boolean => text?.toLowerCase() === 'true'

/** @throws Error when `caFile` cannot be read. */
export function awsEnvironment(context: BackendContext): AwsEnvironment {
  const settings = v.parse(settingsSchema, context.settings)
  const { env } = context
  const caFile = settings.caFile ?? env['AWS_CA_BUNDLE']
  const endpoint = (service: ServiceName, region: string): string | undefined => {
    const own = service === 'sts' ? settings.stsEndpoint : settings.endpoint
    // An empty variable counts as absent, as in the SDKs.
    const url = own ?? (env[`AWS_ENDPOINT_URL_${VARIABLES[service]}`] || env['AWS_ENDPOINT_URL'] || undefined)
    return url?.replaceAll('{region}', region)
  }
  return {
    endpoint,
    defaultRegion: env['AWS_REGION'] || settings.region,
    defaultRoleArn: settings.roleArn,
    fips: settings.fips ?? isTrue(env['AWS_USE_FIPS_ENDPOINT']),
    dualStack: settings.dualStack ?? isTrue(env['AWS_USE_DUALSTACK_ENDPOINT']),
    appId: settings.appId ?? (env['AWS_SDK_UA_APP_ID'] || 'keyferry'),
    requestTimeoutMs: settings.requestTimeoutMs ?? 5000,
    podIdentityTimeoutMs: settings.podIdentityTimeoutMs ?? 5000,
    podIdentityUrls: {
      ipv4: settings.podIdentityEndpoints?.ipv4 ?? 'http://169.254.170.23/v1/credentials',
      ipv6: settings.podIdentityEndpoints?.ipv6 ?? 'http://[fd00:ec2::23]/v1/credentials',
    },
    to: {
      origin: 'operator',
      ...(caFile ? { tls: { ca: [readFileSync(caFile, 'utf8')] } } : {}),
      ...(settings.proxy === undefined ? {} : { proxy: settings.proxy }),
    },
    batch: settings.batch ?? false,
  }
}

/**
 * The regions a store leads to, the primary first (aws.md section 8).
 * @throws BackendError `AWS_NO_REGION`, `AWS_SAME_REGION`.
 */
export async function regionsOf(
  store: AwsStore,
  environment: AwsEnvironment,
  host: Host,
): Promise<readonly [primary: string, failover?: string]> {
  const primary = store.region ?? environment.defaultRegion ?? (await labelledRegion(host))
  if (store.failoverRegion === undefined) return [primary]
  if (store.failoverRegion === primary)
    throw new BackendError({
      kind: 'config',
      code: 'AWS_SAME_REGION',
      message: `failoverRegion is ${primary}, which is the primary region as well`,
      remedy: 'Name another region in failoverRegion, or leave it out.',
    })
  return [primary, store.failoverRegion]
}

async function labelledRegion(host: Host): Promise<string> {
  let why = ''
  try {
    const label = await host.nodeLabel('topology.kubernetes.io/region')
    if (label !== undefined && isRegionName(label)) return label
  } catch (error) {
    if (!(error instanceof BackendError) || error.kind !== 'config') throw error
    why = ` (${error.message})`
  }
  throw new BackendError({
    kind: 'config',
    code: 'AWS_NO_REGION',
    message: `no region: neither parameter region, nor AWS_REGION, nor the node label topology.kubernetes.io/region names one${why}`,
    remedy: 'Set region in the SecretProviderClass, or AWS_REGION for the provider.',
  })
}
