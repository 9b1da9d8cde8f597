/**
 * Owns a connection from accept until the HTTP/2 server has it. The first call decides: with an
 * authority that nghttp2 accepts, the raw socket is handed over and this module is out of the way, so
 * current drivers pay nothing; otherwise every byte the client sends goes through the rewriter.
 *
 * A client waits for our SETTINGS before it calls, so they must be sent before the first call is seen.
 * We send empty ones; the server behind sends its own later, which HTTP/2 allows, and the rewriter
 * leaves out the acknowledgement of ours. A driver says the same authority on all calls of a
 * connection. Should a client with a valid first authority change to an invalid one, nghttp2 resets
 * that call as it does today.
 */
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { createAuthorityRewriter, type AuthorityRewriter } from './rewriter.ts'

/** SETTINGS without any setting. */
const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])
/** GOAWAY: no stream was processed, no error. A client sends its calls again elsewhere. */
const GOAWAY = Buffer.from([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
const ACK_BYTES = 9
/** A client that sends this much without its first call, or without acknowledging, is decided on. */
const MAX_UNDECIDED_BYTES = 256 * 1024

/** A connection that no HTTP/2 session owns yet, or one that runs through the rewriter. */
export interface AcceptedConnection {
  /** Ends a connection that has not made a call yet; does nothing once a session owns it. */
  goAway(): void
}

export interface AcceptOptions {
  /** Hands a connection to the HTTP/2 server. */
  readonly inject: (connection: Duplex) => void
  /** Told once when a client turns out to need rewriting. */
  readonly onRewrite?: () => void
  /** Told once when a client was cut off for what it sent. */
  readonly onGarbage?: (error: Error) => void
}

/** Takes over a freshly accepted socket. Never throws: whatever the client does ends its socket only. */
export function acceptConnection(socket: Socket, options: AcceptOptions): AcceptedConnection {
  const rewriter = createAuthorityRewriter()
  const raw: Buffer[] = []
  const ready: Buffer[] = []
  let bytes = 0
  let undecided = true

  const onError = (): void => {
    socket.destroy()
  }
  const onData = (chunk: Buffer): void => {
    try {
      raw.push(chunk)
      bytes += chunk.length
      ready.push(...rewriter.push(chunk))
      decide()
    } catch (error) {
      socket.destroy()
      options.onGarbage?.(error instanceof Error ? error : new Error('unknown'))
    }
  }
  const decide = (): void => {
    const verdict = rewriter.verdict()
    if (verdict === 'undecided' && bytes < MAX_UNDECIDED_BYTES) return
    undecided = false
    socket.pause()
    socket.off('data', onData)
    if (verdict === 'standard') {
      socket.unshift(withoutAcknowledgement(raw, rewriter.acknowledgedAt()))
      options.inject(socket)
      // Only now, so that the socket is never without a listener for `error`.
      socket.off('error', onError)
      return
    }
    options.onRewrite?.()
    options.inject(rewritingDuplex(socket, rewriter, ready, options.onGarbage))
  }

  socket.on('error', onError)
  socket.on('data', onData)
  socket.write(SETTINGS)
  return {
    goAway: () => {
      if (undecided && !socket.destroyed) socket.end(GOAWAY, () => socket.destroy())
    },
  }
}

function withoutAcknowledgement(raw: readonly Buffer[], at: number | undefined): Buffer {
  const all = Buffer.concat(raw)
  return at === undefined ? all : Buffer.concat([all.subarray(0, at), all.subarray(at + ACK_BYTES)])
}

/**
 * The socket as the HTTP/2 server shall see it. Back-pressure holds in both directions: the socket is
 * read only while the server reads, and a write is done when the kernel has it.
 */
function rewritingDuplex(
  socket: Socket,
  rewriter: AuthorityRewriter,
  ready: readonly Buffer[],
  onGarbage: AcceptOptions['onGarbage'],
): Duplex {
  const duplex = new Duplex({
    read: () => {
      socket.resume()
    },
    write: (chunk: Buffer, _encoding, done) => {
      socket.write(chunk, done)
    },
    writev: (chunks, done) => {
      socket.cork()
      chunks.forEach(({ chunk }, index) =>
        socket.write(chunk as Buffer, index === chunks.length - 1 ? done : undefined),
      )
      socket.uncork()
    },
    final: (done) => {
      socket.end(() => {
        done()
      })
    },
    destroy: (error, done) => {
      socket.destroy()
      done(error)
    },
  })
  const forward = (parts: readonly Buffer[]): void => {
    const room = parts.map((part) => duplex.push(part)).every(Boolean)
    if (!room) socket.pause()
  }
  socket.on('data', (chunk: Buffer) => {
    try {
      forward(rewriter.push(chunk))
    } catch (error) {
      duplex.destroy()
      onGarbage?.(error instanceof Error ? error : new Error('unknown'))
    }
  })
  socket.on('end', () => duplex.push(null))
  socket.on('close', () => duplex.destroy())
  // The session has its own listener for `error` only while it lives.
  duplex.on('error', () => {})
  forward(ready)
  return duplex
}
