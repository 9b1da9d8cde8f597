/** Owns the service-account tokens that kubelet hands over with a mount (driver.md section 6). */
import { hasMoreElements } from '../formats/json-size.ts'
import { BackendError, type ServiceAccountToken } from '../providers/adapter.ts'
import { SecretBytes } from '../telemetry/secret-bytes.ts'

/** Tokens by audience; the empty string is the API server's own. */
export type TokenSet = ReadonlyMap<string, ServiceAccountToken>

/**
 * Reads the text under the token key: `{"<audience>":{"token":"<jwt>","expirationTimestamp":"<RFC 3339>"}}`.
 * An absent text gives no tokens; so does an audience whose entry is not of that shape.
 * @throws BackendError `config` when the text is no JSON object: a pod wrote it, not kubelet.
 */
export function parseTokens(text: SecretBytes | undefined): TokenSet {
  const tokens = new Map<string, ServiceAccountToken>()
  if (text === undefined || text.length === 0) return tokens
  for (const [audience, entry] of Object.entries(jsonObject(text))) {
    if (typeof entry !== 'object' || entry === null) continue
    const { token, expirationTimestamp } = entry as { token?: unknown; expirationTimestamp?: unknown }
    if (typeof token !== 'string' || token === '' || typeof expirationTimestamp !== 'string') continue
    const expiresAt = new Date(expirationTimestamp)
    if (Number.isNaN(expiresAt.getTime())) continue
    tokens.set(audience, { token: SecretBytes.copyOf(token), expiresAt })
  }
  return tokens
}

/**
 * The token for `audience`.
 * @throws BackendError `unauthenticated` when there is none or it has expired; the remedy names the
 * audience and the chart value to set.
 */
export function tokenFor(tokens: TokenSet, audience: string, now: Date): ServiceAccountToken {
  const token = tokens.get(audience)
  const name = audience === '' ? 'the API server (empty audience)' : `"${audience}"`
  if (!token) {
    throw new BackendError({
      kind: 'unauthenticated',
      code: 'TOKEN_MISSING',
      message: `the driver handed over no service-account token for the audience ${name}`,
      remedy: `Add {audience: ${JSON.stringify(audience)}} to tokenRequests of the CSIDriver object (Helm value tokenRequests of the driver's chart)`,
    })
  }
  if (token.expiresAt <= now) {
    throw new BackendError({
      kind: 'unauthenticated',
      code: 'TOKEN_EXPIRED',
      message: `the service-account token for the audience ${name} has expired`,
      remedy: 'Switch on rotation in the driver, so that kubelet hands over fresh tokens',
    })
  }
  return token
}

/**
 * The service account's uid as the tokens claim it, unverified: fit to split a cache, never to grant
 * anything (threat model T6).
 */
export function serviceAccountUid(tokens: TokenSet): string | undefined {
  for (const { token } of tokens.values()) {
    const uid = claimedUid(token)
    if (uid !== undefined) return uid
  }
  return undefined
}

/** Most things that the JSON of tokens or claims may make; kubelet's make a dozen each (T14). */
const MAX_ELEMENTS = 1000

/** @throws SyntaxError, also for JSON that is too much of it. */
function parseBounded(text: string): unknown {
  if (hasMoreElements(text, MAX_ELEMENTS)) throw new SyntaxError('too many elements')
  return JSON.parse(text)
}

function claimedUid(token: SecretBytes): string | undefined {
  const [, payload] = token.reveal().toString().split('.')
  if (payload === undefined) return undefined
  try {
    const claims = parseBounded(Buffer.from(payload, 'base64url').toString())
    const uid = field(field(field(claims, 'kubernetes.io'), 'serviceaccount'), 'uid')
    return typeof uid === 'string' ? uid : undefined
  } catch {
    return undefined
  }
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? Reflect.get(value, name)
    : undefined
}

function jsonObject(text: SecretBytes): object {
  try {
    const parsed = parseBounded(text.reveal().toString())
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return parsed
  } catch {
    // Falls through to the same error: the parser's own words could quote a token.
  }
  throw new BackendError({
    kind: 'config',
    code: 'TOKENS_MALFORMED',
    message: 'csi.storage.k8s.io/serviceAccount.tokens is not a JSON object',
    remedy: "Remove that key from the pod's volumeAttributes and set tokenRequests on the CSIDriver object",
  })
}
