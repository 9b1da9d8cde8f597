/** Owns what a fetch may touch: the pod's tokens and credentials, sessions of its identity, guarded HTTP. */
import { createHmac, randomBytes } from 'node:crypto'
import type { SessionCache } from '../identity/session-cache.ts'
import {
  parseTokens,
  serviceAccountUid,
  tokenFor,
  type TokenSet,
} from '../identity/service-account-tokens.ts'
import type { HttpClient } from '../net/http.ts'
import {
  BackendError,
  type Dialect,
  type Host,
  type Identity,
  type PodFacts,
  type ServiceAccountToken,
  type Source,
} from '../providers/adapter.ts'
import type { Logger } from '../telemetry/log.ts'
import type { SecretBytes } from '../telemetry/secret-bytes.ts'
import type { MountContext } from './answer.ts'
import { MountFailure } from './errors.ts'
import type { MountRequest } from './request.ts'
import type { Caller } from './caller.ts'

/** What all hosts of the process share. */
export interface HostServices {
  readonly http: HttpClient
  readonly sessions: SessionCache
  readonly log: Logger
  readonly now: () => Date
  /**
   * A token of the pod's service account, bound to the pod, for an audience that the driver handed over
   * none for. Absent unless the operator allows it: with that right, root on one node could have any
   * account's token (threat model T21).
   */
  readonly mint?: (pod: PodFacts, audience: string, signal: AbortSignal) => Promise<ServiceAccountToken>
  /** An annotation of a service account, from the API server. */
  readonly annotation: (
    namespace: string,
    serviceAccount: string,
    name: string,
    signal: AbortSignal,
  ) => Promise<string | undefined>
  /** A label of this node, from the API server. */
  readonly nodeLabel: (name: string, signal: AbortSignal) => Promise<string | undefined>
}

/** Makes the mount's side of its fetches. */
export function createCallers(
  services: HostServices,
): (request: MountRequest, context: MountContext, dialect: Dialect) => Caller {
  const digestKey = randomBytes(32)
  return (request, context, dialect) => {
    const { pod, nodePublishSecret } = request
    const tokens = tokensOf(request)
    const podKey = podIdentityKey(request, tokens, digestKey)
    const identityKey = (identity: Identity): string => (identity === 'node' ? 'node' : podKey)
    const host = (source: Source, signal: AbortSignal): Host => {
      const identity = identityKey(source.identity)
      return {
        pod,
        identity: source.identity,
        signal,
        log: services.log.with({ namespace: pod.namespace, pod: pod.name, backend: source.backend }),
        http: inTurn(services.http, pod.namespace),
        now: services.now,
        token: (audience) =>
          onTheWay(async () =>
            services.mint && !tokens.has(audience)
              ? services.mint(pod, audience, signal)
              : tokenFor(tokens, audience, services.now()),
          ),
        audiences: new Set(tokens.keys()),
        nodePublishSecret: (key) =>
          dialect.needs.nodePublishSecret ? nodePublishSecret.get(key) : undefined,
        serviceAccountAnnotation: (name) =>
          onTheWay(() => services.annotation(pod.namespace, pod.serviceAccount, name, signal)),
        nodeLabel: (name) => onTheWay(() => services.nodeLabel(name, signal)),
        session: (key, open) => onTheWay(() => services.sessions.get([identity, ...key], open)),
        dropSession: (key) => services.sessions.drop([identity, ...key]),
      }
    }
    return { identityKey, host, namespace: pod.namespace, signal: context.signal, deadline: context.deadline }
  }
}

/** Calls in the mount's name take turns with other namespaces' calls to the same place (T18). */
function inTurn(http: HttpClient, namespace: string): HttpClient {
  return {
    send: (request) => http.send({ ...request, turn: namespace }),
    agents: (to) => http.agents(to),
  }
}

/** Runs what an object is not fetched by, but with: its failure says nothing about the object. */
async function onTheWay<T>(step: () => Promise<T>): Promise<T> {
  try {
    return await step()
  } catch (error) {
    if (!(error instanceof BackendError) || error.indirect) throw error
    const { kind, code, message, remedy, retryAfterMs } = error
    throw new BackendError({ kind, code, message, remedy, retryAfterMs, indirect: true })
  }
}

function tokensOf(request: MountRequest): TokenSet {
  try {
    return parseTokens(request.tokens)
  } catch (error) {
    if (error instanceof BackendError)
      throw MountFailure.of(error.kind, error.code, error.message, error.remedy)
    throw error
  }
}

/**
 * Whom a value belongs to. Namespace and service account are kubelet's word. The service account's
 * uid, read from an unverified token, and a digest of the node-publish Secret only split further:
 * they can never join two identities (threat model T6, T7).
 */
function podIdentityKey(request: MountRequest, tokens: TokenSet, digestKey: Uint8Array): string {
  const { namespace, serviceAccount } = request.pod
  return JSON.stringify([
    'pod',
    namespace,
    serviceAccount,
    serviceAccountUid(tokens) ?? '',
    secretDigest(request.nodePublishSecret, digestKey),
  ])
}

function secretDigest(secret: ReadonlyMap<string, SecretBytes>, key: Uint8Array): string {
  if (secret.size === 0) return ''
  const digest = createHmac('sha256', key)
  for (const [name, value] of [...secret].sort(([a], [b]) => (a < b ? -1 : 1))) {
    digest.update(`${Buffer.byteLength(name)}:${name}:${value.length}:`).update(value.reveal())
  }
  return digest.digest('base64url')
}
