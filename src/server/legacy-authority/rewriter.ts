/**
 * Owns the rewriting of what a driver ≤ 1.5 sends: it puts its socket's path into `:authority`, which
 * nghttp2 refuses before any JavaScript sees the call (driver.md section 2). Bytes in, bytes out; no
 * I/O. Every frame but HEADERS and CONTINUATION passes unread.
 */
import { createDecoder, encodeHeaders, type HeaderField } from './hpack.ts'

/** The peer does not speak HTTP/2 as it must; the connection has to be closed. */
export class FrameError extends Error {
  override readonly name = 'FrameError'
}

/** What the first bytes of a connection say about it. */
export type Verdict =
  /** No header block yet, or no acknowledgement of our SETTINGS yet. */
  | 'undecided'
  /** The first call's authority is one that nghttp2 accepts. */
  | 'standard'
  /** Authorities have to be rewritten, or the peer does something before its first call. */
  | 'rewrite'

export interface AuthorityRewriter {
  /**
   * Takes the next bytes from the client.
   * @returns what to hand to the HTTP/2 server.
   * @throws FrameError or HpackError; the rewriter must not be used afterwards.
   */
  push(chunk: Buffer): Buffer[]
  verdict(): Verdict
  /** Where in the input the acknowledgement was that {@link push} left out. */
  acknowledgedAt(): number | undefined
}

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
const HEAD_BYTES = 9
/** SETTINGS_MAX_FRAME_SIZE that both we and nghttp2 announce by saying nothing. */
const MAX_FRAME_BYTES = 16_384
/** SETTINGS_HEADER_TABLE_SIZE, likewise. */
const HEADER_TABLE_BYTES = 4096
/** nghttp2's own limit on a header list is 64 KiB as well. */
const MAX_LIST_BYTES = 64 * 1024
/** A block is never longer than its list plus framing, so more is an attack. */
const MAX_BLOCK_BYTES = 64 * 1024
const MAX_CONTINUATIONS = 8

const TYPE = { headers: 1, priority: 2, settings: 4, windowUpdate: 8, continuation: 9 } as const
const FLAG = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const
/** Frames that a client may send before its first call without making us answer. */
const SILENT: ReadonlySet<number> = new Set([
  TYPE.priority,
  TYPE.settings,
  TYPE.windowUpdate,
  TYPE.headers,
  TYPE.continuation,
])

const LOCALHOST = Buffer.from('localhost')
const AUTHORITY_NAME = Buffer.from(':authority')
/** Characters that nghttp2 lets pass in an authority. */
const AUTHORITY_BYTES: ReadonlySet<number> = new Set(
  Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!$%&'()*+,-.:;=[]_~"),
)

/** Whether nghttp2 accepts `authority`. */
export function isAuthority(authority: Buffer): boolean {
  return authority.length > 0 && authority.every((byte) => AUTHORITY_BYTES.has(byte))
}

interface OpenBlock {
  readonly stream: number
  readonly endStream: boolean
  /** The five bytes of stream priority, or none. */
  readonly priority: Buffer
  readonly parts: Buffer[]
  bytes: number
  continuations: number
}

/**
 * A rewriter for one connection, from its first byte on. Leaves out the first SETTINGS acknowledgement:
 * it answers the SETTINGS that the connection's owner sent, not those of the HTTP/2 server behind.
 */
export function createAuthorityRewriter(): AuthorityRewriter {
  const decoder = createDecoder({ tableBytes: HEADER_TABLE_BYTES, listBytes: MAX_LIST_BYTES })
  let held: Buffer = Buffer.alloc(0)
  let position = 0
  let prefaceSeen = false
  /** Bytes of the current frame's payload that still pass through. */
  let passing = 0
  let block: OpenBlock | undefined
  let acknowledgedAt: number | undefined
  let first: 'standard' | 'rewrite' | undefined

  /** Replaces a bad authority; called once for each complete block. */
  const rewritten = (open: OpenBlock): Buffer[] => {
    const fields = decoder.decode(Buffer.concat(open.parts))
    const bad = fields.some((field) => field.name.equals(AUTHORITY_NAME) && !isAuthority(field.value))
    first ??= bad ? 'rewrite' : 'standard'
    return headerFrames(open, bad ? fields.map(withLocalhost) : fields)
  }

  const headersPayload = (type: number, flags: number, stream: number, payload: Buffer): Buffer[] => {
    if (type === TYPE.headers) block = openBlock(flags, stream, payload)
    else if (block) {
      block.parts.push(payload)
      block.bytes += payload.length
      block.continuations++
    }
    if (!block) return []
    if (block.bytes > MAX_BLOCK_BYTES || block.continuations > MAX_CONTINUATIONS) {
      throw new FrameError('header block over the limit')
    }
    if ((flags & FLAG.endHeaders) === 0) return []
    const complete = block
    block = undefined
    return rewritten(complete)
  }

  const push = (chunk: Buffer): Buffer[] => {
    const out: Buffer[] = []
    let input = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    held = Buffer.alloc(0)
    while (input.length > 0) {
      if (passing > 0) {
        const part = input.subarray(0, passing)
        passing -= part.length
        position += part.length
        out.push(part)
        input = input.subarray(part.length)
        continue
      }
      if (!prefaceSeen) {
        const length = Math.min(PREFACE.length, input.length)
        if (!input.subarray(0, length).equals(PREFACE.subarray(0, length))) throw new FrameError('not HTTP/2')
        if (length < PREFACE.length) break
        prefaceSeen = true
        position += length
        out.push(PREFACE)
        input = input.subarray(length)
        continue
      }
      if (input.length < HEAD_BYTES) break
      const length = input.readUIntBE(0, 3)
      const type = input[3] ?? 0
      const flags = input[4] ?? 0
      const stream = input.readUInt32BE(5) & 0x7fffffff
      if (block && (type !== TYPE.continuation || stream !== block.stream)) {
        throw new FrameError('a header block was interrupted')
      }
      if (type === TYPE.headers || type === TYPE.continuation) {
        if (type === TYPE.continuation && !block) throw new FrameError('CONTINUATION without HEADERS')
        if (length > MAX_FRAME_BYTES) throw new FrameError('frame over the limit')
        if (input.length < HEAD_BYTES + length) break
        out.push(...headersPayload(type, flags, stream, input.subarray(HEAD_BYTES, HEAD_BYTES + length)))
        position += HEAD_BYTES + length
        input = input.subarray(HEAD_BYTES + length)
        continue
      }
      if (acknowledgedAt === undefined && type === TYPE.settings && flags & FLAG.ack && length === 0) {
        acknowledgedAt = position
        position += HEAD_BYTES
        input = input.subarray(HEAD_BYTES)
        continue
      }
      if (!SILENT.has(type)) first ??= 'rewrite'
      passing = HEAD_BYTES + length
    }
    // A copy: a view would keep the whole chunk, of which this is a rest, from being freed.
    held = Buffer.from(input)
    return out
  }

  return {
    push,
    verdict: () => {
      if (first === 'rewrite') return 'rewrite'
      return first === 'standard' && acknowledgedAt !== undefined ? 'standard' : 'undecided'
    },
    acknowledgedAt: () => acknowledgedAt,
  }
}

function withLocalhost(field: HeaderField): HeaderField {
  return field.name.equals(AUTHORITY_NAME) && !isAuthority(field.value)
    ? { name: field.name, value: LOCALHOST }
    : field
}

/** A HEADERS payload without its padding (RFC 9113 section 6.2). */
function openBlock(flags: number, stream: number, payload: Buffer): OpenBlock {
  const padding = flags & FLAG.padded ? (payload[0] ?? 0) : 0
  const start = flags & FLAG.padded ? 1 : 0
  const priorityBytes = flags & FLAG.priority ? 5 : 0
  if (start + priorityBytes + padding > payload.length) throw new FrameError('padding over the frame')
  const fragment = payload.subarray(start + priorityBytes, payload.length - padding)
  return {
    stream,
    endStream: (flags & FLAG.endStream) !== 0,
    priority: payload.subarray(start, start + priorityBytes),
    parts: [Buffer.from(fragment)],
    bytes: fragment.length,
    continuations: 0,
  }
}

/** HEADERS and, where the literals need more than one frame, CONTINUATION. */
function headerFrames(open: OpenBlock, fields: readonly HeaderField[]): Buffer[] {
  const payload = Buffer.concat([open.priority, encodeHeaders(fields)])
  const frames: Buffer[] = []
  for (let at = 0; at === 0 || at < payload.length; at += MAX_FRAME_BYTES) {
    const part = payload.subarray(at, at + MAX_FRAME_BYTES)
    const last = at + MAX_FRAME_BYTES >= payload.length ? FLAG.endHeaders : 0
    const start = (open.endStream ? FLAG.endStream : 0) | (open.priority.length > 0 ? FLAG.priority : 0)
    const head = Buffer.alloc(HEAD_BYTES)
    head.writeUIntBE(part.length, 0, 3)
    head[3] = at === 0 ? TYPE.headers : TYPE.continuation
    head[4] = last | (at === 0 ? start : 0)
    head.writeUInt32BE(open.stream, 5)
    frames.push(head, part)
  }
  return frames
}
