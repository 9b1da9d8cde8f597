/**
 * Owns the way from a pod's service-account token to AWS credentials: IRSA, EKS Pod Identity and a
 * further role assumed with them (aws.md section 9). Only the pod's own token may yield credentials;
 * the provider's own are used where a store says `identity: node`, and nowhere else.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ErrorKind, Host, OpenedSession } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { AwsFailure, failureOf } from './failures.ts'
import { PodIdentityAgent } from './pod-identity.ts'
import type { CredentialSource, TemporaryCredentials } from './sdk.ts'
import { clientConfig, completeCredentials } from './sdk.ts'
import type { AwsEnvironment, AwsStore } from './settings.ts'

export const STS_AUDIENCE = 'sts.amazonaws.com'
export const POD_IDENTITY_AUDIENCE = 'pods.eks.amazonaws.com'
export const ROLE_ANNOTATION = 'eks.amazonaws.com/role-arn'

/** Credentials of one identity for one region, and the SDK clients that use them. */
export interface AwsSession {
  /** Where credentials come from; the values themselves stay inside the closure. */
  readonly source: CredentialSource
  /** A client of this session, made when first asked for. */
  client<C>(name: string, make: () => C): C
  /** How far AWS's clock is ahead of ours, learnt from a refusal; milliseconds. The SDK's clients keep their own. */
  clockSkewMs?: number
  /** When BatchGetSecretValue was refused last, milliseconds since 1970. */
  batchRefusedAt?: number
}

/** Spec: credentials are used until 5 min before expiry; the host's own margin is one of them. */
const EXTRA_MARGIN_MS = 4 * 60_000

function opened(credentials: TemporaryCredentials, now: Date): OpenedSession<AwsSession> {
  const expiresAt = credentials.expiration.getTime()
  // Short-lived credentials would never be usable with the full margin.
  const margin = expiresAt - now.getTime() > 3 * EXTRA_MARGIN_MS ? EXTRA_MARGIN_MS : 0
  return { session: sessionOf(() => Promise.resolve(credentials)), expiresAt: new Date(expiresAt - margin) }
}

function sessionOf(source: CredentialSource): AwsSession {
  const clients = new Map<string, unknown>()
  return {
    source,
    client: <C>(name: string, make: () => C): C => {
      const known = clients.get(name)
      if (known !== undefined) return known as C
      const made = make()
      clients.set(name, made)
      return made
    },
  }
}

/** A text with everything but the characters STS allows in a session name replaced, 2 to 64 long. */
export function sessionName(namespace: string, serviceAccount: string): string {
  const safe = `keyferry-${namespace}-${serviceAccount}`.replaceAll(/[^\w+=,.@-]/g, '-')
  return safe.slice(0, 64)
}

/**
 * The pod's token for an audience.
 * @throws BackendError `AWS_TOKENS_MISSING`, `AWS_TOKEN_AUDIENCE`.
 */
async function tokenFor(host: Host, audience: string): Promise<string> {
  const remedy = `List ${audience} under tokenRequests of the CSIDriver object (chart value secrets-store-csi-driver.tokenRequests).`
  if (host.audiences.size === 0)
    throw new BackendError({
      kind: 'unauthenticated',
      code: 'AWS_TOKENS_MISSING',
      message: 'the driver handed over no service-account tokens',
      remedy,
    })
  const missing = new BackendError({
    kind: 'unauthenticated',
    code: 'AWS_TOKEN_AUDIENCE',
    message: `no service-account token for audience ${audience}`,
    remedy,
  })
  if (!host.audiences.has(audience)) throw missing
  const { token } = await host.token(audience)
  const text = token.reveal().toString('latin1')
  if (text === '') throw missing
  // A token becomes a header or form field: anything but visible ASCII is not a token.
  if (!/^[\x21-\x7e]+$/.test(text))
    throw new BackendError({
      kind: 'unauthenticated',
      code: 'AWS_TOKENS_MISSING',
      message: `the service-account token for audience ${audience} is not a token`,
      remedy,
    })
  return text
}

async function roleOf(store: AwsStore, environment: AwsEnvironment, host: Host): Promise<string> {
  const arn = store.roleArn ?? ((await annotatedRole(environment, host)) || environment.defaultRoleArn)
  if (arn !== undefined) return arn
  throw noRole(host, `has no annotation ${ROLE_ANNOTATION}`)
}

function noRole({ pod }: Host, why: string): BackendError {
  return new BackendError({
    kind: 'config',
    code: 'AWS_NO_ROLE',
    message: `service account ${pod.serviceAccount} in namespace ${pod.namespace} ${why}`,
    remedy: `Annotate the service account with ${ROLE_ANNOTATION}: <ARN of an IAM role>, or set usePodIdentity: "true".`,
  })
}

const FINAL_READ_FAILURES = new Set<ErrorKind>(['config', 'denied', 'not-found', 'unauthenticated'])

async function annotatedRole(environment: AwsEnvironment, host: Host): Promise<string | undefined> {
  try {
    return (await host.serviceAccountAnnotation(ROLE_ANNOTATION))?.trim()
  } catch (error) {
    if (!(error instanceof BackendError)) throw error
    // No Kubernetes API by configuration. An API that does not answer must not change the role.
    if (error.kind === 'config' && environment.defaultRoleArn !== undefined) return undefined
    if (!FINAL_READ_FAILURES.has(error.kind)) throw error
    throw noRole(host, `cannot be read: ${error.message}`)
  }
}

/** Errors of STS that pass by themselves: it could not reach or read the cluster's issuer. */
const STS_AGAIN = new Set([
  'InvalidIdentityToken',
  'InvalidIdentityTokenException',
  'IDPCommunicationError',
  'IDPCommunicationErrorException',
])
const STS_TRIES = 3

async function withWebIdentity(
  environment: AwsEnvironment,
  host: Host,
  region: string,
  role: string,
  token: string,
): Promise<TemporaryCredentials> {
  const { AssumeRoleWithWebIdentityCommand, STSClient } = await import('@aws-sdk/client-sts')
  const nobody = (): Promise<never> => Promise.reject(new Error('web identity calls are not signed'))
  const client = new STSClient(clientConfig(host.http, environment, 'sts', region, nobody))
  const command = new AssumeRoleWithWebIdentityCommand({
    RoleArn: role,
    RoleSessionName: sessionName(host.pod.namespace, host.pod.serviceAccount),
    WebIdentityToken: token,
  })
  for (let tried = 1; ; tried += 1) {
    try {
      const { Credentials } = await client.send(command, { abortSignal: host.signal })
      return completeCredentials(Credentials)
    } catch (error) {
      const failure = failureOf(error, true)
      if (!STS_AGAIN.has(failure.awsCode) || tried === STS_TRIES) throw failure
      await sleep(100 * tried, undefined, { signal: host.signal })
    }
  }
}

async function assumed(
  environment: AwsEnvironment,
  host: Host,
  region: string,
  store: AwsStore,
  base: AwsSession,
): Promise<TemporaryCredentials> {
  const { AssumeRoleCommand, STSClient } = await import('@aws-sdk/client-sts')
  const client = new STSClient(clientConfig(host.http, environment, 'sts', region, base.source))
  const command = new AssumeRoleCommand({
    RoleArn: store.assumeRoleArn,
    RoleSessionName: sessionName(host.pod.namespace, host.pod.serviceAccount),
    ...(store.assumeRoleExternalId === undefined ? {} : { ExternalId: store.assumeRoleExternalId }),
    ...(store.assumeRoleDurationSeconds === undefined
      ? {}
      : { DurationSeconds: store.assumeRoleDurationSeconds }),
  })
  try {
    const { Credentials } = await client.send(command, { abortSignal: host.signal })
    return completeCredentials(Credentials)
  } catch (error) {
    throw failureOf(error, true)
  }
}

/** The SDK's own search: environment, web identity, container, instance metadata. Only for `identity: node`. */
async function nodeChain(environment: AwsEnvironment, host: Host, region: string): Promise<CredentialSource> {
  const { STSClient } = await import('@aws-sdk/client-sts')
  const client = new STSClient(clientConfig(host.http, environment, 'sts', region, 'sdk-chain'))
  return async () => {
    try {
      return await client.config.credentials()
    } catch {
      throw new AwsFailure({
        kind: 'unauthenticated',
        awsCode: 'no-credentials',
        message: 'the node has no AWS credentials of its own',
      })
    }
  }
}

/** Opens sessions; one for each backend of the process. */
export interface SessionOpener {
  /**
   * The identity's session for `region`.
   * @throws AwsFailure when AWS refuses, BackendError when the pod has no token or role.
   */
  open(store: AwsStore, region: string, host: Host): Promise<AwsSession>
  /** Forgets a session whose credentials AWS no longer accepts. */
  drop(store: AwsStore, region: string, host: Host): Promise<void>
}

interface Base {
  /** Everything that makes two sessions of one identity different. */
  readonly key: readonly string[]
  readonly open: () => Promise<OpenedSession<AwsSession>>
}

export function sessionOpener(environment: AwsEnvironment): SessionOpener {
  const agent = new PodIdentityAgent(environment)

  async function baseOf(store: AwsStore, region: string, host: Host): Promise<Base> {
    if (host.identity === 'node')
      return {
        key: ['aws', 'node', region],
        open: async () => ({
          session: sessionOf(await nodeChain(environment, host, region)),
          // The SDK renews the credentials by itself.
          expiresAt: new Date(host.now().getTime() + 3_600_000),
        }),
      }
    if (store.auth === 'pod-identity') {
      const token = await tokenFor(host, POD_IDENTITY_AUDIENCE)
      return {
        // These sessions carry the pod's name and UID as tags that policies may use.
        key: ['aws', 'pod-identity', host.pod.uid, host.pod.name],
        open: async () =>
          opened(await agent.credentials(host, token, store.addressFamily ?? 'auto'), host.now()),
      }
    }
    // Before the role is looked up, so that a missing token is reported without a Kubernetes call.
    const token = await tokenFor(host, STS_AUDIENCE)
    const role = await roleOf(store, environment, host)
    return {
      key: ['aws', 'irsa', region, role, environment.endpoint('sts', region) ?? ''],
      open: async () => opened(await withWebIdentity(environment, host, region, role, token), host.now()),
    }
  }

  function chainKey(store: AwsStore, region: string, base: readonly string[]): readonly string[] {
    return [
      ...base,
      'assume',
      region,
      store.assumeRoleArn ?? '',
      store.assumeRoleExternalId ?? '',
      String(store.assumeRoleDurationSeconds ?? ''),
    ]
  }

  return {
    open: async (store, region, host) => {
      const base = await baseOf(store, region, host)
      const session = await host.session(base.key, base.open)
      if (store.assumeRoleArn === undefined) return session
      return host.session(chainKey(store, region, base.key), async () =>
        opened(await assumed(environment, host, region, store, session), host.now()),
      )
    },
    drop: async (store, region, host) => {
      const { key } = await baseOf(store, region, host)
      host.dropSession(store.assumeRoleArn === undefined ? key : chainKey(store, region, key))
    },
  }
}
