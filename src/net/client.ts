/** Owns {@link HttpClient} on `node:http`: deadlines, size caps while decompressing, error classes, no redirects. */
import { request as httpRequest } from 'node:http'
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib'
import type { Readable, Transform } from 'node:stream'
import { AgentPools, closeIdle, MAX_SOCKETS } from './agents.ts'
import type { PoolOptions } from './agents.ts'
import { HttpError } from './http.ts'
import type { HttpClient, HttpFailure, HttpRequest, HttpResponse } from './http.ts'
import { limiter, NAMESPACE_SHARE, type Limiter } from './limiter.ts'
import { checkHost, RefusedAddressError } from './lookup.ts'

/** Hosts of one pool whose queue is kept. */
const MAX_QUEUES = 1000
const TIMEOUT_MS = 10_000
const MAX_BYTES = 4 * 1024 * 1024

/** A client, and how to let its connections go at shutdown. */
export interface ClosableHttpClient extends HttpClient {
  close(): void
}

/** Creates a client. One is enough for the process; connections are pooled by destination. */
export function createHttpClient(options: PoolOptions): ClosableHttpClient {
  const pools = new AgentPools(options)
  return {
    agents: (to) => pools.get(to),
    close: () => pools.close(),
    async send(request) {
      const url = checkUrl(request, options)
      const pool = pools.get(request.to)
      const agent = url.protocol === 'https:' ? pool.https : pool.http
      const deadline = performance.now() + (request.timeoutMs ?? TIMEOUT_MS)
      const host = hostOf(url)
      const call = async (): Promise<HttpResponse> => {
        // The wait counts: whoever asks for a time means the whole of it.
        if (performance.now() >= deadline)
          throw new HttpError('timeout', host, `${host} did not answer in time`)
        try {
          return await exchange(request, url, agent, deadline)
        } catch (error) {
          // The server closed an idle connection just when it was used again: nobody saw the call.
          if (!(error instanceof StaleConnection)) throw error
          closeIdle(agent)
          return await exchange(request, url, agent, deadline)
        }
      }
      return orAborted(slotFor(agent, host)(call, request.turn), request.signal, host)
    },
  }
}

/** Whoever gives up does not wait for a place. */
async function orAborted(
  reply: Promise<HttpResponse>,
  signal: AbortSignal,
  host: string,
): Promise<HttpResponse> {
  const { promise, reject } = Promise.withResolvers<never>()
  const onAbort = (): void => reject(new HttpError('aborted', host, `the call to ${host} was given up`))
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([reply, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** Calls to one host wait here rather than in the agent's queue, which knows no turns: as many run as it has sockets. */
const queues = new WeakMap<object, Map<string, Limiter>>()

function slotFor(agent: object, host: string): Limiter {
  const ofPool = queues.get(agent) ?? new Map<string, Limiter>()
  queues.set(agent, ofPool)
  const known = ofPool.get(host)
  if (known) return known
  if (ofPool.size >= MAX_QUEUES) ofPool.clear()
  const made = limiter(MAX_SOCKETS, NAMESPACE_SHARE)
  ofPool.set(host, made)
  return made
}

function checkUrl({ url, to }: HttpRequest, { rules }: PoolOptions): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  const refuse = (reason: string) => new HttpError('refused-address', hostOf(parsed), reason)
  if (parsed === undefined || (parsed.protocol !== 'https:' && parsed.protocol !== 'http:')) {
    throw refuse('the address is not an http or https URL')
  }
  if (parsed.username !== '' || parsed.password !== '')
    throw refuse('the address contains a user name or password')
  if (to.origin === 'operator') return parsed
  if (parsed.protocol !== 'https:') throw refuse(`${hostOf(parsed)}: a parameter must name an https address`)
  if (to.socketPath !== undefined) throw refuse('a parameter must not name a unix socket')
  try {
    checkHost(bareHost(parsed), rules)
  } catch (error) {
    throw refuse(error instanceof Error ? error.message : 'refused')
  }
  return parsed
}

const bareHost = (url: URL) => url.hostname.replace(/^\[|\]$/g, '')

function hostOf(url: URL | undefined): string {
  if (url === undefined) return ''
  return `${url.hostname}:${url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : url.port}`
}

/** An idempotent call on a reused connection that broke before any byte of a reply. */
class StaleConnection extends Error {
  override readonly name = 'StaleConnection'
}

const REPEATABLE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'LIST'])

function exchange(
  request: HttpRequest,
  url: URL,
  agent: RequestOptions['agent'],
  deadline: number,
): Promise<HttpResponse> {
  const host = hostOf(url)
  return new Promise((resolve, reject) => {
    let call: ClientRequest | undefined
    let replied = false
    const settle = (outcome: () => void) => {
      clearTimeout(timer)
      request.signal.removeEventListener('abort', onAbort)
      outcome()
    }
    const fail = (error: Error) =>
      settle(() => {
        call?.destroy()
        reject(error)
      })
    const late = () => fail(new HttpError('timeout', host, `${host} did not answer in time`))
    const onAbort = () => fail(new HttpError('aborted', host, `the call to ${host} was given up`))
    const timer = setTimeout(late, Math.max(deadline - performance.now(), 0))
    if (request.signal.aborted) return onAbort()
    request.signal.addEventListener('abort', onAbort, { once: true })
    const body = request.body === undefined ? undefined : Buffer.from(request.body as Uint8Array)
    try {
      call = (url.protocol === 'https:' ? httpsRequest : httpRequest)({
        host: bareHost(url),
        ...(url.port !== '' && { port: url.port }),
        path: `${url.pathname}${url.search}`,
        method: request.method,
        agent,
        headers: {
          ...request.headers,
          ...(body !== undefined && { 'content-length': String(body.length) }),
        },
      })
    } catch {
      // Node quotes a bad header's value in its message.
      return fail(
        new HttpError(
          'malformed',
          host,
          `the request to ${host} has a header or path that HTTP cannot carry`,
        ),
      )
    }
    call.once('error', (error) => {
      const stale = call?.reusedSocket && !replied && REPEATABLE.has(request.method)
      fail(stale && isReset(error) ? new StaleConnection() : classified(error, host))
    })
    call.once('response', (response) => {
      replied = true
      readBody(response, request, host).then(
        (bytes) =>
          settle(() =>
            resolve({ status: response.statusCode ?? 0, headers: headersOf(response), body: bytes }),
          ),
        (error: unknown) => fail(isReset(error) ? cutShort(host) : classified(error, host)),
      )
    })
    call.end(body)
    return undefined
  })
}

function headersOf(response: IncomingMessage): Readonly<Record<string, string>> {
  const headers = Object.create(null) as Record<string, string>
  for (const [name, values] of Object.entries(response.headersDistinct))
    headers[name] = (values ?? []).join(', ')
  return headers
}

const DECODERS: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
}

async function readBody(response: IncomingMessage, request: HttpRequest, host: string): Promise<Buffer> {
  const cap = request.maxBytes ?? MAX_BYTES
  const tooLarge = () => new HttpError('too-large', host, `the reply of ${host} is larger than ${cap} bytes`)
  const encoding = (response.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
  const empty = request.method === 'HEAD' || response.statusCode === 204 || response.statusCode === 304
  if (!empty && Number(response.headers['content-length'] ?? 0) > cap) throw tooLarge()
  const plain = encoding === 'identity' || encoding === '' || empty
  const decoder = plain ? undefined : Object.hasOwn(DECODERS, encoding) ? DECODERS[encoding] : undefined
  if (!plain && decoder === undefined) {
    throw new HttpError('malformed', host, `the reply of ${host} has an unknown content encoding`)
  }
  return decoder === undefined
    ? collect(response, cap, tooLarge)
    : collect(decoded(response, decoder()), cap, tooLarge)
}

/** The decompressed reply; a broken connection breaks the decoder too, so that both end as one error. */
function decoded(response: IncomingMessage, decoder: Transform): Readable {
  response.once('error', (error) => decoder.destroy(error))
  decoder.once('close', () => response.destroy())
  return response.pipe(decoder)
}

async function collect(stream: Readable, cap: number, tooLarge: () => HttpError): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  // Leaving the loop destroys the stream: a bomb is not read any further.
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > cap) throw tooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const cutShort = (host: string) => new HttpError('malformed', host, `the reply of ${host} was cut short`)
const codeOf = (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : '')
const isReset = (error: unknown) => ['ECONNRESET', 'EPIPE'].includes(codeOf(error))

/** First match decides. Node's messages may quote what the peer sent, so only codes are passed on. */
const FAILURES: readonly (readonly [RegExp, HttpFailure, string])[] = [
  [
    /^(?:HPE_|Z_|ERR__ERROR|ERR_BROTLI|ERR_STREAM_PREMATURE_CLOSE|ERR_HTTP)/,
    'malformed',
    'sent something that is not HTTP',
  ],
  [
    /^(?:ERR_TLS|ERR_SSL|ERR_OSSL|EPROTO|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH|CRL_)/,
    'tls',
    'TLS failed',
  ],
  [/^/, 'unreachable', 'cannot be reached'],
]

function classified(error: unknown, host: string): HttpError {
  if (error instanceof HttpError) return error
  if (error instanceof RefusedAddressError) return new HttpError('refused-address', host, error.message)
  const code = codeOf(error)
  const [, failure, words] = FAILURES.find(([pattern]) => pattern.test(code)) ?? [
    /^/,
    'unreachable',
    'cannot be reached',
  ]
  return new HttpError(failure, host, `${host} ${words}${/^[A-Z_0-9]{1,64}$/.test(code) ? ` (${code})` : ''}`)
}
