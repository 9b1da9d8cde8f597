/** Owns the operator's word on Vault: `backends.vault` of the configuration, and the vendor's environment variables. */
import * as v from 'valibot'
import type { Flavour } from './store.ts'

const text = v.pipe(v.string(), v.minLength(1))
const seconds = v.pipe(v.number(), v.minValue(0))

/** Settings of one layer that an SPC may override (section 2.2). */
const layer = {
  /** Address for stores that name none. */
  address: v.optional(text),
  namespace: v.optional(text),
  authMount: v.optional(text),
  caFile: v.optional(text),
  caDirectory: v.optional(text),
  clientCertFile: v.optional(text),
  clientKeyFile: v.optional(text),
  serverName: v.optional(text),
  /** Trust any certificate of every server. For laboratories. */
  skipVerify: v.optional(v.boolean()),
}

/** `backends.vault` of the configuration file. */
export const settingsSchema = v.strictObject({
  ...layer,
  /**
   * Addresses that SPCs may name although they are plain http, a unix socket, or on loopback, and to
   * which a standby may redirect.
   */
  addresses: v.optional(v.array(text), []),
  /** Addresses for which an SPC may set `vaultSkipTLSVerify` (T13). */
  skipVerifyAddresses: v.optional(v.array(text), []),
  /** Directories below which an SPC may name CA and client certificate files (T12). */
  tlsDirectories: v.optional(v.array(text), [
    '/vault/tls',
    '/openbao/tls',
    '/etc/keyferry/tls',
    '/etc/ssl/certs',
  ]),
  /** Proxy URL for addresses of the operator. */
  proxy: v.optional(text),
  /** Longest time for one call. */
  timeoutSeconds: v.optional(seconds, 30),
  /** File with a token, for stores with `identity: node`. Default: `VAULT_TOKEN`, `BAO_TOKEN`. */
  tokenFile: v.optional(text),
  /** Go's key for equal requests of one SPC: `secretArgs` are not in it (`--vault-legacy-dedupe`). */
  legacyDedupe: v.optional(v.boolean(), false),
  leases: v.optional(
    v.strictObject({
      /** Keep and renew what has a lease; false issues anew at each poll (`--vault-lease-cache=false`). */
      keep: v.optional(v.boolean(), true),
      /** Revoke a pod's token, and with it its leases, when the pod is gone. */
      revoke: v.optional(v.boolean(), true),
      /**
       * Where pods cannot be watched: a pod that was polled regularly and has not been for this long is
       * taken for gone. 0: never.
       */
      disuseSeconds: v.optional(seconds, 600),
    }),
    {},
  ),
})
export type VaultSettings = v.InferOutput<typeof settingsSchema>

/** One layer of connection settings: environment, configuration or store. */
export interface Layer {
  readonly address?: string | undefined
  readonly namespace?: string | undefined
  readonly authMount?: string | undefined
  readonly caPem?: string | undefined
  readonly caFile?: string | undefined
  readonly caDirectory?: string | undefined
  readonly clientCertFile?: string | undefined
  readonly clientKeyFile?: string | undefined
  readonly serverName?: string | undefined
  readonly skipVerify?: boolean | undefined
  readonly proxy?: string | undefined
}

type Environment = Readonly<Record<string, string | undefined>>

/** A variable of the flavour: OpenBao reads `BAO_…` first, a present empty one included. */
export function variable(env: Environment, flavour: Flavour, name: string): string | undefined {
  const own = flavour === 'openbao' ? env[`BAO_${name}`] : undefined
  return own ?? env[`VAULT_${name}`]
}

const TRUE_WORDS: ReadonlySet<string> = new Set(['1', 't', 'T', 'TRUE', 'true', 'True'])
const FALSE_WORDS: ReadonlySet<string> = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False'])

/** The words that Go's `strconv.ParseBool` knows; undefined for any other. */
export function goBoolean(word: string): boolean | undefined {
  if (TRUE_WORDS.has(word)) return true
  return FALSE_WORDS.has(word) ? false : undefined
}

/** The environment as the lowest layer. The Agent's address is the last resort, not the first as in Go. */
export function environmentLayer(env: Environment, flavour: Flavour): Layer {
  const read = (name: string): string | undefined => variable(env, flavour, name) || undefined
  return {
    address: read('ADDR') ?? read('AGENT_ADDR'),
    namespace: read('NAMESPACE'),
    caPem: read('CACERT_BYTES'),
    caFile: read('CACERT'),
    caDirectory: read('CAPATH'),
    clientCertFile: read('CLIENT_CERT'),
    clientKeyFile: read('CLIENT_KEY'),
    serverName: read('TLS_SERVER_NAME'),
    skipVerify: goBoolean(read('SKIP_VERIFY') ?? 'false'),
    proxy: read('PROXY_ADDR') ?? read('HTTP_PROXY'),
  }
}

/** Longest time for one call in milliseconds: `CLIENT_TIMEOUT` (`60`, `60s`, `1m`) if set, else the setting. */
export function timeoutMs(settings: VaultSettings, env: Environment, flavour: Flavour): number {
  const match = /^(\d{1,6})(ms|s|m)?$/.exec(variable(env, flavour, 'CLIENT_TIMEOUT') ?? '')
  if (match === null) return settings.timeoutSeconds * 1000
  const unit = match[2] === 'ms' ? 1 : match[2] === 'm' ? 60_000 : 1000
  return Number(match[1]) * unit
}

/** Variables that crash or open Go's provider and that we ignore (section 7). */
export const IGNORED_VARIABLES = ['VAULT_WRAP_TTL', 'BAO_WRAP_TTL'] as const
