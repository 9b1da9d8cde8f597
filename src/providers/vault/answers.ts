/** Owns how an envelope becomes a value: what is refused, what has an end, and which bytes stay the same (vault sections 4, 6, 9). */
import { createHmac, createSecretKey, randomBytes, X509Certificate } from 'node:crypto'
import { formatGoJson, JsonNumber, type JsonValue } from '../../formats/json.ts'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { BackendError, Value } from '../adapter.ts'
import { failed } from './failure.ts'
import { envelopeText, parseEnvelope, ReplyError, secretData, valueText, type Envelope } from './response.ts'
import type { Flavour, VaultRef } from './store.ts'

/** The envelope of a reply that holds a secret. @throws BackendError saying why it holds none. */
export function secretEnvelope(
  ref: VaultRef,
  status: number,
  body: Uint8Array,
): Envelope & { readonly data: NonNullable<Envelope['data']> } {
  if (status === 204) throw empty(ref, 'the server answered without a body')
  let envelope: Envelope
  try {
    envelope = parseEnvelope(body)
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error
    throw failed({
      kind: 'malformed',
      code: 'VAULT_REPLY_MALFORMED',
      message: `${ref.method} ${ref.path}: ${error.message}`,
      remedy: 'Read a path that answers with JSON and data, not a raw endpoint',
    })
  }
  const { data } = envelope
  if (data !== undefined) return { ...envelope, data }
  if (envelope.wrapInfo !== undefined)
    throw empty(ref, 'the answer is wrapped', 'Do not wrap what a pod shall read')
  if (envelope.auth !== undefined)
    throw empty(ref, 'the answer is a login', 'Log in with roleName, not with secretPath')
  throw empty(ref, `warnings: [${(envelope.warnings ?? []).join(' ').slice(0, 300)}]`)
}

function empty(
  ref: VaultRef,
  why: string,
  remedy = 'Check that the path returns data for this method',
): BackendError {
  return failed({
    kind: 'malformed',
    code: 'VAULT_EMPTY_REPLY',
    message: `empty response from ${ref.method} "${ref.path}", ${why}`,
    remedy,
  })
}

/** When what a write returned ends, in milliseconds since the epoch: PKI's `expiration`, or the certificate's own. */
export function writtenExpiry(envelope: Envelope): number | undefined {
  const expiration = envelope.data?.get('expiration')
  const seconds = expiration instanceof JsonNumber ? Number(expiration.text) : Number.NaN
  if (Number.isSafeInteger(seconds) && seconds > 0) return seconds * 1000
  const certificate = envelope.data?.get('certificate')
  if (typeof certificate !== 'string' || !certificate.startsWith('-----BEGIN CERTIFICATE')) return undefined
  try {
    return Date.parse(new X509Certificate(certificate).validTo)
  } catch {
    return undefined
  }
}

/** The envelope as secret bytes of its own. */
export function envelopeBytes(flavour: Flavour, envelope: Envelope): SecretBytes {
  return SecretBytes.copyOf(envelopeText(envelope, flavour))
}

/** What a ref's value holds. For the keyferry dialect also one part per key, as `secretKey` would give it. */
export function valueOf(ref: VaultRef, flavour: Flavour, envelope: Envelope): Pick<Value, 'bytes' | 'parts'> {
  if (ref.shape === 'envelope') return { bytes: envelopeBytes(flavour, envelope) }
  const data = secretData(envelope.data ?? new Map<string, JsonValue>())
  const parts = [...data].map(([name, value]) => ({ name, bytes: SecretBytes.copyOf(valueText(value)) }))
  return { bytes: SecretBytes.copyOf(formatGoJson(data)), parts }
}

/** Keeps a whole-response file the same while its data is: `request_id` differs at each call (section 6). */
export interface SteadyEnvelopes {
  /** `envelope`, with the members of the last one of equal data under this key. */
  steady(key: string, envelope: Envelope): Envelope
}

const MAX_HEADS = 4096

/** Remembers, per key, everything of an envelope but its data, of which only a keyed digest is kept. */
export function createSteadyEnvelopes(): SteadyEnvelopes {
  const salt = createSecretKey(randomBytes(32))
  const heads = new Map<string, { readonly digest: string; readonly head: Envelope }>()
  return {
    steady(key, envelope) {
      const digest = createHmac('sha256', salt)
        .update(formatGoJson(envelope.data ?? null))
        .digest('base64')
      const known = heads.get(key)
      heads.delete(key)
      const head: Envelope = known?.digest === digest ? known.head : { ...envelope, data: undefined }
      heads.set(key, { digest, head })
      for (const oldest of heads.keys()) {
        if (heads.size <= MAX_HEADS) break
        heads.delete(oldest)
      }
      return { ...head, data: envelope.data }
    },
  }
}
