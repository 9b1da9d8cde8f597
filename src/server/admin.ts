/** Owns the optional HTTP listener for probes and metrics. Off unless an address is configured. */
import { createServer, type ServerResponse } from 'node:http'

export interface AdminOptions {
  readonly host: string
  /** 0 picks a free one. */
  readonly port: number
  /** Whether every socket is bound and the server is not draining. */
  readonly ready: () => boolean
  /** Text of /metrics and its content type. */
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>
}

export interface AdminListener {
  readonly port: number
  close(): Promise<void>
}

/** Probes and scrapes are small and quick; whatever is not is cut off. */
const HEADERS_TIMEOUT_MS = 5000
const MAX_HEADER_BYTES = 8192
const MAX_CONNECTIONS = 64

/**
 * Listens on `host:port`: `/healthz` is 200 while the event loop turns, `/readyz` 200 or 503,
 * `/metrics` what the callback gives.
 * @throws Error of `listen`, e.g. EADDRINUSE.
 */
export async function startAdmin(options: AdminOptions): Promise<AdminListener> {
  const server = createServer(
    { maxHeaderSize: MAX_HEADER_BYTES, requestTimeout: HEADERS_TIMEOUT_MS },
    (request, response) => {
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        answer(response, 405, 'only GET and HEAD\n')
        return
      }
      const path = (request.url ?? '').split('?', 1)[0]
      if (path === '/healthz') answer(response, 200, 'ok\n')
      else if (path === '/readyz') {
        const ready = options.ready()
        answer(response, ready ? 200 : 503, ready ? 'ready\n' : 'not ready\n')
      } else if (path === '/metrics') {
        options.metrics().then(
          ({ contentType, text }) => answer(response, 200, text, contentType),
          () => answer(response, 500, 'metrics could not be collected\n'),
        )
      } else answer(response, 404, 'one of /healthz, /readyz, /metrics\n')
    },
  )
  server.maxConnections = MAX_CONNECTIONS
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  const address = server.address()
  return {
    port: address !== null && typeof address === 'object' ? address.port : options.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

function answer(
  response: ServerResponse,
  status: number,
  text: string,
  contentType = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': contentType, 'x-content-type-options': 'nosniff' })
  response.end(text)
}
