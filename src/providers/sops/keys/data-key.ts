/** Owns finding the data key of a document: groups, their keys in order, Shamir shares (sops A10). */
import { BackendError, type BackendContext, type Host } from '../../adapter.ts'
import { sopsError } from '../errors.ts'
import type { Limits } from '../limits.ts'
import type { KeyGroup, MasterKey, Metadata } from '../metadata.ts'
import type { Pace } from '../pace.ts'
import { recipientHint, unwrapAge, type HeldAge } from './age.ts'
import type { HeldIdentity } from './held.ts'
import { unwrapPgp, type HeldPgp } from './pgp.ts'
import { combine, SHARE_BYTES, shareX } from './shamir.ts'

export const DATA_KEY_BYTES = 32

/** Kinds of master key that need a service of their vendor. */
const SERVICE_KINDS = ['kms', 'gcp_kms', 'azure_kv', 'hc_vault'] as const

/** What may be tried for a document. */
export interface KeyRing {
  /** Only those that may serve the caller. */
  readonly identities: readonly HeldIdentity[]
  /** Services that may be called, and the host they are called with. Absent: none (`offline`). */
  readonly services?: { readonly of: BackendContext['keyService']; readonly host: Host }
}

export interface DataKey {
  /** 32 bytes; wipe it after use. */
  readonly key: Buffer
  /** Whether an identity that serves everyone was needed, so that the document must name its callers (A11.2). */
  readonly usedShared: boolean
}

interface Unwrapped {
  readonly bytes: Buffer
  readonly usedShared: boolean
}

interface Attempt {
  readonly ring: KeyRing
  readonly version: string
  readonly limits: Limits
  readonly pace: Pace
  /** Length that an unwrapped value must have. */
  readonly length: number
  /** A service that might answer later. */
  readonly transient: { found: boolean }
}

/** One entry with one tier of identities. @returns the bytes, or a phrase why not */
async function unwrapEntry(
  entry: MasterKey,
  identities: readonly HeldIdentity[],
  attempt: Attempt,
): Promise<Buffer | string> {
  const { ring, limits, version } = attempt
  if (entry.kind === 'age') {
    const held = identities.filter((identity): identity is HeldAge => identity.kind === 'age')
    return held.length === 0 ? 'no age identity is held' : unwrapAge(entry.enc, entry.recipient, held, limits)
  }
  if (entry.kind === 'pgp') {
    return unwrapPgp(
      entry.enc,
      identities.filter((identity): identity is HeldPgp => identity.kind === 'pgp'),
    )
  }
  if (entry.kind === 'hckms') return 'this kind of key is not supported'
  if (ring.services === undefined) return 'it needs a key service, and keyIdentity is offline'
  const service = await ring.services.of(entry.kind)
  if (service === undefined) return 'it needs a key service that is not set up here'
  try {
    return await service.unwrap(entry, ring.services.host, version)
  } catch (error) {
    if (!(error instanceof BackendError)) throw error
    if (['unavailable', 'timeout', 'throttled'].includes(error.kind)) attempt.transient.found = true
    return `the key service answered ${error.code}`
  }
}

/** Entries in the order in which they are tried: age ones whose recipient is held come first. */
function ordered(group: KeyGroup, identities: readonly HeldIdentity[]): KeyGroup {
  const held = new Set(
    identities.flatMap((identity) => (identity.kind === 'age' ? [identity.recipient] : [])),
  )
  const isHinted = (entry: MasterKey): boolean =>
    entry.kind === 'age' && held.has(recipientHint(entry.recipient))
  return [...group.filter(isHinted), ...group.filter((entry) => !isHinted(entry))]
}

/**
 * Opens one group with any of its keys. Identities of the caller's own come before shared ones, so
 * that a binding is asked for only where it is needed.
 */
async function openGroup(group: KeyGroup, attempt: Attempt): Promise<Unwrapped | readonly string[]> {
  const reasons: string[] = []
  const isService = (entry: MasterKey): boolean => SERVICE_KINDS.some((kind) => kind === entry.kind)
  for (const usedShared of [false, true]) {
    const identities = attempt.ring.identities.filter((identity) => identity.shared === usedShared)
    // A service decides by its own policy; it needs no second try.
    if (usedShared && identities.length === 0) break
    for (const entry of ordered(group, identities)) {
      if (usedShared && isService(entry)) continue
      const bytes = await attempt.pace.outside(unwrapEntry(entry, identities, attempt))
      await attempt.pace.rest()
      if (typeof bytes === 'string') reasons.push(`${entry.kind}: ${bytes}`)
      else if (bytes.length === attempt.length) return { bytes, usedShared }
      else {
        bytes.fill(0)
        reasons.push(`${entry.kind}: it holds no key of ${attempt.length} bytes`)
      }
    }
  }
  return reasons
}

/** Reasons without repetition, for one group. */
function summary(reasons: readonly string[]): string {
  return reasons.length === 0 ? 'it names no key' : Array.from(new Set(reasons)).join(', ')
}

function noKey(message: string, attempt: Attempt): never {
  if (attempt.transient.found) {
    throw sopsError('KEY_SERVICE_UNAVAILABLE', `${message}; this is transient`, 'The mount is tried again.')
  }
  throw sopsError(
    'NO_KEY_OPENED',
    message,
    'Encrypt the document to a recipient whose identity this node holds for this service account (`sops updatekeys`).',
  )
}

/**
 * The data key of a document.
 * @throws BackendError `NO_KEY_OPENED`, `KEY_SERVICE_UNAVAILABLE` or `LIMIT_EXCEEDED`
 */
export async function openDataKey(
  metadata: Metadata,
  ring: KeyRing,
  limits: Limits,
  pace: Pace,
): Promise<DataKey> {
  const { groups, version } = metadata
  const isShared = groups.length > 1
  const length = isShared ? SHARE_BYTES : DATA_KEY_BYTES
  const attempt: Attempt = { ring, version, limits, pace, length, transient: { found: false } }
  const reasons: string[] = []
  const opened: Unwrapped[] = []
  const needed = isShared
    ? Math.max(2, metadata.shamirThreshold === 0 ? groups.length : metadata.shamirThreshold)
    : 1
  if (needed > groups.length)
    noKey(`${needed} of ${groups.length} key groups are needed, which cannot be`, attempt)
  for (const [index, group] of groups.entries()) {
    // More shares than needed could only do harm: one bad share spoils the sum.
    if (opened.length === needed) break
    const result = await openGroup(group, attempt)
    if ('bytes' in result) {
      const isBad = isShared && shareX(result.bytes) === 0
      if (!isBad) opened.push(result)
      else reasons.push(`group ${index + 1}: its share has x = 0`)
    } else reasons.push(isShared ? `group ${index + 1}: ${summary(result)}` : summary(result))
  }
  const usedShared = opened.some((result) => result.usedShared)
  const [first] = opened
  if (opened.length < needed || first === undefined) {
    const what = isShared
      ? `${opened.length} of ${groups.length} key groups opened, ${needed} needed`
      : 'no key of the document opened'
    noKey(`${what} (${reasons.join('; ')})`, attempt)
  }
  if (!isShared) return { key: first.bytes, usedShared }
  const key = combine(opened.map((result) => result.bytes))
  for (const { bytes } of opened) bytes.fill(0)
  return key === undefined
    ? noKey('the shares of the key groups do not fit together', attempt)
    : { key, usedShared }
}
