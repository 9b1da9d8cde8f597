/**
 * Owns the proof of the caller (sops B3): at the level `token` a pod has to present a service-account token
 * of its own, made out to us, before anything is opened or taken from a cache for it.
 */
import { readFile } from 'node:fs/promises'
import * as v from 'valibot'
import { JsonError, parseJson } from '../../formats/json-parse.ts'
import type { JsonValue } from '../../formats/json.ts'
import { verifyServiceAccountToken } from '../../identity/verify.ts'
import { BackendError, type Host } from '../adapter.ts'
import { notBound } from './binding.ts'
import { indirectly, sopsError } from './errors.ts'

const filled = v.pipe(v.string(), v.minLength(1))

/** Shape of `backends.sops.callerProof`. */
export const callerProofSchema = v.variant('level', [
  v.strictObject({ level: v.literal('attributes') }),
  v.strictObject({
    level: v.literal('token'),
    issuer: v.pipe(
      filled,
      v.description('Exact `iss` of the tokens: --service-account-issuer of the cluster.'),
    ),
    audience: v.pipe(filled, v.description('Audience of the tokens, as in tokenRequests of the CSIDriver.')),
    jwksFile: v.pipe(
      v.string(),
      v.startsWith('/', 'must be an absolute path'),
      v.description('Signing keys of the cluster: the content of its /openid/v1/jwks. Read at every mount.'),
    ),
  }),
])

export type CallerProof = v.InferOutput<typeof callerProofSchema>

/** A cluster has a handful of signing keys. */
const MAX_JWKS_BYTES = 256 * 1024

async function signingKeys(file: string, host: Host): Promise<JsonValue> {
  try {
    return parseJson(await readFile(file), { maxBytes: MAX_JWKS_BYTES })
  } catch (error) {
    const reason = error instanceof JsonError ? error.message : String((error as NodeJS.ErrnoException).code)
    host.log.error('the signing keys of the cluster cannot be read', { file, reason })
    throw sopsError(
      'KEY_SERVICE_UNAVAILABLE',
      'the keys that prove who calls could not be read on this node; this is transient',
      'Let the operator read the log of the provider: it names the file and the reason.',
    )
  }
}

/**
 * Refuses a caller who cannot prove to be the pod that the attributes name. The reply is that to a caller
 * for whom the document is not meant (threat model T19); the log says what was wrong.
 * @throws BackendError `NOT_BOUND`, or `KEY_SERVICE_UNAVAILABLE` when nobody can be proven
 */
export async function requireProof(proof: CallerProof, host: Host): Promise<void> {
  if (proof.level === 'attributes') return
  const { issuer, audience, jwksFile } = proof
  const keys = await signingKeys(jwksFile, host)
  try {
    const { token } = await host.token(audience)
    verifyServiceAccountToken(token, { issuer, audience, pod: host.pod }, keys, host.now())
  } catch (error) {
    if (!(error instanceof BackendError)) throw error
    host.log.warn('caller not proven', { serviceAccount: host.pod.serviceAccount, reason: error.message })
    // An issuer that changed its keys, or a clock that is off, refuses everybody.
    throw indirectly(notBound())
  }
}
