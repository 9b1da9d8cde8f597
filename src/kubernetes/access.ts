/** Owns how the API server is reached: its address, our token and its CA, re-read when the files change. */
import { readFile, stat } from 'node:fs/promises'
import type { HttpClient, HttpResponse } from '../net/http.ts'
import { HttpError } from '../net/http.ts'
import { parseJson } from '../formats/json-parse.ts'
import type { JsonValue } from '../formats/json.ts'

export interface KubernetesSettings {
  /** Base URL, e.g. `https://10.96.0.1:443`. */
  readonly server: string
  /** File with our service-account token; without one, calls are anonymous. */
  readonly tokenFile?: string
  /** PEM file of the API server's authority; without one, the public anchors. */
  readonly caFile?: string
}

/** Why a read failed. A subset of the adapters' error kinds. */
export type KubernetesFailure =
  | 'unauthenticated'
  | 'denied'
  | 'not-found'
  | 'throttled'
  | 'unavailable'
  | 'timeout'
  | 'malformed'
  | 'config'

/** A failed call to the API server. The message names what was read, never a token or a reply. */
export class KubernetesError extends Error {
  override readonly name = 'KubernetesError'
  readonly kind: KubernetesFailure
  readonly remedy: string | undefined

  constructor(kind: KubernetesFailure, message: string, remedy?: string) {
    super(message)
    this.kind = kind
    this.remedy = remedy
  }
}

const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

/** The settings of a pod in the cluster, or `undefined` outside one. */
export function inClusterSettings(
  env: Readonly<Record<string, string | undefined>>,
): KubernetesSettings | undefined {
  const host = env['KUBERNETES_SERVICE_HOST']
  const port = env['KUBERNETES_SERVICE_PORT']
  if (!host || !port) return undefined
  const name = host.includes(':') ? `[${host}]` : host
  return { server: `https://${name}:${port}`, tokenFile: `${ACCOUNT}/token`, caFile: `${ACCOUNT}/ca.crt` }
}

/** One REST call. */
export interface KubernetesCall {
  readonly method?: 'GET' | 'POST'
  /** Absolute path with encoded segments. */
  readonly path: string
  readonly query?: Readonly<Record<string, string>>
  readonly accept?: string
  readonly body?: string
  /** What is read, for error texts, e.g. `service account shop/web`. */
  readonly subject: string
  /** The RBAC rule that permits it, for the remedy. */
  readonly permission: string
  readonly signal: AbortSignal
}

/** Sends calls; returns the reply as JSON. @throws KubernetesError */
export type KubernetesSend = (call: KubernetesCall) => Promise<JsonValue>

const MAX_REPLY = 8 * 1024 * 1024

/** A sender for one API server. */
export function createKubernetesSend(http: HttpClient, settings: KubernetesSettings): KubernetesSend {
  const token = changingFile(settings.tokenFile)
  const ca = changingFile(settings.caFile)
  const once = async (call: KubernetesCall): Promise<HttpResponse> => {
    const [bearer, authority] = await Promise.all([token(), ca()])
    return http.send({
      method: call.method ?? 'GET',
      url: `${settings.server.replace(/\/$/, '')}${call.path}?${new URLSearchParams(call.query).toString()}`,
      headers: {
        accept: call.accept ?? 'application/json',
        ...(bearer !== undefined && { authorization: `Bearer ${bearer.trim()}` }),
        ...(call.body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(call.body !== undefined && { body: call.body }),
      to: { origin: 'operator', ...(authority !== undefined && { tls: { ca: [authority] } }) },
      signal: call.signal,
      maxBytes: MAX_REPLY,
    })
  }
  return async (call) => {
    try {
      return replyOf(await once(call), call)
    } catch (error) {
      if (error instanceof HttpError) throw unreachable(error, call)
      throw error
    }
  }
}

/** A file's text, read again when it was replaced; kubelet rotates tokens by switching a link. */
function changingFile(path: string | undefined): () => Promise<string | undefined> {
  let known: { readonly mark: string; readonly text: string } | undefined
  return async () => {
    if (path === undefined) return undefined
    try {
      const { ino, size, mtimeMs } = await stat(path)
      const mark = `${ino}:${size}:${mtimeMs}`
      if (known?.mark !== mark) known = { mark, text: await readFile(path, 'utf8') }
      return known.text
    } catch {
      throw new KubernetesError(
        'config',
        `cannot read ${path}`,
        'Mount the service-account token and CA of the provider, or set kubernetes in the configuration',
      )
    }
  }
}

/** First match decides. */
const STATUS: readonly (readonly [(status: number) => boolean, KubernetesFailure, string])[] = [
  [(status) => status === 401, 'unauthenticated', 'the API server does not accept our token'],
  [(status) => status === 403, 'denied', 'the provider may not read it'],
  [(status) => status === 404, 'not-found', 'there is none'],
  [(status) => status === 429, 'throttled', 'the API server asks to slow down'],
  [(status) => status >= 500, 'unavailable', 'the API server has a fault'],
  [() => true, 'malformed', 'the API server answered something unexpected'],
]

function replyOf(response: HttpResponse, { subject, permission }: KubernetesCall): JsonValue {
  if (response.status === 200 || response.status === 201) {
    try {
      return parseJson(response.body, { maxBytes: MAX_REPLY })
    } catch {
      throw new KubernetesError('malformed', `${subject}: the API server's reply is not JSON`)
    }
  }
  const [, kind, words] = STATUS.find(([fits]) => fits(response.status)) ?? [null, 'malformed' as const, '']
  const remedy = kind === 'denied' ? `Grant the provider's service account ${permission}` : undefined
  throw new KubernetesError(kind, `${subject}: ${words} (HTTP ${response.status})`, remedy)
}

function unreachable(error: HttpError, { subject }: KubernetesCall): KubernetesError {
  const kind = error.failure === 'timeout' || error.failure === 'aborted' ? 'timeout' : 'unavailable'
  return new KubernetesError(
    error.failure === 'malformed' || error.failure === 'too-large' ? 'malformed' : kind,
    `${subject}: the API server cannot be read: ${error.message}`,
  )
}
