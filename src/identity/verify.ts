/**
 * Owns the proof that a service-account token was issued for the pod that presents it (sops.md B3, threat
 * model T4): signature, issuer, audience, times, and the binding to the pod.
 */
import { createPublicKey, verify } from 'node:crypto'
import type { JsonWebKey, KeyObject } from 'node:crypto'
import { JsonNumber } from '../formats/json.ts'
import type { JsonValue } from '../formats/json.ts'
import { JsonError, parseJson } from '../formats/json-parse.ts'
import { BackendError } from '../providers/adapter.ts'
import type { PodFacts } from '../providers/adapter.ts'
import type { SecretBytes } from '../telemetry/secret-bytes.ts'

export interface Expected {
  /** Exact `iss`, e.g. `https://kubernetes.default.svc.cluster.local`. */
  readonly issuer: string
  /** One of `aud`. */
  readonly audience: string
  /** Kubelet's word for the pod, which the token must repeat. */
  readonly pod: PodFacts
}

/** What the token proved beyond what was expected of it. */
export interface VerifiedCaller {
  readonly serviceAccountUid: string
}

/** A token is a few kilobytes at most. */
const MAX_TOKEN = 16 * 1024
/** Clocks of node and control plane may differ this much, in seconds; it never stretches `exp`. */
const CLOCK_SKEW = 60
const MIN_RSA_BITS = 2048

const ALGORITHMS: Readonly<
  Record<string, { readonly type: string; readonly check: (key: KeyObject) => boolean }>
> = {
  RS256: { type: 'rsa', check: (key) => (key.asymmetricKeyDetails?.modulusLength ?? 0) >= MIN_RSA_BITS },
  ES256: { type: 'ec', check: (key) => key.asymmetricKeyDetails?.namedCurve === 'prime256v1' },
}

/**
 * Checks `token` against the signing keys of the cluster (a JWK set).
 * @throws BackendError `unauthenticated` with code TOKEN_UNVERIFIED. Its message says which check failed and
 * is for the node's log; a caller that must not become an oracle replaces it (threat model T19).
 */
export function verifyServiceAccountToken(
  token: SecretBytes,
  expected: Expected,
  keys: JsonValue,
  now: Date,
): VerifiedCaller {
  const { head, claims, signed, signature } = decode(token)
  if (!isSigned(head, signed, signature, keys))
    throw unverified('its signature does not match a key of the cluster')
  checkClaims(claims, expected, Math.floor(now.getTime() / 1000))
  return { serviceAccountUid: checkBinding(member(claims, 'kubernetes.io'), expected.pod) }
}

function unverified(reason: string): BackendError {
  return new BackendError({
    kind: 'unauthenticated',
    code: 'TOKEN_UNVERIFIED',
    message: `the service-account token does not prove who calls: ${reason}`,
    remedy:
      'Set tokenRequests on the CSIDriver object to the audience that the configuration names, and check issuer and signing keys there',
  })
}

interface Decoded {
  readonly head: JsonValue
  readonly claims: JsonValue
  readonly signed: Buffer
  readonly signature: Buffer
}

function decode(token: SecretBytes): Decoded {
  if (token.length > MAX_TOKEN) throw unverified('it is too long')
  const text = token.reveal().toString('latin1')
  const parts = text.split('.')
  const [head, claims, signature] = parts
  if (parts.length !== 3 || head === undefined || claims === undefined || signature === undefined) {
    throw unverified('it is not a signed JWT')
  }
  return {
    head: jsonPart(head),
    claims: jsonPart(claims),
    signed: Buffer.from(`${head}.${claims}`, 'latin1'),
    signature: bytesPart(signature),
  }
}

/** Base64url without padding, exactly one spelling for each content. */
function bytesPart(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64url')
  if (text === '' || bytes.toString('base64url') !== text) throw unverified('it is not a signed JWT')
  return bytes
}

function jsonPart(text: string): JsonValue {
  try {
    return parseJson(bytesPart(text), { maxBytes: MAX_TOKEN, maxDepth: 20 })
  } catch (error) {
    if (error instanceof JsonError) throw unverified('it is not a signed JWT')
    throw error
  }
}

function isSigned(head: JsonValue, signed: Buffer, signature: Buffer, keys: JsonValue): boolean {
  const name = member(head, 'alg')
  const algorithm = typeof name === 'string' && Object.hasOwn(ALGORITHMS, name) ? ALGORITHMS[name] : undefined
  if (algorithm === undefined) throw unverified('only RS256 and ES256 are accepted')
  if (member(head, 'crit') !== undefined) throw unverified('it has critical extensions')
  const kid = member(head, 'kid')
  return listOf(member(keys, 'keys')).some((candidate) => {
    if (kid !== undefined && member(candidate, 'kid') !== kid) return false
    const key = publicKey(candidate, name)
    if (key?.asymmetricKeyType !== algorithm.type || !algorithm.check(key)) return false
    return verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, signature)
  })
}

/** The key of a JWK, unless it is for something else or private. */
function publicKey(jwk: JsonValue, algorithm: JsonValue | undefined): KeyObject | undefined {
  const use = member(jwk, 'use')
  const meant = member(jwk, 'alg')
  if (use !== undefined && use !== 'sig') return undefined
  if (meant !== undefined && meant !== algorithm) return undefined
  const fields = ['kty', 'n', 'e', 'crv', 'x', 'y'].map((name) => [name, member(jwk, name)] as const)
  const key = Object.fromEntries(fields.filter(([, value]) => typeof value === 'string')) as JsonWebKey
  try {
    return createPublicKey({ key, format: 'jwk' })
  } catch {
    return undefined
  }
}

function checkClaims(claims: JsonValue, { issuer, audience }: Expected, now: number): void {
  if (member(claims, 'iss') !== issuer) throw unverified('it is from another issuer')
  const aud = member(claims, 'aud')
  const audiences = typeof aud === 'string' ? [aud] : listOf(aud)
  if (!audiences.includes(audience)) throw unverified('it is for another audience')
  const expires = secondsOf(member(claims, 'exp'))
  if (expires === undefined || expires <= now) throw unverified('it has expired')
  const begins = member(claims, 'nbf')
  const from = secondsOf(begins)
  if (begins !== undefined && (from === undefined || from > now + CLOCK_SKEW))
    throw unverified('it is not valid yet')
}

/** Compares the binding with kubelet's facts; returns the service account's uid. */
function checkBinding(binding: JsonValue | undefined, pod: PodFacts): string {
  const account = member(binding, 'serviceaccount')
  const bound = member(binding, 'pod')
  const facts = [
    [member(binding, 'namespace'), pod.namespace],
    [member(account, 'name'), pod.serviceAccount],
    [member(bound, 'name'), pod.name],
    [member(bound, 'uid'), pod.uid],
  ]
  const uid = member(account, 'uid')
  if (
    facts.some(([claimed, fact]) => claimed !== fact || fact === '') ||
    typeof uid !== 'string' ||
    uid === ''
  ) {
    throw unverified('it is bound to another pod')
  }
  return uid
}

function member(value: JsonValue | undefined, name: string): JsonValue | undefined {
  return value instanceof Map ? (value.get(name) as JsonValue | undefined) : undefined
}

const listOf = (value: JsonValue | undefined): readonly JsonValue[] => (Array.isArray(value) ? value : [])

function secondsOf(value: JsonValue | undefined): number | undefined {
  const seconds = value instanceof JsonNumber ? Number(value.text) : Number.NaN
  return Number.isFinite(seconds) ? seconds : undefined
}
