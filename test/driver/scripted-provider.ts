/**
 * A provider process that does what each volume tells it to: the attribute `answer` names a JSON file
 * ({@link Answer}) that is read anew at every Mount. It checks nothing, so that the driver can be shown
 * any response. Arguments: the socket to listen on, the file to append every call to, and `shim` to
 * accept connections through our legacy-authority code, as drivers up to 1.5 need.
 */
import { appendFileSync, readFileSync, renameSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js'
import type { sendUnaryData, ServerUnaryCall } from '@grpc/grpc-js'
import { acceptConnection } from '../../src/server/legacy-authority/connection.ts'
import { loadService } from './grpc.ts'
import type { Answer, MountCall, RecordedCall } from './scripted.ts'

const [socket = '', callsFile = '', shim] = process.argv.slice(2)
const proto = join(import.meta.dirname, '../../proto/provider.proto')

function record(call: RecordedCall): void {
  appendFileSync(callsFile, `${JSON.stringify(call)}\n`)
}

async function mount(
  call: ServerUnaryCall<MountCall, object>,
  respond: sendUnaryData<object>,
): Promise<void> {
  const { request } = call
  const metadata = Object.fromEntries(
    Object.entries(call.metadata.getMap()).map(([key, value]) => [key, value.toString()]),
  )
  const deadline = call.getDeadline()
  const deadlineMs = Number(deadline) - Date.now()
  record({
    method: 'Mount',
    request,
    metadata,
    ...(Number.isFinite(deadlineMs) && { deadlineMs }),
  })
  const { answer: file = '' } = JSON.parse(request.attributes) as { readonly answer?: string }
  const answer = JSON.parse(readFileSync(file, 'utf8')) as Answer
  if (answer.delayMs !== undefined) await sleep(answer.delayMs)
  if (answer.code !== undefined) {
    respond({ code: answer.code, details: answer.message ?? '', metadata: new Metadata() })
    return
  }
  respond(null, {
    object_version: answer.versions ?? [{ id: 'all', version: '1' }],
    files: (answer.files ?? []).map(({ path, mode = 0o644, text = '', base64 }) => ({
      path,
      mode,
      contents: base64 === undefined ? Buffer.from(text) : Buffer.from(base64, 'base64'),
    })),
    ...(answer.error !== undefined && { error: { code: answer.error } }),
  })
}

const server = new Server()
server.addService(loadService(proto, 'v1alpha1.CSIDriverProvider'), {
  Version: (_call: ServerUnaryCall<object, object>, respond: sendUnaryData<object>) => {
    record({ method: 'Version' })
    respond(null, { version: 'v1alpha1', runtime_name: 'scripted', runtime_version: '0.0.0' })
  },
  Mount: (call: ServerUnaryCall<MountCall, object>, respond: sendUnaryData<object>) => {
    mount(call, respond).catch((error: unknown) =>
      respond({ code: status.INTERNAL, details: String(error), metadata: new Metadata() }),
    )
  },
})
const binding = `${socket}.${process.pid}`

function listening(): void {
  renameSync(binding, socket)
  process.stdout.write('ready\n')
}

if (shim === 'shim') {
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const listener = createServer((connection) => {
    acceptConnection(connection, { inject: (duplex) => injector.injectConnection(duplex) })
  })
  listener.listen(binding, listening)
  process.on('SIGTERM', () => {
    listener.close()
    // Not process.exit: answers may still be on their way through the rewriting stream. The process
    // ends by itself when the last connection is closed.
    server.tryShutdown(() => {})
  })
} else {
  server.bindAsync(`unix:${binding}`, ServerCredentials.createInsecure(), (error) => {
    if (error) throw error
    listening()
  })
  process.on('SIGTERM', () => server.tryShutdown(() => process.exit(0)))
}
