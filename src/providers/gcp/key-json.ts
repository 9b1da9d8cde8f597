/**
 * Owns `key.json` of the node-publish Secret: a document that a namespace user wrote, so no address in it is
 * called and no file it names is read (gcp.md section 10.2, threat model T11).
 */
import { createPrivateKey, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Host, OpenedSession } from '../adapter.ts'
import type { BackendError } from '../adapter.ts'
import { members, send, text } from './api.ts'
import { authFailure, failedStep, opened, SCOPE } from './login.ts'
import type { GcpSession } from './login.ts'
import { isServiceAccountEmail } from './names.ts'
import type { GcpEnvironment, KeyType } from './settings.ts'
import { impersonated, tokenOf } from './workload-identity.ts'

/** Name of the key in the node-publish Secret. */
export const KEY_JSON = 'key.json'

const MAX_BYTES = 64 * 1024

/** Token addresses that Google has put into keys. We post to {@link GcpEnvironment.oauthEndpoint} in any case. */
const TOKEN_URIS: ReadonlySet<string> = new Set([
  '',
  'https://oauth2.googleapis.com/token',
  'https://accounts.google.com/o/oauth2/token',
  'https://www.googleapis.com/oauth2/v3/token',
  'https://www.googleapis.com/oauth2/v4/token',
])

type Document = ReadonlyMap<string, unknown>

/** Opens a session with the document. @throws BackendError */
export async function keyJsonSession(
  environment: GcpEnvironment,
  document: SecretBytes,
  host: Host,
): Promise<OpenedSession<GcpSession>> {
  const parsed = parse(document)
  const type = text(parsed.get('type'))
  if (type !== 'impersonated_service_account') return plainSession(environment, parsed, host)
  checkType(environment, type)
  const source = members(parsed.get('source_credentials'))
  if (source === undefined) throw refused('it has no source_credentials')
  const target = impersonationTarget(parsed)
  const { session } = await plainSession(environment, source, host)
  return impersonated(environment, target, session.token, host, session.member)
}

function refused(why: string, remedy?: string): BackendError {
  return authFailure(
    'GCP_KEY_JSON',
    `key.json of the node-publish Secret: ${why}`,
    remedy ??
      'Put the key of a Google service account into the Secret as key.json, or use workload identity.',
  )
}

function parse(document: SecretBytes): Document {
  if (document.length > MAX_BYTES) throw refused(`it has more than ${MAX_BYTES} bytes`)
  try {
    const parsed = members(JSON.parse(document.reveal().toString()))
    if (parsed !== undefined) return parsed
  } catch {
    // The parser's words would quote the key.
  }
  throw refused('it is not a JSON object')
}

/** What is posted for a token, and whose token it will be. */
interface Granted {
  readonly form: Readonly<Record<string, string>>
  readonly member: string
}

type Grant = (document: Document, environment: GcpEnvironment, now: Date) => Granted

const GRANTS: ReadonlyMap<string, Grant> = new Map<string, Grant>([
  ['service_account', serviceAccountGrant],
  ['authorized_user', refreshGrant],
])

async function plainSession(
  environment: GcpEnvironment,
  document: Document,
  host: Host,
): Promise<OpenedSession<GcpSession>> {
  const type = text(document.get('type'))
  const grant = GRANTS.get(checkType(environment, type))
  if (grant === undefined) throw refused(`type "${type}" is not possible here`)
  if (!TOKEN_URIS.has(text(document.get('token_uri'))))
    throw refused('its token_uri is not an address of Google’s')
  const { form, member } = grant(document, environment, host.now())
  const body = new URLSearchParams(form).toString()
  try {
    const reply = await send(environment, {
      kind: 'oauth2_token_requests',
      method: 'POST',
      url: environment.oauthEndpoint,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body,
      signal: AbortSignal.timeout(environment.requestTimeoutMs),
    })
    const { token, expiresAt } = tokenOf(reply, form['assertion'] ?? form['refresh_token'] ?? '', host.now())
    return opened(token, member, expiresAt, host.now())
  } catch (error) {
    throw failedStep('key.json', error)
  }
}

const ALL_TYPES: ReadonlySet<string> = new Set<KeyType>([
  'service_account',
  'authorized_user',
  'impersonated_service_account',
])

/**
 * An external account would have us read a file of the provider, start a program or post a token to an
 * address of the document's choice: there is nothing in it that could be allowed.
 */
function checkType({ keyTypes }: GcpEnvironment, type: string): string {
  if ((keyTypes as ReadonlySet<string>).has(type)) return type
  const known = ALL_TYPES.has(type)
  throw refused(
    known ? `type ${type} is not allowed on this node` : 'its type is not one that a Secret may bring',
    known
      ? `Have the operator add ${type} to keyTypes of the backend.`
      : 'Use a service_account key; for federation set up GOOGLE_APPLICATION_CREDENTIALS on the provider instead.',
  )
}

const BASE64URL = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const ASSERTION_SECONDS = 3600

function serviceAccountGrant(document: Document, environment: GcpEnvironment, now: Date): Granted {
  const email = text(document.get('client_email'))
  if (!isServiceAccountEmail(email)) throw refused('its client_email is not an e-mail address')
  const key = privateKey(text(document.get('private_key')))
  const kid = text(document.get('private_key_id'))
  const issued = Math.floor(now.getTime() / 1000)
  const head = { alg: 'RS256', typ: 'JWT', ...(kid !== '' && { kid }) }
  const claims = {
    iss: email,
    scope: SCOPE,
    aud: environment.oauthEndpoint,
    iat: issued,
    exp: issued + ASSERTION_SECONDS,
  }
  const signed = `${BASE64URL(head)}.${BASE64URL(claims)}`
  const signature = sign('sha256', Buffer.from(signed), key).toString('base64url')
  const form = {
    grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
    assertion: `${signed}.${signature}`,
  }
  return { form, member: `serviceAccount:${email}` }
}

function privateKey(pem: string): KeyObject {
  let key: KeyObject | undefined
  try {
    key = createPrivateKey(pem)
  } catch {
    // OpenSSL's words are of no use to the reader.
  }
  if (key?.asymmetricKeyType === 'rsa') return key
  throw refused('its private_key is not an RSA key in PEM form')
}

function refreshGrant(document: Document): Granted {
  const [client_id, client_secret, refresh_token] = ['client_id', 'client_secret', 'refresh_token'].map(
    (name) => text(document.get(name)),
  ) as [string, string, string]
  if (client_id === '' || refresh_token === '') throw refused('it has no client_id or no refresh_token')
  const form = { grant_type: 'refresh_token', client_id, client_secret, refresh_token }
  return { form, member: 'the user who made key.json' }
}

const TARGET =
  /^https:\/\/iamcredentials\.googleapis\.com\/v1\/projects\/-\/serviceAccounts\/([^/:]{1,254}):generateAccessToken$/

function impersonationTarget(document: Document): { email: string; delegates: readonly string[] } {
  const email = TARGET.exec(text(document.get('service_account_impersonation_url')))?.[1] ?? ''
  const listed = document.get('delegates') ?? []
  const delegates = Array.isArray(listed)
    ? listed.map((item) => text(item).replace('projects/-/serviceAccounts/', ''))
    : ['']
  if (delegates.length > 20 || ![email, ...delegates].every(isServiceAccountEmail))
    throw refused('its service_account_impersonation_url or delegates name no Google service account')
  return { email, delegates }
}
