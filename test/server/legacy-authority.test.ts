import { Server, ServerCredentials } from '@grpc/grpc-js'
import * as fc from 'fast-check'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer as createHttp2Server } from 'node:http2'
import { createServer, type Server as NetServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectProvider, VERSION_METHOD } from '../../src/rpc/contract.ts'
import { acceptConnection } from '../../src/server/legacy-authority/connection.ts'
import { HpackError } from '../../src/server/legacy-authority/hpack-error.ts'
import { createDecoder, encodeHeaders, type HeaderField } from '../../src/server/legacy-authority/hpack.ts'
import {
  createAuthorityRewriter,
  FrameError,
  isAuthority,
} from '../../src/server/legacy-authority/rewriter.ts'
import {
  callFrames,
  callHeaders,
  connectRaw,
  FLAG,
  frame,
  frames,
  grpcMessage,
  header,
  PREFACE,
  TYPE,
} from './http2-wire.ts'

const LIMITS = { tableBytes: 4096, listBytes: 1 << 20 }
const LEGACY = '/var/run/secrets-store-csi-providers/aws.sock'

/** Header lists in what a rewriter gave back. */
function listsIn(bytes: Buffer): HeaderField[][] {
  const decoder = createDecoder(LIMITS)
  const lists: HeaderField[][] = []
  let open: Buffer[] = []
  for (const { type, flags, payload } of frames(bytes.subarray(PREFACE.length))) {
    if (type !== TYPE.headers && type !== TYPE.continuation) continue
    open.push(type === TYPE.headers && flags & FLAG.priority ? payload.subarray(5) : payload)
    if (flags & FLAG.endHeaders) {
      lists.push(decoder.decode(Buffer.concat(open)))
      open = []
    }
  }
  return lists
}

const anyBytes = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes))
const anyField = fc.record({
  name: fc.oneof(anyBytes, fc.constant(Buffer.from(':authority'))),
  value: fc.oneof(anyBytes, fc.constant(Buffer.from(LEGACY)), fc.constant(Buffer.from('localhost'))),
})
const anyList = fc.array(anyField, { maxLength: 12 })

/** Splits `bytes` at the given fractions. */
function chunked(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [0, ...cuts.map((cut) => Math.floor(cut * bytes.length)).toSorted((a, b) => a - b), bytes.length]
  return at.slice(1).map((end, index) => bytes.subarray(at[index], end))
}

describe('authority rewriter', () => {
  it('driver 2 any headers come out the same, only an invalid authority becomes localhost', () => {
    fc.assert(
      fc.property(fc.array(anyList, { minLength: 1, maxLength: 4 }), fc.boolean(), (lists, huffman) => {
        const input = Buffer.concat([
          PREFACE,
          ...lists.map((list, index) =>
            frame(TYPE.headers, FLAG.endHeaders, index * 2 + 1, encodeHeaders(list, { huffman })),
          ),
        ])
        const expected = lists.map((list) =>
          list.map((field) =>
            field.name.toString('latin1') === ':authority' && !isAuthority(field.value)
              ? { name: field.name, value: Buffer.from('localhost') }
              : field,
          ),
        )
        expect(listsIn(Buffer.concat(createAuthorityRewriter().push(input)))).toEqual(expected)
      }),
    )
  })

  it('driver 2 the output does not depend on how the input is cut', () => {
    fc.assert(
      fc.property(
        anyList,
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 }),
        anyBytes,
        (list, cuts, data) => {
          const block = encodeHeaders(list, { huffman: true })
          const half = block.length >> 1
          const input = Buffer.concat([
            PREFACE,
            frame(TYPE.settings, 0, 0, Buffer.alloc(6)),
            frame(TYPE.settings, FLAG.ack, 0),
            frame(TYPE.headers, 0, 1, block.subarray(0, half)),
            frame(TYPE.continuation, FLAG.endHeaders, 1, block.subarray(half)),
            frame(TYPE.data, FLAG.endStream, 1, data),
            frame(TYPE.settings, FLAG.ack, 0),
          ])
          const whole = Buffer.concat(createAuthorityRewriter().push(input))
          const rewriter = createAuthorityRewriter()
          const parts = chunked(input, cuts).flatMap((chunk) => rewriter.push(chunk))
          expect(Buffer.concat(parts)).toEqual(whole)
          expect(rewriter.acknowledgedAt()).toBe(PREFACE.length + 15)
        },
      ),
    )
  })

  it('driver 2 padding is dropped, priority and end of stream are kept', () => {
    const block = encodeHeaders([header(':authority', LEGACY)])
    const payload = Buffer.concat([Buffer.of(3), Buffer.from([0, 0, 0, 0, 15]), block, Buffer.alloc(3)])
    const flags = FLAG.endHeaders | FLAG.endStream | FLAG.padded | FLAG.priority
    const out = Buffer.concat(
      createAuthorityRewriter().push(Buffer.concat([PREFACE, frame(TYPE.headers, flags, 1, payload)])),
    )
    const [only] = frames(out.subarray(PREFACE.length))
    expect(only?.flags).toBe(FLAG.endHeaders | FLAG.endStream | FLAG.priority)
    expect(only?.payload.subarray(0, 5)).toEqual(Buffer.from([0, 0, 0, 0, 15]))
    expect(listsIn(out)).toEqual([[header(':authority', 'localhost')]])
  })

  it('driver 2 a list that needs more than one frame as literals is continued', () => {
    const block = Buffer.concat([
      encodeHeaders([header(':authority', LEGACY)]),
      // One field put into the dynamic table and repeated ten times: short coded, long as literals.
      Buffer.of(0x40, 1),
      Buffer.from('a'),
      Buffer.of(0x7f, 0xa1, 0x1e),
      Buffer.alloc(4000, 0x62),
      Buffer.alloc(10, 0xbe),
    ])
    const out = Buffer.concat(
      createAuthorityRewriter().push(
        Buffer.concat([PREFACE, frame(TYPE.headers, FLAG.endHeaders, 1, block)]),
      ),
    )
    expect(frames(out.subarray(PREFACE.length)).map(({ type }) => type)).toEqual([1, 9, 9])
    expect(listsIn(out)[0]).toHaveLength(12)
  })

  it('T14 floods, bombs and interrupted blocks end the connection', () => {
    const bad: Record<string, Buffer> = {
      'not HTTP/2': Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      'a header block was interrupted': Buffer.concat([
        PREFACE,
        frame(TYPE.headers, 0, 1, Buffer.of(0x82)),
        frame(TYPE.data, 0, 1),
      ]),
      'CONTINUATION without HEADERS': Buffer.concat([PREFACE, frame(TYPE.continuation, 4, 1)]),
      'frame over the limit': Buffer.concat([PREFACE, frame(TYPE.headers, 4, 1, Buffer.alloc(16_385, 0x82))]),
      'header block over the limit': Buffer.concat([
        PREFACE,
        frame(TYPE.headers, 0, 1, Buffer.of(0x82)),
        ...Array.from({ length: 100 }, () => frame(TYPE.continuation, 0, 1)),
      ]),
      'padding over the frame': Buffer.concat([
        PREFACE,
        frame(TYPE.headers, 4 | FLAG.padded, 1, Buffer.of(9, 0x82)),
      ]),
      'header list over the limit': Buffer.concat([
        PREFACE,
        frame(TYPE.headers, 4, 1, Buffer.alloc(16_000, 0x82)),
      ]),
    }
    for (const [message, input] of Object.entries(bad)) {
      expect(() => createAuthorityRewriter().push(input), message).toThrow(message)
    }
  })

  it('T14 arbitrary bytes after the preface pass or throw one of the two errors', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 6 }), (chunks) => {
        const rewriter = createAuthorityRewriter()
        rewriter.push(PREFACE)
        try {
          for (const chunk of chunks) rewriter.push(Buffer.from(chunk))
        } catch (error) {
          expect(error instanceof FrameError || error instanceof HpackError).toBe(true)
        }
      }),
      { numRuns: 3000 },
    )
  })
})

describe('connections', () => {
  let directory: string
  let grpc: Server
  let listener: NetServer
  let path: string
  let rewrites: number
  let garbage: number
  const sockets = new Set<Socket>()

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'kf-'))
    path = join(directory, 'a.sock')
    rewrites = 0
    garbage = 0
    grpc = new Server({ 'grpc.enable_channelz': 0 })
    grpc.addService(
      { Version: VERSION_METHOD },
      {
        Version: (_call: unknown, reply: (error: null, value: object) => void) => {
          reply(null, { version: 'v1alpha1', runtime_name: 'test', runtime_version: '1' })
        },
      },
    )
    const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure())
    listener = createServer((socket) => {
      sockets.add(socket)
      acceptConnection(socket, {
        inject: (connection) => {
          injector.injectConnection(connection)
        },
        onRewrite: () => rewrites++,
        onGarbage: () => garbage++,
      })
    })
    await new Promise<void>((resolve) => listener.listen(path, resolve))
  })
  afterEach(() => {
    grpc.forceShutdown()
    listener.close()
    for (const socket of sockets) socket.destroy()
    sockets.clear()
    rmSync(directory, { recursive: true })
  })

  const versionCall = (stream: number, authority: string): Buffer =>
    callFrames(stream, callHeaders(VERSION_METHOD.path, authority), grpcMessage(Buffer.alloc(0)))

  it('driver 2 a driver that sends the socket path as authority is answered', async () => {
    const client = await connectRaw(path)
    client.send(versionCall(1, LEGACY), versionCall(3, LEGACY))
    for (const stream of [1, 3]) {
      const outcome = await client.outcome(stream)
      expect(outcome.headers.get('grpc-status')).toBe('0')
      expect(outcome.reset).toBeUndefined()
    }
    expect(rewrites).toBe(1)
    client.socket.destroy()
  })

  it('driver 2 without the rewriter nghttp2 refuses such a driver, which is why it exists', async () => {
    const http2 = createHttp2Server()
    await new Promise<void>((resolve) => http2.listen(join(directory, 'bare.sock'), resolve))
    const client = await connectRaw(join(directory, 'bare.sock'))
    client.send(versionCall(1, LEGACY))
    expect((await client.outcome(1)).reset).toBe(1)
    client.socket.destroy()
    http2.close()
  })

  it('driver 2 a current driver is handed over unread after its first call', async () => {
    const client = connectProvider(path)
    for (let call = 0; call < 3; call++) {
      expect((await client.version({ deadlineMs: 5000 })).runtime_name).toBe('test')
    }
    expect(rewrites).toBe(0)
    client.close()
  })

  it('driver 2 grpc-js with a socket path as authority is answered too', async () => {
    const client = connectProvider(path, { 'grpc.default_authority': LEGACY })
    for (let call = 0; call < 3; call++) {
      expect((await client.version({ deadlineMs: 5000 })).runtime_name).toBe('test')
    }
    expect(rewrites).toBe(1)
    client.close()
  })

  it('driver 2 a client that calls before it has our SETTINGS is answered', async () => {
    const client = await connectRaw(path, { preface: false })
    client.send(PREFACE, frame(TYPE.settings, 0, 0), versionCall(1, 'localhost'))
    await new Promise((resolve) => setTimeout(resolve, 50))
    client.send(frame(TYPE.settings, FLAG.ack, 0), frame(TYPE.settings, FLAG.ack, 0))
    expect((await client.outcome(1)).headers.get('grpc-status')).toBe('0')
    expect(rewrites).toBe(0)
    client.socket.destroy()
  })

  it('driver 2 a client that pings before its first call gets its answer', async () => {
    const client = await connectRaw(path)
    client.send(frame(TYPE.ping, 0, 0, Buffer.from('12345678')))
    while (!client.received().includes('12345678')) await new Promise((resolve) => setTimeout(resolve, 5))
    client.send(versionCall(1, LEGACY))
    expect((await client.outcome(1)).headers.get('grpc-status')).toBe('0')
    client.socket.destroy()
  })

  it('driver 2 idle extra connections and one-byte writes are tolerated', async () => {
    const idle = await Promise.all(Array.from({ length: 20 }, () => connectRaw(path)))
    const client = await connectRaw(path)
    for (const byte of versionCall(1, LEGACY)) client.send(Buffer.of(byte))
    expect((await client.outcome(1)).headers.get('grpc-status')).toBe('0')
    expect(idle.every(({ socket }) => !socket.closed)).toBe(true)
    for (const { socket } of [client, ...idle]) socket.destroy()
  })

  it('driver 2 every authority that we let pass is accepted by nghttp2', async () => {
    const client = await connectRaw(path)
    const printable = Array.from({ length: 95 }, (_, index) => String.fromCharCode(32 + index))
    const passing = printable.filter((char) => isAuthority(Buffer.from(char)))
    expect(passing).toHaveLength(81)
    for (const [index, char] of passing.entries()) client.send(versionCall(index * 2 + 1, `a${char}b`))
    for (const [index, char] of passing.entries()) {
      const outcome = await client.outcome(index * 2 + 1)
      expect(outcome.headers.get('grpc-status'), `authority a${char}b`).toBe('0')
    }
    expect(rewrites).toBe(0)
    client.socket.destroy()
  })

  it('T14 garbage closes only its own connection', async () => {
    const good = connectProvider(path)
    await good.version({ deadlineMs: 5000 })
    const attacks = [
      Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'),
      Buffer.concat([PREFACE, frame(TYPE.headers, 0, 1, Buffer.of(0x82)), frame(TYPE.data, 0, 1)]),
      Buffer.concat([PREFACE, frame(TYPE.headers, FLAG.endHeaders, 1, Buffer.alloc(8000, 0x82))]),
      Buffer.concat([
        PREFACE,
        frame(TYPE.headers, FLAG.endHeaders, 1, Buffer.of(0xff, 0xff, 0xff, 0xff, 0x7f)),
      ]),
    ]
    for (const attack of attacks) {
      const client = await connectRaw(path, { preface: false })
      client.send(attack)
      await client.closed()
    }
    expect(garbage).toBe(attacks.length)
    expect((await good.version({ deadlineMs: 5000 })).runtime_name).toBe('test')
    good.close()
  })

  it('T14 random bytes at any stage of a connection never get out of it', async () => {
    const good = connectProvider(path)
    const stages = [
      [] as Buffer[],
      [PREFACE],
      [PREFACE, frame(TYPE.settings, 0, 0), frame(TYPE.settings, FLAG.ack, 0), versionCall(1, 'localhost')],
      [PREFACE, frame(TYPE.settings, 0, 0), versionCall(1, LEGACY)],
    ]
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...stages),
        fc.uint8Array({ minLength: 1, maxLength: 200 }),
        async (stage, bytes) => {
          const client = await connectRaw(path, { preface: false })
          client.send(...stage, Buffer.from(bytes))
          await new Promise((resolve) => setImmediate(resolve))
          client.socket.end()
          await client.closed()
        },
      ),
      { numRuns: 150 },
    )
    expect((await good.version({ deadlineMs: 5000 })).runtime_name).toBe('test')
    good.close()
  })
})
