/** Owns which server a store means and how one call is made to it: layers, address, redirects, 412 (vault sections 2.2, 3, 4). */
import type { AddressOrigin, Destination, HttpClient, HttpResponse } from '../../net/http.ts'
import type { BackendError } from '../adapter.ts'
import { connectionError, failed, replyError, type Asked } from './failure.ts'
import { cleanPath, escapePath } from './request.ts'
import { environmentLayer, timeoutMs, type Layer, type VaultSettings } from './settings.ts'
import type { VaultStore } from './store.ts'
import type { TlsFiles } from './tls.ts'

/** Everything that is needed to call one server. */
export interface Connection {
  /** Scheme and authority, e.g. `https://vault:8200`; `http://localhost` with a unix socket. */
  readonly origin: string
  /** Path of the address, without a trailing slash; usually empty. */
  readonly prefix: string
  readonly namespace: string | undefined
  /** Mount below `auth/`. */
  readonly authMount: string
  readonly to: Destination
  readonly timeoutMs: number
  /** Behind a unix socket stands an Agent, which renews by itself (section 8). */
  readonly agent: boolean
}

/** What {@link connectionTo} reads besides the store. */
export interface ConnectionContext {
  readonly settings: VaultSettings
  readonly env: Readonly<Record<string, string | undefined>>
  readonly tls: TlsFiles
}

const DEFAULT_ADDRESS = 'https://127.0.0.1:8200'
const DEFAULT_AUTH_MOUNT = 'kubernetes'

/**
 * Lays the store's settings over the configuration's over the environment's.
 * @throws BackendError `config`
 */
export async function connectionTo(store: VaultStore, context: ConnectionContext): Promise<Connection> {
  const { settings, env } = context
  const environment = environmentLayer(env, store.flavour)
  const own: Layer = store
  const text = own.address ?? settings.address ?? environment.address ?? DEFAULT_ADDRESS
  const address = parseAddress(text)
  const listed = operatorAddresses(settings, environment)
  const operators = own.address === undefined || listed.has(address.key)
  if (own.skipVerify === true && !maySkipVerify(settings, environment, address)) throw skipRefused(text)
  if (address.socketPath !== undefined && !operators) throw socketRefused(text)
  const tls = await context.tls.settings(
    [
      { layer: environment, from: 'operator' },
      { layer: settings, from: 'operator' },
      { layer: own, from: 'parameter' },
    ],
    store.flavour,
  )
  const proxy = operators ? (settings.proxy ?? environment.proxy) : undefined
  return {
    origin: address.origin,
    prefix: address.prefix,
    namespace: own.namespace ?? settings.namespace ?? environment.namespace,
    authMount: own.authMount ?? settings.authMount ?? DEFAULT_AUTH_MOUNT,
    to: {
      origin: operators ? 'operator' : 'parameter',
      tls,
      ...(proxy !== undefined && { proxy }),
      ...(address.socketPath !== undefined && { socketPath: address.socketPath }),
    },
    timeoutMs: timeoutMs(settings, env, store.flavour),
    agent: address.socketPath !== undefined,
  }
}

/** The store's address where it is not the operator's word, for policy. Never throws. */
export function addressesOf(
  { address, flavour }: VaultStore,
  { settings, env }: Pick<ConnectionContext, 'settings' | 'env'>,
): readonly string[] {
  if (address === undefined) return []
  try {
    const listed = operatorAddresses(settings, environmentLayer(env, flavour))
    return listed.has(parseAddress(address).key) ? [] : [address]
  } catch {
    // An address that cannot be read is nobody's word; the fetch will say what is wrong with it.
    return [address]
  }
}

interface Address {
  readonly origin: string
  readonly prefix: string
  readonly socketPath?: string
  /** Equal for addresses of one server: origin, or the socket's path. */
  readonly key: string
}

/** @throws BackendError `config` */
export function parseAddress(text: string): Address {
  if (text.startsWith('unix://')) {
    const socketPath = text.slice('unix://'.length)
    if (socketPath.startsWith('/') && !socketPath.includes('\0')) {
      return { origin: 'http://localhost', prefix: '', socketPath, key: text }
    }
    throw badAddress(text)
  }
  const url = URL.canParse(text) ? new URL(text) : undefined
  const plain = url && url.username === '' && url.password === '' && url.search === '' && url.hash === ''
  if (!plain || (url.protocol !== 'https:' && url.protocol !== 'http:')) throw badAddress(text)
  const prefix = cleanPath(decodePath(url.pathname))
  return { origin: url.origin, prefix: prefix === '/' ? '' : escapePath(prefix), key: url.origin }
}

function decodePath(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}

function badAddress(text: string): BackendError {
  return failed({
    kind: 'config',
    code: 'VAULT_ADDRESS',
    message: `the address "${text.slice(0, 200)}" is not https://host:port, http://host:port or unix:///path`,
    remedy: 'Write it with its scheme and without user, query or fragment',
  })
}

/** Keys of the addresses that are the operator's word. */
function operatorAddresses(settings: VaultSettings, environment: Layer): ReadonlySet<string> {
  const texts = [DEFAULT_ADDRESS, settings.address, environment.address, ...settings.addresses]
  return new Set(texts.filter((text) => text !== undefined).map((text) => parseAddress(text).key))
}

function maySkipVerify(settings: VaultSettings, environment: Layer, address: Address): boolean {
  if (settings.skipVerify === true || environment.skipVerify === true) return true
  return settings.skipVerifyAddresses.some((text) => parseAddress(text).key === address.key)
}

function skipRefused(text: string): BackendError {
  return failed({
    kind: 'config',
    code: 'VAULT_SKIP_VERIFY_REFUSED',
    message: `vaultSkipTLSVerify is not allowed for ${text}`,
    remedy:
      'Give the CA with vaultCACertPath, or have the operator list the address under backends.vault.skipVerifyAddresses',
  })
}

function socketRefused(text: string): BackendError {
  return failed({
    kind: 'config',
    code: 'VAULT_ADDRESS_REFUSED',
    message: `the unix socket "${text}" is not an address that this node allows`,
    remedy: 'Have the operator list it under backends.vault.addresses',
  })
}

/** One API call. */
export interface Call {
  readonly method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE' | 'LIST'
  /** Path and query below the address. */
  readonly path: string
  readonly body?: string
  /** Vault token. */
  readonly token?: string
  readonly purpose: Asked['purpose']
  /** Namespace of the pod that it is for: calls of one take turns with those of others (T18). */
  readonly turn?: string
  /** Texts that no error may show. */
  readonly secrets?: readonly string[]
}

/** Sends calls to the server of one connection. */
export interface Api {
  readonly http: HttpClient
  readonly settings: VaultSettings
  readonly env: Readonly<Record<string, string | undefined>>
  /** Waits between tries of a 412; replaced by tests. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>
}

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 307])
/** Waits before the tries after a 412: the state usually arrives within a second (section 13). */
const REPLICATION_WAITS_MS = [200, 1000] as const

/**
 * A successful reply.
 * @throws BackendError for any other, with the server's own words.
 */
export async function send(
  api: Api,
  connection: Connection,
  call: Call,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const asked: Asked = {
    method: call.method,
    path: call.path,
    purpose: call.purpose,
    secrets: [...(call.token === undefined ? [] : [call.token]), ...(call.secrets ?? [])],
  }
  for (const wait of [...REPLICATION_WAITS_MS, undefined]) {
    const reply = await sendOnce(api, connection, call, asked, signal)
    if (reply.status === 412 && wait !== undefined) {
      await api.pause(wait, signal)
      continue
    }
    if (reply.status >= 200 && reply.status < 300) return reply
    throw replyError(asked, reply.status, reply.headers, reply.body)
  }
  throw new Error('unreachable: the last try returns or throws')
}

async function sendOnce(
  api: Api,
  connection: Connection,
  call: Call,
  asked: Asked,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const url = connection.origin + connection.prefix + call.path
  const reply = await transfer(api, connection, url, connection.to, call, asked, signal)
  if (reply.status < 300 || reply.status >= 400) return reply
  const target = redirectTarget(api, connection, url, reply, asked)
  const second = await transfer(api, connection, target.url, target.to, call, asked, signal)
  if (second.status < 300 || second.status >= 400) return second
  throw redirectError(
    asked,
    'unavailable',
    'the server redirects a second time',
    'Check api_addr of the cluster',
  )
}

/** Where a standby sends us: our own origin, or one that the operator lists. No other host gets the token. */
function redirectTarget(
  api: Api,
  connection: Connection,
  from: string,
  reply: HttpResponse,
  asked: Asked,
): { readonly url: string; readonly to: Destination } {
  const location = reply.headers['location']
  if (!REDIRECTS.has(reply.status) || location === undefined || !URL.canParse(location, from)) {
    throw redirectError(asked, 'malformed', `the server answers ${reply.status} without a usable redirect`)
  }
  const url = new URL(location, from)
  if (url.origin === new URL(from).origin) return { url: url.href, to: connection.to }
  const operators = operatorAddresses(api.settings, environmentLayer(api.env, 'openbao'))
  if (!operators.has(url.origin) || (from.startsWith('https:') && url.protocol !== 'https:')) {
    throw redirectError(
      asked,
      'config',
      `the server redirects to ${url.origin}, which does not get the token`,
      "List the cluster's own addresses under backends.vault.addresses, or use a service that reaches the active server",
    )
  }
  const origin: AddressOrigin = 'operator'
  const { socketPath: _socket, ...to } = connection.to
  return { url: url.href, to: { ...to, origin } }
}

function redirectError(
  asked: Asked,
  kind: 'unavailable' | 'malformed' | 'config',
  what: string,
  remedy?: string,
): BackendError {
  const message = `${asked.method} ${asked.path}: ${what}`
  return failed({ kind, code: 'VAULT_REDIRECT', message, ...(remedy !== undefined && { remedy }) })
}

/** Headers are always the same, so that an Agent's cache recognises equal requests (section 8). */
function transfer(
  api: Api,
  connection: Connection,
  url: string,
  to: Destination,
  call: Call,
  asked: Asked,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const headers: Record<string, string> = { 'x-vault-request': 'true' }
  if (call.token !== undefined) headers['x-vault-token'] = call.token
  if (connection.namespace !== undefined) headers['x-vault-namespace'] = connection.namespace
  if (call.method === 'PATCH') headers['content-type'] = 'application/merge-patch+json'
  const { method, body } = call
  return api.http
    .send({
      method,
      url,
      headers,
      to,
      signal,
      timeoutMs: connection.timeoutMs,
      ...(body !== undefined && { body }),
      ...(call.turn !== undefined && { turn: call.turn }),
    })
    .catch((error: unknown) => {
      throw connectionError(asked, error)
    })
}
