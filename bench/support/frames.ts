/**
 * Owns a bare HTTP/2 connection for gRPC calls: frames by hand, so that the load generator costs a small
 * part of what it measures. Knows just what a unary call to our own server needs (RFC 9113): settings,
 * flow control in both directions, pings, and answers told apart by their length.
 */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 } as const
const FLAG = { ack: 1, endStream: 1, endHeaders: 4 } as const
const SETTING = { headerTableSize: 1, initialWindowSize: 4 } as const

const HEAD_BYTES = 9
const MAX_FRAME = 16_384
const FIRST_WINDOW = 65_535
/** What we let the server send: as much as there can be, renewed halfway. */
const OUR_WINDOW = 0x7fff_ffff

/** How a call ended. */
export interface CallEnd {
  /** Bytes of all DATA frames, gRPC prefix included; 0 for an answer of trailers only, i.e. a failure. */
  readonly dataBytes: number
  /** Error code of a reset stream. */
  readonly reset?: number
}

export interface RawConnection {
  /** Sends a call prepared by {@link prepareCall}; `done` is called when it has ended. */
  call(prepared: PreparedCall, done: (end: CallEnd) => void): void
  /** Called once if the connection breaks. */
  onBroken: (error: Error) => void
  close(): void
}

/** Header block and body of a call, made once and sent often. */
export interface PreparedCall {
  readonly headers: Buffer
  /** gRPC prefix and message. */
  readonly body: Buffer
}

/** @param path e.g. `/v1alpha1.CSIDriverProvider/Mount` */
export function prepareCall(path: string, message: Uint8Array): PreparedCall {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(message.length, 1)
  return {
    // 0x83, 0x86: `:method: POST`, `:scheme: http` of the static table; grpc-go's order.
    headers: Buffer.concat([
      Buffer.from([0x83, 0x86]),
      literal(':path', path),
      literal(':authority', 'localhost'),
      literal('content-type', 'application/grpc'),
      literal('user-agent', 'grpc-go/1.67.0'),
      literal('te', 'trailers'),
      literal('grpc-timeout', '60S'),
    ]),
    body: Buffer.concat([prefix, message]),
  }
}

interface Stream {
  readonly done: (end: CallEnd) => void
  body: Buffer
  window: number
  dataBytes: number
}

/** Connects to a unix socket. */
export async function openConnection(path: string): Promise<RawConnection> {
  const socket = connect(path)
  await once(socket, 'connect')
  socket.setNoDelay(true)
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  const settings = Buffer.alloc(12)
  settings.writeUInt16BE(SETTING.headerTableSize, 0)
  settings.writeUInt16BE(SETTING.initialWindowSize, 6)
  settings.writeUInt32BE(OUR_WINDOW, 8)
  socket.write(frame(FRAME.settings, 0, 0, settings))
  socket.write(windowUpdate(OUR_WINDOW - FIRST_WINDOW))
  return speak(socket)
}

function speak(socket: Socket): RawConnection {
  const streams = new Map<number, Stream>()
  const blocked = new Set<number>()
  let nextStream = 1
  let window = FIRST_WINDOW
  let streamWindow = FIRST_WINDOW
  let received = 0
  let unread: Buffer = Buffer.alloc(0)
  let closed = false

  const push = (id: number): void => {
    const stream = streams.get(id)
    if (!stream) return
    while (stream.body.length > 0) {
      const size = Math.min(stream.body.length, MAX_FRAME, window, stream.window)
      if (size <= 0) {
        blocked.add(id)
        return
      }
      window -= size
      stream.window -= size
      const part = stream.body.subarray(0, size)
      stream.body = stream.body.subarray(size)
      socket.write(head(FRAME.data, stream.body.length === 0 ? FLAG.endStream : 0, id, size))
      socket.write(part)
    }
    blocked.delete(id)
  }

  const end = (id: number, reset?: number): void => {
    const stream = streams.get(id)
    streams.delete(id)
    blocked.delete(id)
    stream?.done({ dataBytes: stream.dataBytes, ...(reset === undefined ? {} : { reset }) })
  }

  const onSettings = (flags: number, body: Buffer): void => {
    if ((flags & FLAG.ack) !== 0) return
    for (let at = 0; at + 6 <= body.length; at += 6) {
      if (body.readUInt16BE(at) !== SETTING.initialWindowSize) continue
      const size = body.readUInt32BE(at + 2)
      for (const stream of streams.values()) stream.window += size - streamWindow
      streamWindow = size
    }
    socket.write(frame(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0)))
  }

  const onFrame = (type: number, flags: number, id: number, body: Buffer): void => {
    if (type === FRAME.data) {
      received += body.length
      if (received > OUR_WINDOW / 2) {
        socket.write(windowUpdate(received))
        received = 0
      }
      const stream = streams.get(id)
      if (stream) stream.dataBytes += body.length
    }
    if (type === FRAME.settings) onSettings(flags, body)
    if (type === FRAME.ping && (flags & FLAG.ack) === 0) socket.write(frame(FRAME.ping, FLAG.ack, 0, body))
    if (type === FRAME.windowUpdate) {
      const by = body.readUInt32BE(0)
      const stream = streams.get(id)
      if (id === 0) window += by
      else if (stream) stream.window += by
      for (const waiting of blocked) push(waiting)
    }
    if (type === FRAME.reset) end(id, body.readUInt32BE(0))
    if ((type === FRAME.data || type === FRAME.headers) && (flags & FLAG.endStream) !== 0) end(id)
  }

  const connection: RawConnection = {
    onBroken: () => {},
    call: ({ headers, body }, done) => {
      const id = nextStream
      nextStream += 2
      streams.set(id, { done, body, window: streamWindow, dataBytes: 0 })
      socket.cork()
      socket.write(frame(FRAME.headers, FLAG.endHeaders, id, headers))
      push(id)
      socket.uncork()
    },
    close: () => {
      closed = true
      socket.destroy()
    },
  }
  const broken = (text: string): void => {
    if (!closed) connection.onBroken(new Error(text))
    closed = true
  }
  socket.on('error', (error) => broken(error.message))
  socket.on('close', () => broken('the connection was closed'))
  socket.on('data', (chunk: Buffer) => {
    unread = unread.length === 0 ? chunk : Buffer.concat([unread, chunk])
    let at = 0
    while (unread.length - at >= HEAD_BYTES) {
      const length = unread.readUIntBE(at, 3)
      if (unread.length - at < HEAD_BYTES + length) break
      const [type = 0, flags = 0] = [unread[at + 3], unread[at + 4]]
      const id = unread.readUInt32BE(at + 5) & 0x7fff_ffff
      onFrame(type, flags, id, unread.subarray(at + HEAD_BYTES, at + HEAD_BYTES + length))
      at += HEAD_BYTES + length
    }
    unread = unread.subarray(at)
  })
  return connection
}

/** A header field without indexing, spelled out (RFC 7541 section 6.2.2): the same bytes in every call. */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), text(name), text(value)])
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  if (bytes.length > 126) throw new RangeError('a header of a benchmark is short')
  return Buffer.concat([Buffer.from([bytes.length]), bytes])
}

function windowUpdate(by: number): Buffer {
  const body = Buffer.alloc(4)
  body.writeUInt32BE(by)
  return frame(FRAME.windowUpdate, 0, 0, body)
}

function frame(type: number, flags: number, stream: number, body: Buffer): Buffer {
  return Buffer.concat([head(type, flags, stream, body.length), body])
}

function head(type: number, flags: number, stream: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES)
  bytes.writeUIntBE(length, 0, 3)
  bytes[3] = type
  bytes[4] = flags
  bytes.writeUInt32BE(stream, 5)
  return bytes
}
