/** Owns the shape of an outgoing HTTP call as adapters see it; `client.ts` implements it. */
import type { Agent as HttpsAgent } from 'node:https'
import type { Agent as HttpAgent } from 'node:http'

/**
 * Who named the address. `operator`: configuration or a built-in vendor endpoint, so private and
 * loopback addresses are fine. `parameter`: an SPC, a document or a backend's reply, so the address
 * guard refuses loopback, link-local, metadata and API-server addresses after name resolution and
 * https is required (threat model T11).
 */
export type AddressOrigin = 'operator' | 'parameter'

/** TLS of one destination. Paths have been read and checked already; these are PEM texts. */
export interface TlsSettings {
  /** Replaces the public trust anchors. */
  readonly ca?: readonly string[]
  /** Client certificate and key. */
  readonly cert?: string
  readonly key?: string
  /** Name used for SNI and verification instead of the host. */
  readonly serverName?: string
  /** Only where operator policy allows it for this host (T13). */
  readonly insecureSkipVerify?: boolean
}

/** Everything that makes two connections different: calls with equal destinations share a pool. */
export interface Destination {
  readonly origin: AddressOrigin
  readonly tls?: TlsSettings
  /** Proxy URL from configuration. Proxy environment variables are ignored. */
  readonly proxy?: string
  /** Unix socket to connect to instead of the URL's host. Only with origin `operator`. */
  readonly socketPath?: string
}

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'LIST' | 'DELETE' | 'HEAD' | 'PATCH'
  /** Absolute URL. */
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array | string
  readonly to: Destination
  readonly signal: AbortSignal
  /** Upper bound for this call in milliseconds; the signal may end it sooner. Default 10 000. */
  readonly timeoutMs?: number
  /** Who the call is for: calls to one destination take turns by it. The host of a mount sets its namespace. */
  readonly turn?: string
  /** Cap on the reply after decompression, in bytes. Default 4 MiB. */
  readonly maxBytes?: number
}

export interface HttpResponse {
  readonly status: number
  /** Names in lower case; repeated headers joined with `, `. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** Why a call got no usable reply. */
export type HttpFailure =
  /** The address guard refused the destination before anything was sent. */
  | 'refused-address'
  /** Name resolution, connect, TLS or a reset: nothing came back. */
  | 'unreachable'
  | 'tls'
  | 'timeout'
  | 'aborted'
  /** More than `maxBytes`. */
  | 'too-large'
  /** Not HTTP, broken encoding, cut short. */
  | 'malformed'

/** A call without a usable reply. The message names host and cause, never a header or a body. */
export class HttpError extends Error {
  override readonly name = 'HttpError'
  readonly failure: HttpFailure
  /** `host:port` of the destination. */
  readonly host: string

  constructor(failure: HttpFailure, host: string, message: string) {
    super(message)
    this.failure = failure
    this.host = host
  }
}

/**
 * Pooled, capped and guarded HTTP. Redirects are never followed: a 3xx is returned to the caller.
 */
export interface HttpClient {
  /** @throws HttpError when there is no usable reply. Any status code is a reply. */
  send(request: HttpRequest): Promise<HttpResponse>
  /** Keep-alive agents with the same pool, guard and TLS, for vendor SDKs that bring their own client. */
  agents(to: Destination): { readonly http: HttpAgent; readonly https: HttpsAgent }
}
