/** Owns the way from a provider's name to an answered call: socket lookup, the cached client, its options (driver.md section 2). */
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import {
  Client,
  credentials,
  Metadata,
  status,
  type MethodDefinition,
  type ServiceError,
} from '@grpc/grpc-js'
import { codeName, type CodeName } from './codes.ts'
import {
  API_VERSION,
  MOUNT_METHOD,
  SERVICE_NAME,
  VERSION_METHOD,
  type VersionResponse,
  type WireMountRequest,
  type WireMountResponse,
} from '../rpc/contract.ts'
import { goQuote } from './go-text.ts'

/** A driver generation: what differs between them is named in driver.md. */
export type Profile = '1.6' | '1.5'

/** How a node reaches its providers. */
export interface DialOptions {
  readonly profile: Profile
  /** Socket directories in search order: the driver's additional paths first, then its provider volume. */
  readonly providerDirs: readonly string[]
  /** Overrides the profile's `:authority`: for a grpc-js provider that cannot take the raw path of 1.5. */
  readonly authority?: string
  /** Largest answer in bytes, `--max-call-recv-msg-size`. Default 4 MiB. */
  readonly maxReceiveBytes?: number
  /** First wait in milliseconds before a lost connection is dialed again. Default 1000, as in the driver. */
  readonly reconnectBackoffMs?: number
}

/** An answer with its encoded size, or the status the driver sees. */
export type CallOutcome<Response> =
  | { readonly ok: true; readonly message: Response; readonly size: number }
  | { readonly ok: false; readonly code: CodeName; readonly message: string }

/** A provider that cannot even be dialed; the message is the driver's. */
export class LookupError extends Error {
  override name = 'LookupError'
}

/** The providers of a node, dialed at first use and kept for the node's lifetime. */
export interface Providers {
  /** Calls Mount. `timeoutMs` undefined means no deadline. Throws LookupError. */
  mount(
    provider: string,
    request: WireMountRequest,
    timeoutMs: number | undefined,
  ): Promise<CallOutcome<WireMountResponse>>
  /** One round of the driver's optional health check: `Version`, 5 s each, on every provider used so far. */
  healthCheck(): Promise<ReadonlyMap<string, CallOutcome<VersionResponse>>>
  /** Drops every connection. Calls in flight fail. */
  close(): void
}

const PROVIDER_NAME = /^[a-zA-Z0-9_-]{0,30}$/
const HEALTH_TIMEOUT_MS = 5000

/** The driver's service config; grpc-js reads lowerCamelCase only and ignores waitForReady here. */
const SERVICE_CONFIG = JSON.stringify({
  methodConfig: [
    {
      name: [{ service: SERVICE_NAME }],
      waitForReady: true,
      retryPolicy: {
        maxAttempts: 3,
        initialBackoff: '1s',
        maxBackoff: '10s',
        backoffMultiplier: 1.1,
        retryableStatusCodes: ['UNAVAILABLE'],
      },
    },
  ],
})

/** Opens nothing yet: sockets are looked up when a provider is first used. */
export function openProviders(options: DialOptions): Providers {
  const clients = new Map<string, Client>()
  return {
    async mount(provider, request, timeoutMs) {
      return call(await clientFor(clients, provider, options), MOUNT_METHOD, request, timeoutMs)
    },
    async healthCheck() {
      const answers = new Map<string, CallOutcome<VersionResponse>>()
      for (const [provider, client] of clients) {
        answers.set(provider, await call(client, VERSION_METHOD, { version: API_VERSION }, HEALTH_TIMEOUT_MS))
      }
      return answers
    },
    close() {
      for (const client of clients.values()) client.close()
      clients.clear()
    },
  }
}

async function clientFor(
  clients: Map<string, Client>,
  provider: string,
  options: DialOptions,
): Promise<Client> {
  const known = clients.get(provider)
  if (known !== undefined) return known
  if (!PROVIDER_NAME.test(provider)) throw new LookupError(`invalid provider: provider ${goQuote(provider)}`)
  const path = await findSocket(provider, options.providerDirs)
  if (path === undefined) throw new LookupError(`provider not found: provider ${goQuote(provider)}`)
  // Two first uses may have come here together; the first to finish is the one that stays.
  const client = clients.get(provider) ?? dial(path, options)
  clients.set(provider, client)
  return client
}

/** The first directory in which something of that name exists. Nobody asks whether it is a socket, or alive. */
async function findSocket(provider: string, dirs: readonly string[]): Promise<string | undefined> {
  for (const dir of dirs) {
    const path = resolve(dir, `${provider}.sock`)
    const exists = await stat(path).then(
      () => true,
      () => false,
    )
    if (exists) return path
  }
  return undefined
}

function dial(path: string, options: DialOptions): Client {
  const backoff = options.reconnectBackoffMs ?? 1000
  return new Client(`unix:${path}`, credentials.createInsecure(), {
    'grpc.default_authority': options.authority ?? (options.profile === '1.6' ? 'localhost' : path),
    'grpc.service_config': SERVICE_CONFIG,
    'grpc.service_config_disable_resolution': 1,
    'grpc.max_receive_message_length': options.maxReceiveBytes ?? 4 * 1024 * 1024,
    'grpc.initial_reconnect_backoff_ms': backoff,
    'grpc.max_reconnect_backoff_ms': Math.max(backoff, options.reconnectBackoffMs ?? 120_000),
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_http_proxy': 0,
  })
}

function call<Request, Response>(
  client: Client,
  method: MethodDefinition<Request, Response>,
  request: Request,
  timeoutMs: number | undefined,
): Promise<CallOutcome<Response>> {
  return new Promise((settle) => {
    client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      (bytes) => ({ message: method.responseDeserialize(bytes), size: bytes.length }),
      request,
      new Metadata({ waitForReady: true }),
      timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
      (error, answer) => {
        if (error !== null) settle(failure(error))
        else if (answer === undefined)
          settle({ ok: false, code: 'Internal', message: 'no message in answer' })
        else settle({ ok: true, ...answer })
      },
    )
  })
}

/** Faults that grpc-js words differently from the grpc-go of the driver. A provider's own texts pass unchanged. */
const OWN_WORDS: readonly {
  readonly code: status
  readonly pattern: RegExp
  readonly words: (found: readonly string[]) => string
}[] = [
  {
    code: status.DEADLINE_EXCEEDED,
    pattern: /^Deadline exceeded after /,
    words: () => 'context deadline exceeded',
  },
  {
    code: status.RESOURCE_EXHAUSTED,
    pattern: /^Received message larger than max \((\d+) vs (\d+)\)$/,
    words: ([, size, max]) => `grpc: received message larger than max (${size} vs. ${max})`,
  },
  {
    code: status.INTERNAL,
    pattern: /^Response message parsing error: \S+ is not valid UTF-8$/,
    words: () => 'grpc: failed to unmarshal the received message: string field contains invalid UTF-8',
  },
  {
    code: status.INTERNAL,
    pattern: /^Response message parsing error: /,
    words: () =>
      'grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data',
  },
  {
    code: status.INTERNAL,
    pattern: /^Received RST_STREAM with code (\d+)/,
    words: ([, code]) =>
      `stream terminated by RST_STREAM with error code: ${RESET_NAMES[Number(code)] ?? code}`,
  },
  {
    code: status.UNAVAILABLE,
    pattern: /^(Connection dropped|read ECONNRESET|write EPIPE|write ECONNRESET)$/,
    words: () => 'error reading from server: EOF',
  },
]

/** HTTP/2 error codes by number (RFC 9113 section 7). */
const RESET_NAMES = [
  'NO_ERROR',
  'PROTOCOL_ERROR',
  'INTERNAL_ERROR',
  'FLOW_CONTROL_ERROR',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE_ERROR',
  'REFUSED_STREAM',
  'CANCEL',
  'COMPRESSION_ERROR',
  'CONNECT_ERROR',
  'ENHANCE_YOUR_CALM',
  'INADEQUATE_SECURITY',
  'HTTP_1_1_REQUIRED',
]

function failure(error: ServiceError): CallOutcome<never> {
  for (const { code, pattern, words } of OWN_WORDS) {
    const found = code === error.code ? pattern.exec(error.details) : null
    if (found !== null) return { ok: false, code: codeName(code), message: words([...found]) }
  }
  return { ok: false, code: codeName(error.code), message: error.details }
}
