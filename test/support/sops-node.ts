/**
 * Owns a node for the suites over the real process: an embedded store, an identity, `keyferry serve`
 * with its configuration, and the driver's side, all below one directory that goes away afterwards.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startNode, type NodeOptions, type TestNode } from '../../src/driver/node.ts'
import type { VolumeRequest } from '../../src/driver/volume-request.ts'
import { initStore } from '../../src/providers/sops/store/init.ts'
import type { Format } from '../../src/providers/sops/stores/store.ts'
import { sealNewDocument } from '../../src/providers/sops/write/new-document.ts'
import { serveProcess, type ServeOptions, type ServeProcess } from './serve-process.ts'

/** The pod that documents are bound to unless a test says otherwise. */
export const OWNER = 'shop/web'

type Values = Readonly<Record<string, string | Buffer>>
type Json = Readonly<Record<string, unknown>>

export interface SopsNode {
  /** Everything lies below. */
  readonly directory: string
  /** Socket directory. */
  readonly sockets: string
  /** Root of the store: `sopsFile` is relative to it. */
  readonly store: string
  /** The identity file that the node holds. */
  readonly identity: string
  /** TMPDIR of the processes. */
  readonly scratch: string
  /** A sealed document, bound to `subjects`. */
  sealed(values: Values, subjects?: readonly string[], format?: Format): Promise<string>
  /** Puts a document into the store: `shop/name.yaml`. */
  put(path: string, document: string | Buffer): void
  /** Writes a configuration file: the default one with these top-level keys laid over it. */
  config(changes?: Json): string
  /** Starts the provider; it is killed at the end. */
  serve(options?: Partial<ServeOptions>): Promise<ServeProcess>
  /** Starts the driver's side. */
  node(options?: Partial<NodeOptions>): Promise<TestNode>
  /** Runs at the end, last first. */
  afterwards(cleanup: () => unknown): void
  /** Ends everything and removes the directory. */
  close(): Promise<void>
}

/** Makes a node: a new store and identity; nothing runs yet. */
export async function sopsNode(): Promise<SopsNode> {
  const directory = mkdtempSync(join(tmpdir(), 'kf-'))
  const [sockets, scratch] = [join(directory, 'sockets'), join(directory, 'tmp')]
  mkdirSync(sockets, { mode: 0o755 })
  mkdirSync(scratch, { mode: 0o700 })
  const made = await initStore({
    root: join(directory, 'store'),
    identityFile: join(directory, 'keys/node.agekey'),
    recoveryRecipients: [],
    postQuantum: false,
    now: new Date(),
  })
  const cleanups: (() => unknown)[] = [() => rmSync(directory, { recursive: true, force: true })]
  let configs = 0

  const config = (changes: Json = {}): string => {
    configs += 1
    const path = join(directory, `config-${configs}.yaml`)
    const backends = {
      sops: {
        roots: [{ path: made.root }],
        identities: [{ path: made.identityFile, shared: true }],
      },
      ...(changes['backends'] as Json | undefined),
    }
    writeFileSync(path, JSON.stringify({ kubernetes: 'off', ...changes, backends }))
    return path
  }
  return {
    directory,
    sockets,
    store: made.root,
    identity: made.identityFile,
    scratch,
    async sealed(values, subjects = [OWNER], format = 'yaml') {
      const document = await sealNewDocument({
        format,
        values: Object.entries(values).map(([key, value]) => ({ key, bytes: Buffer.from(value) })),
        subjects,
        encryption: {
          recipients: [made.recipient],
          rule: { kind: 'unencrypted_suffix', text: '_unencrypted' },
          macOnlyEncrypted: false,
        },
        now: new Date(),
      })
      return document.toString()
    },
    put(path, document) {
      const [namespace = ''] = path.split('/')
      const folder = join(made.root, namespace)
      if (!existsSync(folder)) mkdirSync(folder, { mode: 0o700 })
      writeFileSync(join(made.root, path), document, { mode: 0o600 })
    },
    config,
    async serve(options = {}) {
      const { config: file = config(), flags = [], env = {}, ...others } = options
      const started = await serveProcess({
        config: file,
        flags: ['--socket-dir', sockets, ...flags],
        env: { TMPDIR: scratch, ...env },
        ...others,
      })
      cleanups.push(() => started.stop('SIGKILL'))
      return started
    },
    async node(options = {}) {
      const started = await startNode({
        profile: '1.6',
        providerDirs: [sockets],
        root: join(directory, 'kubelet'),
        reconnectBackoffMs: 50,
        ...options,
      })
      cleanups.push(() => started.close())
      return started
    },
    afterwards: (cleanup) => cleanups.push(cleanup),
    async close() {
      for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
    },
  }
}

/**
 * A volume of pod `web-0` of `shop/web` with these parameters of `provider: sops`. Its class has a name of its
 * own, so that volumes which are published at once do not replace each other's.
 */
export function sopsVolume(
  parameters: Readonly<Record<string, string>>,
  changes: Partial<VolumeRequest> = {},
): VolumeRequest {
  return {
    pod: { name: 'web-0', namespace: 'shop', serviceAccount: 'web' },
    spc: { name: className(parameters), provider: 'sops', parameters },
    ...changes,
  }
}

function className(parameters: Readonly<Record<string, string>>): string {
  return `secrets-${createHash('sha256').update(JSON.stringify(parameters)).digest('hex').slice(0, 12)}`
}
