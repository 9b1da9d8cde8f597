/**
 * Owns how AWS's SDK clients are built: our own HTTP underneath (pool, caps, deadlines, address guard),
 * no retries of their own, and never the SDK's search for credentials.
 */
import type { HttpClient, HttpRequest } from '../../net/http.ts'
import { AwsFailure } from './failures.ts'
import type { AwsEnvironment, ServiceName } from './settings.ts'

/** Credentials of one identity. Handed to the SDK only; held in closures, never in fields. */
export interface AwsCredentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** Absent only for a node's long-lived key. */
  readonly sessionToken?: string
  readonly expiration?: Date
}

export type TemporaryCredentials = AwsCredentials & { readonly expiration: Date }

/** Credentials as STS and the agent give them. */
export interface CredentialReply {
  readonly AccessKeyId?: string | undefined
  readonly SecretAccessKey?: string | undefined
  readonly SessionToken?: string | undefined
  readonly Expiration?: Date | undefined
}

/** @throws AwsFailure when a part is missing. */
export function completeCredentials(credentials: CredentialReply | undefined): TemporaryCredentials {
  const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = credentials ?? {}
  if (!AccessKeyId || !SecretAccessKey || !SessionToken || !Expiration || Number.isNaN(Expiration.getTime()))
    throw new AwsFailure({
      kind: 'malformed',
      code: 'AWS_AUTH',
      awsCode: 'malformed',
      message: 'the reply holds no complete credentials',
    })
  return {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    sessionToken: SessionToken,
    expiration: Expiration,
  }
}

/** How the SDK asks for credentials. */
export type CredentialSource = () => Promise<AwsCredentials>

/** A request as the SDK signed it. */
interface SdkRequest {
  readonly method: string
  readonly protocol: string
  readonly hostname: string
  readonly port?: number
  readonly path: string
  readonly query?: Readonly<Record<string, string | string[] | null>>
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

interface SdkReply {
  readonly response: {
    readonly statusCode: number
    readonly headers: Record<string, string>
    readonly body: Uint8Array
  }
}

function urlOf(request: SdkRequest): string {
  const query = Object.entries(request.query ?? {})
    .flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map((one) => [name, one] as const))
    .map(([name, value]) =>
      value === null ? encodeURIComponent(name) : `${encodeURIComponent(name)}=${encodeURIComponent(value)}`,
    )
    .join('&')
  const port = request.port === undefined ? '' : `:${request.port}`
  return `${request.protocol}//${request.hostname}${port}${request.path}${query === '' ? '' : `?${query}`}`
}

/** The SDK's own kind of byte array warns when it is read like a text, which `Buffer.from` does. */
function plainBody(body: string | Uint8Array): string | Uint8Array {
  return typeof body === 'string' ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength)
}

/** The SDK's request handler on top of {@link HttpClient}. One serves every client of a backend. */
export function requestHandler(http: HttpClient, environment: AwsEnvironment) {
  return {
    metadata: { handlerProtocol: 'http/1.1' },
    async handle(request: SdkRequest, options: { readonly abortSignal?: unknown } = {}): Promise<SdkReply> {
      const { host: _host, 'content-length': _length, ...headers } = request.headers
      const reply = await http.send({
        method: request.method as HttpRequest['method'],
        url: urlOf(request),
        headers,
        ...(request.body === undefined ? {} : { body: plainBody(request.body) }),
        to: environment.to,
        signal: options.abortSignal as AbortSignal,
        timeoutMs: environment.requestTimeoutMs,
      })
      return { response: { statusCode: reply.status, headers: { ...reply.headers }, body: reply.body } }
    },
    updateHttpClientConfig: () => {},
    httpHandlerConfigs: () => ({}),
    destroy: () => {},
  }
}

/**
 * Configuration that every SDK client gets.
 * @param credentials `sdk-chain` leaves it to the SDK to find the node's own (`identity: node`).
 */
export function clientConfig(
  http: HttpClient,
  environment: AwsEnvironment,
  service: ServiceName,
  region: string,
  credentials: CredentialSource | 'sdk-chain',
) {
  const endpoint = environment.endpoint(service, region)
  return {
    region,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(credentials === 'sdk-chain'
      ? {}
      : {
          credentials,
          credentialDefaultProvider: () => () => Promise.reject(new Error('no default credentials')),
        }),
    maxAttempts: 1,
    retryMode: 'standard',
    defaultsMode: 'standard' as const,
    authSchemePreference: [],
    // The SDK refuses these together with an endpoint of the operator's.
    useFipsEndpoint: environment.fips && endpoint === undefined,
    useDualstackEndpoint: environment.dualStack && endpoint === undefined,
    userAgentAppId: environment.appId,
    requestHandler: requestHandler(http, environment),
  }
}

interface SkewError {
  readonly $metadata?: { readonly clockSkewCorrected?: boolean }
}

/** The SDK learns the service's clock from a refusal; the next signature is right then. */
export async function againAfterClockSkew<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    if ((error as SkewError).$metadata?.clockSkewCorrected !== true) throw error
    return call()
  }
}
