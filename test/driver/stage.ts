/** Owns one stage for a suite: stub API server, socket folders, a driver, and pods to publish for. */
import { rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { scratchFolder } from '../peers/process.ts'
import { eventually } from './eventually.ts'
import { NODE_NAME, startRealDriver } from './real-driver.ts'
import type { DriverVersion, PodVolume, RealDriver } from './real-driver.ts'
import { startStubApiServer } from './stub-api-server.ts'
import type { StubApiServer, StubOptions } from './stub-api-server.ts'

export interface Stage {
  readonly api: StubApiServer
  readonly driver: RealDriver
  readonly scratch: string
  readonly socketDirs: { readonly additional: string; readonly main: string }
  /** A pod with one volume of this SecretProviderClass, known to the API server. Names are unique. */
  readonly pod: (secretProviderClass: string, extra?: Partial<PodVolume>) => PodVolume
  /** Creates or replaces a SecretProviderClass; resolves when the driver's cache has it. */
  readonly secretProviderClass: (
    name: string,
    provider: string,
    parameters: Readonly<Record<string, string>>,
    namespace?: string,
  ) => Promise<void>
  /** The pod status that the driver wrote for a volume. */
  readonly podStatus: (volume: PodVolume) => PodStatus | undefined
  readonly close: () => Promise<void>
}

export interface PodStatus {
  readonly objects: readonly { readonly id: string; readonly version: string }[]
}

export interface StageOptions extends StubOptions {
  readonly version: DriverVersion
  readonly rotationPollInterval?: string
  readonly healthCheckInterval?: string
}

export async function openStage(options: StageOptions): Promise<Stage> {
  const scratch = await scratchFolder()
  const socketDirs = { additional: join(scratch, 'etc'), main: join(scratch, 'run') }
  await Promise.all(Object.values(socketDirs).map((path) => mkdir(path)))
  const api = await startStubApiServer(options)
  api.put('csidrivers', { metadata: { name: 'secrets-store.csi.k8s.io' }, spec: {} })
  const driver = await startRealDriver({ ...options, api, scratch, socketDirs })
  let pods = 0
  let markers = 0
  return {
    api,
    driver,
    scratch,
    socketDirs,
    pod: (secretProviderClass, extra = {}) => {
      pods += 1
      const volume: PodVolume = {
        pod: `web-${pods}`,
        namespace: 'shop',
        uid: `00000000-0000-4000-8000-${String(pods).padStart(12, '0')}`,
        serviceAccount: 'web',
        volume: 'secrets',
        secretProviderClass,
        ...extra,
      }
      api.put('pods', podObject(volume))
      return volume
    },
    secretProviderClass: async (name, provider, parameters, namespace = 'shop') => {
      api.put('secretproviderclasses', { metadata: { name, namespace }, spec: { provider, parameters } })
      // Watch events arrive in order: when the driver knows the marker, it knows the change before it.
      const marker = `marker-${(markers += 1)}`
      api.put('secretproviderclasses', {
        metadata: { name: marker, namespace },
        spec: { provider, parameters: { marker } },
      })
      await eventually(`the driver to know SecretProviderClass ${name}`, () =>
        driver.knowsClass(namespace, marker),
      )
    },
    podStatus: (volume) =>
      api.get('secretproviderclasspodstatuses', volume.namespace, podStatusName(volume))?.['status'] as
        | PodStatus
        | undefined,
    close: async () => {
      await driver.stop()
      await api.close()
      rmSync(scratch, { recursive: true, force: true })
    },
  }
}

export function podStatusName({ pod, namespace, secretProviderClass }: PodVolume): string {
  return `${pod}-${namespace}-${secretProviderClass}`
}

function podObject(volume: PodVolume): Parameters<StubApiServer['put']>[1] {
  return {
    metadata: { name: volume.pod, namespace: volume.namespace, uid: volume.uid },
    spec: {
      nodeName: NODE_NAME,
      serviceAccountName: volume.serviceAccount,
      volumes: [
        {
          name: volume.volume,
          csi: {
            driver: 'secrets-store.csi.k8s.io',
            readOnly: true,
            volumeAttributes: { ...volume.attributes, secretProviderClass: volume.secretProviderClass },
          },
        },
      ],
    },
    status: { phase: 'Running' },
  }
}
