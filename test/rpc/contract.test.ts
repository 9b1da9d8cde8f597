import { loadSync, type AnyDefinition } from '@grpc/proto-loader'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  MESSAGES,
  MOUNT_METHOD,
  MOUNT_REQUEST,
  MOUNT_RESPONSE,
  VERSION_METHOD,
  type WireMountRequest,
  type WireMountResponse,
} from '../../src/rpc/contract.ts'
import { decode, encode, encodedLength, WireError, type Decoded, type Field } from '../../src/rpc/wire.ts'

const definition = loadSync('proto/provider.proto', { keepCase: true, defaults: true, arrays: true })
const KIND_OF_PROTO_TYPE: Readonly<Record<string, Field['type']>> = {
  TYPE_STRING: 'string',
  TYPE_BYTES: 'bytes',
  TYPE_INT32: 'int32',
  TYPE_MESSAGE: 'message',
}

interface ProtoField {
  name: string
  number: number
  type: string
  label: string
  typeName: string
}

function messageFields(entry: AnyDefinition): ProtoField[] {
  return (entry as unknown as { type: { field: ProtoField[] } }).type.field
}

const service = definition['v1alpha1.CSIDriverProvider'] as unknown as Record<
  string,
  {
    path: string
    requestSerialize(value: object): Buffer
    requestDeserialize(bytes: Buffer): object
    responseSerialize(value: object): Buffer
    responseDeserialize(bytes: Buffer): object
  }
>

const word = fc.string({ unit: 'grapheme', maxLength: 40 })
const versions = fc.array(fc.record({ id: word, version: word }), { maxLength: 4 })
const request: fc.Arbitrary<WireMountRequest> = fc.record({
  attributes: word,
  secrets: word,
  target_path: word,
  permission: word,
  current_object_version: versions,
})
const response: fc.Arbitrary<WireMountResponse> = fc.record({
  object_version: versions,
  files: fc.array(
    fc.record({
      path: word,
      mode: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      contents: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    }),
    { maxLength: 4 },
  ),
})
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

describe('wire contract', () => {
  it('driver 1 the message tables equal proto/provider.proto', () => {
    const inProto = Object.keys(definition).filter((name) => messageOf(name))
    expect(MESSAGES.map((message) => `v1alpha1.${message.name}`).toSorted()).toEqual(inProto.toSorted())
    for (const message of MESSAGES) {
      const expected = messageFields(definition[`v1alpha1.${message.name}`]!).map((field) => ({
        name: field.name,
        number: field.number,
        type: KIND_OF_PROTO_TYPE[field.type],
        repeated: field.label === 'LABEL_REPEATED',
        of: field.type === 'TYPE_MESSAGE' ? field.typeName.split('.').at(-1) : undefined,
      }))
      const ours = message.fields.map((field) => ({
        name: field.name,
        number: field.number,
        type: field.type,
        repeated: field.repeated ?? false,
        of: field.of?.name,
      }))
      expect(ours, message.name).toEqual(expected)
    }
  })

  it('driver 1 the service has exactly the two methods of proto/provider.proto', () => {
    expect(Object.keys(service).toSorted()).toEqual(['Mount', 'Version'])
    expect(VERSION_METHOD.path).toBe(service['Version']!.path)
    expect(MOUNT_METHOD.path).toBe(service['Mount']!.path)
  })

  it('driver 1 any request reads the same to protobufjs and to us, in both directions', () => {
    fc.assert(
      fc.property(request, (value) => {
        const ours = MOUNT_METHOD.requestSerialize(value)
        expect(plain(service['Mount']!.requestDeserialize(ours))).toEqual(plain(value))
        const theirs = service['Mount']!.requestSerialize(value)
        expect(plain(MOUNT_METHOD.requestDeserialize(theirs))).toEqual(plain(value))
      }),
    )
  })

  it('driver 1 any response reads the same to protobufjs and to us, in both directions', () => {
    fc.assert(
      fc.property(response, (value) => {
        const ours = MOUNT_METHOD.responseSerialize(value)
        expect(plain(service['Mount']!.responseDeserialize(ours))).toMatchObject(plain(value) as object)
        const theirs = service['Mount']!.responseSerialize(value)
        expect(plain(MOUNT_METHOD.responseDeserialize(theirs))).toMatchObject(plain(value) as object)
        expect(ours.length).toBe(encodedLength(MOUNT_RESPONSE, value as unknown as Decoded))
      }),
    )
  })

  it('driver 1 unknown fields are skipped', () => {
    const known = encode(MOUNT_REQUEST, { attributes: '{}' })
    const unknown = Buffer.from([
      0x78, 0x96, 0x01, 0x7d, 1, 2, 3, 4, 0x79, 1, 2, 3, 4, 5, 6, 7, 8, 0x7a, 1, 9,
    ])
    expect(decode(MOUNT_REQUEST, Buffer.concat([unknown, known, unknown]))).toMatchObject({
      attributes: '{}',
    })
  })

  it('driver 1 invalid UTF-8 in a string is refused without quoting it', () => {
    expect(() => decode(MOUNT_REQUEST, Buffer.from([0x0a, 2, 0x41, 0xff]))).toThrow(
      'MountRequest.attributes is not valid UTF-8',
    )
  })

  it('T14 a field that comes very many times is refused, although only its last value counts', () => {
    const times = (count: number): Buffer => Buffer.alloc(count * 2, Buffer.from([0x0a, 0x00]))
    expect(decode(MOUNT_REQUEST, times(10_000))['attributes']).toBe('')
    expect(() => decode(MOUNT_REQUEST, times(10_001))).toThrow(WireError)
  })

  it('T14 a request of two million empty elements is refused early', () => {
    const bomb = Buffer.alloc(4 * 1024 * 1024)
    for (let at = 0; at < bomb.length; at += 2) bomb[at] = 0x2a
    expect(() => decode(MOUNT_REQUEST, bomb)).toThrow('more than 10000 elements')
  })

  it('T14 arbitrary bytes decode or throw WireError, nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          decode(MOUNT_REQUEST, Buffer.from(bytes))
        } catch (error) {
          expect(error).toBeInstanceOf(WireError)
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('T14 truncated, overlong and grouped data is refused', () => {
    for (const bytes of [
      [0x0a],
      [0x0a, 5, 1],
      [0x80],
      Array.from({ length: 11 }, () => 0x80),
      [0x0b, 0x0c],
      [0x00, 0x00],
    ]) {
      expect(() => decode(MOUNT_REQUEST, Buffer.from(bytes))).toThrow(WireError)
    }
  })
})

function messageOf(name: string): boolean {
  return (definition[name] as { format?: string }).format === 'Protocol Buffer 3 DescriptorProto'
}
