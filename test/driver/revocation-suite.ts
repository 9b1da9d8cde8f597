/** Owns what a revocation must do to the files of running pods under a real driver (sops B5, threat model T25). */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startProcess } from '../peers/process.ts'
import { describeWithPeers } from '../peers/suite.ts'
import { sopsNode, type SopsNode } from '../support/sops-node.ts'
import { eventually } from './eventually.ts'
import type { RunningProvider } from './provider.ts'
import type { DriverVersion, PodVolume } from './real-driver.ts'
import { openStage, type Stage } from './stage.ts'

const root = join(import.meta.dirname, '../..')

/** How each driver is brought to ask again, and how often its reconciler does so by itself. */
const ROTATION: Readonly<Record<DriverVersion, string>> = { '1.6.0': '1ns', '1.5.6': '300ms' }

/** Declares the suite for one driver. */
export function revocationSuite(version: DriverVersion): void {
  const needs = { programs: [`secrets-store-csi-driver-${version}`], mountNamespace: true }
  describeWithPeers(`revocation under the real driver ${version}`, needs, () => {
    let stage: Stage
    let documents: SopsNode
    let provider: RunningProvider
    const start = (): Promise<RunningProvider> =>
      startProcess({
        name: 'keyferry',
        command: process.execPath,
        args: [
          join(root, 'bin/keyferry.mjs'),
          'serve',
          '--config',
          join(stage.scratch, 'config.yaml'),
          '--socket-dir',
          stage.socketDirs.main,
        ],
        scratch: stage.scratch,
        ready: ({ log }) => (log().includes('"msg":"ready"') ? true : undefined),
      })

    beforeAll(async () => {
      stage = await openStage({ version, rotationPollInterval: ROTATION[version] })
      documents = await sopsNode()
      const config = {
        kubernetes: 'off',
        sockets: { dialects: ['keyferry'] },
        cache: { freshFor: 0 },
        policy: { onRevoked: 'remove' },
        node: { stateDir: join(stage.scratch, 'state') },
        stores: { documents: { backend: 'sops', allow: [{ namespaces: ['shop'] }] } },
        backends: {
          sops: {
            roots: [{ path: documents.store }],
            identities: [{ path: documents.identity, shared: true }],
          },
        },
      }
      writeFileSync(join(stage.scratch, 'config.yaml'), JSON.stringify(config))
      provider = await start()
    })
    afterAll(async () => {
      await provider.stop()
      await stage.close()
      await documents.close()
    })

    const files = (pod: PodVolume): Record<string, string> => ({ ...stage.driver.tree(pod).files })

    /** Ids of the objects in the pod status, which the driver writes after the files. */
    const idsOf = (pod: PodVolume): string | undefined =>
      stage
        .podStatus(pod)
        ?.objects.map(({ id }) => id)
        .join()

    /** A running pod with one file from each of two documents of its own. */
    async function running(name: string): Promise<{ pod: PodVolume; user: string; password: string }> {
      const [user, password] = [`shop/${name}-user.yaml`, `shop/${name}-password.yaml`]
      documents.put(user, await documents.sealed({ value: 'app' }))
      documents.put(password, await documents.sealed({ value: 'secret' }))
      await stage.secretProviderClass(name, 'keyferry', {
        files: JSON.stringify([
          { path: 'user', store: 'documents', key: user, property: 'value' },
          { path: 'password', store: 'documents', key: password, property: 'value' },
        ]),
      })
      const pod = stage.pod(name)
      expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      expect(files(pod)).toEqual({ password: 'secret', user: 'app' })
      return { pod, user: join(documents.store, user), password: join(documents.store, password) }
    }

    /** Lets the driver ask the provider once more for the volume, and waits for what it makes of the answer. */
    async function republished(pod: PodVolume, what: string, holds: () => boolean): Promise<void> {
      if (version === '1.6.0') {
        // Kubelet's republish; one is enough.
        expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
        expect(holds()).toBe(true)
      } else await eventually(what, holds)
    }

    /** Waits until the provider has refused the pod so many times more. */
    async function refused(pod: PodVolume, times: number): Promise<void> {
      const count = (): number => provider.log().split('"outcome":"not-found"').length
      const before = count()
      if (version === '1.6.0')
        for (let time = 0; time < times; time += 1)
          expect(await stage.driver.publish(pod)).toMatchObject({ code: 0 })
      await eventually(`${times} refusals`, () => count() >= before + times)
    }

    test(`T25 real-${version} a deleted document takes its file away within one republish, and new pods fail with the reason`, async () => {
      const { pod, user } = await running('deleted')
      rmSync(user)
      await republished(pod, 'the file of the deleted document gone', () => !('user' in files(pod)))
      expect(files(pod)).toEqual({ password: 'secret' })
      await eventually('the pod status to follow', () => idsOf(pod) === 'password')
      const fresh = await stage.driver.publishAsKubelet(stage.pod('deleted'))
      expect(fresh).toMatchObject({ code: 5, message: expect.stringContaining('OBJECT_NOT_FOUND') })
    })

    test(`T25 real-${version} an outage keeps every file, and what was revoked meanwhile goes after it`, async () => {
      const { pod, user } = await running('outage')
      renameSync(documents.store, `${documents.store}.away`)
      mkdirSync(documents.store, { mode: 0o700 })
      await refused(pod, 2)
      expect(files(pod)).toEqual({ password: 'secret', user: 'app' })
      rmSync(documents.store, { recursive: true })
      renameSync(`${documents.store}.away`, documents.store)
      rmSync(user)
      await republished(pod, 'the file of the deleted document gone', () => !('user' in files(pod)))
      expect(files(pod)).toEqual({ password: 'secret' })
    })

    test(`sops B5 real-${version} when all are gone one empty file stays, and all come back with their documents`, async () => {
      const { pod, user, password } = await running('all')
      for (const path of [user, password]) renameSync(path, `${path}.away`)
      await republished(pod, 'nothing but .revoked', () => Object.keys(files(pod)).join() === '.revoked')
      expect(files(pod)).toEqual({ '.revoked': '' })
      await eventually('the pod status to follow', () => idsOf(pod) === '.revoked')
      for (const path of [user, password]) renameSync(`${path}.away`, path)
      await republished(pod, 'both files back', () => !('.revoked' in files(pod)))
      expect(files(pod)).toEqual({ password: 'secret', user: 'app' })
    })

    test(`sops B5 real-${version} a provider that was restarted in between removes it all the same`, async () => {
      const { pod, user } = await running('restarted')
      await provider.stop()
      rmSync(user)
      provider = await start()
      await republished(pod, 'the file of the deleted document gone', () => !('user' in files(pod)))
      expect(files(pod)).toEqual({ password: 'secret' })
    })

    test(`sops B5 real-${version} after a reboot the pod is mounted for the first time and fails with the true error`, async () => {
      const { pod, user } = await running('rebooted')
      expect(await stage.driver.unpublish(pod)).toMatchObject({ code: 0 })
      stage.api.remove('secretproviderclasspodstatuses', 'shop', `${pod.pod}-shop-rebooted`)
      await provider.stop()
      // As if another boot had written it.
      const state = join(stage.scratch, 'state/published.json')
      const memory = JSON.parse(readFileSync(state, 'utf8')) as { boot: string; volumes: object }
      expect(Object.keys(memory.volumes).length).toBeGreaterThan(0)
      writeFileSync(state, JSON.stringify({ ...memory, boot: 'another' }))
      rmSync(user)
      provider = await start()
      const again = await stage.driver.publishAsKubelet(pod)
      expect(again).toMatchObject({ code: 5, message: expect.stringContaining('OBJECT_NOT_FOUND') })
      expect(stage.driver.mounted(pod)).toBe(false)
    })
  })
}
