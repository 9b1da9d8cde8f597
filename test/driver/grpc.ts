/** Owns the untyped edge of grpc-js in these suites: one unary call, made from a loaded proto file. */
import { Client, credentials, loadPackageDefinition, Metadata } from '@grpc/grpc-js'
import type { GrpcObject, MethodDefinition, ServiceDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

/** How a call ended; `code` is a gRPC status code, 0 for success. */
export interface CallResult<Response> {
  readonly code: number
  readonly message: string
  readonly response: Response | undefined
  readonly tookMs: number
}

/** The service of a proto file, e.g. `csi.v1.Node`; bytes are Buffers, names are as in the file. */
export function loadService(file: string, name: string): ServiceDefinition {
  const options = { keepCase: true, longs: Number, defaults: true }
  let at: unknown = loadPackageDefinition(loadSync(file, options))
  for (const part of name.split('.')) at = (at as GrpcObject)[part]
  return (at as { readonly service: ServiceDefinition }).service
}

/** A client on a unix socket. Calls never throw for a gRPC status: the status is the result. */
export function openClient(socket: string): {
  readonly call: <Response>(
    service: ServiceDefinition,
    method: string,
    request: object,
    deadlineMs: number,
  ) => Promise<CallResult<Response>>
  readonly close: () => void
} {
  const client = new Client(`unix:${socket}`, credentials.createInsecure(), {
    // The driver under test starts within moments; the default first pause is a second.
    'grpc.initial_reconnect_backoff_ms': 50,
  })
  return {
    call: (service, method, request, deadlineMs) => {
      const definition = service[method] as MethodDefinition<object, unknown>
      const since = Date.now()
      return new Promise((resolve) => {
        const done = (code: number, message: string, response?: unknown) =>
          resolve({ code, message, response: response as never, tookMs: Date.now() - since })
        client.makeUnaryRequest(
          definition.path,
          definition.requestSerialize,
          definition.responseDeserialize,
          request,
          new Metadata(),
          { deadline: since + deadlineMs },
          (error, response) => (error ? done(error.code, error.details) : done(0, '', response)),
        )
      })
    },
    close: () => client.close(),
  }
}
