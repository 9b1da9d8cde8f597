/**
 * Owns the protobuf encoding of messages that are described by a table of fields: strict on what comes
 * in, because a request is hostile input, and without a copy on what goes out, because a response
 * holds secrets (threat model T14, T24).
 *
 * Only what `proto/provider.proto` uses exists: string, bytes, int32, messages and repeated messages.
 */
import { isUtf8 } from 'node:buffer'

/** One field of a message. `of` is the message a message field holds. */
export interface Field {
  readonly name: string
  readonly number: number
  readonly type: 'string' | 'bytes' | 'int32' | 'message'
  readonly repeated?: true
  readonly of?: Message
}

/** A message: its name in the proto file and its fields in ascending order of number. */
export interface Message {
  readonly name: string
  readonly fields: readonly Field[]
}

/** A decoded message: every scalar present with its default, repeated fields as arrays. */
export type Decoded = { [name: string]: string | number | Buffer | Decoded | Decoded[] | undefined }

/** The bytes are not the message they should be. The text says where, never what. */
export class WireError extends Error {
  override readonly name = 'WireError'
}

/** Most fields that one message may have, repeated and unknown ones included: each costs time, most an object. */
const MAX_ELEMENTS = 10_000

const VARINT = 0
const FIXED64 = 1
const LENGTH = 2
const FIXED32 = 5

interface Reader {
  readonly bytes: Buffer
  at: number
}

/**
 * Decodes `bytes`. Unknown fields are skipped and the last of a repeated scalar wins, as in every
 * proto3 implementation; `bytes` fields are views into `bytes`.
 * @throws WireError on truncated or overlong data, invalid UTF-8, groups and too many elements.
 */
export function decode(message: Message, bytes: Buffer): Decoded {
  return decodeRange(message, { bytes, at: 0 }, bytes.length)
}

function decodeRange(message: Message, reader: Reader, end: number): Decoded {
  const result: Decoded = defaults(message)
  let elements = 0
  while (reader.at < end) {
    const tag = readVarint(reader, end)
    const number = tag >>> 3
    const wireType = tag & 7
    if (number === 0) throw new WireError('field number 0')
    elements++
    if (elements > MAX_ELEMENTS) throw new WireError(`more than ${MAX_ELEMENTS} elements`)
    const field = message.fields.find((candidate) => candidate.number === number)
    if (!field || wireType !== (field.type === 'int32' ? VARINT : LENGTH)) {
      skip(reader, wireType, end)
      continue
    }
    if (field.type === 'int32') {
      result[field.name] = readVarint(reader, end) | 0
      continue
    }
    const length = readVarint(reader, end)
    const start = reader.at
    if (length > end - start) throw new WireError(`${message.name}.${field.name} is truncated`)
    if (field.of) {
      const value = decodeRange(field.of, reader, start + length)
      if (field.repeated) {
        ;(result[field.name] as Decoded[]).push(value)
      } else {
        result[field.name] = value
      }
    } else {
      const content = reader.bytes.subarray(start, start + length)
      reader.at = start + length
      if (field.type === 'string' && !isUtf8(content)) {
        throw new WireError(`${message.name}.${field.name} is not valid UTF-8`)
      }
      result[field.name] = field.type === 'string' ? content.toString('utf8') : content
    }
  }
  return result
}

function defaults(message: Message): Decoded {
  const result: Decoded = {}
  for (const field of message.fields) {
    if (field.repeated) result[field.name] = []
    else if (field.type === 'string') result[field.name] = ''
    else if (field.type === 'int32') result[field.name] = 0
    else if (field.type === 'bytes') result[field.name] = Buffer.alloc(0)
  }
  return result
}

/** The low 32 bits of a varint of at most 10 bytes, unsigned. */
function readVarint(reader: Reader, end: number): number {
  let value = 0
  for (let shift = 0; shift < 70; shift += 7) {
    if (reader.at >= end) throw new WireError('truncated number')
    const byte = reader.bytes[reader.at++] ?? 0
    if (shift < 32) value |= (byte & 0x7f) << shift
    if (byte < 0x80) return value >>> 0
  }
  throw new WireError('number of more than 10 bytes')
}

function skip(reader: Reader, wireType: number, end: number): void {
  if (wireType === VARINT) {
    readVarint(reader, end)
    return
  }
  if (wireType !== FIXED32 && wireType !== FIXED64 && wireType !== LENGTH) {
    throw new WireError('groups are not supported')
  }
  const length = wireType === FIXED32 ? 4 : wireType === FIXED64 ? 8 : readVarint(reader, end)
  if (length > end - reader.at) throw new WireError('truncated field')
  reader.at += length
}

/** Length of `value` as {@link encodeInto} would write it, in bytes. */
export function encodedLength(message: Message, value: Decoded): number {
  let length = 0
  for (const field of message.fields) {
    for (const item of present(field, value)) {
      const content = contentLength(field, item)
      length += varintLength(field.number << 3) + content
      if (field.type !== 'int32') length += varintLength(content)
    }
  }
  return length
}

/**
 * Writes `value` into `target` from `start` on; absent and default values take no room.
 * @returns the position after the last byte written.
 */
export function encodeInto(message: Message, value: Decoded, target: Buffer, start: number): number {
  let at = start
  for (const field of message.fields) {
    for (const item of present(field, value)) {
      at = writeVarint(target, at, (field.number << 3) | (field.type === 'int32' ? VARINT : LENGTH))
      if (field.type === 'int32') {
        at = writeInt32(target, at, item as number)
        continue
      }
      at = writeVarint(target, at, contentLength(field, item))
      if (field.of) at = encodeInto(field.of, item as Decoded, target, at)
      else if (typeof item === 'string') at += target.write(item, at, 'utf8')
      else at += (item as Buffer).copy(target, at)
    }
  }
  return at
}

/** Encodes `value` into a buffer of its own, outside the shared pool. */
export function encode(message: Message, value: Decoded): Buffer {
  const bytes = Buffer.allocUnsafeSlow(encodedLength(message, value))
  encodeInto(message, value, bytes, 0)
  return bytes
}

function present(field: Field, value: Decoded): readonly (string | number | Buffer | Decoded)[] {
  const item = value[field.name]
  if (item === undefined) return []
  if (Array.isArray(item)) return item
  if (item === '' || item === 0 || (field.type === 'bytes' && (item as Buffer).length === 0)) return []
  return [item]
}

function contentLength(field: Field, item: string | number | Buffer | Decoded): number {
  if (field.of) return encodedLength(field.of, item as Decoded)
  if (typeof item === 'string') return Buffer.byteLength(item)
  if (typeof item === 'number') return item < 0 ? 10 : varintLength(item)
  return (item as Buffer).length
}

function varintLength(value: number): number {
  let length = 1
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) length++
  return length
}

function writeVarint(target: Buffer, start: number, value: number): number {
  let at = start
  let rest = value
  while (rest > 0x7f) {
    target[at++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  target[at++] = rest
  return at
}

/** Negative numbers are written as 64 bits, sign extended: 10 bytes. */
function writeInt32(target: Buffer, start: number, value: number): number {
  if (value >= 0) return writeVarint(target, start, value)
  let rest = BigInt.asUintN(64, BigInt(value))
  let at = start
  while (rest > 0x7fn) {
    target[at++] = Number(rest & 0x7fn) | 0x80
    rest >>= 7n
  }
  target[at++] = Number(rest)
  return at
}
