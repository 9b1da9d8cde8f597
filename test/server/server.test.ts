import { afterEach, describe, expect, it, vi } from 'vitest'
import { Client, status } from '@grpc/grpc-js'
import { connectProvider, MOUNT_METHOD, MOUNT_REQUEST } from '../../src/rpc/contract.ts'
import { encode, type Decoded } from '../../src/rpc/wire.ts'
import { startAdmin } from '../../src/server/admin.ts'
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
import { callFrames, callHeaders, connectRaw, frame, grpcMessage, TYPE } from './http2-wire.ts'

const started: Running[] = []
afterEach(async () => {
  for (const one of started.splice(0)) await one.stop()
})

async function start(...args: Parameters<typeof running>): Promise<Running> {
  const one = await running(...args)
  started.push(one)
  return one
}

const LEGACY_CLIENT = { 'grpc.default_authority': '/var/run/secrets-store-csi-providers/aws.sock' }

describe('shutdown', () => {
  it.each([
    ['a current', {}],
    ['a legacy', LEGACY_CLIENT],
  ])(
    'driver 4 a mount of %s driver that runs is finished, and a second SIGTERM cuts nothing',
    async (_, options) => {
      const go = gate()
      const one = await start(() => go.opened.then(() => answerOf(Buffer.from('in time'))))
      const client = connectProvider(one.path, options)
      const mount = client.mount(mountRequest())
      await until(() => one.server.stats().running === 1)
      const first = one.server.close({ drainMs: 20_000 })
      const second = one.server.close({ drainMs: 0 })
      expect(second).toBe(first)
      let closed = false
      void first.then(() => (closed = true))
      await new Promise((resolve) => setTimeout(resolve, 100))
      expect(closed).toBe(false)
      go.open()
      expect((await mount).files[0]?.contents.toString()).toBe('in time')
      await first
      client.close()
    },
  )

  it('driver 4 what still runs at the end of the drain gets a final code, queued mounts as well', async () => {
    const one = await start(() => new Promise(() => {}))
    const mounts = Array.from({ length: 40 }, () => failureOf(one.client.mount(mountRequest())))
    await until(() => one.server.stats().waiting === 28)
    await one.server.close({ drainMs: 50 })
    for (const { code, text } of await Promise.all(mounts)) {
      expect(code).toBe(status.FAILED_PRECONDITION)
      expect(text).toContain('SHUTTING_DOWN')
    }
    expect(one.server.stats()).toEqual({ running: 0, waiting: 0, requestBytes: 0, responseBytes: 0 })
  })

  it('driver 4 connections that have not called yet are told to go away and do not delay the end', async () => {
    const one = await start(smallFile)
    const idle = await connectRaw(one.path)
    const begun = performance.now()
    await one.server.close({ drainMs: 20_000 })
    expect(performance.now() - begun).toBeLessThan(5000)
    await idle.closed()
    expect(idle.received().includes(Buffer.from([0, 0, 8, 7, 0, 0, 0, 0, 0]))).toBe(true)
  })

  it('driver 5 surge: with two overlapping processes no mount fails, running or new', async () => {
    const go = gate()
    const first = await start(() => go.opened.then(() => answerOf(Buffer.from('first'))))
    const early = Array.from({ length: 12 }, () => first.client.mount(mountRequest()))
    await until(() => first.server.stats().running === 12)
    const second = await start(() => Promise.resolve(answerOf(Buffer.from('second'))), {
      directory: first.directory,
    })
    const closing = first.server.close({ drainMs: 20_000 })
    const late = await Promise.all(
      Array.from({ length: 12 }, () => first.client.mount(mountRequest(), { deadlineMs: 10_000 })),
    )
    go.open()
    const texts = [...(await Promise.all(early)), ...late].map(({ files }) => files[0]?.contents.toString())
    expect(texts).toEqual([...Array<string>(12).fill('first'), ...Array<string>(12).fill('second')])
    await closing
    expect(second.server.stats().running).toBe(0)
  })
})

describe('load', () => {
  it('T18 a storm of one namespace does not delay another one', async () => {
    const one = await start((request) =>
      request.pod.namespace === 'storm'
        ? new Promise(() => {})
        : Promise.resolve(answerOf(Buffer.from('calm'))),
    )
    const storm = Array.from({ length: 300 }, () =>
      failureOf(one.client.mount(mountRequest({ namespace: 'storm' }))),
    )
    await until(() => one.server.stats().waiting === 288)
    for (let call = 0; call < 20; call++) {
      await one.client.mount(mountRequest({ namespace: 'calm' }), { deadlineMs: 2000 })
    }
    await one.server.close({ drainMs: 0 })
    await Promise.all(storm)
  })

  it('T18 large requests of one namespace whose store hangs do not keep another from being read', async () => {
    const one = await start(
      (request) =>
        request.pod.namespace === 'storm'
          ? new Promise(() => {})
          : Promise.resolve(answerOf(Buffer.from('calm'))),
      { limits: { giveWayMs: 200 } },
    )
    // Twelve run; what waits fills the budget for requests, and the rest cannot be read.
    const storm = Array.from({ length: 50 }, () =>
      failureOf(one.client.mount(mountRequest({ namespace: 'storm', padding: 1024 * 1024 }))),
    )
    await until(() => one.server.stats().requestBytes > 20 * 1024 * 1024)
    const calm = await one.client.mount(mountRequest({ namespace: 'calm' }), { deadlineMs: 10_000 })
    expect(calm.files[0]?.contents.toString()).toBe('calm')
    await one.server.close({ drainMs: 0 })
    const failures = await Promise.all(storm)
    expect(new Set(failures.map(({ code }) => code))).toEqual(new Set([status.FAILED_PRECONDITION]))
    expect(failures.some(({ text }) => text.includes('TOO_MANY_MOUNTS'))).toBe(true)
  })

  it('T18 what the queue has no room for gets a final code and a text', async () => {
    const admission = {
      running: 1,
      runningPerNamespace: 1,
      runningBeside: 1,
      waiting: 2,
      waitingPerNamespace: 2,
    }
    const one = await start(() => new Promise(() => {}), { limits: { admission, budgetMs: 500 } })
    const codes = await Promise.all(
      Array.from({ length: 6 }, () => failureOf(one.client.mount(mountRequest()))),
    )
    expect(new Set(codes.map(({ code }) => code))).toEqual(new Set([status.FAILED_PRECONDITION]))
    expect(codes.filter(({ text }) => text.includes('TOO_MANY_MOUNTS'))).toHaveLength(3)
    expect(codes.filter(({ text }) => text.includes('TIMEOUT'))).toHaveLength(3)
  })

  it('T14 64 largest mounts at once are all answered, whole, with the byte budgets held', async () => {
    const contents = (4 * 1024 - 64) * 1024
    let most = 0
    let mostRunning = 0
    const one = await start(async () => {
      const { responseBytes, running } = one.server.stats()
      most = Math.max(most, responseBytes)
      mostRunning = Math.max(mostRunning, running)
      await new Promise((resolve) => setImmediate(resolve))
      return answerOf(Buffer.alloc(contents, 7))
    })
    const mounts = await Promise.all(
      Array.from({ length: 64 }, async (_, index) => {
        const request = mountRequest({ namespace: `n${index % 4}`, padding: 1024 * 1024 })
        const { files } = await one.client.mount(request, { deadlineMs: 25_000 })
        return files[0]?.contents.equals(Buffer.alloc(contents, 7))
      }),
    )
    expect(mounts.every(Boolean)).toBe(true)
    expect(mostRunning).toBe(16)
    expect(most).toBeLessThanOrEqual(16 * 1024 * 1024)
    await until(() => one.server.stats().responseBytes === 0)
    expect(one.server.stats()).toEqual({ running: 0, waiting: 0, requestBytes: 0, responseBytes: 0 })
  })

  it('T14 callers that hang up at any point of a large response leave nothing behind', async () => {
    const one = await start(() => Promise.resolve(answerOf(Buffer.alloc(3_000_000, 7))))
    const body = grpcMessage(encode(MOUNT_REQUEST, mountRequest() as unknown as Decoded))
    const window = frame(TYPE.window, 0, 0, Buffer.from([0x7f, 0, 0, 0]))
    const settings = frame(TYPE.settings, 0, 0, Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff]))
    for (let round = 0; round < 60; round++) {
      const authority = round % 2 ? 'localhost' : '/run/aws.sock'
      const client = await connectRaw(one.path)
      client.send(settings, window, callFrames(1, callHeaders(MOUNT_METHOD.path, authority), body))
      client.send(callFrames(3, callHeaders(MOUNT_METHOD.path, authority), body))
      await until(() => client.socket.bytesRead > round * 50_000)
      if (round % 3 === 0) client.send(frame(TYPE.rst, 0, 1, Buffer.from([0, 0, 0, 8])))
      client.socket.destroy()
    }
    await until(() => one.server.stats().responseBytes === 0 && one.server.stats().running === 0)
    expect((await one.client.mount(mountRequest())).files[0]?.contents.length).toBe(3_000_000)
    await until(() => one.server.stats().responseBytes === 0)
    expect(one.server.stats()).toEqual({ running: 0, waiting: 0, requestBytes: 0, responseBytes: 0 })
  })

  it('driver 4 a driver that never reads its response does not hold the budget of others', async () => {
    const answers = answerOf(Buffer.alloc(3_000_000, 7))
    const one = await start(() => Promise.resolve(answers), { limits: { budgetMs: 300, flushGraceMs: 300 } })
    const body = grpcMessage(encode(MOUNT_REQUEST, mountRequest() as unknown as Decoded))
    const client = await connectRaw(one.path)
    // No WINDOW_UPDATE: the response stops after the first 64 KiB.
    client.send(callFrames(1, callHeaders(MOUNT_METHOD.path, 'localhost'), body))
    await until(() => one.server.stats().responseBytes > 0)
    expect((await client.outcome(1)).reset).toBe(2)
    expect(one.server.stats().responseBytes).toBe(0)
    client.socket.destroy()
  })

  it('driver 4 no call of a mixed storm ends with a non-final code', async () => {
    let turn = 0
    const behaviours = [
      (): Promise<never> => new Promise(() => {}),
      (): Promise<never> => Promise.reject(new Error('broken')),
      smallFile,
      (): ReturnType<typeof smallFile> => Promise.resolve(answerOf(Buffer.alloc(5_000_000))),
    ]
    const one = await start(
      (...args) => behaviours[turn++ % behaviours.length]!(...(args as [never, never])),
      {
        limits: { budgetMs: 300 },
      },
    )
    const codes = await Promise.all(
      Array.from({ length: 200 }, (_, index) =>
        one.client.mount(mountRequest({ namespace: `n${index % 7}` })).then(
          () => 0,
          (error: { code: number }) => error.code,
        ),
      ),
    )
    expect(codes.filter((code) => NON_FINAL.has(code))).toEqual([])
    expect(new Set(codes).size).toBeGreaterThan(2)
  })
})

describe('start', () => {
  it('driver 5 the first call is our own, so that no mount waits for a cold process', async () => {
    const calls = vi.spyOn(Client.prototype, 'makeUnaryRequest')
    try {
      await start(smallFile)
      expect(calls.mock.calls.map(([method]) => method)).toEqual(['/v1alpha1.CSIDriverProvider/Version'])
    } finally {
      calls.mockRestore()
    }
  })
})

describe('admin listener', () => {
  it('T24 says health, readiness and metrics and nothing else', async () => {
    let ready = false
    const admin = await startAdmin({
      host: '127.0.0.1',
      port: 0,
      ready: () => ready,
      metrics: () => Promise.resolve({ contentType: 'text/plain; version=0.0.4', text: 'up 1\n' }),
    })
    const get = async (path: string, method = 'GET'): Promise<[number, string]> => {
      const response = await fetch(`http://127.0.0.1:${admin.port}${path}`, { method })
      return [response.status, await response.text()]
    }
    expect(await get('/healthz')).toEqual([200, 'ok\n'])
    expect(await get('/readyz')).toEqual([503, 'not ready\n'])
    ready = true
    expect(await get('/readyz?x')).toEqual([200, 'ready\n'])
    expect(await get('/metrics')).toEqual([200, 'up 1\n'])
    expect((await get('/'))[0]).toBe(404)
    expect((await get('/healthz', 'POST'))[0]).toBe(405)
    await admin.close()
  })

  it('T24 metrics that cannot be collected are an error, not a crash', async () => {
    const admin = await startAdmin({
      host: '127.0.0.1',
      port: 0,
      ready: () => true,
      metrics: () => Promise.reject(new Error('no')),
    })
    const response = await fetch(`http://127.0.0.1:${admin.port}/metrics`)
    expect([response.status, await response.text()]).toEqual([500, 'metrics could not be collected\n'])
    await admin.close()
  })
})
