/** The driver's side against our own server, over the dialing of both generations (driver.md sections 2, 4, 8). */
import { expect, test } from 'vitest'
import { startKubelet } from '../../src/driver/kubelet.ts'
import { startNode } from '../../src/driver/node.ts'
import { rawCall } from '../../src/driver/raw-http2.ts'
import { MOUNT_METHOD } from '../../src/rpc/contract.ts'
import type { MountPipeline } from '../../src/mount/answer.ts'
import { answerOf, mountRequest, running, type Running } from '../server/harness.ts'
import { afterwards } from './fixture.ts'

const volume = {
  pod: { name: 'web-0', namespace: 'shop' },
  spc: { name: 'db', provider: 'aws', parameters: { objects: 'db' } },
}

async function serve(pipeline: MountPipeline): Promise<Running> {
  const server = await running(pipeline)
  afterwards(() => server.stop())
  return server
}

for (const profile of ['1.6', '1.5'] as const) {
  test(`driver 2 our server answers driver ${profile} as it dials: mount, rotation, health check`, async () => {
    let contents = 'old'
    const { directory } = await serve(() => Promise.resolve(answerOf(Buffer.from(contents))))
    const node = await startNode({ profile, providerDirs: [directory], rotation: 120_000 })
    afterwards(() => node.close())
    const { code, target } = await node.publish(volume)
    expect(code).toBe('OK')
    contents = 'new'
    await node.tick()
    expect(node.files(target).get('db')?.contents.toString()).toBe('new')
    expect((await node.healthCheck()).get('aws')).toMatchObject({
      ok: true,
      message: { runtime_name: 'keyferry' },
    })
  })

  test(`driver 8 no pod of driver ${profile} starts on an empty volume, however our pipeline fails`, async () => {
    let failing = true
    const { directory } = await serve(() =>
      failing ? Promise.reject(new Error('anything at all')) : Promise.resolve(answerOf(Buffer.from('x'))),
    )
    const node = await startNode({ profile, providerDirs: [directory], rotation: 120_000 })
    afterwards(() => node.close())
    const kubelet = startKubelet(node)
    const pod = kubelet.add(volume)
    await kubelet.advance(5000)
    expect(pod.attempts.length).toBeGreaterThan(2)
    expect(pod.started).toBeUndefined()
    failing = false
    await kubelet.advance(60_000)
    expect(pod.started?.mounted).toBe(true)
    expect([...pod.visibleFiles().keys()]).toEqual(['db'])
    expect(kubelet.trapped()).toEqual([])
  })
}

test('driver 2 our server takes a legacy header block in one frame or in many', async () => {
  const { path } = await serve(() => Promise.resolve(answerOf(Buffer.from('x'))))
  const message = MOUNT_METHOD.requestSerialize(mountRequest())
  const call = { socket: path, authority: path, path: MOUNT_METHOD.path, message }
  for (const one of [call, { ...call, headerFragmentBytes: 50 }]) {
    const { message: bytes, resetCode } = await rawCall(one)
    expect(resetCode).toBeUndefined()
    expect(MOUNT_METHOD.responseDeserialize(bytes ?? Buffer.alloc(0)).files[0]?.path).toBe('db')
  }
})
