/**
 * Owns the wire contract between driver and provider as data: the messages of `proto/provider.proto`
 * (driver.md section 1), the gRPC service made from them, and a client. A test proves that the tables
 * equal what the proto file says.
 */
import {
  Client,
  credentials,
  type ClientOptions,
  type MethodDefinition,
  type ServiceError,
} from '@grpc/grpc-js'
import { decode, encode, type Decoded, type Field, type Message } from './wire.ts'

export interface VersionRequest {
  readonly version: string
}
export interface VersionResponse {
  readonly version: string
  readonly runtime_name: string
  readonly runtime_version: string
}
export interface ObjectVersion {
  readonly id: string
  readonly version: string
}
export interface WireFile {
  readonly path: string
  readonly mode: number
  readonly contents: Buffer
}
/** A Mount call as it is on the wire; three fields are JSON texts (driver.md section 1.1). */
export interface WireMountRequest {
  readonly attributes: string
  readonly secrets: string
  readonly target_path: string
  readonly permission: string
  readonly current_object_version: readonly ObjectVersion[]
}
export interface WireMountResponse {
  readonly object_version: readonly ObjectVersion[]
  readonly error?: { readonly code: string }
  readonly files: readonly WireFile[]
}

const text = (name: string, number: number): Field => ({ name, number, type: 'string' })
const many = (name: string, number: number, of: Message): Field => ({
  name,
  number,
  type: 'message',
  of,
  repeated: true,
})

const VERSION_REQUEST: Message = { name: 'VersionRequest', fields: [text('version', 1)] }
const VERSION_RESPONSE: Message = {
  name: 'VersionResponse',
  fields: [text('version', 1), text('runtime_name', 2), text('runtime_version', 3)],
}
const OBJECT_VERSION: Message = { name: 'ObjectVersion', fields: [text('id', 1), text('version', 2)] }
const ERROR: Message = { name: 'Error', fields: [text('code', 1)] }
const FILE: Message = {
  name: 'File',
  fields: [
    text('path', 1),
    { name: 'mode', number: 2, type: 'int32' },
    { name: 'contents', number: 3, type: 'bytes' },
  ],
}
/** Request of Mount. */
export const MOUNT_REQUEST: Message = {
  name: 'MountRequest',
  fields: [
    text('attributes', 1),
    text('secrets', 2),
    text('target_path', 3),
    text('permission', 4),
    many('current_object_version', 5, OBJECT_VERSION),
  ],
}
/** Response of Mount. */
export const MOUNT_RESPONSE: Message = {
  name: 'MountResponse',
  fields: [
    many('object_version', 1, OBJECT_VERSION),
    { name: 'error', number: 2, type: 'message', of: ERROR },
    many('files', 3, FILE),
  ],
}

/** Every message of the contract, for the comparison with the proto file. */
export const MESSAGES: readonly Message[] = [
  VERSION_REQUEST,
  VERSION_RESPONSE,
  MOUNT_REQUEST,
  MOUNT_RESPONSE,
  FILE,
  OBJECT_VERSION,
  ERROR,
]

/** Full name of the service; the driver's retry policy is keyed by it (driver.md section 2). */
export const SERVICE_NAME = 'v1alpha1.CSIDriverProvider'
/** API version that both sides say in `Version`. */
export const API_VERSION = 'v1alpha1'

/** A unary method whose messages are described by tables. Decoding throws WireError. */
export function unaryMethod<Request, Response>(
  path: string,
  request: Message,
  response: Message,
): MethodDefinition<Request, Response> {
  return {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: (value) => encode(request, value as Decoded),
    requestDeserialize: (bytes) => decode(request, bytes) as Request,
    responseSerialize: (value) => encode(response, value as Decoded),
    responseDeserialize: (bytes) => decode(response, bytes) as Response,
  }
}

export const VERSION_METHOD = unaryMethod<VersionRequest, VersionResponse>(
  `/${SERVICE_NAME}/Version`,
  VERSION_REQUEST,
  VERSION_RESPONSE,
)
export const MOUNT_METHOD = unaryMethod<WireMountRequest, WireMountResponse>(
  `/${SERVICE_NAME}/Mount`,
  MOUNT_REQUEST,
  MOUNT_RESPONSE,
)

/** The driver's end of the contract. */
export interface ProviderClient {
  /** @throws ServiceError of grpc-js */
  version(options: { deadlineMs: number }): Promise<VersionResponse>
  /** @throws ServiceError of grpc-js */
  mount(request: WireMountRequest, options?: { deadlineMs?: number }): Promise<WireMountResponse>
  close(): void
}

/**
 * A client that dials the unix socket `path` as the driver does: plaintext, authority `localhost`.
 * @param options further grpc-js channel options, e.g. `grpc.default_authority`.
 */
export function connectProvider(path: string, options: ClientOptions = {}): ProviderClient {
  const client = new Client(`unix:${path}`, credentials.createInsecure(), {
    'grpc.default_authority': 'localhost',
    'grpc.enable_channelz': 0,
    ...options,
  })
  const call = <Request, Response>(
    method: MethodDefinition<Request, Response>,
    request: Request,
    deadlineMs: number | undefined,
  ): Promise<Response> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs },
        (error: ServiceError | null, response?: Response) => {
          if (error) reject(error)
          else resolve(response as Response)
        },
      )
    })
  return {
    version: ({ deadlineMs }) => call(VERSION_METHOD, { version: API_VERSION }, deadlineMs),
    mount: (request, options = {}) => call(MOUNT_METHOD, request, options.deadlineMs),
    close: () => client.close(),
  }
}
