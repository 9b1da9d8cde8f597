/** Owns the calls for keys, certificates and lists of versions, and the checks of their answers (azure section 8). */
import * as v from 'valibot'
import { decodeGoBase64, EncodingError } from '../../formats/go-encodings.ts'
import type { PublicJwk } from '../../formats/key-pem.ts'
import { azureError, badAnswer, jsonOf } from './failures.ts'
import { API_VERSION } from './secrets-sdk.ts'
import type { ObjectType } from './store.ts'
import type { VaultCalls } from './vault-calls.ts'

const COLLECTIONS: Readonly<Record<ObjectType, string>> = {
  secret: 'secrets',
  key: 'keys',
  cert: 'certificates',
}

const text = v.optional(v.nullable(v.string()))
const keyAnswer = v.object({
  key: v.optional(
    v.nullable(v.object({ kid: text, kty: text, n: text, e: text, crv: text, x: text, y: text })),
  ),
})
const certificateAnswer = v.object({ id: text, cer: text })
const versionsAnswer = v.object({
  value: v.optional(
    v.nullable(
      v.array(
        v.object({
          id: text,
          kid: text,
          attributes: v.optional(
            v.nullable(
              v.object({
                enabled: v.optional(v.nullable(v.boolean())),
                created: v.optional(v.nullable(v.number())),
              }),
            ),
          ),
        }),
      ),
    ),
  ),
  nextLink: text,
})

async function getJson<T>(
  calls: VaultCalls,
  url: string,
  schema: v.GenericSchema<unknown, T>,
  what: string,
): Promise<T> {
  const reply = await calls.send({ method: 'GET', url, headers: { 'user-agent': 'keyferry' } })
  const parsed = v.safeParse(schema, jsonOf(reply.body))
  reply.body.fill(0)
  if (!parsed.success) throw badAnswer(`the answer is not ${what}`)
  return parsed.output
}

function objectUrl(type: ObjectType, name: string, version: string | undefined): string {
  const path = [COLLECTIONS[type], name, ...(version === undefined ? [] : [version])]
  return `/${path.map(encodeURIComponent).join('/')}?api-version=${API_VERSION}`
}

/** A key's public parts and its id. @throws BackendError */
export async function fetchKey(
  calls: VaultCalls,
  name: string,
  version: string | undefined,
): Promise<{ readonly jwk: PublicJwk; readonly id: string }> {
  const { key } = await getJson(calls, objectUrl('key', name, version), keyAnswer, 'a key')
  if (!key) throw badAnswer('key value is nil')
  if (!key.kid) throw badAnswer('key id is nil')
  const part = (value: string | null | undefined): string | undefined => value ?? undefined
  return {
    id: key.kid,
    jwk: {
      kty: key.kty ?? '',
      n: part(key.n),
      e: part(key.e),
      crv: part(key.crv),
      x: part(key.x),
      y: part(key.y),
    },
  }
}

/** A certificate's DER and its id. @throws BackendError */
export async function fetchCertificate(
  calls: VaultCalls,
  name: string,
  version: string | undefined,
): Promise<{ readonly der: Buffer; readonly id: string }> {
  const { id, cer } = await getJson(
    calls,
    objectUrl('cert', name, version),
    certificateAnswer,
    'a certificate',
  )
  if (!cer) throw badAnswer('certificate value is nil')
  if (!id) throw badAnswer('certificate id is nil')
  try {
    return { der: decodeGoBase64(cer), id }
  } catch (error) {
    if (error instanceof EncodingError) throw badAnswer(`the certificate is not base64: ${error.message}`)
    throw error
  }
}

/** Pages of 25: more versions than a vault keeps well. */
const MAX_PAGES = 200

/** Enabled versions, the newest first; of the same second, as the vault lists them. @throws BackendError */
export async function fetchVersions(
  calls: VaultCalls,
  type: ObjectType,
  name: string,
): Promise<readonly string[]> {
  const found: { readonly version: string; readonly created: number }[] = []
  let next: string | undefined =
    `/${COLLECTIONS[type]}/${encodeURIComponent(name)}/versions?api-version=${API_VERSION}`
  for (let page = 0; next !== undefined; page += 1) {
    if (page === MAX_PAGES) {
      throw azureError({
        kind: 'too-large',
        code: 'AZURE_BAD_ANSWER',
        message: `the object has more than ${25 * MAX_PAGES} versions`,
        remedy: 'Name one version in objectVersion, and leave objectVersionHistory out.',
      })
    }
    const answer: v.InferOutput<typeof versionsAnswer> = await getJson(
      calls,
      next,
      versionsAnswer,
      'a list of versions',
    )
    for (const { id, kid, attributes } of answer.value ?? []) {
      const version = versionOf(id ?? kid ?? '')
      if (version === '') throw badAnswer('the list of versions holds one without id')
      if (attributes?.enabled === true) found.push({ version, created: attributes.created ?? 0 })
    }
    next = answer.nextLink ?? undefined
    if (next === '') next = undefined
  }
  return found.toSorted((a, b) => b.created - a.created).map(({ version }) => version)
}

/** Third segment of an id's path; `''` when there is none that could be a version. */
export function versionOf(id: string): string {
  if (!URL.canParse(id)) return ''
  const version = new URL(id).pathname.split('/')[3] ?? ''
  return /^[\w-]{1,127}$/.test(version) ? version : ''
}
