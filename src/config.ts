/** Owns the node's configuration file: its shape, its defaults, and errors that name file and line. */
import { readFile } from 'node:fs/promises'
import * as v from 'valibot'
import { isNode, LineCounter, parseDocument, type Document } from 'yaml'
import { LOG_LEVELS } from './telemetry/log.ts'

/** Where the driver looks for sockets by default, in its order (driver.md section 2). */
export const DEFAULT_SOCKET_DIRECTORIES = [
  '/etc/kubernetes/secrets-store-csi-providers',
  '/var/run/secrets-store-csi-providers',
] as const

export const DEFAULT_CONFIG_FILE = '/etc/keyferry/config.yaml'

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
const SIZES: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }

const NO_DURATION = 'is not a duration; write it like 30s, 250ms, 5m or 0'
/** A span of time such as `30s`, `250ms`, `5m`, `1h` or `0`, read as milliseconds. */
const Duration = v.pipe(
  v.union(
    [v.pipe(v.string(), v.regex(/^(?:0|\d{1,12}(?:ms|s|m|h))$/, NO_DURATION)), v.literal(0)],
    NO_DURATION,
  ),
  v.transform((text) => quantity(text, UNITS)),
)

const NO_SIZE = 'is not a size; write it like 32MiB, 512KiB or a number of bytes'
/** An amount of memory such as `32MiB` or `512KiB`, read as bytes. */
const Size = v.pipe(
  v.union(
    [
      v.pipe(v.string(), v.regex(/^\d{1,12}(?:B|KiB|MiB|GiB)?$/, NO_SIZE)),
      v.pipe(v.number(), v.integer(NO_SIZE), v.minValue(0, NO_SIZE), v.maxValue(999_999_999_999, NO_SIZE)),
    ],
    NO_SIZE,
  ),
  v.transform((text) => quantity(text, SIZES)),
)

const Count = v.pipe(v.number(), v.integer(), v.minValue(1))
const Text = v.pipe(v.string(), v.minLength(1))

/** The number that a checked text stands for; without a unit it is itself. */
function quantity(text: string | number, units: Readonly<Record<string, number>>): number {
  const [, digits, unit = ''] = /^(\d+)([a-zA-Z]*)$/.exec(String(text)) ?? []
  return Number(digits) * (units[unit] ?? 1)
}

/** Host and port, e.g. `127.0.0.1:9090` or `[::1]:9090`. */
const Address = v.union([
  v.literal('off'),
  v.pipe(v.string(), v.regex(/^(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}$/, 'is not HOST:PORT or off')),
])

const KubernetesAccess = v.strictObject({
  server: v.optional(v.pipe(v.string(), v.url())),
  tokenFile: v.optional(Text),
  caFile: v.optional(Text),
  tokenRequests: v.optional(v.boolean(), false),
})

/** Lazy, so that an error speaks of the alternative that was meant. */
const Kubernetes = v.lazy((input) => (input === 'off' ? v.literal('off') : KubernetesAccess))

/** Patterns of a policy rule: `*` within a segment, `**` over all. */
const Globs = v.pipe(
  v.array(v.pipe(v.string(), v.minLength(1), v.maxLength(256))),
  v.minLength(1, 'is not a list with patterns; leave the key out to mean any'),
)
const Hosts = v.pipe(
  v.array(
    v.pipe(
      v.string(),
      v.maxLength(256),
      v.regex(/^[A-Za-z0-9*.:[\]-]+$/, 'is not a host pattern such as *.example.org or vault:8200'),
    ),
  ),
  v.minLength(1, 'is not a list with hosts; leave the key out to mean none'),
)

/** What some fetches may do besides using the pod's identity at the operator's addresses (threat model T2, T11). */
const Rule = v.pipe(
  v.strictObject({
    backends: v.optional(Globs),
    providers: v.optional(Globs),
    namespaces: v.optional(Globs),
    serviceAccounts: v.optional(Globs),
    keys: v.optional(Globs),
    identity: v.optional(v.picklist(['pod', 'node']), 'pod'),
    addresses: v.optional(Hosts),
  }),
  v.check(
    ({ identity, addresses }) => identity === 'node' || addresses !== undefined,
    'is not a rule that allows anything; give it identity: node, addresses, or both',
  ),
)

/** Who may use a store, and for which keys: every list needs a match (threat model T1). */
const AllowRule = v.strictObject({
  namespaces: Globs,
  serviceAccounts: v.optional(Globs, ['*']),
  keys: v.optional(Globs, ['**']),
})

const StoreName = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, 'is not a name: lower-case letters, digits and -'),
)

/** A store that classes of `provider: keyferry` refer to by its name. */
const Store = v.strictObject({
  backend: Text,
  /** What the backend's own schema says, which is checked where backends are known. */
  settings: v.optional(v.unknown(), {}),
  identity: v.optional(v.picklist(['pod', 'node']), 'pod'),
  allow: v.optional(v.array(AllowRule), []),
})

/** The configuration file. Every key is optional; an unknown key is an error (threat model T28). */
export const ConfigSchema = v.strictObject({
  sockets: v.optional(
    v.strictObject({
      directories: v.optional(v.array(Text)),
      dialects: v.optional(
        v.array(v.pipe(v.string(), v.regex(/^[a-zA-Z0-9_-]{1,30}$/, 'is not a provider name'))),
      ),
      takeover: v.optional(v.boolean(), false),
    }),
    {},
  ),
  admin: v.optional(v.strictObject({ address: v.optional(Address, 'off') }), {}),
  log: v.optional(
    v.strictObject({
      level: v.optional(v.picklist(LOG_LEVELS), 'info'),
      audit: v.optional(v.picklist(['stdout', 'stderr', 'off']), 'stdout'),
    }),
    {},
  ),
  policy: v.optional(
    v.strictObject({
      profile: v.optional(v.picklist(['compat', 'hardened']), 'compat'),
      allow: v.optional(v.array(Rule), []),
      inlineStores: v.optional(v.picklist(['allow', 'deny']), 'deny'),
      onRevoked: v.optional(v.picklist(['keep', 'remove']), 'keep'),
      verifyParameters: v.optional(v.picklist(['off', 'spc']), 'off'),
    }),
    {},
  ),
  stores: v.optional(v.record(StoreName, Store), {}),
  cache: v.optional(
    v.strictObject({
      freshFor: v.optional(Duration, '30s'),
      staleIfError: v.optional(Duration, 0),
      immutableFor: v.optional(Duration, '1h'),
      maxBytes: v.optional(Size, '16MiB'),
    }),
    {},
  ),
  limits: v.optional(
    v.strictObject({
      running: v.optional(Count, 16),
      inFlightBytes: v.optional(Size, '16MiB'),
      responseBytes: v.optional(Size, '4MiB'),
      fileBytes: v.optional(Size, '1MiB'),
      objects: v.optional(Count, 1000),
      budget: v.optional(Duration, '90s'),
      drain: v.optional(Duration, '20s'),
    }),
    {},
  ),
  backends: v.optional(v.record(v.string(), v.unknown()), {}),
  kubernetes: v.optional(Kubernetes, {}),
  node: v.optional(
    v.strictObject({
      name: v.optional(Text),
      pool: v.optional(Text),
      stateDir: v.optional(Text),
      versionKeyFile: v.optional(Text),
    }),
    {},
  ),
  adapters: v.optional(v.array(Text), []),
})

export type Config = v.InferOutput<typeof ConfigSchema>

/** The configuration file cannot be used. The message is `file:line:column: reason`. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** What a configuration without a file says. */
export function defaultConfig(): Config {
  return v.parse(ConfigSchema, {})
}

/** A configuration that knows the line of each of its values. */
export interface LoadedConfig {
  readonly config: Config
  /** What it was read from, to tell a change of the file. */
  readonly text: string
  /** The error for the value at `path`, e.g. `['backends', 'sops', 'roots']`. */
  readonly fault: (path: readonly (string | number)[], reason: string) => ConfigError
}

/**
 * Reads a configuration file.
 * @throws ConfigError naming file, line and reason.
 */
export async function loadConfig(file: string): Promise<LoadedConfig> {
  return parseConfig(file, await readConfig(file))
}

/** The text of a configuration file. @throws ConfigError */
export async function readConfig(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
    throw new ConfigError(`${file}: cannot be read (${code})`)
  }
}

/** Reads the text of a configuration file; `file` is used in errors only. @throws ConfigError */
export function parseConfig(file: string, text: string): LoadedConfig {
  const lines = new LineCounter()
  const document = parseDocument(text, {
    lineCounter: lines,
    merge: false,
    uniqueKeys: true,
    logLevel: 'error',
  })
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset)
    return `${file}:${line}:${col}`
  }
  const [problem] = document.errors
  if (problem)
    throw new ConfigError(
      `${at(problem.pos[0])}: ${problem.message.split('\n')[0]?.replace(/ at line \d+.*$/, '')}`,
    )
  const fault = (path: readonly (string | number)[], reason: string): ConfigError =>
    new ConfigError(
      `${at(offsetOf(document, path))}: ${path.length > 0 ? `${path.join('.')} ` : ''}${reason}`,
    )
  const data = plainData(document)
  if (data instanceof Error) throw fault([], lowerFirst(data.message))
  if (Array.isArray(data)) throw fault([], 'the configuration must be a mapping, not a list')
  const result = v.safeParse(ConfigSchema, data)
  if (!result.success) throw fault(...issueOf(result.issues))
  return { config: result.output, text, fault }
}

/** Path and reason of the first issue that a schema found. */
export function issueOf(
  issues: readonly [v.BaseIssue<unknown>, ...v.BaseIssue<unknown>[]],
): [(string | number)[], string] {
  const [issue] = issues
  const path = (issue.path ?? []).map((item) => (typeof item.key === 'number' ? item.key : String(item.key)))
  if (issue.type === 'strict_object' && issue.expected === 'never') return [path, 'is not a known key']
  return [path, issue.message.startsWith('is not') ? issue.message : lowerFirst(issue.message)]
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1)
}

/** The document as plain data, or why it cannot be: an alias without its anchor, or too many of them. */
function plainData(document: Document): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 }) ?? {}
  } catch (error) {
    return error instanceof Error ? error : new Error('the document cannot be read')
  }
}

/** Where the value at `path` stands, or the closest of its ancestors that has a place. */
function offsetOf(document: Document, path: readonly (string | number)[]): number {
  for (let length = path.length; length > 0; length -= 1) {
    const node = document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) return node.range[0]
  }
  return 0
}
