/** Owns the operator's settings of the Azure backend, `backends.azure-key-vault`, and what they mean with the environment. */
import { readFileSync } from 'node:fs'
import * as v from 'valibot'
import type { Destination } from '../../net/http.ts'
import type { BackendContext } from '../adapter.ts'
import { cloudFinder, DEFAULT_CLOUD, isCloudName, type CloudFinder } from './clouds.ts'

const url = v.pipe(v.string(), v.url())
const milliseconds = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(120_000))

export const settingsSchema = v.strictObject({
  /** Cloud of stores that name none (the vendor's `--cloud-name`). Default: AzurePublicCloud. */
  cloud: v.optional(v.pipe(v.string(), v.check(isCloudName, 'is not the name of an Azure cloud'))),
  /** Where `cloudEnvFileName` may point. Default: `/etc/kubernetes`. */
  environmentDirectories: v.optional(v.array(v.string())),
  /** PEM file with the trust anchors to use instead of the public ones. */
  caFile: v.optional(v.string()),
  /** Proxy for vaults and Entra, or `environment` for `HTTPS_PROXY` and `NO_PROXY` as on Azure Arc. */
  proxy: v.optional(v.union([v.literal('environment'), url])),
  /** Instead of the instance metadata service. Default: `AZURE_POD_IDENTITY_AUTHORITY_HOST`, else its address. */
  imdsEndpoint: v.optional(url),
  /** Directory of the key files of Azure Arc's agent. */
  arcTokenDirectory: v.optional(v.string()),
  /** AAD Pod Identity's agent on the node. */
  nmiEndpoint: v.optional(url),
  /** AKS identity binding (the vendor's `--token-proxy-url` and `--sni-name`). */
  tokenProxy: v.optional(
    v.strictObject({
      url: v.optional(url),
      /** Name to ask for in TLS. Default: found out from the API server's certificate. */
      sniName: v.optional(v.string()),
      /** Where the API server presents that certificate. */
      apiServer: v.optional(url),
      caFile: v.optional(v.string()),
    }),
  ),
  /** Time one call to a vault or a token endpoint has. Default 8000. */
  requestTimeoutMs: v.optional(milliseconds),
})
export type AzureSettings = v.InferOutput<typeof settingsSchema>

/** Where identity binding sends token requests. */
export interface TokenProxySettings {
  readonly url: string
  readonly sniName: string | undefined
  readonly apiServer: string
  /** PEM file; used if it exists. */
  readonly caFile: string
}

/** Settings and environment put together, once for a backend. */
export interface AzureEnvironment {
  readonly findCloud: CloudFinder
  readonly defaultCloud: string
  /** Where calls to a public host go. */
  to(host: string): Destination
  readonly imdsEndpoint: string
  /** Azure Arc's agent, when this node has one. */
  readonly arc: { readonly endpoint: string; readonly tokenDirectory: string } | undefined
  readonly nmiEndpoint: string
  readonly tokenProxy: TokenProxySettings
  readonly requestTimeoutMs: number
}

const SERVICE_ACCOUNT_CA = '/var/run/secrets/kubernetes.io/serviceaccount/ca.crt'
const API_SERVER = 'kubernetes.default.svc.cluster.local'

/** @throws Error when `caFile` cannot be read. */
export function azureEnvironment({ settings: given, env }: BackendContext): AzureEnvironment {
  const settings = v.parse(settingsSchema, given)
  const tls = settings.caFile === undefined ? {} : { tls: { ca: [readFileSync(settings.caFile, 'utf8')] } }
  // An empty variable counts as absent.
  const variable = (name: string): string | undefined => env[name] || undefined
  const arcEndpoint = variable('IMDS_ENDPOINT') === undefined ? undefined : variable('IDENTITY_ENDPOINT')
  const { tokenProxy = {} } = settings
  return {
    findCloud: cloudFinder({
      directories: settings.environmentDirectories ?? ['/etc/kubernetes'],
      fallback: variable('AZURE_ENVIRONMENT_FILEPATH'),
    }),
    defaultCloud: settings.cloud ?? DEFAULT_CLOUD,
    to: (host) => {
      const proxy = settings.proxy === 'environment' ? environmentProxy(host, variable) : settings.proxy
      return { origin: 'operator', ...tls, ...(proxy === undefined ? {} : { proxy }) }
    },
    imdsEndpoint:
      settings.imdsEndpoint ?? variable('AZURE_POD_IDENTITY_AUTHORITY_HOST') ?? 'http://169.254.169.254',
    arc:
      arcEndpoint === undefined
        ? undefined
        : {
            endpoint: arcEndpoint,
            tokenDirectory: settings.arcTokenDirectory ?? '/var/opt/azcmagent/tokens',
          },
    nmiEndpoint: settings.nmiEndpoint ?? 'http://localhost:2579',
    tokenProxy: {
      url: tokenProxy.url ?? `https://${API_SERVER}`,
      sniName: tokenProxy.sniName,
      apiServer:
        tokenProxy.apiServer ?? `https://${API_SERVER}:${variable('KUBERNETES_SERVICE_PORT') ?? '443'}`,
      caFile: tokenProxy.caFile ?? SERVICE_ACCOUNT_CA,
    },
    requestTimeoutMs: settings.requestTimeoutMs ?? 8000,
  }
}

/** What `HTTPS_PROXY` and `NO_PROXY` say about an https host, in capitals or not. */
export function environmentProxy(
  host: string,
  variable: (name: string) => string | undefined,
): string | undefined {
  const either = (name: string): string | undefined => variable(name) ?? variable(name.toLowerCase())
  const proxy = either('HTTPS_PROXY')
  if (proxy === undefined || !URL.canParse(proxy)) return undefined
  const exempt = (either('NO_PROXY') ?? '').split(',').map((entry) => entry.trim().toLowerCase())
  const name = host.toLowerCase()
  const isExempt = exempt.some((entry) => {
    const bare = entry.replace(/^\*?\./, '')
    return entry === '*' || (bare !== '' && (name === bare || name.endsWith(`.${bare}`)))
  })
  return isExempt ? undefined : proxy
}
