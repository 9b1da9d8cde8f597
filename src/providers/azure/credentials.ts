/**
 * Owns the way from a mount to a token for its vault: workload identity, identity binding, service
 * principal, managed identity, pod identity (azure section 7). Tokens belong to one identity, are kept
 * until near expiry and asked for once however many mounts wait. Nothing falls back from the pod's
 * identity to the node's (threat model T2).
 */
import { BackendError, type Host, type OpenedSession } from '../adapter.ts'
import { clientAssertion, clientCertificate } from './assertion.ts'
import type { Cloud } from './clouds.ts'
import { requestToken, tokenEndpoint, type AccessToken, type Proof, type TokenRoute } from './entra.ts'
import { azureError } from './failures.ts'
import { managedIdentityToken, podIdentityToken } from './managed-identity.ts'
import type { AzureEnvironment } from './settings.ts'
import { isTenant, type AzureAuth, type AzureStore } from './store.ts'
import { proxyRouter, type ProxyRouter } from './token-proxy.ts'

export const EXCHANGE_AUDIENCE = 'api://AzureADTokenExchange'
export const BINDING_AUDIENCE = 'api://AKSIdentityBinding'
export const CLIENT_ID_ANNOTATION = 'azure.workload.identity/client-id'
export const TENANT_ANNOTATION = 'azure.workload.identity/tenant-id'

/** What tokens are wanted for. */
export interface Purpose {
  readonly store: Pick<AzureStore, 'auth' | 'tenant'>
  readonly cloud: Cloud
  /** E.g. `https://vault.azure.net`. */
  readonly resource: string
}

/** Gives tokens; one for each backend of the process. */
export interface Credentials {
  /** A bearer token. @throws BackendError */
  token(purpose: Purpose, host: Host): Promise<string>
  /** Forgets a token that the vault no longer accepts. */
  drop(purpose: Purpose, host: Host): Promise<void>
}

interface Session {
  readonly key: readonly string[]
  readonly open: () => Promise<AccessToken>
}

/** Tokens are renewed five minutes before they end; the host's own margin is one of them. */
const EXTRA_MARGIN_MS = 4 * 60_000

function opened(token: AccessToken, now: Date): OpenedSession<AccessToken> {
  const end = token.expiresAt.getTime()
  // A short-lived token would never be usable with the full margin.
  const margin = end - now.getTime() > 3 * EXTRA_MARGIN_MS ? EXTRA_MARGIN_MS : 0
  return { session: token, expiresAt: new Date(end - margin) }
}

export function createCredentials(environment: AzureEnvironment): Credentials {
  const router = proxyRouter(environment)
  const session = (purpose: Purpose, host: Host): Promise<Session> => {
    const auth = purpose.store.auth ?? { mode: 'workload-identity' }
    requireIdentity(auth, host)
    return SESSIONS[auth.mode](auth as never, { ...purpose, environment, host, router })
  }
  return {
    token: async (purpose, host) => {
      const { key, open } = await session(purpose, host)
      const { token } = await host.session(key, async () => opened(await open(), host.now()))
      return token.reveal().toString('latin1')
    },
    drop: async (purpose, host) => host.dropSession((await session(purpose, host)).key),
  }
}

/** The node's identity is used where the plan says so, and nowhere else. */
function requireIdentity({ mode }: AzureAuth, host: Host): void {
  const wanted = mode === 'managed-identity' ? 'node' : 'pod'
  if (host.identity === wanted) return
  throw azureError({
    kind: 'config',
    code: 'AZURE_IDENTITY',
    message: `auth mode ${mode} uses the identity of the ${wanted}, but the store is used with that of the ${host.identity}`,
    remedy: 'Set identity: node for managed-identity, and identity: pod for every other mode.',
  })
}

interface Context extends Purpose {
  readonly environment: AzureEnvironment
  readonly host: Host
  readonly router: ProxyRouter
}

type Opener<Mode extends AzureAuth['mode']> = (
  auth: Extract<AzureAuth, { mode: Mode }>,
  context: Context,
) => Promise<Session>

const SESSIONS: { readonly [Mode in AzureAuth['mode']]: Opener<Mode> } = {
  'workload-identity': workloadIdentity,
  'identity-binding': identityBinding,
  'service-principal': servicePrincipal,
  'managed-identity': async ({ clientId }, { environment, resource, host }) => ({
    key: ['azure', 'managed-identity', clientId ?? '', resource],
    open: () => managedIdentityToken(environment, resource, clientId, host),
  }),
  'pod-identity': async ({ pod, namespace }, { environment, resource, host }) => ({
    key: ['azure', 'pod-identity', namespace, pod, resource],
    open: () => podIdentityToken(environment, resource, host),
  }),
}

function direct({ environment }: Context, endpoint: string): TokenRoute {
  return {
    url: endpoint,
    to: environment.to(new URL(endpoint).hostname),
    timeoutMs: environment.requestTimeoutMs,
  }
}

function granted(context: Context, clientId: string, proof: Proof, route: TokenRoute): Promise<AccessToken> {
  return requestToken({ clientId, proof, resource: context.resource }, route, context.host)
}

/** @throws BackendError `AZURE_IDENTITY` without tenant. */
async function endpointOf(context: Context): Promise<string> {
  const { store, cloud, host } = context
  const annotated =
    store.tenant === undefined ? await host.serviceAccountAnnotation(TENANT_ANNOTATION) : undefined
  const tenant = store.tenant ?? annotated?.trim()
  if (tenant !== undefined && isTenant(tenant)) return tokenEndpoint(cloud.authority, tenant)
  throw azureError({
    kind: 'config',
    code: 'AZURE_IDENTITY',
    message: `service account ${host.pod.serviceAccount} in namespace ${host.pod.namespace} names no tenant`,
    remedy: `Set tenantID, or annotate the service account with ${TENANT_ANNOTATION}.`,
  })
}

// ---------------------------------------------------------------------------------------------
// The pod's token as assertion
// ---------------------------------------------------------------------------------------------

const tokenRemedy = (audience: string): string =>
  `List {audience: "${audience}"} under tokenRequests of the CSIDriver object (Helm value tokenRequests of the driver's chart).`

async function workloadIdentity(
  { clientId }: Extract<AzureAuth, { mode: 'workload-identity' }>,
  context: Context,
): Promise<Session> {
  const { host, cloud, resource } = context
  // Before anything is looked up, so that a missing token is reported without a Kubernetes call.
  const audience = exchangeAudience(cloud, host.audiences)
  const assertion = await podToken(
    host,
    audience,
    'None',
    'failed to parse workload identity tokens, error: ',
  )
  const client = clientId ?? (await annotatedClient(host))
  const endpoint = await endpointOf(context)
  return {
    key: ['azure', 'workload-identity', endpoint, client, resource, audience],
    open: () => granted(context, client, { kind: 'assertion', assertion }, direct(context, endpoint)),
  }
}

/** The general audience, else that of the cloud, else the only one that looks like it. */
export function exchangeAudience(cloud: Cloud, audiences: ReadonlySet<string>): string {
  const own = [EXCHANGE_AUDIENCE, ...(cloud.audience === undefined ? [] : [cloud.audience])]
  const found = own.find((audience) => audiences.has(audience))
  if (found !== undefined) return found
  const alike = [...audiences].filter((audience) => audience.startsWith(EXCHANGE_AUDIENCE))
  return alike.length === 1 ? (alike[0] ?? EXCHANGE_AUDIENCE) : EXCHANGE_AUDIENCE
}

async function annotatedClient(host: Host): Promise<string> {
  const annotated = (await host.serviceAccountAnnotation(CLIENT_ID_ANNOTATION))?.trim() ?? ''
  if (/^[A-Za-z0-9-]{1,128}$/.test(annotated)) return annotated
  throw azureError({
    kind: 'config',
    code: 'AZURE_IDENTITY',
    message: `service account ${host.pod.serviceAccount} in namespace ${host.pod.namespace} has no usable annotation ${CLIENT_ID_ANNOTATION}`,
    remedy: `Annotate it with ${CLIENT_ID_ANNOTATION}: <client id>, or set clientID.`,
  })
}

async function identityBinding(
  { clientId }: Extract<AzureAuth, { mode: 'identity-binding' }>,
  context: Context,
): Promise<Session> {
  const { host, resource, router } = context
  const prefix =
    host.audiences.size === 0
      ? 'service account tokens are required for identity binding: '
      : 'failed to parse service account token for identity binding, error: '
  const assertion = await podToken(host, BINDING_AUDIENCE, 'AzureTokenProxy', prefix)
  const endpoint = await endpointOf(context)
  return {
    key: ['azure', 'identity-binding', endpoint, clientId, resource],
    open: async () => granted(context, clientId, { kind: 'assertion', assertion }, await router(endpoint)),
  }
}

function tokensMissing(reason: string, mode: string, audience: string): Error {
  return azureError({
    kind: 'unauthenticated',
    code: 'AZURE_TOKENS_MISSING',
    message: `failed to build auth config for mode ${mode}: ${reason}`,
    remedy: tokenRemedy(audience),
  })
}

/** The pod's token. @throws BackendError `AZURE_TOKENS_MISSING`, or the host's own for an expired one. */
async function podToken(host: Host, audience: string, mode: string, prefix: string): Promise<string> {
  const { token } = await host.token(audience).catch((error: unknown) => {
    if (!(error instanceof BackendError) || error.code !== 'TOKEN_MISSING') throw error
    const what = host.audiences.size === 0 ? 'service account tokens' : `token for audience ${audience}`
    throw tokensMissing(`${prefix}${what} not found`, mode, audience)
  })
  const text = token.reveal().toString('latin1')
  // A token becomes a form field: anything but visible ASCII is not a token.
  if (/^[\x21-\x7e]+$/.test(text)) return text
  throw tokensMissing(`${prefix}token for audience ${audience} is not a token`, mode, audience)
}

// ---------------------------------------------------------------------------------------------
// A secret or certificate of the pod's class
// ---------------------------------------------------------------------------------------------

async function servicePrincipal(
  { clientIdKey, secretKey, certificateKey, passwordKey }: Extract<AzureAuth, { mode: 'service-principal' }>,
  context: Context,
): Promise<Session> {
  const { host, resource } = context
  const secretOf = (key: string | undefined) => (key === undefined ? undefined : host.nodePublishSecret(key))
  const clientId = secretOf(clientIdKey)?.reveal().toString() ?? ''
  if (clientId === '') throw secretMissing('clientid')
  const endpoint = await endpointOf(context)
  const proof = async (): Promise<Proof> => {
    const secret = secretOf(secretKey)
    if (secret !== undefined) return { kind: 'secret', secret: secret.reveal().toString() }
    const certificate = secretOf(certificateKey)
    if (certificate === undefined) throw secretMissing('clientsecret')
    const usable = await clientCertificate(certificate, secretOf(passwordKey))
    return { kind: 'assertion', assertion: clientAssertion(usable, clientId, endpoint, host.now()) }
  }
  return {
    // The host's identity has a digest of the whole Secret in it: two secrets never share a session.
    key: ['azure', 'service-principal', endpoint, clientId, resource],
    open: async () => granted(context, clientId, await proof(), direct(context, endpoint)),
  }
}

function secretMissing(key: string): Error {
  return azureError({
    kind: 'config',
    code: 'AZURE_IDENTITY',
    message: `failed to build auth config for mode None: could not find ${key} in secrets`,
    remedy:
      'Put clientid and clientsecret (or clientcertificate) into the Secret that nodePublishSecretRef names.',
  })
}
