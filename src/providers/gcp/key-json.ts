/**
 * Owns `key.json` of the node-publish Secret: a document that a namespace user wrote, so no address in it is
 * called and no file it names is read (gcp.md section 10.2, threat model T11).
 */
import { createPrivateKey, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Host, OpenedSession } from '../adapter.ts'
import { members, send, text } from './api.ts'
import { authFailure, failedStep, opened, SCOPE } from './login.ts'
import type { GcpSession } from './login.ts'
import { isServiceAccountEmail } from './names.ts'
import { KEY_TYPES } from './settings.ts'
import type { GcpEnvironment, KeyType } from './settings.ts'
import { impersonated, tokenOf } from './workload-identity.ts'
import type { Impersonation } from './workload-identity.ts'

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

/** A document with keys in it, and how far it is trusted. */
export interface KeySource {
  readonly document: SecretBytes
  /** Types that it may have. */
  readonly types: ReadonlySet<KeyType>
  /** For messages. */
  readonly name: string
}

/** Why a document cannot be used; becomes a failure that names the document. */
class KeyFault extends Error {
  override readonly name = 'KeyFault'
  readonly remedy: string

  constructor(
    why: string,
    remedy = 'Use the key of a Google service account as Google wrote it, or workload identity.',
  ) {
    super(why)
    this.remedy = remedy
  }
}

/** Opens a session with the document. @throws BackendError */
export async function keySession(
  environment: GcpEnvironment,
  source: KeySource,
  host: Host,
): Promise<OpenedSession<GcpSession>> {
  try {
    return await sessionOf(environment, parse(source.document), source, host)
  } catch (error) {
    if (!(error instanceof KeyFault)) throw failedStep(source.name, error)
    throw authFailure('GCP_KEY_JSON', `${source.name}: ${error.message}`, error.remedy)
  }
}

async function sessionOf(
  environment: GcpEnvironment,
  document: Document,
  { types }: KeySource,
  host: Host,
): Promise<OpenedSession<GcpSession>> {
  const type = checkedType(types, document)
  if (type !== 'impersonated_service_account') return plainSession(environment, document, types, host)
  const source = members(document.get('source_credentials'))
  if (source === undefined) throw new KeyFault('it has no source_credentials')
  const target = impersonationTarget(document)
  const { session } = await plainSession(environment, source, types, host)
  return impersonated(environment, target, session.token, host, session.member)
}

function parse(document: SecretBytes): Document {
  if (document.length > MAX_BYTES) throw new KeyFault(`it has more than ${MAX_BYTES} bytes`)
  try {
    const parsed = members(JSON.parse(document.reveal().toString()))
    if (parsed !== undefined) return parsed
  } catch {
    // The parser's words would quote the key.
  }
  throw new KeyFault('it is not a JSON object')
}

/** What is posted for a token, and whose token it will be. */
interface Granted {
  readonly form: Readonly<Record<string, string>>
  readonly member: string
}

type Grant = (document: Document, environment: GcpEnvironment, now: Date) => Granted

const GRANTS: ReadonlyMap<KeyType, Grant> = new Map<KeyType, Grant>([
  ['service_account', serviceAccountGrant],
  ['authorized_user', refreshGrant],
])

async function plainSession(
  environment: GcpEnvironment,
  document: Document,
  types: ReadonlySet<KeyType>,
  host: Host,
): Promise<OpenedSession<GcpSession>> {
  const grant = GRANTS.get(checkedType(types, document))
  if (grant === undefined) throw new KeyFault('it impersonates twice')
  if (!TOKEN_URIS.has(text(document.get('token_uri'))))
    throw new KeyFault('its token_uri is not an address of Google’s')
  const { form, member } = grant(document, environment, host.now())
  const reply = await send(environment, {
    kind: 'oauth2_token_requests',
    method: 'POST',
    url: environment.oauthEndpoint,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(form).toString(),
    signal: AbortSignal.timeout(environment.requestTimeoutMs),
  })
  const { token, expiresAt } = tokenOf(reply, form['assertion'] ?? form['refresh_token'] ?? '', host.now())
  return opened(token, member, expiresAt, host.now())
}

/**
 * An external account would have us read a file of the provider, start a program or post a token to an
 * address of the document's choice: there is nothing in it that could be allowed.
 */
function checkedType(types: ReadonlySet<KeyType>, document: Document): KeyType {
  const type = KEY_TYPES.find((known) => known === document.get('type'))
  if (type === undefined)
    throw new KeyFault(
      'its type is not one that a Secret may bring',
      'Use a service_account key; for federation set up GOOGLE_APPLICATION_CREDENTIALS on the provider instead.',
    )
  if (types.has(type)) return type
  throw new KeyFault(
    `type ${type} is not allowed on this node`,
    `Have the operator add ${type} to keyTypes of the backend.`,
  )
}

const BASE64URL = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
const ASSERTION_SECONDS = 3600

function serviceAccountGrant(document: Document, environment: GcpEnvironment, now: Date): Granted {
  const email = text(document.get('client_email'))
  if (!isServiceAccountEmail(email)) throw new KeyFault('its client_email is not an e-mail address')
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
  throw new KeyFault('its private_key is not an RSA key in PEM form')
}

function refreshGrant(document: Document): Granted {
  const [client_id, client_secret, refresh_token] = ['client_id', 'client_secret', 'refresh_token'].map(
    (name) => text(document.get(name)),
  ) as [string, string, string]
  if (client_id === '' || refresh_token === '') throw new KeyFault('it has no client_id or no refresh_token')
  const form = { grant_type: 'refresh_token', client_id, client_secret, refresh_token }
  return { form, member: 'the user of the key' }
}

const TARGET =
  /^https:\/\/iamcredentials\.googleapis\.com\/v1\/projects\/-\/serviceAccounts\/([^/:]{1,254}):generateAccessToken$/

/** The e-mail address in an impersonation URL of Google's; `undefined` for any other URL. */
export function impersonatedEmail(url: string): string | undefined {
  const email = TARGET.exec(url)?.[1] ?? ''
  return isServiceAccountEmail(email) ? email : undefined
}

function impersonationTarget(document: Document): Impersonation {
  const email = impersonatedEmail(text(document.get('service_account_impersonation_url')))
  const listed = document.get('delegates') ?? []
  const delegates = Array.isArray(listed)
    ? listed.map((item) => text(item).replace('projects/-/serviceAccounts/', ''))
    : ['']
  if (email === undefined || delegates.length > 20 || !delegates.every(isServiceAccountEmail))
    throw new KeyFault('its service_account_impersonation_url or delegates name no Google service account')
  return { email, delegates }
}
