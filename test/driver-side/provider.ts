/** A provider whose answers a test scripts: it records every call, and can hang, refuse, break off or restart. */
import {
  Server,
  ServerCredentials,
  status,
  type sendUnaryData,
  type ServerUnaryCall,
  type ServiceDefinition,
} from '@grpc/grpc-js'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadSync } from '@grpc/proto-loader'
import { SERVICE_NAME, type WireMountRequest } from '../../src/rpc/contract.ts'

// Read from the proto file, and by protobufjs: an opinion on the wire that is not our own.
const PROTO = fileURLToPath(new URL('../../proto/provider.proto', import.meta.url))
const serviceDefinition = loadSync(PROTO, { keepCase: true, longs: Number, defaults: true })[
  SERVICE_NAME
] as ServiceDefinition

export interface Answer {
  readonly object_version?: readonly { readonly id: string; readonly version: string }[]
  readonly error?: { readonly code: string }
  readonly files?: readonly { readonly path: string; readonly mode: number; readonly contents: Uint8Array }[]
}

/** What a script does with a call: answer, refuse with a status, hang until the caller gives up, or send raw bytes. */
export type Script = (
  call: RecordedCall,
) => Answer | Refusal | 'hang' | Buffer | Promise<Answer | Refusal | 'hang' | Buffer>

export interface Refusal {
  readonly code: status
  readonly details: string
}

export interface RecordedCall extends WireMountRequest {
  readonly authority: string
  /** Milliseconds until the caller's deadline, or undefined. */
  readonly deadlineIn: number | undefined
  readonly previousAttempts: string | undefined
  attributesMap(): Record<string, string>
}

export interface ScriptedProvider {
  readonly socket: string
  readonly calls: readonly RecordedCall[]
  readonly versionCalls: readonly string[]
  script: Script
  /** Breaks every connection off, as SIGKILL would, and leaves the socket file. */
  kill(): Promise<void>
}

/** Files with mode 0644 from a record, and a version for each. */
export function answer(
  files: Readonly<Record<string, string>>,
  version = '1',
): Required<Pick<Answer, 'files' | 'object_version'>> {
  return {
    object_version: Object.keys(files).map((id) => ({ id, version })),
    files: Object.entries(files).map(([path, text]) => ({ path, mode: 0o644, contents: Buffer.from(text) })),
  }
}

export async function startProvider(dir: string, name: string, script: Script): Promise<ScriptedProvider> {
  const socket = join(dir, `${name}.sock`)
  const calls: RecordedCall[] = []
  const versionCalls: string[] = []
  const server = new Server({ 'grpc.max_send_message_length': -1 })
  const provider: ScriptedProvider = {
    socket,
    calls,
    versionCalls,
    script,
    async kill() {
      server.forceShutdown()
    },
  }
  const mount = serviceDefinition['Mount']
  if (mount === undefined) throw new Error('no Mount')
  server.addService(
    {
      ...serviceDefinition,
      Mount: {
        ...mount,
        responseSerialize: (value: object) =>
          Buffer.isBuffer(value) ? value : mount.responseSerialize(value),
      },
    },
    {
      Version(call: ServerUnaryCall<{ version: string }, object>, done: sendUnaryData<object>) {
        versionCalls.push(call.request.version)
        done(null, { version: 'v1alpha1', runtime_name: 'scripted', runtime_version: '0.0.1' })
      },
      Mount(call: ServerUnaryCall<WireMountRequest, object>, done: sendUnaryData<object>) {
        const deadline = call.getDeadline()
        const at = deadline instanceof Date ? deadline.getTime() : deadline
        const previous = call.metadata.get('grpc-previous-rpc-attempts')[0]
        const recorded: RecordedCall = {
          ...call.request,
          authority: call.getHost(),
          deadlineIn: Number.isFinite(at) ? at - Date.now() : undefined,
          previousAttempts: previous === undefined ? undefined : String(previous),
          attributesMap: () => JSON.parse(call.request.attributes) as Record<string, string>,
        }
        calls.push(recorded)
        Promise.resolve(provider.script(recorded)).then(
          (result) => {
            if (result === 'hang') return
            if (!Buffer.isBuffer(result) && 'details' in result) done(result)
            else done(null, result)
          },
          (error: unknown) => done({ code: status.INTERNAL, details: `broken script: ${String(error)}` }),
        )
      },
    },
  )
  // Node unlinks the name a server was bound to when it closes, even if a newer process has taken it over.
  const own = `${socket}.${process.pid}.${++started}`
  await new Promise<void>((bound, failed) => {
    server.bindAsync(`unix:${own}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? bound() : failed(error),
    )
  })
  await rename(own, socket)
  return provider
}

let started = 0
