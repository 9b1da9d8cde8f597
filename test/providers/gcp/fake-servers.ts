/**
 * Owns the listeners of the fake Google: TLS under the real names behind a CONNECT proxy, so that nothing of
 * name building or certificate checks is switched off, and plain HTTP on loopback for metadata, Kubernetes
 * and foreign clients.
 */
import { createServer as createHttpServer } from 'node:http'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { connect, createServer as createTcpServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createAuthority } from '../../net/certificates.ts'

export const REGIONS = Array.from({ length: 20 }, (_, index) => `region-${index}`)

export interface Listeners {
  /** PEM of the authority that signed the names. */
  readonly ca: string
  /** The CONNECT proxy. */
  readonly proxy: string
  /** The same routes without TLS. */
  readonly plain: string
  /** `host:port` of the plain listener. */
  readonly plainHost: string
  /** Every name that a tunnel was asked for. */
  readonly tunnels: string[]
  close(): Promise<void>
}

let made: { readonly ca: string; readonly leaf: { readonly cert: string; readonly key: string } } | undefined

/** One authority and certificate for the file: making them takes long. */
function identity() {
  if (made !== undefined) return made
  const authority = createAuthority()
  const regions = ['europe-west3', 'europe-west1', ...REGIONS].map(
    (region) => `*.${region}.rep.googleapis.com`,
  )
  made = { ca: authority.ca, leaf: authority.issue(['*.googleapis.com', ...regions]) }
  return made
}

export type Handler = (request: IncomingMessage, body: string, response: ServerResponse) => void

export async function listen(handler: Handler): Promise<Listeners> {
  const sockets = new Set<Socket>()
  const keep = (socket: Socket): void => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => sockets.delete(socket))
  }
  const listener: RequestListener = (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => handler(request, Buffer.concat(chunks).toString(), response))
  }
  const tls = createHttpsServer(identity().leaf, listener)
  const plain = createHttpServer(listener)
  tls.on('secureConnection', keep)
  for (const server of [tls, plain]) server.on('connection', keep)
  const tunnels: string[] = []
  const tlsPort = await portOf(tls)
  const tunnel = createTcpServer((socket) => {
    keep(socket)
    socket.once('data', (head) => {
      tunnels.push(/^CONNECT ([^ ]+) /.exec(head.toString())?.[1] ?? head.toString())
      const own = /^CONNECT 127\.0\.0\.1:(\d+) /.exec(head.toString())?.[1]
      const port = own === undefined ? tlsPort : Number(own)
      const upstream = connect(port, '127.0.0.1', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'))
      keep(upstream)
      socket.pipe(upstream).pipe(socket)
    })
  })
  const [proxyPort, plainPort] = [await portOf(tunnel), await portOf(plain)]
  return {
    ca: identity().ca,
    proxy: `http://127.0.0.1:${proxyPort}`,
    plain: `http://127.0.0.1:${plainPort}`,
    plainHost: `127.0.0.1:${plainPort}`,
    tunnels,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await Promise.all([tls, plain, tunnel].map((server) => new Promise((resolve) => server.close(resolve))))
    },
  }
}

function portOf(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
  })
}
