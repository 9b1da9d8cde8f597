/** Owns the driver's reading of the wire contract: message types, the proto file, and its strictness about strings. */
import { fileURLToPath } from 'node:url'
import { loadSync } from '@grpc/proto-loader'

/** An object and the version of it that was mounted. */
export interface ObjectVersion {
  readonly id: string
  readonly version: string
}

/** What the driver sends to `Mount`; unset fields stay off the wire. */
export interface MountRequest {
  readonly attributes: string
  readonly secrets: string
  readonly target_path: string
  readonly permission: string
  readonly current_object_version: readonly ObjectVersion[]
}

/** What a provider answers. */
export interface MountResponse {
  readonly object_version: readonly ObjectVersion[]
  readonly error: { readonly code: string } | null
  readonly files: readonly { readonly path: string; readonly mode: number; readonly contents: Buffer }[]
}

export interface VersionResponse {
  readonly version: string
  readonly runtime_name: string
  readonly runtime_version: string
}

/** One RPC: path, request writer, response reader. The reader throws on bytes that grpc-go would refuse. */
export interface Method<Request, Response> {
  readonly path: string
  readonly write: (request: Request) => Buffer
  readonly read: (bytes: Buffer) => { readonly message: Response; readonly size: number }
}

/** The fully qualified service name. */
export const SERVICE_NAME = 'v1alpha1.CSIDriverProvider'

/** The service as `@grpc/proto-loader` reads it: a definition for grpc-js servers and clients. */
export const serviceDefinition = loadService()

function loadService() {
  const file = fileURLToPath(new URL('../../proto/provider.proto', import.meta.url))
  const loaded = loadSync(file, { keepCase: true, longs: Number, enums: String, defaults: true })
  const service = loaded[SERVICE_NAME]
  if (service === undefined || 'format' in service)
    throw new Error(`${file} defines no service ${SERVICE_NAME}`)
  return service
}

/** Tag numbers of the string fields of each answer, by the path of nested messages that leads to them. */
interface Strings {
  readonly strings: readonly number[]
  readonly nested: Readonly<Record<number, Strings>>
}

const VERSION_STRINGS: Strings = { strings: [1, 2, 3], nested: {} }
const MOUNT_STRINGS: Strings = {
  strings: [],
  nested: {
    1: { strings: [1, 2], nested: {} },
    2: { strings: [1], nested: {} },
    3: { strings: [1], nested: {} },
  },
}

export const MOUNT: Method<MountRequest, MountResponse> = method('Mount', MOUNT_STRINGS)
export const VERSION: Method<{ readonly version: string }, VersionResponse> = method(
  'Version',
  VERSION_STRINGS,
)

function method<Request extends object, Response>(name: string, strings: Strings): Method<Request, Response> {
  const definition = serviceDefinition[name]
  if (definition === undefined) throw new Error(`${SERVICE_NAME} has no method ${name}`)
  return {
    path: definition.path,
    write: (request) => definition.requestSerialize(request),
    read(bytes) {
      checkStrings(bytes, strings)
      return { message: definition.responseDeserialize(bytes) as Response, size: bytes.length }
    },
  }
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true })

/** protobufjs repairs broken UTF-8 silently; grpc-go refuses the whole message (driver.md section 1). */
function checkStrings(bytes: Buffer, fields: Strings): void {
  let offset = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[offset++]
      if (byte === undefined) break
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw new Error('proto: cannot parse invalid wire-format data')
  }
  while (offset < bytes.length) {
    const tag = varint()
    const field = Math.floor(tag / 8)
    const wireType = tag % 8
    if (wireType === 0) varint()
    else if (wireType === 1) offset += 8
    else if (wireType === 5) offset += 4
    else if (wireType === 2) {
      const length = varint()
      const body = bytes.subarray(offset, offset + length)
      offset += length
      if (fields.strings.includes(field)) checkUtf8(body)
      else if (fields.nested[field] !== undefined) checkStrings(body, fields.nested[field])
    } else throw new Error('proto: cannot parse invalid wire-format data')
    if (offset > bytes.length) throw new Error('proto: cannot parse invalid wire-format data')
  }
}

function checkUtf8(bytes: Buffer): void {
  try {
    strictUtf8.decode(bytes)
  } catch {
    throw new Error('string field contains invalid UTF-8')
  }
}
