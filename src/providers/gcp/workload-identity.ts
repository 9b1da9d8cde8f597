/**
 * Owns `pod-adc`: the pod's service-account token becomes an access token of Google's, directly or by
 * impersonating a Google service account (gcp.md section 10.4, steps 3 to 6).
 */
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Host, ServiceAccountToken } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { membersOf, printable, refusal, send, text } from './api.ts'
import { authFailure, failedStep, opened, SCOPE } from './login.ts'
import type { GcpSession, Login } from './login.ts'
import { isServiceAccountEmail } from './names.ts'
import type { GcpEnvironment } from './settings.ts'
import { isFederated, workloadPoolOf } from './workload-pool.ts'
import type { WorkloadPool } from './workload-pool.ts'

export const SERVICE_ACCOUNT_ANNOTATION = 'iam.gke.io/gcp-service-account'
export const DELEGATES_ANNOTATION = 'iam.gke.io/gcp-service-account-delegates'

/** Whom the pod impersonates. */
export interface Impersonation {
  readonly email: string
  /** In order; each may create tokens for the next. */
  readonly delegates: readonly string[]
}

/** Gives the pod's login. */
export type WorkloadIdentity = (host: Host) => Promise<Login>

export function workloadIdentity(environment: GcpEnvironment): WorkloadIdentity {
  const poolOf = workloadPoolOf(environment)
  return async (host) => {
    const [pool, impersonation] = await Promise.all([
      poolOf(),
      environment.readsAnnotations ? impersonationOf(host) : undefined,
    ])
    const endpoint =
      environment.tokenExchangeEndpoint ??
      (isFederated(pool)
        ? 'https://sts.googleapis.com/v1/token'
        : 'https://securetoken.googleapis.com/v1/identitybindingtoken')
    return {
      key: [
        // Backends share a session where all that it depends on is equal.
        'gcp',
        'pod-adc',
        pool.audience,
        endpoint,
        environment.iamCredentialsEndpoint,
        impersonation?.email ?? '',
        JSON.stringify(impersonation?.delegates ?? []),
        // A federation provider may map claims of the pod into the identity.
        isFederated(pool) ? host.pod.uid : '',
      ],
      open: async () => {
        const federated = await exchanged(environment, pool, endpoint, host)
        return impersonation === undefined
          ? opened(federated.token, memberOf(pool, host), federated.expiresAt, host.now())
          : impersonated(environment, impersonation, federated.token, host, memberOf(pool, host))
      },
    }
  }
}

/** The pod itself as an IAM binding names it. */
function memberOf({ pool, audience }: WorkloadPool, { pod }: Host): string {
  return pool === undefined
    ? `the principal of service account ${pod.namespace}/${pod.serviceAccount} in ${audience}`
    : `serviceAccount:${pool}[${pod.namespace}/${pod.serviceAccount}]`
}

async function impersonationOf(host: Host): Promise<Impersonation | undefined> {
  const read = async (name: string): Promise<string> => {
    try {
      return (await host.serviceAccountAnnotation(name)) ?? ''
    } catch (error) {
      throw failedStep('service account', error)
    }
  }
  const email = await read(SERVICE_ACCOUNT_ANNOTATION)
  if (email === '') return undefined
  const delegates = delegatesOf(await read(DELEGATES_ANNOTATION))
  if (delegates !== undefined && [email, ...delegates].every(isServiceAccountEmail))
    return { email, delegates }
  const wrong =
    delegates === undefined || isServiceAccountEmail(email)
      ? DELEGATES_ANNOTATION
      : SERVICE_ACCOUNT_ANNOTATION
  throw authFailure(
    'GCP_ANNOTATION',
    `the annotation ${wrong} of service account ${host.pod.namespace}/${host.pod.serviceAccount} ${
      wrong === DELEGATES_ANNOTATION ? 'is not a JSON list of e-mail addresses' : 'is not an e-mail address'
    }`,
    'Annotate the service account with the e-mail addresses of Google service accounts.',
  )
}

function delegatesOf(annotation: string): readonly string[] | undefined {
  if (annotation === '') return []
  try {
    const parsed: unknown = JSON.parse(annotation)
    if (!Array.isArray(parsed) || parsed.length > 20) return undefined
    const emails = parsed.filter((item): item is string => typeof item === 'string')
    return emails.length === parsed.length ? emails : undefined
  } catch {
    return undefined
  }
}

async function subjectToken({ pool, audience }: WorkloadPool, host: Host): Promise<ServiceAccountToken> {
  const wanted = [
    ...(pool === undefined ? [] : [pool]),
    audience,
    ...(audience.startsWith('//iam.') ? [`https:${audience}`] : []),
  ]
  const own = pool ?? audience
  const handed = wanted.find((name) => host.audiences.has(name))
  try {
    return await host.token(handed ?? own)
  } catch (error) {
    if (!(error instanceof BackendError && error.code === 'TOKEN_MISSING'))
      throw failedStep('token request', error)
  }
  const seen = [...host.audiences].map((name) => JSON.stringify(printable(name)))
  throw authFailure(
    'GCP_TOKEN_MISSING',
    `the driver handed over no service-account token for the audience ${JSON.stringify(own)}; ${
      seen.length === 0 ? 'it handed over none at all' : `there are ${seen.slice(0, 5).join(', ')}`
    }`,
    `Add {audience: ${JSON.stringify(own)}} to tokenRequests of the CSIDriver object (Helm value tokenRequests of the driver's chart), or allow the provider to request tokens (kubernetes.tokenRequests)`,
  )
}

/** A token and the end of its life. */
export interface AccessToken {
  readonly token: SecretBytes
  readonly expiresAt: Date
}

const TOKEN_TYPE = 'urn:ietf:params:oauth:token-type:'

async function exchanged(
  environment: GcpEnvironment,
  pool: WorkloadPool,
  endpoint: string,
  host: Host,
): Promise<AccessToken> {
  const { audience } = pool
  const { token } = await subjectToken(pool, host)
  const subject = token.reveal().toString()
  return exchangeToken(
    environment,
    { endpoint, audience, subject, subjectType: `${TOKEN_TYPE}jwt` },
    host.now(),
  )
}

/** What an exchange needs to know. */
export interface ExchangeRequest {
  readonly endpoint: string
  readonly audience: string
  readonly subject: string
  /** URN of the subject token's type. */
  readonly subjectType: string
}

/** A federated access token for a subject token. @throws BackendError */
export async function exchangeToken(
  environment: GcpEnvironment,
  { endpoint, audience, subject, subjectType }: ExchangeRequest,
  now: Date,
): Promise<AccessToken> {
  try {
    const reply = await send(environment, {
      kind: 'gcp_iam_get_id_bind_token_requests',
      method: 'POST',
      url: endpoint,
      // snake_case JSON is what every endpoint takes.
      body: {
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token_type: subjectType,
        requested_token_type: `${TOKEN_TYPE}access_token`,
        subject_token: subject,
        audience,
        scope: SCOPE,
      },
      signal: openSignal(environment),
    })
    return tokenOf(reply, subject, now)
  } catch (error) {
    throw failedStep('token exchange', error)
  }
}

/** A session is shared, so it outlives the mount that happens to open it; its own bound ends it. */
const openSignal = ({ requestTimeoutMs }: GcpEnvironment): AbortSignal =>
  AbortSignal.timeout(requestTimeoutMs)

/**
 * The token of an OAuth reply.
 * @param secret what was sent; an endpoint that echoes it must not get it into an error
 * @throws BackendError
 */
export function tokenOf(reply: Awaited<ReturnType<typeof send>>, secret: string, now: Date): AccessToken {
  const body = membersOf(reply)
  if (reply.status !== 200) {
    const words = [body?.get('error'), body?.get('error_description')]
      .filter((word): word is string => typeof word === 'string')
      .map((word) => printable(word.replaceAll(secret, '[redacted]')))
    // Some endpoints answer in the form of the other APIs.
    if (words.length === 0) throw refusal(reply)
    throw new BackendError({
      kind: reply.status === 429 ? 'throttled' : reply.status >= 500 ? 'unavailable' : 'denied',
      code: 'GCP_TOKEN_REFUSED',
      message: `HTTP ${reply.status} ${words.join(': ')}`,
      remedy: 'Check that the pool, the cluster and the audience of the token fit together.',
    })
  }
  const token = text(body?.get('access_token'))
  const seconds = Number(body?.get('expires_in') ?? 0)
  if (token === '' || !/^[\x21-\x7e]+$/.test(token) || !Number.isFinite(seconds))
    throw new BackendError({
      kind: 'malformed',
      code: 'GCP_TOKEN_REFUSED',
      message: 'the reply has no access_token',
    })
  reply.body.fill(0)
  return { token: SecretBytes.copyOf(token), expiresAt: new Date(now.getTime() + seconds * 1000) }
}

/** An access token of the Google service account that `bearer` may impersonate. @throws BackendError */
export async function impersonated(
  environment: GcpEnvironment,
  { email, delegates }: Impersonation,
  bearer: SecretBytes,
  host: Host,
  caller: string,
): Promise<{ readonly session: GcpSession; readonly expiresAt: Date }> {
  const name = (address: string): string => `projects/-/serviceAccounts/${address}`
  try {
    const reply = await send(environment, {
      kind: 'iamcredentials_generate_access_token_requests',
      method: 'POST',
      url: `${environment.iamCredentialsEndpoint}/v1/${name(email)}:generateAccessToken`,
      headers: { authorization: `Bearer ${bearer.reveal().toString()}` },
      body: { scope: [SCOPE], ...(delegates.length > 0 && { delegates: delegates.map(name) }) },
      signal: openSignal(environment),
      turn: host.pod.namespace,
    })
    if (reply.status !== 200) throw refusal(reply)
    const body = membersOf(reply)
    const token = text(body?.get('accessToken'))
    const expiresAt = new Date(text(body?.get('expireTime')))
    if (!/^[\x21-\x7e]+$/.test(token) || Number.isNaN(expiresAt.getTime()))
      throw new BackendError({
        kind: 'malformed',
        code: 'GCP_TOKEN_REFUSED',
        message: 'the reply has no accessToken',
      })
    reply.body.fill(0)
    return opened(SecretBytes.copyOf(token), `serviceAccount:${email}`, expiresAt, host.now())
  } catch (error) {
    throw failedStep(
      `impersonation of ${email}`,
      error,
      error instanceof BackendError && ['denied', 'not-found'].includes(error.kind)
        ? `Grant roles/iam.workloadIdentityUser on ${email} to ${caller}${
            delegates.length > 0 ? ', and roles/iam.serviceAccountTokenCreator along the delegates' : ''
          }.`
        : undefined,
    )
  }
}
