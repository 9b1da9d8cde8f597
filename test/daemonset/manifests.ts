/** Owns how tests read the manifests of daemonset/: as the objects kubectl would send. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type {
  IValidatingAdmissionPolicy,
  IValidatingAdmissionPolicyBinding,
} from 'kubernetes-models/admissionregistration.k8s.io/v1'
import type { IDaemonSet } from 'kubernetes-models/apps/v1'
import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import type { IConfigMap, INamespace, IServiceAccount } from 'kubernetes-models/v1'
import { parseAllDocuments } from 'yaml'

export const ROOT = join(import.meta.dirname, '../..')

/** The kinds we ship. One that is not here fails every test that reads it. */
export interface Kinds {
  readonly Namespace: INamespace
  readonly ServiceAccount: IServiceAccount
  readonly ConfigMap: IConfigMap
  readonly NetworkPolicy: INetworkPolicy
  readonly DaemonSet: IDaemonSet
  readonly ValidatingAdmissionPolicy: IValidatingAdmissionPolicy
  readonly ValidatingAdmissionPolicyBinding: IValidatingAdmissionPolicyBinding
}
export type Kind = keyof Kinds

export interface Manifest {
  readonly apiVersion: string
  readonly kind: Kind
  readonly metadata: { readonly name: string; readonly namespace?: string }
}

/** Every object of a file below daemonset/, in order. */
export function manifests(file: string): readonly Manifest[] {
  return parseAllDocuments(readFileSync(join(ROOT, 'daemonset', file), 'utf8')).map((document) => {
    if (document.errors[0]) throw document.errors[0]
    return document.toJS() as Manifest
  })
}

/** The objects of one kind. */
export function ofKind<K extends Kind>(all: readonly Manifest[], kind: K): readonly Kinds[K][] {
  return all.filter((one) => one.kind === kind) as unknown as readonly Kinds[K][]
}

/** The one object of its kind. */
export function only<K extends Kind>(all: readonly Manifest[], kind: K): Kinds[K] {
  const [first, ...rest] = ofKind(all, kind)
  if (!first || rest.length > 0) throw new Error(`there should be one ${kind}`)
  return first
}

/** The container of the DaemonSet. */
export function container(all: readonly Manifest[]) {
  const [first] = only(all, 'DaemonSet').spec?.template.spec?.containers ?? []
  if (!first) throw new Error('the DaemonSet has no container')
  return first
}

/** The text of config.yaml in the ConfigMap. */
export function configText(all: readonly Manifest[]): string {
  return only(all, 'ConfigMap').data?.['config.yaml'] ?? ''
}
