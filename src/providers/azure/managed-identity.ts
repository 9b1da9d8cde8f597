/** Owns tokens of the node's own identity: instance metadata, Azure Arc's agent, and AAD Pod Identity's (azure section 7). */
import { realpathSync, readFileSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Destination, HttpResponse } from '../../net/http.ts'
import { type BackendError, type Host } from '../adapter.ts'
import { accessToken, type AccessToken } from './entra.ts'
import { azureError, badAnswer, field, jsonOf, retryAfterOf, unanswered } from './failures.ts'
import type { AzureEnvironment } from './settings.ts'

/** The node's agents are the operator's, and never behind a proxy. */
const LOCAL: Destination = { origin: 'operator' }
const TRIES = 3

async function get(
  host: Host,
  url: URL,
  headers: Readonly<Record<string, string>>,
  timeoutMs: number,
): Promise<HttpResponse> {
  try {
    return await host.http.send({
      method: 'GET',
      url: url.href,
      headers,
      to: LOCAL,
      signal: host.signal,
      timeoutMs,
      maxBytes: 64 * 1024,
    })
  } catch (error) {
    throw unanswered(error)
  }
}

function refused(agent: string, reply: HttpResponse, host: Host): BackendError {
  const { status } = reply
  // 404 and 410 are what instance metadata says while it starts or is being updated.
  const again = status === 404 || status === 410 || status >= 500
  return azureError({
    kind: status === 429 ? 'throttled' : again ? 'unavailable' : 'unauthenticated',
    code: again || status === 429 ? 'AZURE_UNREACHABLE' : 'AZURE_AUTH',
    message: `${agent} answered HTTP ${status}`,
    remedy: again
      ? `${agent} cannot answer now; kubelet tries again by itself.`
      : 'Assign the managed identity to this node, and check userAssignedIdentityID: it is a client id.',
    retryAfterMs: retryAfterOf(reply, host.now()),
  })
}

function tokenOf(agent: string, reply: HttpResponse, host: Host): AccessToken {
  const token = accessToken(jsonOf(reply.body), host.now())
  reply.body.fill(0)
  if (token === undefined) throw badAnswer(`the answer of ${agent} holds no access token`)
  return token
}

/**
 * A token of the node's system-assigned identity, or of the user-assigned one with `clientId`.
 * @throws BackendError
 */
export function managedIdentityToken(
  environment: AzureEnvironment,
  resource: string,
  clientId: string | undefined,
  host: Host,
): Promise<AccessToken> {
  return environment.arc === undefined
    ? imdsToken(environment, resource, clientId, host)
    : arcToken(environment.arc, environment.requestTimeoutMs, resource, clientId, host)
}

const IMDS = 'instance metadata'

async function imdsToken(
  environment: AzureEnvironment,
  resource: string,
  clientId: string | undefined,
  host: Host,
): Promise<AccessToken> {
  const url = new URL('/metadata/identity/oauth2/token', environment.imdsEndpoint)
  url.searchParams.set('api-version', '2018-02-01')
  url.searchParams.set('resource', resource)
  if (clientId !== undefined) url.searchParams.set('client_id', clientId)
  for (let tried = 1; ; tried += 1) {
    const reply = await get(host, url, { metadata: 'true' }, environment.requestTimeoutMs)
    if (reply.status === 200) return tokenOf(IMDS, reply, host)
    const error = refused(IMDS, reply, host)
    if (tried === TRIES || error.kind === 'unauthenticated' || (error.retryAfterMs ?? 0) > 1000) throw error
    await sleep(error.retryAfterMs ?? 100 * 2 ** tried * (0.5 + Math.random()), undefined, {
      signal: host.signal,
    })
  }
}

const ARC = "Azure Arc's agent"
const MAX_KEY_BYTES = 4096

/** The agent asks for the content of a file that only its group can read: the challenge's realm names it. */
async function arcToken(
  arc: NonNullable<AzureEnvironment['arc']>,
  timeoutMs: number,
  resource: string,
  clientId: string | undefined,
  host: Host,
): Promise<AccessToken> {
  if (clientId !== undefined) {
    throw azureError({
      kind: 'config',
      code: 'AZURE_IDENTITY',
      message: 'userAssignedIdentityID is set, but Azure Arc gives a node only its system-assigned identity',
      remedy: 'Leave userAssignedIdentityID out, or use workload identity.',
    })
  }
  const url = new URL(arc.endpoint)
  url.searchParams.set('api-version', '2020-06-01')
  url.searchParams.set('resource', resource)
  const challenge = await get(host, url, { metadata: 'true' }, timeoutMs)
  const realm = /^Basic realm=(.{1,1000})$/i.exec(challenge.headers['www-authenticate'] ?? '')?.[1]
  if (challenge.status !== 401 || realm === undefined) throw refused(ARC, challenge, host)
  const key = arcKey(realm, arc.tokenDirectory)
  const reply = await get(host, url, { metadata: 'true', authorization: `Basic ${key}` }, timeoutMs)
  if (reply.status !== 200) throw refused(ARC, reply, host)
  return tokenOf(ARC, reply, host)
}

/** The key file's content. The realm is the agent's word: only a small `.key` file of its directory is read. */
function arcKey(realm: string, directory: string): string {
  try {
    const path = realpathSync(realm)
    const isKeyFile = path.endsWith('.key') && dirname(path) === realpathSync(directory)
    if (isKeyFile && statSync(path).size <= MAX_KEY_BYTES) {
      const key = readFileSync(path, 'latin1').trim()
      if (/^[\x20-\x7e]{1,4096}$/.test(key)) return key
    }
  } catch {
    // Falls through: whatever is wrong, the remedy is the same.
  }
  throw azureError({
    kind: 'unauthenticated',
    code: 'AZURE_IDENTITY',
    message: `the key file that ${ARC} names cannot be used`,
    remedy: `Mount ${directory} of the node into the provider, readable for its user.`,
  })
}

const NMI = 'nmi'

/**
 * A token of AAD Pod Identity, for the pod that the host says.
 * @throws BackendError
 */
export async function podIdentityToken(
  environment: AzureEnvironment,
  resource: string,
  host: Host,
): Promise<AccessToken> {
  const url = new URL('/host/token/', environment.nmiEndpoint)
  url.searchParams.set('resource', resource)
  const headers = { podname: host.pod.name, podns: host.pod.namespace }
  const reply = await get(host, url, headers, environment.requestTimeoutMs)
  if (reply.status !== 200) {
    const { kind, code, remedy } = refused(NMI, reply, host)
    throw azureError({
      kind,
      code: code === 'AZURE_UNREACHABLE' ? 'AZURE_UNREACHABLE' : 'AZURE_AUTH',
      message: `nmi response failed with status code: ${reply.status}`,
      remedy:
        kind === 'unauthenticated'
          ? 'Check the AzureIdentityBinding of the pod, or use workload identity.'
          : (remedy ?? ''),
    })
  }
  const answer = jsonOf(reply.body)
  reply.body.fill(0)
  const token = accessToken(field(answer, 'token'), host.now())
  if (token === undefined || typeof field(answer, 'clientid') !== 'string')
    throw badAnswer('nmi did not return expected values in response: token and clientid')
  return token
}
