/** A backend and a dialect over values in memory, which record every call and inject faults. */
import * as v from 'valibot'
import {
  BackendError,
  ON_REVOKED,
  PlanError,
  type Adapter,
  type ErrorKind,
  type Host,
  type Plan,
  type PlanRequest,
  type Value,
} from '../../src/providers/adapter.ts'
import { SecretBytes } from '../../src/telemetry/secret-bytes.ts'

/** What the store holds under a key: text, parts of an expanded value, or a failure. */
export interface Held {
  readonly text?: string
  readonly version?: string
  readonly parts?: Readonly<Record<string, string>>
  readonly fails?: ErrorKind
  readonly retryAfterMs?: number
  readonly expiresAt?: Date
  readonly immutable?: boolean
  /** Thrown as it is, in place of an answer. */
  readonly throws?: unknown
}

export interface MemoryStore {
  readonly adapter: Adapter
  readonly held: Map<string, Held>
  /** Keys of each call, in order. */
  readonly calls: string[][]
  /** The host of each call. */
  readonly hosts: Host[]
  /** Runs before each answer; return a promise to delay it. */
  before: (keys: readonly string[], host: Host) => void | Promise<void>
  /** Every secret ever handed out, to see whether it was wiped. */
  readonly given: SecretBytes[]
}

/**
 * Dialect `memory`: each line of `objects` is `path=key`, with optional `?` after the key (optional),
 * `!` (node identity) or `*` (expand into the path). `address` is an address that the class gives; nothing is
 * called there. `duplicates` set to `last-wins` does what it says, and so does `onRevoked`.
 */
export function memoryStore(initial: Readonly<Record<string, Held>> = {}, maxBatch?: number): MemoryStore {
  const held = new Map(Object.entries(initial))
  const calls: string[][] = []
  const hosts: Host[] = []
  const given: SecretBytes[] = []

  const secret = (text: string): SecretBytes => {
    const bytes = SecretBytes.copyOf(text)
    given.push(bytes)
    return bytes
  }

  const answer = (key: string): Value | BackendError => {
    const item = held.get(key)
    if (!item)
      return new BackendError({
        kind: 'not-found',
        code: 'NOT_THERE',
        message: `no key ${key}`,
        remedy: 'Create it',
      })
    if (item.throws) throw item.throws
    if (item.fails) {
      const wait = item.retryAfterMs === undefined ? {} : { retryAfterMs: item.retryAfterMs }
      return new BackendError({
        kind: item.fails,
        code: 'FAULT',
        message: `the store says ${item.fails}`,
        ...wait,
      })
    }
    return {
      bytes: secret(item.text ?? ''),
      version: item.version ?? '',
      ...(item.parts && {
        parts: Object.entries(item.parts).map(([name, text]) => ({ name, bytes: secret(text) })),
      }),
      ...(item.expiresAt && { expiresAt: item.expiresAt }),
      ...(item.immutable && { immutable: true }),
    }
  }

  const store: MemoryStore = {
    held,
    calls,
    hosts,
    given,
    before: () => {},
    adapter: {
      dialects: [{ name: 'memory', aliases: ['memo'], needs: { nodePublishSecret: true }, plan }],
      backends: [
        {
          kind: 'memory',
          settingsSchema: v.strictObject({ label: v.optional(v.string()) }),
          create: () => ({
            kind: 'memory',
            storeSchema: v.strictObject({ name: v.string(), address: v.optional(v.string()) }),
            addresses: (memory) => addressOf(memory),
            ...(maxBatch !== undefined && { maxBatch }),
            ref: ({ key }) => key,
            refKey: (ref) => String(ref),
            async resolve(_store, refs, host) {
              const keys = refs.map(String)
              calls.push(keys)
              hosts.push(host)
              await store.before(keys, host)
              return keys.map(answer)
            },
          }),
        },
      ],
    },
  }
  return store
}

function addressOf(memory: unknown): readonly string[] {
  const { address } = memory as { readonly address?: string }
  return address === undefined ? [] : [address]
}

function plan(request: PlanRequest): Plan {
  const objects = request.parameters.get('objects')
  if (objects === undefined)
    throw new PlanError([
      { code: 'MEMORY_NO_OBJECTS', message: 'parameter objects is missing', remedy: 'Add it' },
    ])
  const address = request.parameters.get('address')
  const outputs = objects
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [path = '', rest = ''] = line.split('=')
      const key = rest.replace(/[?!*]+$/, '')
      const marks = rest.slice(key.length)
      const source = {
        backend: 'memory',
        store: {
          name: request.parameters.get('store') ?? 'default',
          ...(address !== undefined && { address }),
        },
        identity: marks.includes('!') ? ('node' as const) : ('pod' as const),
        ref: key,
      }
      const base = {
        source,
        object: key,
        mode: request.defaultMode,
        ...(marks.includes('?') && { optional: true }),
      }
      return marks.includes('*')
        ? { kind: 'expand' as const, into: path, ...base }
        : { kind: 'file' as const, path, ...base }
    })
  const lastWins = request.parameters.get('duplicates') === 'last-wins'
  const onRevoked = ON_REVOKED.find((known) => known === request.parameters.get('onRevoked'))
  return {
    outputs,
    ...(lastWins && { duplicates: 'last-wins' as const }),
    ...(onRevoked && { onRevoked }),
  }
}
