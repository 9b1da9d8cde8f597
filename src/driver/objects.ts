/** Owns the few Kubernetes objects the driver reads and writes, as the API server would keep them (driver.md section 7). */
import type { PodFacts } from './attributes.ts'
import type { ObjectVersion } from '../rpc/contract.ts'

/** A SecretProviderClass, as far as a mount reads it. */
export interface SecretProviderClass {
  readonly name: string
  readonly namespace: string
  readonly provider?: string
  readonly parameters?: Readonly<Record<string, string>>
}

/** A SecretProviderClassPodStatus. */
export interface PodStatus {
  readonly name: string
  readonly namespace: string
  /** Label `internal.secrets-store.csi.k8s.io/node-name`. */
  readonly node: string
  readonly owner: { readonly kind: 'Pod'; readonly name: string; readonly uid: string }
  /** Grows with every change of any object; an update that changes nothing keeps it. */
  readonly resourceVersion: number
  readonly status: {
    readonly podName: string
    readonly secretProviderClassName: string
    readonly mounted: true
    readonly targetPath: string
    readonly objects: readonly ObjectVersion[]
  }
}

/** A pod as the rotation of drivers up to 1.5 sees it. */
export interface PodObject extends PodFacts {
  readonly phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed'
  readonly terminating: boolean
  /** Volumes of this driver, in the order of the pod's spec. */
  readonly volumes: readonly PodVolume[]
}

export interface PodVolume {
  readonly name: string
  readonly spcName: string
  readonly secretRef?: string
}

/** A Secret named by `nodePublishSecretRef`. */
export interface SecretObject {
  readonly name: string
  readonly namespace: string
  readonly data: ReadonlyMap<string, string>
  /** Carries `secrets-store.csi.k8s.io/used=true`: rotation up to 1.5 sees no other. */
  readonly labelledUsed: boolean
}

/** A refusal of the API server; the message is its own. */
export class ApiError extends Error {
  override name = 'ApiError'
}

/** Objects by `namespace/name`. */
export interface Objects {
  readonly classes: Map<string, SecretProviderClass>
  readonly pods: Map<string, PodObject>
  readonly secrets: Map<string, SecretObject>
  readonly statuses: ReadonlyMap<string, PodStatus>
  /** Creates or replaces a status. Throws ApiError if its name is too long. */
  writeStatus(status: Omit<PodStatus, 'resourceVersion'>): PodStatus
  deleteStatus(key: string): void
}

const MAX_NAME_BYTES = 253

/** The key of an object in these stores. */
export function objectKey(namespace: string, name: string): string {
  return `${namespace}/${name}`
}

/** `<pod>-<namespace>-<spc>`: two volumes of a pod with one class share it. */
export function statusName(pod: string, namespace: string, spc: string): string {
  return `${pod}-${namespace}-${spc}`
}

/** Empty stores. */
export function emptyObjects(): Objects {
  const statuses = new Map<string, PodStatus>()
  let resourceVersion = 0
  return {
    classes: new Map(),
    pods: new Map(),
    secrets: new Map(),
    statuses,
    writeStatus(wanted) {
      if (Buffer.byteLength(wanted.name) > MAX_NAME_BYTES) {
        throw new ApiError(
          `SecretProviderClassPodStatus.secrets-store.csi.x-k8s.io "${wanted.name}" is invalid: metadata.name: ` +
            `Invalid value: "${wanted.name}": must be no more than ${MAX_NAME_BYTES} bytes`,
        )
      }
      const key = objectKey(wanted.namespace, wanted.name)
      const before = statuses.get(key)
      const after = { ...wanted, resourceVersion: before?.resourceVersion ?? 0 }
      if (before !== undefined && JSON.stringify(sorted(before)) === JSON.stringify(sorted(after)))
        return before
      const written = { ...after, resourceVersion: ++resourceVersion }
      statuses.set(key, written)
      return written
    },
    deleteStatus(key) {
      statuses.delete(key)
    },
  }
}

/** The same fields in one order, so that equal objects have equal texts. */
function sorted({ name, namespace, node, owner, resourceVersion, status }: PodStatus): unknown {
  const { podName, secretProviderClassName, targetPath, objects } = status
  return [
    name,
    namespace,
    node,
    owner.name,
    owner.uid,
    resourceVersion,
    podName,
    secretProviderClassName,
    targetPath,
    objects,
  ]
}
