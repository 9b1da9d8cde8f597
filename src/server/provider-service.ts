/** Owns the gRPC services behind one socket name: Version, Mount and the standard health check. */
import {
  Server,
  ServerInterceptingCall,
  type MethodDefinition,
  type sendUnaryData,
  type ServerInterceptor,
  type ServerUnaryCall,
} from '@grpc/grpc-js'
import {
  API_VERSION,
  MOUNT_METHOD,
  unaryMethod,
  VERSION_METHOD,
  type VersionResponse,
} from '../rpc/contract.ts'
import type { Message } from '../rpc/wire.ts'
import { sendOnlyFinalStatus } from './final-status.ts'
import { openMountCall, type LateBuffer, type MountCall, type MountHost } from './mount-call.ts'

/** One socket name and what `Version` says under it. */
export interface Provider {
  /** `spec.provider`, e.g. `aws`. */
  readonly name: string
  readonly runtimeName: string
  readonly runtimeVersion: string
}

/** Streams one connection may have open; a driver queues what is over it, and 200 pods start at once. */
const MAX_STREAMS = 1000

const HEALTH_REQUEST: Message = {
  name: 'HealthCheckRequest',
  fields: [{ name: 'service', number: 1, type: 'string' }],
}
const HEALTH_RESPONSE: Message = {
  name: 'HealthCheckResponse',
  fields: [{ name: 'status', number: 1, type: 'int32' }],
}
const SERVING = 1
const HEALTH_METHOD = unaryMethod<object, { status: number }>(
  '/grpc.health.v1.Health/Check',
  HEALTH_REQUEST,
  HEALTH_RESPONSE,
)

/** Mount for grpc-js: bytes in, a {@link LateBuffer} out, so that nothing of ours can throw in its decoding. */
const RAW_MOUNT = {
  ...MOUNT_METHOD,
  requestDeserialize: (bytes: Buffer): Buffer => bytes,
  responseSerialize: (response: LateBuffer): Buffer => response as unknown as Buffer,
}

/** Answers whatever was asked: the content of the request plays no part. */
function answering<Request, Response>(
  method: MethodDefinition<Request, Response>,
): MethodDefinition<object, Response> {
  return { ...method, requestSerialize: () => Buffer.alloc(0), requestDeserialize: () => ({}) }
}

/** A gRPC server for one socket name. It listens nowhere: connections are injected. */
export function createProviderServer(provider: Provider, host: MountHost): Server {
  const calls = new WeakMap<object, MountCall>()

  const interceptor: ServerInterceptor = (method, call) => {
    if (method.path !== MOUNT_METHOD.path) return new ServerInterceptingCall(call)
    const sent = sendOnlyFinalStatus(call, host.maxRequestBytes)
    const mount = openMountCall(host, provider.name, call, sent)
    return new ServerInterceptingCall(call, {
      start: (next) => {
        next({
          onReceiveMetadata: (metadata, proceed) => {
            // The handler is given the same metadata object: it is what ties both together.
            calls.set(metadata, mount)
            mount.admitReading(() => proceed(metadata))
          },
          onReceiveMessage: (message, proceed) => proceed(message),
          onReceiveHalfClose: (proceed) => proceed(),
          onCancel: () => mount.closed(),
        })
      },
    })
  }

  const server = new Server({
    // Channelz keeps a record of every call and socket that nobody here can read.
    'grpc.enable_channelz': 0,
    'grpc.max_receive_message_length': host.maxRequestBytes,
    'grpc.max_concurrent_streams': MAX_STREAMS,
    interceptors: [interceptor],
  })
  const version: VersionResponse = {
    version: API_VERSION,
    runtime_name: provider.runtimeName,
    runtime_version: provider.runtimeVersion,
  }
  server.addService(
    { Version: answering(VERSION_METHOD), Mount: RAW_MOUNT },
    {
      Version: (_call: unknown, reply: sendUnaryData<VersionResponse>) => reply(null, version),
      Mount: (call: ServerUnaryCall<Buffer, LateBuffer>, reply: sendUnaryData<LateBuffer>) => {
        calls.get(call.metadata)?.run(call.request, (response) => reply(null, response))
      },
    },
  )
  server.addService(
    { Check: answering(HEALTH_METHOD) },
    { Check: (_call: unknown, reply: sendUnaryData<{ status: number }>) => reply(null, { status: SERVING }) },
  )
  return server
}
