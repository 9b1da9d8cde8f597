/**
 * Owns HTTP/2 header compression (RFC 7541): a decoder that keeps a connection's dynamic table, and an
 * encoder that needs none, because it writes every field as a literal.
 *
 * A field's name and value are bytes: they pass through unchanged, whatever they are.
 */
import { HpackError } from './hpack-error.ts'
import { huffmanDecode, huffmanEncode } from './huffman.ts'

/** One header field. Names are lower case by RFC 9113, but nothing here relies on it. */
export interface HeaderField {
  readonly name: Buffer
  readonly value: Buffer
}

export interface DecoderLimits {
  /** SETTINGS_HEADER_TABLE_SIZE that our side announced, in bytes. */
  readonly tableBytes: number
  /** Most bytes one decoded header list may have, 32 added for each field as RFC 9113 counts. */
  readonly listBytes: number
}

/** A dynamic table entry costs its octets and this (RFC 7541 section 4.1). */
const FIELD_OVERHEAD = 32

/** RFC 7541 appendix A: `name` or `name value`. */
const STATIC_TABLE: readonly HeaderField[] = [
  ':authority',
  ':method GET',
  ':method POST',
  ':path /',
  ':path /index.html',
  ':scheme http',
  ':scheme https',
  ...['200', '204', '206', '304', '400', '404', '500'].map((status) => `:status ${status}`),
  'accept-charset',
  'accept-encoding gzip, deflate',
  'accept-language',
  'accept-ranges',
  'accept',
  'access-control-allow-origin',
  'age',
  'allow',
  'authorization',
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-length',
  'content-location',
  'content-range',
  'content-type',
  'cookie',
  'date',
  'etag',
  'expect',
  'expires',
  'from',
  'host',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'if-range',
  'if-unmodified-since',
  'last-modified',
  'link',
  'location',
  'max-forwards',
  'proxy-authenticate',
  'proxy-authorization',
  'range',
  'referer',
  'refresh',
  'retry-after',
  'server',
  'set-cookie',
  'strict-transport-security',
  'transfer-encoding',
  'user-agent',
  'vary',
  'via',
  'www-authenticate',
].map((line) => {
  const space = line.indexOf(' ')
  return {
    name: Buffer.from(space < 0 ? line : line.slice(0, space)),
    value: Buffer.from(space < 0 ? '' : line.slice(space + 1)),
  }
})

/** Decodes the header blocks of one direction of one connection, in order. */
export interface HpackDecoder {
  /** @throws HpackError; the decoder must not be used afterwards. */
  decode(block: Buffer): HeaderField[]
  /** Entries of the dynamic table, newest first. */
  table(): readonly HeaderField[]
}

/** A decoder with an empty dynamic table. */
export function createDecoder(limits: DecoderLimits): HpackDecoder {
  const table: HeaderField[] = []
  let tableBytes = 0
  let maxTableBytes = limits.tableBytes

  const sizeOf = (field: HeaderField): number => field.name.length + field.value.length + FIELD_OVERHEAD
  const shrinkTo = (bytes: number): void => {
    while (tableBytes > bytes) {
      const oldest = table.pop()
      if (!oldest) break
      tableBytes -= sizeOf(oldest)
    }
  }
  const insert = (field: HeaderField): void => {
    const size = sizeOf(field)
    shrinkTo(Math.max(0, maxTableBytes - size))
    // A field larger than the table empties it and is not an error (RFC 7541 section 4.4).
    if (size > maxTableBytes) return
    // Own copies: views would keep whole header blocks alive for as long as the entry lives.
    table.unshift({ name: Buffer.from(field.name), value: Buffer.from(field.value) })
    tableBytes += size
  }
  const entry = (index: number): HeaderField => {
    const field =
      index <= STATIC_TABLE.length ? STATIC_TABLE[index - 1] : table[index - 1 - STATIC_TABLE.length]
    if (!field) throw new HpackError('index outside the tables')
    return field
  }

  const decode = (block: Buffer): HeaderField[] => {
    const input: Input = { bytes: block, at: 0 }
    const list: HeaderField[] = []
    let listBytes = 0
    while (input.at < block.length) {
      const first = block[input.at] ?? 0
      let field: HeaderField
      if (first & 0x80) {
        field = entry(readInteger(input, 7))
      } else if ((first & 0xe0) === 0x20) {
        if (list.length > 0) throw new HpackError('table size update after a field')
        const size = readInteger(input, 5)
        if (size > limits.tableBytes) throw new HpackError('table size over the limit')
        maxTableBytes = size
        shrinkTo(size)
        continue
      } else {
        const indexed = (first & 0x40) !== 0
        const nameIndex = readInteger(input, indexed ? 6 : 4)
        const name = nameIndex === 0 ? readString(input, limits.listBytes) : entry(nameIndex).name
        field = { name, value: readString(input, limits.listBytes) }
        if (indexed) insert(field)
      }
      listBytes += sizeOf(field)
      if (listBytes > limits.listBytes) throw new HpackError('header list over the limit')
      list.push(field)
    }
    return list
  }
  return { decode, table: () => table }
}

interface Input {
  readonly bytes: Buffer
  at: number
}

/** An integer with a prefix of `bits` bits (RFC 7541 section 5.1), below 2^28. */
function readInteger(input: Input, bits: number): number {
  const mask = 2 ** bits - 1
  const value = readByte(input) & mask
  if (value < mask) return value
  let sum = value
  for (let shift = 0; shift < 28; shift += 7) {
    const byte = readByte(input)
    sum += (byte & 0x7f) * 2 ** shift
    if (byte < 0x80) return sum
  }
  throw new HpackError('integer too large')
}

function readByte(input: Input): number {
  const byte = input.bytes[input.at++]
  if (byte === undefined) throw new HpackError('truncated header block')
  return byte
}

function readString(input: Input, limit: number): Buffer {
  const coded = ((input.bytes[input.at] ?? 0) & 0x80) !== 0
  const length = readInteger(input, 7)
  if (length > limit || length > input.bytes.length - input.at) throw new HpackError('truncated string')
  const raw = input.bytes.subarray(input.at, input.at + length)
  input.at += length
  return coded ? huffmanDecode(raw) : raw
}

/**
 * Encodes a header list without touching any dynamic table: every field is a literal without indexing.
 * Blocks encoded so can be decoded by a peer in any state.
 */
export function encodeHeaders(fields: readonly HeaderField[], options: { huffman?: boolean } = {}): Buffer {
  return Buffer.concat(
    fields.flatMap(({ name, value }) => [
      Buffer.of(0),
      ...encodeString(name, options.huffman),
      ...encodeString(value, options.huffman),
    ]),
  )
}

function encodeString(text: Buffer, huffman: boolean | undefined): Buffer[] {
  const body = huffman ? huffmanEncode(text) : text
  return [encodeInteger(body.length, 7, huffman ? 0x80 : 0), body]
}

/** An integer behind `flags` in a prefix of `bits` bits. */
export function encodeInteger(value: number, bits: number, flags: number): Buffer {
  const mask = 2 ** bits - 1
  if (value < mask) return Buffer.of(flags | value)
  const bytes = [flags | mask]
  let rest = value - mask
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  bytes.push(rest)
  return Buffer.from(bytes)
}
