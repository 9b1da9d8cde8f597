/** Owns a pod volume as a test writes it down, and what follows from it: identity, path, objects, tokens. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { BoundToken, PodFacts, Tokens } from './attributes.ts'
import { objectKey, type Objects, type PodObject } from './objects.ts'

/** Tokens by audience; a bare token expires in an hour. */
export type TokenTexts = Readonly<Record<string, string | BoundToken>>

/** A pod; only the name is needed. */
export interface PodSpec {
  readonly name: string
  /** Default `default`. */
  readonly namespace?: string
  /** Default: made from namespace and name. */
  readonly uid?: string
  /** Default `default`. */
  readonly serviceAccount?: string
}

/** One pod volume, and what kubelet would send for it. */
export interface VolumeRequest {
  readonly pod: PodSpec
  /** The class itself, put into the pod's namespace; or the name of one that is there, or is not. */
  readonly spc:
    | string
    | {
        readonly name: string
        readonly provider?: string
        readonly parameters?: Readonly<Record<string, string>>
      }
  /** Default `secrets`. */
  readonly volumeName?: string
  /** The pod's own, laid over the class's parameters. `secretProviderClass` is added. */
  readonly volumeAttributes?: Readonly<Record<string, string>>
  /** Default: what the node's `tokens` gives. */
  readonly tokens?: TokenTexts
  /** Data of the pod's `nodePublishSecretRef`. */
  readonly secrets?: Readonly<Record<string, string>>
  /** The Secret's name, default `store-credentials`; unlabelled ones are invisible to rotation up to 1.5. */
  readonly secretRef?: { readonly name?: string; readonly labelledUsed?: boolean }
  /** Default true, as the driver demands. */
  readonly readOnly?: boolean
  /** Overrides kubelet's path for the volume. */
  readonly targetPath?: string
  /** Milliseconds. Default two minutes. */
  readonly timeoutMs?: number
}

/** A pod with its defaults filled in. */
export function podFacts(pod: PodSpec): PodFacts {
  const namespace = pod.namespace ?? 'default'
  const hex = createHash('sha256').update(`${namespace}/${pod.name}`).digest('hex')
  const uid = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
  return { name: pod.name, namespace, uid: pod.uid ?? uid, serviceAccount: pod.serviceAccount ?? 'default' }
}

/** Kubelet's path for the volume, below its root directory. */
export function targetOf(root: string, request: VolumeRequest): string {
  if (request.targetPath !== undefined) return request.targetPath
  const { uid } = podFacts(request.pod)
  return join(root, 'pods', uid, 'volumes', 'kubernetes.io~csi', volumeName(request), 'mount')
}

/** The volume's name in the pod. */
export function volumeName(request: VolumeRequest): string {
  return request.volumeName ?? 'secrets'
}

/** The name of the volume's class. */
export function spcName({ spc }: VolumeRequest): string {
  return typeof spc === 'string' ? spc : spc.name
}

/** Bare tokens get an expiry. */
export function boundTokens(texts: TokenTexts): Tokens {
  const inAnHour = `${new Date(Date.now() + 3_600_000).toISOString().slice(0, 19)}Z`
  const bound = Object.entries(texts).map(
    ([audience, token]) =>
      [audience, typeof token === 'string' ? { token, expirationTimestamp: inAnHour } : token] as const,
  )
  return Object.fromEntries(bound)
}

/** Puts what a publish speaks of where the driver would read it. */
export function registerObjects(objects: Objects, request: VolumeRequest, facts: PodFacts): void {
  const { namespace } = facts
  if (typeof request.spc !== 'string') {
    objects.classes.set(objectKey(namespace, request.spc.name), { ...request.spc, namespace })
  }
  const secretName =
    request.secrets === undefined ? undefined : (request.secretRef?.name ?? 'store-credentials')
  if (secretName !== undefined) {
    objects.secrets.set(objectKey(namespace, secretName), {
      name: secretName,
      namespace,
      data: new Map(Object.entries(request.secrets ?? {})),
      labelledUsed: request.secretRef?.labelledUsed ?? true,
    })
  }
  const key = objectKey(namespace, facts.name)
  const known: PodObject | undefined = objects.pods.get(key)
  const same = known?.uid === facts.uid ? known : undefined
  const volume = {
    name: volumeName(request),
    spcName: spcName(request),
    ...(secretName === undefined ? {} : { secretRef: secretName }),
  }
  const volumes = same?.volumes ?? []
  objects.pods.set(key, {
    ...facts,
    phase: same?.phase ?? 'Running',
    terminating: same?.terminating ?? false,
    volumes: volumes.some(({ name }) => name === volume.name)
      ? volumes.map((one) => (one.name === volume.name ? volume : one))
      : [...volumes, volume],
  })
}
