import { Client, credentials, status } from '@grpc/grpc-js'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { MountFailure } from '../../src/mount/errors.ts'
import { MOUNT_METHOD, MOUNT_REQUEST, MOUNT_RESPONSE } from '../../src/rpc/contract.ts'
import { encode, encodedLength, type Decoded } from '../../src/rpc/wire.ts'
import { finalStatus } from '../../src/server/final-status.ts'
import { budgetEnd } from '../../src/server/mount-call.ts'
import {
  answerOf,
  failureOf,
  gate,
  mountRequest,
  NON_FINAL,
  running,
  smallFile,
  until,
  type Running,
} from './harness.ts'
import {
  callFrames,
  callHeaders,
  connectRaw,
  FLAG,
  frame,
  grpcMessage,
  header,
  TYPE,
  type RawOutcome,
} from './http2-wire.ts'
import { encodeHeaders } from '../../src/server/legacy-authority/hpack.ts'

let one: Running
afterEach(() => one.stop())

const MIB = 1024 * 1024

/** Contents that make the whole encoded response exactly `bytes` long. */
function contentsFor(bytes: number): Buffer {
  const sizeWith = (length: number): number => {
    const { files, versions } = answerOf(Buffer.alloc(length))
    return encodedLength(MOUNT_RESPONSE, { files, object_version: versions } as unknown as Decoded)
  }
  let length = bytes - 64
  while (sizeWith(length) < bytes) length++
  return Buffer.alloc(length, 1)
}

/** Sends one raw Mount with any headers and body, and waits for its end. */
async function rawMount(
  body: Buffer,
  extra: [string, string][] = [],
  path: string = MOUNT_METHOD.path,
): Promise<RawOutcome> {
  const client = await connectRaw(one.path)
  const fields = [...callHeaders(path, 'localhost'), ...extra.map(([name, value]) => header(name, value))]
  client.send(
    frame(TYPE.headers, FLAG.endHeaders | (body.length === 0 ? FLAG.endStream : 0), 1, encodeHeaders(fields)),
  )
  for (let at = 0; at < body.length; at += 16_000) {
    const part = body.subarray(at, at + 16_000)
    client.send(frame(TYPE.data, at + 16_000 >= body.length ? FLAG.endStream : 0, 1, part))
  }
  const outcome = await client.outcome(1)
  client.socket.destroy()
  return outcome
}

const wireRequest = (): Buffer => encode(MOUNT_REQUEST, mountRequest() as unknown as Decoded)

describe('Version', () => {
  it('driver 1 says API version, runtime name and runtime version', async () => {
    one = await running(smallFile)
    expect(await one.client.version({ deadlineMs: 5000 })).toEqual({
      version: 'v1alpha1',
      runtime_name: 'keyferry',
      runtime_version: '0.0.0-test',
    })
  })

  it('driver 2 is answered at once while every mount hangs', async () => {
    one = await running(() => new Promise(() => {}))
    const mounts = Array.from({ length: 100 }, () => failureOf(one.client.mount(mountRequest())))
    await until(() => one.server.stats().waiting === 88)
    for (let call = 0; call < 20; call++) {
      expect((await one.client.version({ deadlineMs: 1000 })).version).toBe('v1alpha1')
    }
    await one.server.close({ drainMs: 0 })
    await Promise.all(mounts)
  })

  it('driver 2 is answered whatever the request holds', async () => {
    one = await running(smallFile)
    const outcome = await rawMount(
      grpcMessage(Buffer.from([0xff, 0xff, 0xff])),
      [],
      '/v1alpha1.CSIDriverProvider/Version',
    )
    expect(outcome.headers.get('grpc-status')).toBe('0')
  })

  it('azure the standard health check says SERVING, List and Watch are not implemented', async () => {
    one = await running(smallFile)
    const client = new Client(`unix:${one.path}`, credentials.createInsecure(), {
      'grpc.default_authority': 'localhost',
    })
    const call = (method: string): Promise<Buffer> =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          `/grpc.health.v1.Health/${method}`,
          (bytes: Buffer) => bytes,
          (bytes) => bytes,
          Buffer.alloc(0),
          (error, value) => (error ? reject(error) : resolve(value!)),
        )
      })
    expect(await call('Check')).toEqual(Buffer.from([8, 1]))
    expect((await failureOf(call('Watch'))).code).toBe(status.UNIMPLEMENTED)
    expect((await failureOf(call('List'))).code).toBe(status.UNIMPLEMENTED)
    client.close()
  })
})

describe('Mount', () => {
  it('driver 1 hands the decoded request to the pipeline and its files to the driver', async () => {
    one = await running((request, context) => {
      expect(request.pod.namespace).toBe('shop')
      expect(context.provider).toBe('aws')
      return Promise.resolve(answerOf(Buffer.from([0, 255, 10])))
    })
    expect(await one.client.mount(mountRequest())).toEqual({
      object_version: [{ id: 'db', version: '1' }],
      files: [{ path: 'db', mode: 0o644, contents: Buffer.from([0, 255, 10]) }],
    })
    await until(() => one.reports.length === 1)
    expect(one.reports[0]).toMatchObject({ provider: 'aws', namespace: 'shop', grpcCode: 0, outcome: 'ok' })
  })

  it('driver 8.2 attributes that are not a JSON object of strings are INVALID_ARGUMENT', async () => {
    one = await running(smallFile)
    for (const attributes of ['', 'null', '[]', '{"a":1}', '{']) {
      const { code, text } = await failureOf(one.client.mount({ ...mountRequest(), attributes }))
      expect(code, attributes).toBe(status.INVALID_ARGUMENT)
      expect(text).toContain('attributes')
    }
  })

  it('driver 8.3 a failure keeps its code and text', async () => {
    one = await running(() =>
      Promise.reject(MountFailure.of('denied', 'DENIED', 'no "db" \ud800 ümlaut', 'Ask')),
    )
    expect(await failureOf(one.client.mount(mountRequest()))).toEqual({
      code: status.PERMISSION_DENIED,
      text: 'DENIED: no "db" \ufffd ümlaut [denied]. Ask.',
    })
  })

  it('driver 8.3 any other throw is INTERNAL with a stable text that quotes nothing', async () => {
    const thrown: unknown[] = [new Error('s3cr3t'), 's3cr3t', undefined, Object.create(null)]
    one = await running(() => {
      throw thrown.shift()
    })
    const seen = new Set<string>()
    while (thrown.length > 0) {
      const { code, text } = await failureOf(one.client.mount(mountRequest()))
      expect(code).toBe(status.INTERNAL)
      seen.add(text)
    }
    expect([...seen]).toHaveLength(1)
    expect([...seen][0]).not.toContain('s3cr3t')
    expect(JSON.stringify(one.log.lines)).not.toContain('s3cr3t')
  })

  it('driver 8.5 a response at the limit passes and one byte more is refused by us, not by the client', async () => {
    let contents = contentsFor(4 * MIB)
    one = await running(() => Promise.resolve(answerOf(contents)))
    expect((await one.client.mount(mountRequest())).files[0]!.contents).toHaveLength(contents.length)
    contents = contentsFor(4 * MIB + 1)
    const { code, text } = await failureOf(one.client.mount(mountRequest()))
    expect(code).toBe(status.OUT_OF_RANGE)
    for (const part of ['4194305', '4194304', 'maxCallRecvMsgSize']) expect(text).toContain(part)
    // Wiped although it was never sent.
    expect(contents.every((byte) => byte === 0)).toBe(true)
  })

  it('driver 4 a pipeline that hangs for ever is FAILED_PRECONDITION inside the budget, without a deadline too', async () => {
    let signal: AbortSignal | undefined
    one = await running(
      (_, context) => {
        signal = context.signal
        return new Promise(() => {})
      },
      { limits: { budgetMs: 200 } },
    )
    const { code, text } = await failureOf(one.client.mount(mountRequest()))
    expect(code).toBe(status.FAILED_PRECONDITION)
    expect(text).toMatch(/^TIMEOUT: the mount did not finish within 0.2 s \[timeout\]/)
    expect(signal?.aborted).toBe(true)
    expect(one.server.stats()).toEqual({ running: 0, waiting: 0, requestBytes: 0, responseBytes: 0 })
  })

  it("driver 4 the answer comes before the caller's deadline", async () => {
    one = await running(() => new Promise(() => {}))
    const { code, text } = await failureOf(one.client.mount(mountRequest(), { deadlineMs: 1000 }))
    expect(code).toBe(status.FAILED_PRECONDITION)
    expect(text).toContain('TIMEOUT')
  })

  it('driver 4 the budget is the smaller of our own and what the deadline leaves', () => {
    expect(budgetEnd(0, 90_000, Infinity)).toBe(90_000)
    expect(budgetEnd(0, 90_000, 120_000)).toBe(90_000)
    expect(budgetEnd(0, 90_000, 60_000)).toBe(55_000)
    expect(budgetEnd(0, 90_000, 1000)).toBe(900)
    expect(budgetEnd(0, 90_000, 10)).toBe(-10)
    expect(budgetEnd(50, 90_000, 10)).toBe(-10)
  })

  it('driver 4 an answer that comes after the budget is released and changes nothing', async () => {
    const late = gate()
    const answer = answerOf(Buffer.from('late'))
    one = await running(() => late.opened.then(() => answer), { limits: { budgetMs: 50 } })
    expect((await failureOf(one.client.mount(mountRequest()))).code).toBe(status.FAILED_PRECONDITION)
    late.open()
    await until(() => answer.released === 1)
    expect(one.reports).toHaveLength(1)
  })

  it('T24 contents and the frame that carried them are overwritten once the response is flushed', async () => {
    const contents = Buffer.from('c4n4ry-c4n4ry-c4n4ry')
    const answer = answerOf(contents)
    one = await running(() => Promise.resolve(answer))
    const frames: Buffer[] = []
    const encodeFrame = Buffer.allocUnsafe.bind(Buffer)
    Buffer.allocUnsafe = (size) => {
      const made = encodeFrame(size)
      frames.push(made)
      return made
    }
    // A raw client, because grpc-js as a client would make a frame of its own.
    const client = await connectRaw(one.path)
    try {
      client.send(callFrames(1, callHeaders(MOUNT_METHOD.path, 'localhost'), grpcMessage(wireRequest())))
      await until(
        () => client.received().includes('c4n4ry-c4n4ry-c4n4ry') && one.server.stats().responseBytes === 0,
      )
    } finally {
      Buffer.allocUnsafe = encodeFrame
    }
    client.socket.destroy()
    expect(answer.released).toBe(1)
    expect(contents.every((byte) => byte === 0)).toBe(true)
    const size = encodedLength(MOUNT_RESPONSE, {
      files: answer.files,
      object_version: answer.versions,
    } as unknown as Decoded)
    const ours = frames.filter((made) => made.length === size + 5)
    expect(ours).toHaveLength(1)
    expect(ours[0]?.readUInt32BE(1)).toBe(size)
    expect(ours[0]?.subarray(5).every((byte) => byte === 0)).toBe(true)
  })

  it('T24 a request is overwritten wherever it was received, and its memory given back', async () => {
    one = await running(smallFile)
    const pieces: Uint8Array[] = []
    const whole: Buffer[] = []
    const concat = Buffer.concat.bind(Buffer)
    const message = grpcMessage(MOUNT_METHOD.requestSerialize(mountRequest({ padding: 10_000 })))
    Buffer.concat = (list, length) => {
      const made = concat(list, length)
      if (made.length === message.length) {
        pieces.push(...list)
        whole.push(made)
      }
      return made
    }
    const client = await connectRaw(one.path)
    try {
      client.send(callFrames(1, callHeaders(MOUNT_METHOD.path, 'localhost'), message))
      await until(() => one?.reports.length === 1)
    } finally {
      Buffer.concat = concat
    }
    client.socket.destroy()
    expect(pieces.length).toBeGreaterThan(2)
    expect(pieces.slice(2).every((piece) => piece.every((byte) => byte === 0))).toBe(true)
    expect(whole.map(({ buffer }) => buffer.byteLength)).toEqual([0])
  })

  it('driver 4 a caller that hangs up fires the signal and frees everything', async () => {
    const started = gate()
    let signal: AbortSignal | undefined
    const answer = answerOf(Buffer.alloc(10))
    const late = gate()
    one = await running(async (_, context) => {
      signal = context.signal
      started.open()
      await late.opened
      return answer
    })
    const client = await connectRaw(one.path)
    const fields = callHeaders(MOUNT_METHOD.path, 'localhost')
    client.send(callFrames(1, fields, grpcMessage(wireRequest())))
    await started.opened
    expect(one.server.stats().running).toBe(1)
    client.send(frame(TYPE.rst, 0, 1, Buffer.from([0, 0, 0, 8])))
    await until(() => one.server.stats().running === 0)
    expect(signal?.aborted).toBe(true)
    expect(one.reports).toMatchObject([{ outcome: 'cancelled', grpcCode: 1 }])
    late.open()
    await until(() => answer.released === 1)
    client.socket.destroy()
  })
})

describe('whether an answer was delivered', () => {
  const counted = (contents: Buffer) => {
    const state = { delivered: 0 }
    return { state, answer: { ...answerOf(contents), delivered: () => void (state.delivered += 1) } }
  }

  it('sops B5 is told once, when the whole response was handed over', async () => {
    const { state, answer } = counted(Buffer.from('content'))
    one = await running(() => Promise.resolve(answer))
    await one.client.mount(mountRequest())
    await until(() => state.delivered > 0)
    expect(state.delivered).toBe(1)
  })

  it('sops B5 is not told of an answer that is too large, too late, or that nobody waits for', async () => {
    const large = counted(Buffer.alloc(2000))
    one = await running(() => Promise.resolve(large.answer), { limits: { maxResponseBytes: 1000 } })
    expect((await failureOf(one.client.mount(mountRequest()))).text).toContain('RESPONSE_TOO_LARGE')
    await one.stop()

    const late = counted(Buffer.from('late'))
    const opened = gate()
    one = await running(() => opened.opened.then(() => late.answer), { limits: { budgetMs: 50 } })
    await failureOf(one.client.mount(mountRequest()))
    opened.open()
    await until(() => late.answer.released === 1)
    await one.stop()

    const unwanted = counted(Buffer.from('unwanted'))
    const [started, go] = [gate(), gate()]
    one = await running(async () => {
      started.open()
      await go.opened
      return unwanted.answer
    })
    const client = await connectRaw(one.path)
    client.send(callFrames(1, callHeaders(MOUNT_METHOD.path, 'localhost'), grpcMessage(wireRequest())))
    await started.opened
    client.send(frame(TYPE.rst, 0, 1, Buffer.from([0, 0, 0, 8])))
    await until(() => one.server.stats().running === 0)
    go.open()
    await until(() => unwanted.answer.released === 1)
    client.socket.destroy()
    expect([large, late, unwanted].map(({ state }) => state.delivered)).toEqual([0, 0, 0])
  })
})

describe('codes that grpc-js sends by itself', () => {
  const expectFinal = (outcome: RawOutcome, code: number): void => {
    expect(outcome.headers.get('grpc-status')).toBe(String(code))
    expect(NON_FINAL.has(code)).toBe(false)
  }

  it('driver 4 a request over the receive limit is OUT_OF_RANGE', async () => {
    one = await running(smallFile)
    const { code, text } = await failureOf(
      one.client.mount({ ...mountRequest(), secrets: 'x'.repeat(4 * MIB) }),
    )
    expect(code).toBe(status.OUT_OF_RANGE)
    expect(text).toContain('REQUEST_TOO_LARGE')
    await until(() => one.reports.length === 1)
    expect(one.reports[0]).toMatchObject({ outcome: 'refused', grpcCode: status.OUT_OF_RANGE })
  })

  it('driver 4 a request that unpacks to more than the limit is OUT_OF_RANGE', async () => {
    one = await running(smallFile)
    const bomb = grpcMessage(gzipSync(Buffer.alloc(32 * MIB)), true)
    expectFinal(await rawMount(bomb, [['grpc-encoding', 'gzip']]), status.OUT_OF_RANGE)
  })

  it('driver 4 broken compression, unknown compression and broken protobuf have final codes', async () => {
    one = await running(smallFile)
    const broken = grpcMessage(Buffer.from('not gzip'), true)
    expectFinal(await rawMount(broken, [['grpc-encoding', 'gzip']]), status.INTERNAL)
    expectFinal(await rawMount(broken, [['grpc-encoding', 'br']]), status.UNIMPLEMENTED)
    expectFinal(await rawMount(grpcMessage(Buffer.from([0xff]))), status.INVALID_ARGUMENT)
  })

  it('driver 4 no message, two messages and an unknown method have final codes', async () => {
    one = await running(smallFile)
    expectFinal(await rawMount(Buffer.alloc(0)), status.UNIMPLEMENTED)
    expectFinal(
      await rawMount(Buffer.concat([grpcMessage(wireRequest()), grpcMessage(wireRequest())])),
      status.UNIMPLEMENTED,
    )
    expectFinal(
      await rawMount(grpcMessage(wireRequest()), [], '/v1alpha1.CSIDriverProvider/Unmount'),
      status.UNIMPLEMENTED,
    )
  })

  it.each(['1n', '0S', '1m', '99999999H', '99999999S', 'soon', '-1S', ''])(
    'driver 4 a grpc-timeout of "%s" gets no code but a final one',
    async (timeout) => {
      one = await running(() => new Promise(() => {}), { limits: { budgetMs: 200 } })
      const outcome = await rawMount(grpcMessage(wireRequest()), [['grpc-timeout', timeout]])
      expect(outcome.headers.has('grpc-status')).toBe(true)
      expect(NON_FINAL.has(Number(outcome.headers.get('grpc-status')))).toBe(false)
    },
  )

  it('driver 4 a request that is never completed is ended by the budget', async () => {
    one = await running(smallFile, { limits: { budgetMs: 200 } })
    const client = await connectRaw(one.path)
    const fields = callHeaders(MOUNT_METHOD.path, 'localhost')
    client.send(
      frame(TYPE.headers, FLAG.endHeaders, 1, encodeHeaders(fields)),
      frame(TYPE.data, 0, 1, grpcMessage(Buffer.alloc(100)).subarray(0, 50)),
    )
    expectFinal(await client.outcome(1), status.FAILED_PRECONDITION)
    await until(() => one.server.stats().requestBytes === 0)
    client.socket.destroy()
  })

  it('driver 4 any status becomes one with a final code and a text that gRPC can carry', async () => {
    one = await running(smallFile)
    for (let code = 0; code <= 20; code++) {
      const final = finalStatus({ code, details: 'x\ud800'.repeat(2000) }, 1)
      expect(NON_FINAL.has(final.code)).toBe(false)
      expect(final.code).toBeLessThanOrEqual(16)
      expect(() => encodeURI(final.details)).not.toThrow()
      expect(Buffer.byteLength(final.details)).toBeLessThanOrEqual(4000)
    }
  })
})
