/** Owns the texts that travel in a Mount request: attributes, secrets, tokens, and kubelet's part in them (driver.md sections 1.1, 6). */
import { createHash } from 'node:crypto'
import { compareBytes, goJsonMap, goJsonString } from './go-text.ts'

/** Attribute keys the driver and kubelet set themselves. */
export const ATTRIBUTE = {
  podName: 'csi.storage.k8s.io/pod.name',
  podNamespace: 'csi.storage.k8s.io/pod.namespace',
  podUid: 'csi.storage.k8s.io/pod.uid',
  serviceAccount: 'csi.storage.k8s.io/serviceAccount.name',
  ephemeral: 'csi.storage.k8s.io/ephemeral',
  tokens: 'csi.storage.k8s.io/serviceAccount.tokens',
  secretProviderClass: 'secretProviderClass',
  providerName: 'providerName',
} as const

/** `permission` of every Mount request: 0644 in decimal. */
export const PERMISSION = '420'

/** The pod a volume belongs to. */
export interface PodFacts {
  readonly name: string
  readonly namespace: string
  readonly uid: string
  readonly serviceAccount: string
}

/** One entry of `csi.storage.k8s.io/serviceAccount.tokens`. */
export interface BoundToken {
  readonly token: string
  /** RFC 3339, UTC, whole seconds: `2026-01-31T12:00:00Z`. */
  readonly expirationTimestamp: string
}

/** Tokens by audience; the empty string is the API server's own audience. */
export type Tokens = Readonly<Record<string, BoundToken>>

/** The text kubelet puts under `csi.storage.k8s.io/serviceAccount.tokens`. */
export function tokensText(tokens: Tokens): string {
  const entries = Object.entries(tokens).sort(([a], [b]) => compareBytes(a, b))
  const texts = entries.map(
    ([audience, { token, expirationTimestamp }]) =>
      `${goJsonString(audience)}:{"token":${goJsonString(token)},"expirationTimestamp":${goJsonString(expirationTimestamp)}}`,
  )
  return `{${texts.join(',')}}`
}

/** The `volume_context` kubelet sends: the pod's volumeAttributes with its own keys merged over them. */
export function volumeContext(
  pod: PodFacts,
  volumeAttributes: ReadonlyMap<string, string>,
  tokens: string | undefined,
): Map<string, string> {
  const context = new Map(volumeAttributes)
  context.set(ATTRIBUTE.podName, pod.name)
  context.set(ATTRIBUTE.podNamespace, pod.namespace)
  context.set(ATTRIBUTE.podUid, pod.uid)
  context.set(ATTRIBUTE.serviceAccount, pod.serviceAccount)
  context.set(ATTRIBUTE.ephemeral, 'true')
  if (tokens !== undefined) context.set(ATTRIBUTE.tokens, tokens)
  return context
}

/** The volume handle kubelet derives for an inline volume. */
export function volumeId(podUid: string, volumeName: string): string {
  return `csi-${createHash('sha256')
    .update(podUid + volumeName)
    .digest('hex')}`
}

/** Attributes of a publish: parameters, then context, then tokens; later wins. */
export function publishAttributes(
  parameters: ReadonlyMap<string, string>,
  context: ReadonlyMap<string, string>,
  tokens: string | undefined,
): string {
  const merged = new Map([...parameters, ...context])
  if (tokens !== undefined && tokens !== '') merged.set(ATTRIBUTE.tokens, tokens)
  return goJsonMap(merged)
}

/** Attributes of a rotation of drivers up to 1.5: parameters, four pod facts and tokens; the pod's overrides are lost. */
export function legacyRotationAttributes(
  parameters: ReadonlyMap<string, string>,
  pod: PodFacts,
  tokens: string | undefined,
): string {
  const merged = new Map(parameters)
  merged.set(ATTRIBUTE.podName, pod.name)
  merged.set(ATTRIBUTE.podNamespace, pod.namespace)
  merged.set(ATTRIBUTE.podUid, pod.uid)
  merged.set(ATTRIBUTE.serviceAccount, pod.serviceAccount)
  if (tokens !== undefined) merged.set(ATTRIBUTE.tokens, tokens)
  return goJsonMap(merged)
}

/** `secrets` of a publish: `null` when there are none. */
export function secretsText(secrets: ReadonlyMap<string, string>): string {
  return secrets.size === 0 ? 'null' : goJsonMap(secrets)
}
