/** Owns what server tests share: a server in a directory of its own, requests, and pipelines to serve. */
import { status, type ServiceError } from '@grpc/grpc-js'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { MountAnswer, MountPipeline } from '../../src/mount/answer.ts'
import { connectProvider, type ProviderClient, type WireMountRequest } from '../../src/rpc/contract.ts'
import type { MountReport } from '../../src/server/mount-call.ts'
import { startServer, type RunningServer, type ServerOptions } from '../../src/server/server.ts'
import type { LogFields, Logger } from '../../src/telemetry/log.ts'

/** The codes after which a pod can start on an empty directory (driver.md section 4). */
export const NON_FINAL: ReadonlySet<number> = new Set([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
  status.ABORTED,
  status.UNAVAILABLE,
])

/** A Mount request as driver 1.6 sends it. */
export function mountRequest(options: { namespace?: string; padding?: number } = {}): WireMountRequest {
  const namespace = options.namespace ?? 'shop'
  return {
    attributes: JSON.stringify({
      'csi.storage.k8s.io/ephemeral': 'true',
      'csi.storage.k8s.io/pod.name': 'web-0',
      'csi.storage.k8s.io/pod.namespace': namespace,
      'csi.storage.k8s.io/pod.uid': '6c0e8a1d-1111-4222-8333-944455566677',
      'csi.storage.k8s.io/serviceAccount.name': 'web',
      objects: 'x'.repeat(options.padding ?? 10),
      secretProviderClass: 'web-secrets',
    }),
    secrets: 'null',
    target_path: '/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount',
    permission: '420',
    current_object_version: [],
  }
}

/** An answer of one file, and how often it was released. */
export function answerOf(contents: Buffer): MountAnswer & { released: number } {
  return {
    files: [{ path: 'db', mode: 0o644, contents }],
    versions: [{ id: 'db', version: '1' }],
    released: 0,
    release() {
      this.released++
      contents.fill(0)
    },
  }
}

/** Serves one small file. */
export const smallFile: MountPipeline = () => Promise.resolve(answerOf(Buffer.from('content')))

/** Resolves when it is told to. */
export interface Gate {
  readonly opened: Promise<void>
  open(): void
}

export function gate(): Gate {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { opened: promise, open: resolve }
}

/** A logger that keeps its lines. */
export function recordingLogger(): Logger & { readonly lines: { message: string; fields: LogFields }[] } {
  const lines: { message: string; fields: LogFields }[] = []
  const write = (message: string, fields: LogFields = {}): void => {
    lines.push({ message, fields })
  }
  const logger = { lines, debug: write, info: write, warn: write, error: write, with: () => logger }
  return logger
}

export interface Running {
  readonly server: RunningServer
  readonly directory: string
  /** Socket of the first provider in the first directory. */
  readonly path: string
  readonly client: ProviderClient
  readonly reports: MountReport[]
  readonly log: ReturnType<typeof recordingLogger>
  stop(): Promise<void>
}

export const KEYFERRY = { name: 'aws', runtimeName: 'keyferry', runtimeVersion: '0.0.0-test' }

/** Starts a server whose sockets lie in a fresh directory. */
export async function running(
  pipeline: MountPipeline,
  options: Partial<ServerOptions> & { directory?: string } = {},
): Promise<Running> {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'kf-'))
  const reports: MountReport[] = []
  const log = recordingLogger()
  const server = await startServer({
    providers: [KEYFERRY],
    directories: [{ path: directory }],
    pipeline,
    log,
    onMount: (report) => reports.push(report),
    ...options,
  })
  const path = server.paths[0] ?? ''
  const client = connectProvider(path)
  return {
    server,
    directory,
    path,
    client,
    reports,
    log,
    stop: async () => {
      client.close()
      await server.close({ drainMs: 0 })
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** How a call failed. @throws Error when it did not. */
export async function failureOf(call: Promise<unknown>): Promise<{ code: number; text: string }> {
  try {
    await call
  } catch (error) {
    const { code, details } = error as ServiceError
    return { code, text: details }
  }
  throw new Error('the call succeeded')
}

/** Polls until `condition` holds; the test's own timeout is the limit. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}
