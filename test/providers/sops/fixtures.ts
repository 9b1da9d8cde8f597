/** Owns what the SOPS tests share: a host, a backend on a temporary directory, documents made on the spot. */
import { planNow } from '../../../src/mount/planner.ts'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { randomBytes } from 'node:crypto'
import { armor, Encrypter } from 'age-encryption'
import { expect } from 'vitest'
import * as v from 'valibot'
import type { Backend, Host, Output, Plan, Value } from '../../../src/providers/adapter.ts'
import { BackendError, PlanError } from '../../../src/providers/adapter.ts'
import { adapter } from '../../../src/providers/sops/adapter.ts'
import { sopsDialect } from '../../../src/providers/sops/dialect.ts'
import { macHash, macToken } from '../../../src/providers/sops/mac.ts'
import type { SopsRef } from '../../../src/providers/sops/ref.ts'
import { settingsSchema } from '../../../src/providers/sops/settings.ts'
import { aadOf, encryptToken } from '../../../src/providers/sops/token.ts'
import { text, type MapTree, type Scalar, type Tree } from '../../../src/providers/sops/tree.ts'
import { silentLogger, type LogFields, type Logger } from '../../../src/telemetry/log.ts'
import { backendContext } from '../../support/backend-context.ts'
import { identityPath } from './vectors.ts'

export const AGE_A = 'age18auwfahhlre4nynmw48yzkuj8gec9l65zleu9tfeev2rj2gwa44qs689cz'

/** A directory of its own, removed by the caller. */
export function temporaryDirectory(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'sops-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

/** A published identity as a file the provider accepts. */
export function putIdentity(directory: string, name: string, as = `${name}.agekey`): string {
  const path = join(directory, as)
  writeFileSync(path, readFileSync(identityPath(name)), { mode: 0o600 })
  chmodSync(path, 0o400)
  return path
}

const unreachable = (): never => {
  throw new Error('the sops backend has no business here')
}

/** A host for a pod's service account, with nothing to reach. */
export function hostOf(subject: string, overrides: Partial<Host> = {}): Host {
  const [namespace = '', serviceAccount = ''] = subject.split('/')
  return {
    pod: { name: 'pod', namespace, uid: 'uid', serviceAccount },
    identity: 'pod',
    signal: new AbortController().signal,
    log: silentLogger,
    http: { send: unreachable, agents: unreachable },
    now: () => new Date(),
    token: unreachable,
    audiences: new Set(),
    nodePublishSecret: unreachable,
    serviceAccountAnnotation: unreachable,
    nodeLabel: unreachable,
    session: unreachable,
    dropSession: unreachable,
    ...overrides,
  }
}

/** A logger that keeps its lines. */
export function recordingLogger(): Logger & { readonly lines: { message: string; fields: LogFields }[] } {
  const lines: { message: string; fields: LogFields }[] = []
  const write = (message: string, fields: LogFields = {}): void => void lines.push({ message, fields })
  const log: Logger = { debug: write, info: write, warn: write, error: write, with: () => log }
  return { ...log, lines }
}

/** The backend as the registry would make it, from `backends.sops`. */
export function backendOf(
  settings: v.InferInput<typeof settingsSchema>,
  log: Logger = silentLogger,
): Backend {
  const factory = adapter.backends?.[0]
  if (factory === undefined) throw new Error('no backend')
  return factory.create(backendContext({ settings: v.parse(settingsSchema, settings), log }))
}

/** The plan of an SPC's parameters. */
export function planOf(parameters: Record<string, string>, subject = 'payments/api'): Plan {
  return planNow(sopsDialect, {
    pod: hostOf(subject).pod,
    parameters: new Map(Object.entries(parameters)),
    nodePublishKeys: new Set(),
    defaultMode: 0o644,
    provider: 'sops',
  })
}

/** Messages of a plan's problems. */
export function problemsOf(parameters: Record<string, string>): string[] {
  try {
    planOf(parameters)
  } catch (error) {
    if (error instanceof PlanError) return error.problems.map((p) => p.message)
    throw error
  }
  return []
}

/** Fetches outputs as the pipeline does, and gives their files or errors by path. */
export async function mount(
  backend: Backend,
  outputs: readonly Output[],
  subject = 'payments/api',
): Promise<Record<string, string | BackendError>> {
  const values = await backend.resolve(
    {},
    outputs.map((output) => output.source.ref),
    hostOf(subject, { identity: outputs[0]?.source.identity ?? 'pod' }),
  )
  expect(values).toHaveLength(outputs.length)
  const files = outputs.flatMap((output, i): [string, string | BackendError][] => {
    const value = values[i] as Value | BackendError
    if (value instanceof BackendError) return [[output.kind === 'file' ? output.path : '*', value]]
    if (output.kind === 'file') return [[output.path, value.bytes.reveal().toString('latin1')]]
    return (value.parts ?? []).map((part) => [part.name, part.bytes.reveal().toString('latin1')])
  })
  return Object.fromEntries(files)
}

/** The ref of a plan's only output. */
export function onlyRef(plan: Plan): SopsRef {
  expect(plan.outputs).toHaveLength(1)
  return plan.outputs[0]?.source.ref as SopsRef
}

export type Plain =
  | string
  | number
  | bigint
  | boolean
  | null
  | readonly Plain[]
  | { readonly [key: string]: Plain }

/** A tree of a JavaScript value; `[key, value]` order is that of the object, so no integer-like keys. */
export function treeOf(value: Plain): Tree {
  if (value === null) return { type: 'null' }
  if (typeof value === 'string') return text(value)
  if (typeof value === 'bigint') return { type: 'int', value }
  if (typeof value === 'number') return { type: 'float', value }
  if (typeof value === 'boolean') return { type: 'bool', value }
  if (Array.isArray(value)) return { type: 'list', items: (value as readonly Plain[]).map(treeOf) }
  return {
    type: 'map',
    entries: Object.entries(value).map(([key, child]) => ({ key, value: treeOf(child) })),
  }
}

export interface SealOptions {
  readonly recipients?: readonly string[]
  readonly macOnlyEncrypted?: boolean
  /** Extra metadata fields; `unencrypted_suffix` unless a rule is among them. */
  readonly metadata?: Record<string, Plain>
}

const LAST_MODIFIED = '2026-11-21T09:00:00Z'

function jsonOf(tree: Tree): string {
  if (tree.type === 'map') {
    return `{${tree.entries.map((e) => `${JSON.stringify(e.key)}:${jsonOf(e.value)}`).join(',')}}`
  }
  if (tree.type === 'list') return `[${tree.items.map(jsonOf).join(',')}]`
  if (tree.type === 'str') return JSON.stringify(tree.bytes.toString())
  if (tree.type === 'null') return 'null'
  return tree.type === 'time' ? JSON.stringify(tree.text) : String(tree.value)
}

/** A JSON document (which is YAML too) sealed by our own token and MAC code; keys ending `_clear` stay in clear. */
export async function seal(
  value: { readonly [key: string]: Plain },
  options: SealOptions = {},
): Promise<string> {
  const key = randomBytes(32)
  const mac = macHash(options.macOnlyEncrypted === true)
  const encrypt = (tree: Tree, path: readonly string[]): Tree => {
    if (tree.type === 'map') {
      return {
        type: 'map',
        entries: tree.entries.map((e) => ({ key: e.key, value: encrypt(e.value, [...path, e.key]) })),
      }
    }
    if (tree.type === 'list') return { type: 'list', items: tree.items.map((item) => encrypt(item, path)) }
    const scalar: Scalar = tree
    if (scalar.type === 'null' || (scalar.type === 'str' && scalar.bytes.length === 0)) return scalar
    const isClear = path.some((segment) => segment.endsWith('_clear'))
    mac.leaf(scalar, !isClear)
    return isClear ? scalar : text(encryptToken(scalar, key, aadOf(path)))
  }
  const tree = encrypt(treeOf(value), []) as MapTree
  const age: Plain[] = []
  for (const recipient of options.recipients ?? [AGE_A]) {
    const encrypter = new Encrypter()
    encrypter.addRecipient(recipient)
    age.push({ recipient, enc: armor.encode(await encrypter.encrypt(key)) })
  }
  const sops: Plain = {
    age,
    lastmodified: LAST_MODIFIED,
    mac: macToken(mac.digest(), key, LAST_MODIFIED),
    ...(options.macOnlyEncrypted === true ? { mac_only_encrypted: true } : {}),
    version: '3.13.3',
    ...(options.metadata ?? { unencrypted_suffix: '_clear' }),
  }
  return jsonOf({ type: 'map', entries: [...tree.entries, { key: 'sops', value: treeOf(sops) }] })
}
