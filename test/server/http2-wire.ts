/** Owns raw HTTP/2 for tests: frames as bytes, and a client that may break every rule. */
import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { createDecoder, encodeHeaders, type HeaderField } from '../../src/server/legacy-authority/hpack.ts'

/** What every client sends first. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

export const TYPE = {
  data: 0,
  headers: 1,
  rst: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const
export const FLAG = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 0x20 } as const

/** One frame. */
export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

/** Splits bytes into whole frames; a trailing part is dropped. */
export function frames(bytes: Buffer): Frame[] {
  const result: Frame[] = []
  for (let at = 0; at + 9 <= bytes.length;) {
    const length = bytes.readUIntBE(at, 3)
    if (at + 9 + length > bytes.length) break
    result.push({
      type: bytes[at + 3] ?? 0,
      flags: bytes[at + 4] ?? 0,
      stream: bytes.readUInt32BE(at + 5) & 0x7fffffff,
      payload: bytes.subarray(at + 9, at + 9 + length),
    })
    at += 9 + length
  }
  return result
}

export const header = (name: string, value: string): HeaderField => ({
  name: Buffer.from(name),
  value: Buffer.from(value),
})

/** Header list of a gRPC call as grpc-go sends it. */
export function callHeaders(path: string, authority: string): HeaderField[] {
  return [
    header(':method', 'POST'),
    header(':scheme', 'http'),
    header(':path', path),
    header(':authority', authority),
    header('content-type', 'application/grpc'),
    header('user-agent', 'grpc-go/1.56.3'),
    header('te', 'trailers'),
  ]
}

/** A gRPC message with its five-byte prefix. */
export function grpcMessage(body: Buffer, compressed = false): Buffer {
  const prefix = Buffer.alloc(5)
  prefix[0] = compressed ? 1 : 0
  prefix.writeUInt32BE(body.length, 1)
  return Buffer.concat([prefix, body])
}

/** How a call ended, as far as a raw client can tell. */
export interface RawOutcome {
  /** Names and values of all header blocks of the stream, later ones winning. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
  /** Error code of RST_STREAM, if the stream was reset. */
  readonly reset: number | undefined
  /** Whether the connection was closed before the stream ended. */
  readonly closed: boolean
}

/** A client on a raw socket. */
export interface RawClient {
  readonly socket: Socket
  send(...parts: Buffer[]): void
  /** Everything received so far. */
  received(): Buffer
  /** Waits for the end of `stream` or of the connection. */
  outcome(stream: number): Promise<RawOutcome>
  /** Waits until the peer closes. */
  closed(): Promise<void>
}

/** Connects, and sends preface and SETTINGS unless told not to; acknowledges SETTINGS as they come. */
export async function connectRaw(path: string, options: { preface?: boolean } = {}): Promise<RawClient> {
  const socket = createConnection(path)
  await once(socket, 'connect')
  let bytes = Buffer.alloc(0)
  let parsed = 0
  socket.on('error', () => {})
  const change = (): Promise<unknown> =>
    Promise.race([once(socket, 'data'), once(socket, 'close')]).catch(() => undefined)
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk])
    const all = frames(bytes)
    for (const { type, flags } of all.slice(parsed)) {
      if (type === TYPE.settings && (flags & FLAG.ack) === 0 && options.preface !== false) {
        socket.write(frame(TYPE.settings, FLAG.ack, 0))
      }
    }
    parsed = all.length
  })
  if (options.preface !== false) socket.write(Buffer.concat([PREFACE, frame(TYPE.settings, 0, 0)]))
  return {
    socket,
    send: (...parts) => {
      socket.write(Buffer.concat(parts))
    },
    received: () => bytes,
    outcome: async (stream) => {
      for (;;) {
        const seen = outcomeOf(bytes, stream, socket.closed)
        if (seen) return seen
        await change()
      }
    },
    closed: async () => {
      while (!socket.closed) await change()
    },
  }
}

function outcomeOf(bytes: Buffer, stream: number, closed: boolean): RawOutcome | undefined {
  const decoder = createDecoder({ tableBytes: 4096, listBytes: 1 << 20 })
  const headers = new Map<string, string>()
  const body: Buffer[] = []
  let reset: number | undefined
  let ended = false
  for (const one of frames(bytes)) {
    if (one.type === TYPE.headers) {
      for (const { name, value } of decoder.decode(one.payload)) {
        if (one.stream === stream) headers.set(name.toString(), value.toString('latin1'))
      }
    }
    if (one.stream !== stream) continue
    if (one.type === TYPE.data) body.push(one.payload)
    if (one.type === TYPE.rst) reset = one.payload.readUInt32BE(0)
    if (one.type === TYPE.rst || ((one.type === TYPE.headers || one.type === TYPE.data) && one.flags & 1))
      ended = true
  }
  if (!ended && !closed) return undefined
  return { headers, body: Buffer.concat(body), reset, closed: closed && !ended }
}

/** HEADERS and DATA of one unary call. */
export function callFrames(stream: number, fields: readonly HeaderField[], message: Buffer): Buffer {
  return Buffer.concat([
    frame(TYPE.headers, FLAG.endHeaders, stream, encodeHeaders(fields)),
    frame(TYPE.data, FLAG.endStream, stream, message),
  ])
}
