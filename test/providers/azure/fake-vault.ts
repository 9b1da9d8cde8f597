/** Owns one fake vault: objects with versions, the 401 challenge, access by principal, paging, cryptography of keys. */
import { constants, generateKeyPairSync, privateDecrypt, publicEncrypt } from 'node:crypto'
import type { JsonWebKey, KeyObject } from 'node:crypto'
import type { FakeEntra, Reply } from './fake-entra.ts'

export type Collection = 'secrets' | 'keys' | 'certificates'

/** One version of an object: fields of the service's answer besides id and attributes. */
export interface StoredVersion {
  readonly version: string
  readonly fields: Readonly<Record<string, unknown>>
  readonly enabled: boolean
  /** Seconds since 1970. */
  readonly created: number
  readonly key?: KeyObject
}

export interface VaultRequest {
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly authorization: string | undefined
  /** Host and port that the client called: links go on from there. */
  readonly authority: string
  readonly body: string
}

const NOT_FOUND: Readonly<Record<Collection, string>> = {
  secrets: 'SecretNotFound',
  keys: 'KeyNotFound',
  certificates: 'CertificateNotFound',
}

export function vaultError(
  status: number,
  code: string,
  inner?: string,
  headers?: Readonly<Record<string, string>>,
): Reply {
  const innererror = inner === undefined ? {} : { innererror: { code: inner } }
  return {
    status,
    ...(headers === undefined ? {} : { headers }),
    body: { error: { code, message: `sensitive-looking text of ${code}`, ...innererror } },
  }
}

export class FakeVault {
  /** Real host name, without the port. */
  readonly host: string
  readonly #entra: FakeEntra
  /** The tenant whose tokens it takes. */
  tenant = 't1'
  /** What its challenge asks a token for. */
  resource: string
  /** Principals that may `get` and `list`; everybody with a token, unless it is set. */
  access: Map<string, ReadonlySet<'get' | 'list'>> | undefined
  readonly #objects = new Map<string, StoredVersion[]>()

  constructor(host: string, entra: FakeEntra) {
    this.host = host
    this.#entra = entra
    this.resource = `https://${host.split('.').slice(1).join('.')}`
  }

  /** Adds a version; versions are listed in the order in which they were added, the last is current. */
  put(
    collection: Collection,
    name: string,
    fields: Readonly<Record<string, unknown>>,
    facts: Partial<Omit<StoredVersion, 'fields'>> = {},
  ): void {
    const key = `${collection}/${name}`
    const versions = this.#objects.get(key) ?? []
    const created = facts.created ?? 1_700_000_000 + versions.length
    versions.push({ version: 'v1', enabled: true, ...facts, created, fields })
    this.#objects.set(key, versions)
  }

  secret(
    name: string,
    value: string,
    facts: Partial<Omit<StoredVersion, 'fields'>> & { contentType?: string; kid?: string } = {},
  ): void {
    const { contentType, kid, ...rest } = facts
    this.put(
      'secrets',
      name,
      { value, ...(contentType ? { contentType } : {}), ...(kid ? { kid } : {}) },
      rest,
    )
  }

  /** The secret of a certificate. */
  certificateSecret(
    name: string,
    value: string,
    contentType: string,
    facts: Partial<Omit<StoredVersion, 'fields'>> = {},
  ): void {
    this.secret(name, value, { ...facts, contentType, kid: `https://${this.host}/keys/${name}/k1` })
  }

  key(name: string, jwk: JsonWebKey & { kty: string }, version = 'v1'): void {
    this.put(
      'keys',
      name,
      { key: { ...jwk, kid: `https://${this.host}/keys/${name}/${version}` } },
      { version },
    )
  }

  /** An RSA key that can encrypt and decrypt. */
  rsaKey(name: string, version = 'v1'): KeyObject {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const jwk = publicKey.export({ format: 'jwk' })
    const fields = {
      key: { ...jwk, kid: `https://${this.host}/keys/${name}/${version}`, key_ops: ['encrypt', 'decrypt'] },
    }
    this.put('keys', name, fields, { version, key: privateKey })
    return privateKey
  }

  remove(collection: Collection, name: string): void {
    this.#objects.delete(`${collection}/${name}`)
  }

  handle(request: VaultRequest): Reply {
    const token = /^Bearer (.+)$/.exec(request.authorization ?? '')?.[1]
    const issued = this.#entra.issued.get(token ?? '')
    if (issued === undefined || issued.exp < Date.now() / 1000 || issued.resource !== this.resource)
      return this.#challenge('Unauthorized')
    if (issued.tenant !== this.tenant) return this.#challenge('Unauthorized')
    const url = new URL(request.path, `https://${request.authority}`)
    const [, collection = '', name = '', version = '', action = ''] = url.pathname.split('/')
    if (!isCollection(collection)) return vaultError(404, 'NotFound')
    const wants = version === 'versions' ? 'list' : 'get'
    const allowed = this.access === undefined || this.access.get(issued.principal)?.has(wants)
    if (!allowed) return vaultError(403, 'Forbidden', 'ForbiddenByRbac')
    if (request.method === 'PUT' && collection === 'secrets') {
      const { value, contentType } = JSON.parse(request.body) as { value: string; contentType?: string }
      const known = this.#objects.get(`secrets/${name}`)?.length ?? 0
      this.secret(name, value, { version: `made${known}`, ...(contentType ? { contentType } : {}) })
    }
    const versions = this.#objects.get(`${collection}/${name}`)
    if (versions === undefined) return vaultError(404, NOT_FOUND[collection])
    if (version === 'versions') return this.#page(collection, name, versions, url)
    const found = version === '' ? versions.at(-1) : versions.find((one) => one.version === version)
    if (found === undefined) return vaultError(404, NOT_FOUND[collection])
    if (request.method === 'POST') return crypted(found, action, request.body)
    if (!found.enabled)
      return vaultError(403, 'Forbidden', `${NOT_FOUND[collection].replace('NotFound', '')}Disabled`)
    const id = `https://${this.host}/${collection}/${name}/${found.version}`
    const attributes = {
      enabled: true,
      created: found.created,
      updated: found.created,
      recoveryLevel: 'Recoverable',
    }
    return {
      status: 200,
      body: { ...(collection === 'keys' ? {} : { id }), attributes, tags: {}, ...found.fields },
    }
  }

  #challenge(code: string): Reply {
    const authority = `https://login.microsoftonline.com/${this.tenant}`
    const headers = { 'www-authenticate': `Bearer authorization="${authority}", resource="${this.resource}"` }
    return vaultError(401, code, undefined, headers)
  }

  #page(collection: Collection, name: string, versions: readonly StoredVersion[], url: URL): Reply {
    const from = Number(url.searchParams.get('$skiptoken') ?? '0')
    const size = 25
    const items = versions.slice(from, from + size).map(({ version, enabled, created }) => ({
      [collection === 'keys' ? 'kid' : 'id']: `https://${this.host}/${collection}/${name}/${version}`,
      attributes: { enabled, created, updated: created },
    }))
    const next = from + size
    const more = next < versions.length
    const link = `${url.origin}/${collection}/${name}/versions?api-version=7.4&$skiptoken=${next}`
    return { status: 200, body: { value: items, nextLink: more ? link : null } }
  }
}

function isCollection(text: string): text is Collection {
  return text === 'secrets' || text === 'keys' || text === 'certificates'
}

function crypted({ key, fields }: StoredVersion, action: string, body: string): Reply {
  const { alg, value } = JSON.parse(body) as { alg: string; value: string }
  if (key === undefined || alg !== 'RSA-OAEP-256') return vaultError(400, 'BadParameter')
  const how = { key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }
  const input = Buffer.from(value, 'base64url')
  try {
    const output = action === 'encrypt' ? publicEncrypt(how, input) : privateDecrypt(how, input)
    const kid = (fields['key'] as { kid: string }).kid
    return { status: 200, body: { kid, value: output.toString('base64url') } }
  } catch {
    return vaultError(400, 'BadParameter')
  }
}
