/**
 * What a pod finds after a revocation, with either generation of driver: the provider's process put together
 * from a configuration, over real sockets, with a SOPS store on disk.
 */
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createProviderProcess, type ProviderProcess } from '../../src/commands/provider-process.ts'
import { loadConfig } from '../../src/config.ts'
import type { VolumeRequest } from '../../src/driver/volume-request.ts'
import { openPublished } from '../../src/mount/published.ts'
import type { RunningServer } from '../../src/server/server.ts'
import { silentAudit } from '../../src/telemetry/audit.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { silentMeter } from '../../src/telemetry/metrics.ts'
import { sopsNode, type SopsNode } from '../support/sops-node.ts'

const FILES = `
- { path: user, store: documents, key: shop/a.yaml, property: user }
- { path: password, store: documents, key: shop/b.yaml, property: password }
`
const STORE = { backend: 'sops', allow: [{ namespaces: ['shop'] }] }

let here: SopsNode
beforeEach(async () => {
  here = await sopsNode()
  here.put('shop/a.yaml', await here.sealed({ user: 'app' }))
  here.put('shop/b.yaml', await here.sealed({ password: 'secret' }))
})
afterEach(() => here.close())

interface Process extends Pick<ProviderProcess, 'policy'> {
  /** Reads the configuration again, with these changes. */
  reload(changes: Readonly<Record<string, unknown>>): Promise<void>
  stop(): Promise<void>
}

/** A process with `policy.onRevoked: remove` and these changes. */
async function started(
  changes: Readonly<Record<string, unknown>> = {},
  options: Partial<Parameters<typeof createProviderProcess>[0]> = {},
): Promise<Process> {
  const loaded = (some: Readonly<Record<string, unknown>>) =>
    loadConfig(
      here.config({
        policy: { onRevoked: 'remove' },
        cache: { freshFor: 0 },
        stores: { documents: STORE },
        node: { stateDir: join(here.directory, 'state') },
        ...some,
      }),
    )
  const provider = await createProviderProcess({
    loaded: await loaded(changes),
    log: silentLogger,
    audit: silentAudit,
    meter: silentMeter,
    env: {},
    ...options,
  })
  const server: RunningServer = await provider.listen({
    directories: [{ path: here.sockets }],
    alsoSearched: [],
  })
  let running = true
  const stop = async (): Promise<void> => {
    if (!running) return
    running = false
    await server.close({ drainMs: 1000 })
    await provider.close()
  }
  here.afterwards(stop)
  const reload = async (some: Readonly<Record<string, unknown>>) => provider.apply(await loaded(some))
  return { policy: provider.policy, reload, stop }
}

const pod = (name: string, parameters: Record<string, string> = {}): VolumeRequest => ({
  pod: { name, namespace: 'shop', serviceAccount: 'web' },
  spc: { name: 'web-secrets', provider: 'keyferry', parameters: { files: FILES, ...parameters } },
})

const revokeUser = (): void => rmSync(join(here.store, 'shop/a.yaml'))

describe.each(['1.6', '1.5'] as const)('sops B5 driver %s', (profile) => {
  async function running(parameters?: Record<string, string>) {
    const node = await here.node({ profile, rotation: 1000, mounts: 'emulated' })
    const volume = pod('web-0', parameters)
    const { target, code, message } = await node.publish(volume)
    expect({ code, message }).toEqual({ code: 'OK', message: '' })
    const seen = (): Record<string, string> =>
      Object.fromEntries([...node.files(target)].map(([path, { contents }]) => [path, contents.toString()]))
    expect(seen()).toEqual({ user: 'app', password: 'secret' })
    return { node, volume, target, seen }
  }

  it('a deleted document takes its file away within one republish; new pods fail with the reason', async () => {
    await started()
    const { node, seen } = await running()
    revokeUser()
    await node.tick()
    expect(seen()).toEqual({ password: 'secret' })
    expect(await node.publish(pod('web-1'))).toMatchObject({
      code: 'NotFound',
      message: expect.stringContaining('OBJECT_NOT_FOUND'),
    })
  })

  it('a binding that names others takes the file away, too', async () => {
    await started()
    const { node, seen } = await running()
    here.put('shop/a.yaml', await here.sealed({ user: 'app' }, ['shop/other']))
    await node.tick()
    expect(seen()).toEqual({ password: 'secret' })
  })

  it('files stay while the documents’ disk is not mounted, and go once it is and they are not there', async () => {
    await started()
    const { node, seen } = await running()
    renameSync(here.store, `${here.store}.away`)
    await node.tick()
    expect(seen()).toEqual({ user: 'app', password: 'secret' })
    // A mount point without its disk is an empty directory.
    mkdirSync(here.store, { mode: 0o700 })
    await node.tick()
    expect(seen()).toEqual({ user: 'app', password: 'secret' })
    rmSync(here.store, { recursive: true })
    renameSync(`${here.store}.away`, here.store)
    revokeUser()
    await node.tick()
    expect(seen()).toEqual({ password: 'secret' })
  })

  it('files stay when the node has lost the identity that opens them', async () => {
    const before = await started()
    const { node, seen } = await running()
    await before.stop()
    const keys = join(here.directory, 'no-keys')
    mkdirSync(keys, { mode: 0o700 })
    const sops = { roots: [{ path: here.store }], identities: [{ path: keys, shared: true }] }
    await started({ backends: { sops } })
    expect(await node.publish(pod('web-1'))).toMatchObject({
      message: expect.stringContaining('NO_KEY_OPENED'),
    })
    await node.tick()
    expect(seen()).toEqual({ user: 'app', password: 'secret' })
  })

  it('when all are gone one empty file is left, and everything comes back with the documents', async () => {
    await started()
    const { node, target, seen } = await running()
    const [a, b] = [await here.sealed({ user: 'app' }), await here.sealed({ password: 'new' })]
    revokeUser()
    rmSync(join(here.store, 'shop/b.yaml'))
    await node.tick()
    expect(seen()).toEqual({ '.revoked': '' })
    expect(node.files(target).get('.revoked')?.mode).toBe(0o444)
    expect([...node.objects.statuses.values()].map(({ status }) => status.objects)).toEqual([
      [{ id: '.revoked', version: '1' }],
    ])
    here.put('shop/a.yaml', a)
    here.put('shop/b.yaml', b)
    await node.tick()
    expect(seen()).toEqual({ user: 'app', password: 'new' })
  })

  it('a provider that was restarted knows from its state directory which pods run', async () => {
    const before = await started()
    const { node, seen } = await running()
    await before.stop()
    expect(readdirSync(join(here.directory, 'state')).sort()).toEqual(['published.json', 'version.key'])
    revokeUser()
    await started()
    await node.tick()
    expect(seen()).toEqual({ password: 'secret' })
  })

  it('without a state directory a restart forgets: files stay until they were delivered once more', async () => {
    const before = await started({ node: {} })
    const { node, seen } = await running()
    await before.stop()
    const document = await here.sealed({ user: 'app' })
    revokeUser()
    await started({ node: {} })
    await node.tick()
    expect(seen()).toEqual({ user: 'app', password: 'secret' })
    here.put('shop/a.yaml', document)
    await node.tick()
    revokeUser()
    await node.tick()
    expect(seen()).toEqual({ password: 'secret' })
  })

  it('after a reboot the same pod is mounted for the first time, and fails with the true error', async () => {
    const stateDir = join(here.directory, 'state')
    const memory = (bootId: string) => openPublished({ stateDir, bootId, log: silentLogger, now: Date.now })
    const before = await started({}, { published: await memory('boot-1') })
    const { node, volume, target } = await running()
    await before.stop()
    await node.unpublish(target)
    revokeUser()
    const after = await started({}, { published: await memory('boot-2') })
    expect(await node.publish(volume)).toMatchObject({ code: 'NotFound' })
    expect(node.isMounted(target)).toBe(false)
    await after.stop()
  })

  it('a rule that the operator withdraws takes the files of its store away, without a restart', async () => {
    const provider = await started({ policy: {} })
    const { node, seen } = await running()
    const narrow = { ...STORE, allow: [{ namespaces: ['shop'], keys: ['shop/b.yaml'] }] }
    await provider.reload({ policy: {}, stores: { documents: narrow } })
    await node.tick()
    expect(seen()).toEqual({ user: 'app', password: 'secret' })
    await provider.reload({ stores: { documents: narrow } })
    await node.tick()
    expect(seen()).toEqual({ password: 'secret' })
    await provider.reload({ stores: { documents: { ...STORE, allow: [{ namespaces: ['bank'] }] } } })
    await node.tick()
    expect(seen()).toEqual({ '.revoked': '' })
    await provider.reload({})
    await node.tick()
    expect(seen()).toEqual({ user: 'app', password: 'secret' })
  })

  it('the class may ask to keep its files; a node says keep by default', async () => {
    await started()
    const one = await running({ onRevoked: 'keep' })
    revokeUser()
    await one.node.tick()
    expect(one.seen()).toEqual({ user: 'app', password: 'secret' })
  })

  it('the class may ask for removal where the node keeps', async () => {
    await started({ policy: {} })
    const one = await running({ onRevoked: 'remove' })
    revokeUser()
    await one.node.tick()
    expect(one.seen()).toEqual({ password: 'secret' })
  })
})

it('sops B5 a template goes with any object that it needs, and stays without an optional one', async () => {
  await started()
  const node = await here.node({ rotation: 1000, mounts: 'emulated' })
  const template = (path: string, optional: string): string => `
- path: ${path}
  template: '{{ user | default: "nobody" }}:{{ password }}'
  refs:
    - { name: user, store: documents, key: shop/a.yaml, property: user, optional: ${optional} }
    - { name: password, store: documents, key: shop/b.yaml, property: password }
`
  const files = `${FILES}${template('needed', 'false')}${template('wanted', 'true')}`
  const { target, code, message } = await node.publish(pod('web-0', { files }))
  expect({ code, message }).toEqual({ code: 'OK', message: '' })
  const seen = () =>
    Object.fromEntries([...node.files(target)].map(([path, { contents }]) => [path, contents.toString()]))
  expect(seen()).toMatchObject({ needed: 'app:secret', wanted: 'app:secret' })
  revokeUser()
  await node.tick()
  expect(seen()).toEqual({ password: 'secret', wanted: 'nobody:secret' })
})

it('driver 3.1 with driver 1.5 a volume that is mounted anew fails with the true error, known as it is', async () => {
  await started()
  const node = await here.node({ profile: '1.5', rotation: 1000, mounts: 'emulated' })
  const { target } = await node.publish(pod('web-0'))
  await node.tick()
  await node.unpublish(target)
  revokeUser()
  expect(await node.publish(pod('web-0'))).toMatchObject({ code: 'NotFound' })
})

it('T28 onRevoked is part of the policy whose hash is told', async () => {
  const remove = await started()
  await remove.stop()
  const keep = await started({ policy: {} })
  expect(remove.policy.hash).not.toBe(keep.policy.hash)
})

it('onRevoked: a word that is none of the two stops the class, in either dialect', async () => {
  await started()
  const node = await here.node({ mounts: 'emulated' })
  expect(await node.publish(pod('web-0', { onRevoked: 'delete' }))).toMatchObject({
    code: 'InvalidArgument',
    message: expect.stringContaining('KEYFERRY_ON_REVOKED: onRevoked: "delete" is none of keep, remove'),
  })
  const sops = {
    name: 'sops',
    provider: 'sops',
    parameters: { sopsFile: 'shop/a.yaml', expand: 'topLevel', onRevoked: 'delete' },
  }
  expect(await node.publish({ ...pod('web-1'), spc: sops })).toMatchObject({
    code: 'InvalidArgument',
    message: expect.stringContaining('onRevoked: "delete" is none of keep, remove'),
  })
})
