/** Owns the backend `vault`: refs in, values out, over one keeper of tokens and leases per process. */
import { randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { JsonError, parseJson } from '../../formats/json-parse.ts'
import { formatGoJson } from '../../formats/json.ts'
import {
  BackendError,
  PlanError,
  type Backend,
  type BackendContext,
  type BackendFactory,
  type ErrorKind,
  type Host,
  type RefItem,
  type Value,
} from '../adapter.ts'
import { createSteadyEnvelopes, secretEnvelope, envelopeBytes, valueOf, writtenExpiry } from './answers.ts'
import { renewLease, renewToken, revokeLease, revokeToken, type VaultToken } from './auth.ts'
import { addressesOf, connectionTo, send, type Api, type Connection } from './connection.ts'
import { failed } from './failure.ts'
import { nodeToken, podLogin } from './identity.ts'
import { createKeeper, type Keeper } from './keeper.ts'
import type { Clock, Entry, Hold, Slot, SlotCalls } from './slots.ts'
import { expiringSpan, span, type Span } from './leases.ts'
import { issuesForOnePod, keyOf, refKey, RequestError, requestMethod, requestPath } from './request.ts'
import { isJsonObject, parseEnvelope, printable, type Envelope } from './response.ts'
import { goBoolean, IGNORED_VARIABLES, settingsSchema, type VaultSettings } from './settings.ts'
import { storeSchema, type VaultRef, type VaultStore } from './store.ts'
import { createTlsFiles } from './tls.ts'

/** What tests replace. */
export interface BackendParts {
  readonly clock: Clock
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>
  /** −1…1 */
  readonly spread: () => number
}

const realParts: BackendParts = {
  clock: {
    now: () => Date.now(),
    after(ms, call) {
      const timer = setTimeout(call, ms)
      timer.unref()
      return () => clearTimeout(timer)
    },
  },
  pause: async (ms, signal) => {
    await sleep(ms, undefined, { signal }).catch(() => {})
  },
  spread: () => randomInt(-1000, 1001) / 1000,
}

/** Requests of one mount that run at the same time: twenty objects cost one round trip (design.md section 7). */
const CONCURRENCY = 32
/** Whoever may not have a new secret must not be served the old one either (threat model T25). */
const REFUSED: ReadonlySet<ErrorKind> = new Set(['denied', 'not-found', 'gone', 'unauthenticated'])
/** Longest time for a renewal or revocation. */
const BACKGROUND_TIMEOUT_MS = 20_000

export const vaultFactory: BackendFactory = {
  kind: 'vault',
  settingsSchema,
  create: (context) => createVaultBackend(context),
}

/** A backend whose {@link Keeper} can be looked at. */
export interface VaultBackend extends Backend<VaultStore, VaultRef> {
  readonly keeper: Keeper
}

export function createVaultBackend(context: BackendContext, parts: BackendParts = realParts): VaultBackend {
  const settings = context.settings as VaultSettings
  const { env, log } = context
  const { clock } = parts
  const api: Api = { http: context.http, settings, env, pause: parts.pause }
  const tls = createTlsFiles({ directories: settings.tlsDirectories, log, now: () => clock.now() })
  const connect = (store: VaultStore): Promise<Connection> => connectionTo(store, { settings, env, tls })
  const steady = createSteadyEnvelopes()
  const pods = context.pods
  const keeper = createKeeper({
    clock,
    log,
    meter: context.meter,
    spread: parts.spread,
    revoke: settings.leases.revoke,
    disuseMs: () => (pods?.watching() ? 0 : settings.leases.disuseSeconds * 1000),
  })
  const stopWatching = pods?.onGone(
    () => keeper.pods(),
    (podUid) => keeper.podGone(podUid),
  )
  warnAtStart(context, settings)

  /** Calls that need no mount: the pod may be long gone when its lease is let go. */
  function callsFor(store: VaultStore): SlotCalls {
    const within = async <T>(call: (connection: Connection, signal: AbortSignal) => Promise<T>): Promise<T> =>
      call(await connect(store), AbortSignal.timeout(BACKGROUND_TIMEOUT_MS))
    return {
      renewToken: (token, seconds) => within((to, signal) => renewToken(api, to, token, seconds, signal)),
      renewLease: (token, id, increment) =>
        within((to, signal) => renewLease(api, to, token, { id, increment }, signal)),
      revokeToken: (token) => within((to, signal) => revokeToken(api, to, token, signal)),
      revokeLease: (token, id) => within((to, signal) => revokeLease(api, to, token, id, signal)),
    }
  }

  async function fetchOne(mount: Mount, ref: VaultRef): Promise<Value | BackendError> {
    const key = refKey(ref)
    const kept = keeper.fresh(mount.slot, key)
    if (kept) return keptValue(ref, mount, kept)
    try {
      return await issue(mount, ref, key)
    } catch (error) {
      if (!(error instanceof BackendError)) throw error
      if (REFUSED.has(error.kind)) keeper.refused(mount.slot, key)
      const old = keeper.alive(mount.slot, key)
      if (!old) return error
      mount.host.log.warn('a leased secret could not be fetched anew; the old one is still good', {
        kind: error.kind,
      })
      return keptValue(ref, mount, old)
    }
  }

  /** Asks the server, with one more login when a kept token is refused (section 7, 4). */
  async function ask(mount: Mount, ref: VaultRef): Promise<{ status: number; body: Buffer; hold: Hold }> {
    const attempt = async (hold: Hold): Promise<{ status: number; body: Buffer; hold: Hold }> => {
      const token = hold.token.reveal().toString()
      const { method, path, body } = ref
      const turn = mount.host.pod.namespace
      const call = {
        method,
        path,
        token,
        turn,
        purpose: 'read' as const,
        ...(body !== undefined && { body }),
      }
      const reply = await send(api, mount.connection, call, mount.host.signal)
      return { status: reply.status, body: reply.body, hold }
    }
    if (mount.host.identity === 'node')
      return attempt(keeper.adopt(mount.slot, await nodeToken(api, mount.store))).catch(aboutTheToken)
    const { logIn } = mount
    const { hold, fresh } = await keeper.token(mount.slot, logIn)
    try {
      return await attempt(hold)
    } catch (error) {
      if (fresh || !(error instanceof BackendError) || error.kind !== 'denied') throw error
      const other = await keeper.replacement(mount.slot, hold, logIn).catch((second: unknown) => {
        throw second instanceof BackendError ? afterBoth(error, second) : second
      })
      return attempt(other)
    }
  }

  async function issue(mount: Mount, ref: VaultRef, key: string): Promise<Value> {
    const { status, body, hold } = await ask(mount, ref)
    const envelope = secretEnvelope(ref, status, body)
    const { flavour } = mount.store
    const now = clock.now()
    for (const warning of envelope.warnings ?? [])
      mount.host.log.info('the Vault server warns', { warning: printable(warning) })
    const life = lifeOf(ref, envelope, now, mount.connection.agent)
    if (life === undefined) {
      const known =
        ref.shape === 'envelope' ? steady.steady(JSON.stringify([mount.sharedKey, key]), envelope) : envelope
      return { ...valueOf(ref, flavour, known), version: '' }
    }
    const entry: Entry = {
      hold,
      leaseId: envelope.leaseId,
      body: envelopeBytes(flavour, envelope),
      life,
    }
    const value = keptValue(ref, mount, entry)
    if (settings.leases.keep) keeper.keep(mount.slot, key, entry)
    return value
  }

  function keptValue(ref: VaultRef, mount: Mount, entry: Entry): Value {
    return {
      ...valueOf(ref, mount.store.flavour, parseEnvelope(entry.body.reveal())),
      version: '',
      // The keeper has it: a second cache would hand one pod's lease to another.
      expiresAt: new Date(clock.now()),
      ...(entry.leaseId !== '' && { lease: { id: entry.leaseId, renewable: entry.life.renewable } }),
    }
  }

  return {
    kind: 'vault',
    storeSchema,
    keeper,
    ref: refOf,
    refKey: (ref) => (settings.legacyDedupe && ref.legacy ? refKey(ref.legacy) : refKey(ref)),
    keys: (store, ref) => [keyOf(store.namespace, ref)],
    addresses: (store) => addressesOf(store, { settings, env }),
    async resolve(store, refs, host) {
      const connection = await connect(store)
      const { pod } = host
      const who = [host.identity, pod.namespace, pod.serviceAccount]
      const where = JSON.stringify(Object.entries(store).sort(([a], [b]) => (a < b ? -1 : 1)))
      const slot = keeper.poll([...who, pod.name, where], pod.uid, callsFor(store))
      const logIn = onceIfFailing(podLogin(api, connection, store, host))
      const mount: Mount = {
        store,
        connection,
        host,
        slot,
        logIn,
        sharedKey: JSON.stringify([...who, where]),
      }
      const wanted = refs.map((ref) => (settings.legacyDedupe && ref.legacy ? ref.legacy : ref))
      let bytes = 0
      const answers = await inParallel(wanted, async (ref) => {
        if (bytes > MAX_TOGETHER) return tooMuch()
        const answer = await fetchOne(mount, ref)
        if (!(answer instanceof BackendError)) bytes += answer.bytes.length
        return answer
      })
      if (bytes <= MAX_TOGETHER) return answers
      for (const answer of answers) if (!(answer instanceof BackendError)) answer.bytes.wipe()
      // For all of them, so that the text does not depend on which came first.
      return answers.map(tooMuch)
    },
    async close() {
      stopWatching?.()
      await keeper.close()
    },
  }
}

/**
 * Most bytes of all values of one call: far more than a volume can have. In profile compat the server may be one
 * that the class names, and a thousand replies of the largest size would fill the memory of the node (T14).
 */
const MAX_TOGETHER = 16 * 1024 * 1024

function tooMuch(): BackendError {
  return failed({
    kind: 'too-large',
    code: 'VAULT_REPLY_TOO_LARGE',
    message: `the secrets of this mount have more than ${MAX_TOGETHER} bytes together`,
    remedy: 'Split the SecretProviderClass',
  })
}

/** The operator's token may have ended, which Vault does not tell from a missing right. */
function aboutTheToken(error: unknown): never {
  if (!(error instanceof BackendError) || error.kind !== 'denied') throw error
  const { kind, code, message, remedy } = error
  throw new BackendError({ kind, code, message, remedy, indirect: true })
}

/** One call of `resolve`. */
interface Mount {
  readonly store: VaultStore
  readonly connection: Connection
  readonly host: Host
  readonly slot: Slot
  readonly logIn: () => Promise<VaultToken>
  /** Names identity and store, without the pod. */
  readonly sharedKey: string
}

/** How long an answer stays good; undefined when it must be asked for at each poll. */
function lifeOf(ref: VaultRef, envelope: Envelope, now: number, agent: boolean): Span | undefined {
  const { leaseId, leaseDuration, renewable } = envelope
  if (leaseId !== '' && leaseDuration > 0) {
    // An Agent renews what it handed out; asking it again costs nothing and returns the same lease.
    return agent ? expiringSpan(now, now + leaseDuration * 1000) : span(now, leaseDuration, renewable)
  }
  const writes = ref.method !== 'GET' && ref.method !== 'LIST'
  const expiry = writes && leaseId === '' ? writtenExpiry(envelope) : undefined
  return expiry !== undefined && expiry > now ? expiringSpan(now, expiry) : undefined
}

function afterBoth(first: BackendError, second: BackendError): BackendError {
  return failed({
    kind: second.kind,
    code: second.code,
    message: `failed to fetch secret: ${first.message}; and failed to reauthenticate: ${second.message}`,
    ...(second.remedy !== undefined && { remedy: second.remedy }),
    ...(second.retryAfterMs !== undefined && { retryAfterMs: second.retryAfterMs }),
  })
}

async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next
      next += 1
      results[index] = await work(items[index] as T)
    }
  }
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, items.length) }, worker))
  return results
}

/**
 * A ref for the keyferry dialect: `key` is the API path, `version` a KV v2 version, `args.method` the
 * method, `args.body` a JSON object as request body.
 */
function refOf(item: RefItem): VaultRef {
  const unknown = Object.keys(item.args ?? {}).filter((name) => name !== 'method' && name !== 'body')
  try {
    if (unknown.length > 0)
      throw new RequestError(`unknown args ${unknown.join(', ')}; there are method and body`)
    const key = item.version === undefined ? item.key : versioned(item.key, item.version)
    const path = requestPath(key)
    const method = requestMethod(item.args?.['method'] ?? '')
    const body = item.args?.['body']
    const ref = { path, method, shape: 'data', ...(body !== undefined && { body: bodyOf(body) }) } as const
    return item.podUid !== undefined && issuesForOnePod(ref) ? { ...ref, pod: item.podUid } : ref
  } catch (error) {
    if (!(error instanceof RequestError)) throw error
    throw new PlanError([{ code: 'VAULT_REF', message: `"${item.key}": ${error.message}` }])
  }
}

function versioned(key: string, version: string): string {
  if (!/^[0-9]{1,10}$/.test(version)) throw new RequestError(`version "${version}" is not a number`)
  return `${key}${key.includes('?') ? '&' : '?'}version=${version}`
}

function bodyOf(text: string): string {
  try {
    const body = parseJson(text)
    if (isJsonObject(body)) return formatGoJson(body)
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
  }
  throw new RequestError('args.body is not a JSON object')
}

function warnAtStart({ env, log }: BackendContext, settings: VaultSettings): void {
  for (const name of IGNORED_VARIABLES) {
    if (env[name]) log.warn('a variable is ignored: wrapped answers cannot be mounted', { variable: name })
  }
  if (settings.tokenFile === undefined && (env['VAULT_TOKEN'] || env['BAO_TOKEN'])) {
    log.warn('VAULT_TOKEN is used for stores with identity: node only; pods log in for themselves')
  }
  if (
    settings.skipVerify ||
    goBoolean(env['VAULT_SKIP_VERIFY'] ?? '') ||
    goBoolean(env['BAO_SKIP_VERIFY'] ?? '')
  ) {
    log.warn('certificates of Vault servers are not verified')
  }
}

/** Logs in at most once per mount when that fails: every object would fail the same way. */
function onceIfFailing<T>(login: () => Promise<T>): () => Promise<T> {
  let failure: unknown
  return async () => {
    if (failure !== undefined) throw failure as Error
    try {
      return await login()
    } catch (error) {
      failure = error
      throw error
    }
  }
}
