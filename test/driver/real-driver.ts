/**
 * Owns the real Secrets Store CSI Driver in a test: started in a mount namespace of its own against
 * the stub API server, called as kubelet calls it, observed from outside through /proc.
 */
import { createHash } from 'node:crypto'
import { readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { startProcess } from '../peers/process.ts'
import type { Exit } from '../peers/process.ts'
import { freePort, peerProgram } from '../peers/start.ts'
import { loadService, openClient } from './grpc.ts'
import type { CallResult } from './grpc.ts'
import type { StubApiServer } from './stub-api-server.ts'
import { readVolumeTree } from './volume-tree.ts'
import type { VolumeTree } from './volume-tree.ts'

const proto = join(import.meta.dirname, 'csi.proto')
const identity = loadService(proto, 'csi.v1.Identity')
const node = loadService(proto, 'csi.v1.Node')

export const NODE_NAME = 'node-1'
const TOKENS_KEY = 'csi.storage.k8s.io/serviceAccount.tokens'

export type DriverVersion = '1.6.0' | '1.5.6'

export interface RealDriverOptions {
  readonly version: DriverVersion
  readonly api: StubApiServer
  /** An existing short folder; the driver's socket and the volumes live in it. */
  readonly scratch: string
  /** Directories searched for `<provider>.sock`, first the additional one. */
  readonly socketDirs: { readonly additional: string; readonly main: string }
  /** undefined: rotation off. A Go duration such as `1s`. */
  readonly rotationPollInterval?: string
  /** The driver asks every provider it has used for its Version this often. A Go duration; default never. */
  readonly healthCheckInterval?: string
}

/** One inline volume of one pod, as kubelet knows it. */
export interface PodVolume {
  readonly pod: string
  readonly namespace: string
  readonly uid: string
  readonly serviceAccount: string
  readonly volume: string
  readonly secretProviderClass: string
  /** The pod's own `volumeAttributes`. */
  readonly attributes?: Readonly<Record<string, string>>
  /** Data of the node-publish Secret. */
  readonly secrets?: Readonly<Record<string, string>>
  /** The tokens text that kubelet delivers, and where (driver.md section 6). */
  readonly tokens?: { readonly text: string; readonly in: 'context' | 'secrets' }
}

export interface RealDriver {
  readonly version: DriverVersion
  readonly pid: number
  /** NodePublishVolume: the first one mounts, later ones republish. Deadline 120 s unless given. */
  readonly publish: (volume: PodVolume, deadlineMs?: number) => Promise<CallResult<unknown>>
  /** What kubelet does after a first publish that failed: a final code removes the folder. */
  readonly publishAsKubelet: (volume: PodVolume, deadlineMs?: number) => Promise<CallResult<unknown>>
  /**
   * True when the driver's cache has a SecretProviderClass. Asked with a publish that is not read-only,
   * which the driver refuses after the lookup and before the provider.
   */
  readonly knowsClass: (namespace: string, name: string) => Promise<boolean>
  readonly unpublish: (volume: PodVolume) => Promise<CallResult<unknown>>
  readonly targetPath: (volume: PodVolume) => string
  /** True when something is mounted on the volume's folder inside the driver's namespace. */
  readonly mounted: (volume: PodVolume) => boolean
  /** What the pod would see. */
  readonly tree: (volume: PodVolume) => VolumeTree
  /** A path of the driver's namespace as this process can open it. */
  readonly inside: (path: string) => string
  /** Sum of a counter over all label sets that contain every given label text. */
  readonly metric: (name: string, ...labels: readonly string[]) => Promise<number>
  readonly log: () => string
  readonly running: () => boolean
  readonly stop: () => Promise<Exit>
}

/** The five codes after which kubelet does not know whether the mount happened (driver.md section 4). */
const nonFinal = new Set([1, 4, 8, 10, 14])

/** Starts a driver and waits until it answers on its CSI socket. */
export async function startRealDriver(options: RealDriverOptions): Promise<RealDriver> {
  const { version, scratch, socketDirs } = options
  const socket = join(scratch, `csi-${version}.sock`)
  const kubeconfig = join(scratch, 'kubeconfig')
  writeFileSync(kubeconfig, kubeconfigFor(options.api.url))
  const metricsPort = await freePort(1)
  const client = openClient(socket)
  const driver = await startProcess({
    name: `driver-${version}`,
    command: 'unshare',
    args: [
      '--mount',
      '--propagation=private',
      peerProgram(`secrets-store-csi-driver-${version}`),
      `--kubeconfig=${kubeconfig}`,
      `--endpoint=unix://${socket}`,
      `--nodeid=${NODE_NAME}`,
      `--provider-volume=${socketDirs.main}`,
      `--additional-provider-volume-paths=${socketDirs.additional}`,
      `--metrics-addr=127.0.0.1:${metricsPort}`,
      `--enable-secret-rotation=${options.rotationPollInterval !== undefined}`,
      ...(options.rotationPollInterval ? [`--rotation-poll-interval=${options.rotationPollInterval}`] : []),
      ...(options.healthCheckInterval
        ? ['--provider-health-check', `--provider-health-check-interval=${options.healthCheckInterval}`]
        : []),
      '-v=5',
    ],
    // The reconciler of 1.5 reads this variable rather than the flag.
    env: { KUBECONFIG: kubeconfig },
    scratch,
    ready: async () =>
      (await client.call(identity, 'GetPluginInfo', {}, 1_000)).code === 0 ? true : undefined,
  })
  const inside = (path: string) => join('/proc', String(driver.pid), 'root', path)
  const targetPath = ({ uid, volume }: PodVolume) =>
    join(scratch, 'pods', uid, 'volumes/kubernetes.io~csi', volume, 'mount')

  const publish = async (volume: PodVolume, deadlineMs = 120_000) => {
    const target = targetPath(volume)
    await mkdir(dirname(target), { recursive: true })
    return client.call(node, 'NodePublishVolume', publishRequest(volume, target), deadlineMs)
  }
  let probes = 0
  const knowsClass = async (namespace: string, name: string) => {
    const uid = `probe-${(probes += 1)}`
    const probe = {
      pod: uid,
      namespace,
      uid,
      serviceAccount: 'probe',
      volume: 'probe',
      secretProviderClass: name,
    }
    const target = join(scratch, uid)
    const request = { ...publishRequest(probe, target), readonly: false }
    const { message } = await client.call(node, 'NodePublishVolume', request, 10_000)
    removeFolder(target)
    return message.includes('Readonly is not true')
  }
  return {
    version,
    pid: driver.pid,
    publish,
    publishAsKubelet: async (volume, deadlineMs) => {
      const result = await publish(volume, deadlineMs)
      if (result.code !== 0 && !nonFinal.has(result.code)) removeFolder(targetPath(volume))
      return result
    },
    knowsClass,
    unpublish: (volume) =>
      client.call(
        node,
        'NodeUnpublishVolume',
        { volume_id: volumeId(volume), target_path: targetPath(volume) },
        30_000,
      ),
    targetPath,
    mounted: (volume) =>
      readFileSync(`/proc/${driver.pid}/mounts`, 'utf8').includes(` ${targetPath(volume)} tmpfs `),
    tree: (volume) => readVolumeTree(inside(targetPath(volume))),
    inside,
    metric: async (name, ...labels) => sumOf(await metricsText(metricsPort), name, labels),
    log: driver.log,
    running: driver.running,
    stop: async () => {
      client.close()
      return driver.stop()
    },
  }
}

function kubeconfigFor(server: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'stub', cluster: { server } }],
    users: [{ name: 'driver', user: { token: 'driver-token' } }],
    contexts: [{ name: 'stub', context: { cluster: 'stub', user: 'driver' } }],
    'current-context': 'stub',
  })
}

function volumeId({ uid, volume }: PodVolume): string {
  return `csi-${createHash('sha256')
    .update(uid + volume)
    .digest('hex')}`
}

function publishRequest(volume: PodVolume, target: string): object {
  const { tokens } = volume
  const tokenEntry = tokens ? { [TOKENS_KEY]: tokens.text } : {}
  return {
    volume_id: volumeId(volume),
    target_path: target,
    volume_capability: { mount: {}, access_mode: { mode: 1 } },
    readonly: true,
    secrets: { ...volume.secrets, ...(tokens?.in === 'secrets' ? tokenEntry : {}) },
    volume_context: {
      ...volume.attributes,
      secretProviderClass: volume.secretProviderClass,
      'csi.storage.k8s.io/pod.name': volume.pod,
      'csi.storage.k8s.io/pod.namespace': volume.namespace,
      'csi.storage.k8s.io/pod.uid': volume.uid,
      'csi.storage.k8s.io/serviceAccount.name': volume.serviceAccount,
      'csi.storage.k8s.io/ephemeral': 'true',
      ...(tokens?.in === 'context' ? tokenEntry : {}),
    },
  }
}

function removeFolder(path: string): void {
  try {
    rmdirSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

async function metricsText(port: number): Promise<string> {
  return (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
}

function sumOf(text: string, name: string, labels: readonly string[]): number {
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) && labels.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
}
