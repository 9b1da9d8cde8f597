/** Publishing, rotating and unpublishing in profile 1.6 (driver.md sections 4, 5), on real and emulated volumes. */
import * as fs from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { startProcess } from '../../src/driver/faults.ts'
import { openMounts } from '../../src/driver/mounts.ts'
import { afterwards, pair, volume } from './fixture.ts'
import { answer } from './provider.ts'

const probe = await openMounts('auto')
await probe.close()
const MINUTE = 60_000

const mountedHere = (dir: string): string[] =>
  fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(` ${dir}`))

for (const mounts of ['tmpfs', 'emulated'] as const) {
  const impossible = mounts === 'tmpfs' && probe.kind !== 'tmpfs'
  describe(
    impossible ? `${mounts} (skipped: needs root, unshare and mount)` : mounts,
    { skip: impossible },
    () => {
      test('driver 4 a first publish makes the directories 0750, mounts a 1777 root and fills it', async () => {
        const { node } = await pair(() => answer({ a: '1' }), { mounts })
        const { target, code } = await node.publish(volume())
        expect(code).toBe('OK')
        expect(node.mounts).toBe(mounts)
        expect(node.isMounted(target)).toBe(true)
        expect(node.tree(target)[0]).toEqual({ path: '.', kind: 'directory', mode: '1777', size: 0 })
        expect(fs.statSync(node.at(dirname(target))).mode & 0o7777).toBe(0o750)
        expect(node.files(target).get('a')).toEqual({ mode: 0o644, contents: Buffer.from('1') })
        expect(mountedHere(node.root)).toEqual([])
        expect(node.metrics.text()).toBe('node_publish_total{os_type="linux",provider="scripted"} 1\n')
      })

      test('driver 4 a failed first publish leaves an unmounted, empty directory', async () => {
        const { node } = await pair(() => ({ ...answer({ a: '1', '../b': '' }) }), { mounts })
        const { target, code } = await node.publish(volume())
        expect(code).toBe('Unknown')
        expect(node.isMounted(target)).toBe(false)
        expect(node.tree(target)).toEqual([{ path: '.', kind: 'directory', mode: '0750', size: 0 }])
      })

      test('driver 4 without rotation a second publish is OK and calls nobody', async () => {
        const { node, provider } = await pair(() => answer({ a: '1' }), { mounts })
        await node.publish(volume())
        expect(await node.publish(volume())).toMatchObject({ code: 'OK', called: false })
        expect(provider.calls).toHaveLength(1)
        expect(node.metrics.value('node_publish_total', { provider: '' })).toBe(1)
      })

      test('driver 4 the poll interval counts from the last change of the root, not from the last call', async () => {
        const { node, provider } = await pair(() => answer({ a: '1' }), { mounts, rotation: 2 * MINUTE })
        await node.publish(volume())
        await node.clock.advance(1.9 * MINUTE)
        expect(await node.publish(volume())).toMatchObject({ code: 'OK', called: false })
        await node.clock.advance(0.2 * MINUTE)
        expect(await node.publish(volume())).toMatchObject({ called: true, files: 'unchanged' })
        expect(await node.publish(volume())).toMatchObject({ called: true, files: 'unchanged' })
        provider.script = () => answer({ a: '2' })
        expect(await node.publish(volume())).toMatchObject({ called: true, files: 'written' })
        expect(await node.publish(volume())).toMatchObject({ called: false })
        expect(provider.calls).toHaveLength(4)
      })

      test('driver 4 a rotation sends the same attributes as the first mount, with no object versions', async () => {
        const { node, provider } = await pair(() => answer({ a: '1' }), { mounts, rotation: 2 * MINUTE })
        await node.publish(volume({ volumeAttributes: { objects: 'of the pod' } }))
        await node.tick()
        expect(provider.calls).toHaveLength(2)
        expect(provider.calls[1]?.attributes).toBe(provider.calls[0]?.attributes)
        expect(provider.calls[1]?.current_object_version).toEqual([])
      })

      test('driver 4 a failed rotation is masked, keeps the old files, counts twice and is tried again at once', async () => {
        const { node, provider } = await pair(() => answer({ a: '1' }), { mounts, rotation: 2 * MINUTE })
        const { target } = await node.publish(volume())
        provider.script = () => ({ code: 7, details: 'no more' })
        const [result] = await node.tick()
        expect(result).toMatchObject({
          code: 'OK',
          called: true,
          masked: 'rpc error: code = PermissionDenied desc = no more',
          errorType: 'GRPCProviderError',
        })
        expect(node.files(target).get('a')?.contents.toString()).toBe('1')
        expect(node.events.list()).toEqual([])
        const labels = { provider: 'scripted', error_type: 'GRPCProviderError' }
        expect(node.metrics.value('node_publish_error_total', labels)).toBe(1)
        expect(node.metrics.value('rotation_reconcile_error_total', { ...labels, rotated: 'true' })).toBe(1)
        expect(await node.publish(volume())).toMatchObject({ code: 'OK', called: true })
      })

      test('driver 4 a deleted class is not masked and shows on the running pod', async () => {
        const { node } = await pair(() => answer({ a: '1' }), { mounts, rotation: 2 * MINUTE })
        const { target } = await node.publish(volume())
        await node.clock.advance(2 * MINUTE)
        node.objects.classes.clear()
        const result = await node.publish(volume({ spc: 'web-secrets' }))
        expect(result).toMatchObject({ code: 'Unknown', errorType: 'SecretProviderClassNotFound' })
        expect(node.isMounted(target)).toBe(true)
        expect(node.files(target).size).toBe(1)
      })

      test('driver 4 a write that failed half-way moves the root’s time, so the next rotation waits', async () => {
        const { node, provider } = await pair(() => answer({ x: '1' }), { mounts, rotation: 2 * MINUTE })
        const { target } = await node.publish(volume())
        provider.script = () => answer({ 'a/b': '2', a: '1' })
        const [result] = await node.tick()
        expect(result).toMatchObject({ code: 'OK', errorType: 'FileWriteError' })
        expect(result).toHaveProperty(
          'masked',
          expect.stringMatching(new RegExp(`^open ${target}/.*/a: is a directory$`)),
        )
        expect(await node.publish(volume())).toMatchObject({ code: 'OK', called: false })
      })

      test('driver 4 a second publish while the first runs is OK at once, files or not', async () => {
        let release: (() => void) | undefined
        const gate = new Promise<void>((resolve) => (release = resolve))
        const { node, provider } = await pair(
          async () => {
            await gate
            return answer({ a: '1' })
          },
          { mounts, rotation: 2 * MINUTE },
        )
        const first = node.publish(volume())
        while (provider.calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 2))
        expect(await node.publish(volume())).toMatchObject({ code: 'OK', called: false })
        expect(node.files(node.target(volume())).size).toBe(0)
        release?.()
        expect(await first).toMatchObject({ code: 'OK', files: 'written' })
        expect(provider.calls).toHaveLength(1)
      })

      test('driver 3 the path . deletes a running pod’s files and is masked', async () => {
        const { node, provider } = await pair(() => answer({ a: '1' }), { mounts, rotation: 2 * MINUTE })
        const { target } = await node.publish(volume())
        provider.script = () => answer({ '.': 'x' })
        const [result] = await node.tick()
        expect(result).toMatchObject({
          code: 'OK',
          masked: `cleanup failure: unlinkat ${target}: device or resource busy`,
        })
        expect(node.tree(target)).toHaveLength(1)
        expect(node.isMounted(target)).toBe(true)
      })

      test('driver 5 unpublish empties, unmounts and removes, can be repeated, and the provider is not told', async () => {
        const { node, provider } = await pair(() => answer({ '.dot': '1', 'a/b': '2' }), { mounts })
        const { target } = await node.publish(volume())
        for (let i = 0; i < 2; i++) expect(await node.unpublish(target)).toEqual({ code: 'OK', message: '' })
        expect(fs.existsSync(node.at(target))).toBe(false)
        expect(fs.existsSync(node.at(dirname(target)))).toBe(true)
        expect(provider.calls).toHaveLength(1)
        expect(provider.versionCalls).toHaveLength(0)
        expect(node.metrics.value('node_unpublish_total')).toBe(2)
        expect(await node.publish(volume())).toMatchObject({ code: 'OK', called: true })
      })

      test('driver 5 a driver killed between tmpfs and write leaves the pod with an empty volume', async () => {
        const { node, provider } = await pair(() => answer({ a: '1' }), { mounts })
        node.faults.dieAfterTmpfs = true
        expect(await node.publish(volume())).toMatchObject({
          code: 'Unavailable',
          message: 'error reading from server: EOF',
        })
        const { code, target } = await node.publish(volume())
        expect(code).toBe('OK')
        expect(node.files(target).size).toBe(0)
        expect(provider.calls).toHaveLength(0)
      })

      test('driver 9 a node that is closed leaves no mount and no file behind', async () => {
        const { node } = await pair(() => answer({ a: '1' }), { mounts })
        const { target } = await node.publish(volume())
        await node.close()
        expect(mountedHere(node.root)).toEqual([])
        expect(fs.existsSync(target)).toBe(false)
        expect(fs.existsSync(node.root)).toBe(false)
      })
    },
  )
}

test.skipIf(probe.kind !== 'tmpfs')(
  'driver 5 a volume with an open file is busy (skipped without root)',
  async () => {
    const { node } = await pair(() => answer({ a: '1' }), { mounts: 'tmpfs' })
    const { target } = await node.publish(volume())
    const open = fs.openSync(node.at(`${target}/a`), 'r')
    expect(await node.unpublish(target)).toMatchObject({
      code: 'Internal',
      message: expect.stringContaining('target is busy') as string,
    })
    fs.closeSync(open)
    expect(await node.unpublish(target)).toMatchObject({ code: 'OK' })
    expect(node.metrics.value('node_unpublish_error_total')).toBe(1)
  },
)

test('driver 9 a directory that is no mount keeps its files and takes every publish', async () => {
  const { node, provider, dir } = await pair(() => answer({ a: '1' }), { mounts: 'directory' })
  const targetPath = `${dir}/out`
  expect(await node.publish(volume({ targetPath }))).toMatchObject({ code: 'OK', files: 'written' })
  provider.script = () => answer({ b: '2' })
  expect(await node.publish(volume({ targetPath }))).toMatchObject({ code: 'OK', files: 'written' })
  await node.close()
  expect(fs.readFileSync(`${targetPath}/b`, 'utf8')).toBe('2')
  expect(fs.existsSync(`${targetPath}/a`)).toBe(false)
})

test('driver 9 an emulated unmount gives a directory its time and mode back', async () => {
  const mounts = await openMounts('emulated')
  afterwards(() => mounts.close())
  const { dir } = await pair(() => answer({}))
  fs.mkdirSync(`${dir}/v`, 0o750)
  fs.utimesSync(`${dir}/v`, 1_000_000, 1_000_000)
  await mounts.mount(`${dir}/v`)
  expect(fs.statSync(`${dir}/v`).mtimeMs).toBeGreaterThan(Date.now() - 60_000)
  fs.writeFileSync(`${dir}/v/secret`, 'x')
  await mounts.unmount(`${dir}/v`)
  const { mtimeMs, mode } = fs.statSync(`${dir}/v`)
  expect([mtimeMs, mode & 0o7777]).toEqual([1_000_000_000, 0o750])
  expect(fs.readdirSync(`${dir}/v`)).toEqual([])
})

test.skipIf(probe.kind !== 'tmpfs')(
  'driver 9 a killed test process takes its mounts with it (skipped without root)',
  async () => {
    const script = fileURLToPath(new URL('node-process.ts', import.meta.url))
    const { dir } = await pair(() => answer({}))
    const child = await startProcess(process.execPath, [script, dir], 'mounted')
    const seen = (await child.line('mounted')).split(' ')[1] ?? ''
    expect(fs.readdirSync(seen)).toEqual(['inside'])
    await child.kill()
    await expect.poll(() => fs.existsSync(seen)).toBe(false)
    expect(mountedHere(dir)).toEqual([])
    expect(fs.readdirSync(`${dir}/volume`)).toEqual([])
  },
)
