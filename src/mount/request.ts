/** Owns the decoding of a Mount call's JSON-in-string fields into typed facts (driver.md section 1.1). */
import type { PodFacts } from '../providers/adapter.ts'
import { hasMoreElements } from '../formats/json-size.ts'
import { SecretBytes } from '../telemetry/secret-bytes.ts'
import { MountFailure } from './errors.ts'

/** A Mount call as it is on the wire. */
export interface WireMountRequest {
  readonly attributes: string
  readonly secrets: string
  readonly target_path: string
  readonly permission: string
  readonly current_object_version?: readonly unknown[]
}

/** A Mount call, decoded. */
export interface MountRequest {
  readonly pod: PodFacts
  /** SecretProviderClass name; older drivers leave it out when they rotate. */
  readonly secretProviderClass: string | undefined
  /** SPC parameters and volumeAttributes: everything that is not kubelet's or the driver's own. */
  readonly parameters: ReadonlyMap<string, string>
  /** Text under the service-account token key, from `attributes`, else from `secrets`. */
  readonly tokens: SecretBytes | undefined
  /** Data of the node-publish Secret, without the token key. */
  readonly nodePublishSecret: ReadonlyMap<string, SecretBytes>
  /** Mode for files whose object names none, 0..511. */
  readonly defaultMode: number
  /** Opaque: only an id of the volume. May be empty. */
  readonly targetPath: string
  /** The driver names versions that it holds: up to 1.5 a sure sign of a rotation; 1.6 never does. */
  readonly holdsVersions?: boolean
}

const KUBELET = 'csi.storage.k8s.io/'
const TOKENS_KEY = `${KUBELET}serviceAccount.tokens`
/** Keys that the driver or kubelet adds beside those under {@link KUBELET}. */
const DRIVER_KEYS: ReadonlySet<string> = new Set(['secretProviderClass', 'providerName'])
/** Whether an attribute is a parameter, i.e. neither kubelet's nor the driver's own. */
export function isParameter(key: string): boolean {
  return !key.startsWith(KUBELET) && !DRIVER_KEYS.has(key)
}

/** What the driver always sends: 0644. */
const DEFAULT_MODE = 0o644

/**
 * Decodes a Mount call. Parameters stay as they are: judging them is the dialect's work.
 * @throws MountFailure INVALID_ARGUMENT; its text names the field, never its content.
 */
export function decodeMountRequest(wire: WireMountRequest): MountRequest {
  const attributes = stringObject('attributes', wire.attributes)
  const secrets =
    wire.secrets === '' ? new Map<string, string>() : stringObject('secrets', wire.secrets, 'nullable')
  const tokens = attributes.get(TOKENS_KEY) || secrets.get(TOKENS_KEY)
  const parameters = new Map<string, string>()
  for (const [key, value] of attributes) {
    if (isParameter(key)) parameters.set(key, value)
  }
  const nodePublishSecret = new Map<string, SecretBytes>()
  for (const [key, value] of secrets) {
    if (key !== TOKENS_KEY) nodePublishSecret.set(key, SecretBytes.copyOf(value))
  }
  return {
    pod: podFacts(attributes),
    secretProviderClass: attributes.get('secretProviderClass'),
    parameters,
    tokens: tokens ? SecretBytes.copyOf(tokens) : undefined,
    nodePublishSecret,
    defaultMode: mode(wire.permission),
    targetPath: wire.target_path,
    holdsVersions: (wire.current_object_version ?? []).length > 0,
  }
}

const POD_KEYS = {
  name: 'pod.name',
  namespace: 'pod.namespace',
  uid: 'pod.uid',
  serviceAccount: 'serviceAccount.name',
} as const satisfies Record<keyof PodFacts, string>

/** Identity facts are kubelet's; a mount without them could be anybody's (threat model T4). */
function podFacts(attributes: ReadonlyMap<string, string>): PodFacts {
  const missing = Object.values(POD_KEYS).filter((key) => !attributes.get(KUBELET + key))
  if (missing.length > 0) {
    throw MountFailure.of(
      'config',
      'POD_FACTS_MISSING',
      `the request does not say ${missing.map((key) => KUBELET + key).join(', ')}`,
      'Set podInfoOnMount: true on the CSIDriver object secrets-store.csi.k8s.io',
    )
  }
  const fact = (key: string): string => attributes.get(KUBELET + key) ?? ''
  return {
    name: fact(POD_KEYS.name),
    namespace: fact(POD_KEYS.namespace),
    uid: fact(POD_KEYS.uid),
    serviceAccount: fact(POD_KEYS.serviceAccount),
  }
}

function stringObject(field: string, text: string, nullable?: 'nullable'): Map<string, string> {
  const parsed = parseJson(field, text)
  if (parsed === null && nullable) return new Map()
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw notStrings(field)
  const result = new Map<string, string>()
  for (const [key, value] of Object.entries(parsed)) {
    if (typeof value !== 'string') throw notStrings(field)
    result.set(key, value)
  }
  return result
}

/** Most members of `attributes` and of `secrets`; a few dozen are usual, and each costs memory (T14). */
const MAX_MEMBERS = 10_000
/** Shorter text cannot make much; so usual requests are not read twice. */
const UNCOUNTED = 64 * 1024

function parseJson(field: string, text: string): unknown {
  if (text.length > UNCOUNTED && hasMoreElements(text, MAX_MEMBERS)) {
    throw MountFailure.of(
      'config',
      'BAD_REQUEST',
      `${field} is not a JSON object of strings, or of more than ${MAX_MEMBERS} of them`,
      'Use fewer parameters, volumeAttributes, or keys in the Secret of nodePublishSecretRef',
    )
  }
  try {
    return JSON.parse(text)
  } catch {
    throw notStrings(field)
  }
}

function notStrings(field: string): MountFailure {
  return MountFailure.of(
    'config',
    'BAD_REQUEST',
    `${field} is not a JSON object of strings`,
    'Call Mount as the Secrets Store CSI Driver does',
  )
}

function mode(permission: string): number {
  if (permission === '') return DEFAULT_MODE
  const value = /^(?:0|[1-9][0-9]{0,2})$/.test(permission) ? Number(permission) : Number.NaN
  if (!(value <= 0o777)) {
    throw MountFailure.of(
      'config',
      'BAD_REQUEST',
      'permission is not a decimal file mode from 0 to 511',
      'Call Mount as the Secrets Store CSI Driver does, with permission 420',
    )
  }
  return value
}
