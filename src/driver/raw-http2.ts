/** Owns a gRPC call written frame by frame, for connections that no well-behaved HTTP/2 library would open (driver.md section 2). */
import { once } from 'node:events'
import { connect } from 'node:net'

const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, continuation: 9 } as const
const FLAG = { ack: 1, endStream: 1, endHeaders: 4 } as const

/** What came back on the one stream of the connection. */
export interface RawAnswer {
  /** The answer's message without its gRPC prefix, if there was one. */
  readonly message: Buffer | undefined
  /** Error code of an RST_STREAM, if there was one: 1 is PROTOCOL_ERROR. */
  readonly resetCode: number | undefined
}

export interface RawCall {
  readonly socket: string
  /** Sent as it is, `/var/run/…/aws.sock` included. */
  readonly authority: string
  /** `/v1alpha1.CSIDriverProvider/Mount`. */
  readonly path: string
  /** The encoded request. */
  readonly message: Buffer
  /** Spreads the header block over frames of this many bytes; Node's HTTP/2 takes at most 8 CONTINUATIONs. */
  readonly headerFragmentBytes?: number
}

/** Makes one call as drivers up to 1.5 make it. Throws if the connection ends without an answer. Answers up to 64 KiB. */
export async function rawCall(call: RawCall): Promise<RawAnswer> {
  const connection = connect(call.socket)
  await once(connection, 'connect')
  connection.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  connection.write(frame(FRAME.settings, 0, 0, Buffer.alloc(0)))
  connection.write(headerFrames(call))
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(call.message.length, 1)
  connection.write(frame(FRAME.data, FLAG.endStream, 1, Buffer.concat([prefix, call.message])))
  try {
    return await readAnswer(connection)
  } finally {
    connection.destroy()
  }
}

async function readAnswer(
  connection: AsyncIterable<Buffer> & { write(bytes: Buffer): unknown },
): Promise<RawAnswer> {
  let unread: Buffer = Buffer.alloc(0)
  const data: Buffer[] = []
  for await (const chunk of connection) {
    unread = Buffer.concat([unread, chunk])
    while (unread.length >= 9 && unread.length >= 9 + unread.readUIntBE(0, 3)) {
      const length = unread.readUIntBE(0, 3)
      const [type, flags] = [unread[3], unread[4] ?? 0]
      const stream = unread.readUInt32BE(5) & 0x7fffffff
      const body = unread.subarray(9, 9 + length)
      unread = unread.subarray(9 + length)
      const acknowledges = (flags & FLAG.ack) !== 0
      if (type === FRAME.settings && !acknowledges)
        connection.write(frame(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0)))
      if (type === FRAME.ping && !acknowledges) connection.write(frame(FRAME.ping, FLAG.ack, 0, body))
      if (type === FRAME.goAway) throw new Error(`GOAWAY with code ${body.readUInt32BE(4)}`)
      if (stream !== 1) continue
      if (type === FRAME.reset) return { message: undefined, resetCode: body.readUInt32BE(0) }
      if (type === FRAME.data) data.push(body)
      const ends = (type === FRAME.data || type === FRAME.headers) && (flags & FLAG.endStream) !== 0
      if (ends) {
        const all = Buffer.concat(data)
        return {
          message: all.length < 5 ? undefined : all.subarray(5, 5 + all.readUInt32BE(1)),
          resetCode: undefined,
        }
      }
    }
  }
  throw new Error('connection closed without an answer')
}

function headerFrames(call: RawCall): Buffer {
  // grpc-go's order. 0x83, 0x86: `:method: POST`, `:scheme: http` from the static table.
  const block = Buffer.concat([
    Buffer.from([0x83, 0x86]),
    literal(':path', call.path),
    literal(':authority', call.authority),
    literal('content-type', 'application/grpc'),
    literal('user-agent', 'grpc-go/1.56.3'),
    literal('te', 'trailers'),
    literal('grpc-timeout', '60S'),
  ])
  const size = call.headerFragmentBytes ?? block.length
  const frames: Buffer[] = []
  for (let at = 0; at < block.length; at += size) {
    const last = at + size >= block.length
    const type = at === 0 ? FRAME.headers : FRAME.continuation
    frames.push(frame(type, last ? FLAG.endHeaders : 0, 1, block.subarray(at, at + size)))
  }
  return Buffer.concat(frames)
}

/** A header field with incremental indexing, name and value spelled out without Huffman coding (RFC 7541 section 6.2.1). */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0x40]), text(name), text(value)])
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  const length: number[] = []
  if (bytes.length < 127) length.push(bytes.length)
  else {
    length.push(127)
    let rest = bytes.length - 127
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128)
    length.push(rest)
  }
  return Buffer.concat([Buffer.from(length), bytes])
}

function frame(type: number, flags: number, stream: number, body: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(body.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, body])
}
