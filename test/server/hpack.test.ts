import * as fc from 'fast-check'
import { createServer, constants, type IncomingHttpHeaders } from 'node:http2'
import { createConnection } from 'node:net'
import { describe, expect, it } from 'vitest'
import { HpackError } from '../../src/server/legacy-authority/hpack-error.ts'
import {
  createDecoder,
  encodeHeaders,
  encodeInteger,
  type HeaderField,
} from '../../src/server/legacy-authority/hpack.ts'
import { huffmanDecode, huffmanEncode } from '../../src/server/legacy-authority/huffman.ts'
import { frame, PREFACE } from './http2-wire.ts'

const LIMITS = { tableBytes: 4096, listBytes: 64 * 1024 }
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')
const lines = (fields: readonly HeaderField[]): string[] =>
  fields.map(({ name, value }) => `${name.toString('latin1')}: ${value.toString('latin1')}`)
const field = (name: string, value: string): HeaderField => ({
  name: Buffer.from(name),
  value: Buffer.from(value),
})

const REQUESTS = [
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com'],
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com', 'cache-control: no-cache'],
  [
    ':method: GET',
    ':scheme: https',
    ':path: /index.html',
    ':authority: www.example.com',
    'custom-key: custom-value',
  ],
]
const DATE1 = 'Mon, 21 Oct 2013 20:13:21 GMT'
const DATE2 = 'Mon, 21 Oct 2013 20:13:22 GMT'
const LOCATION = 'location: https://www.example.com'
const RESPONSES = [
  [':status: 302', 'cache-control: private', `date: ${DATE1}`, LOCATION],
  [':status: 307', 'cache-control: private', `date: ${DATE1}`, LOCATION],
  [
    ':status: 200',
    'cache-control: private',
    `date: ${DATE2}`,
    LOCATION,
    'content-encoding: gzip',
    'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
  ],
]

/** RFC 7541 appendix C: blocks of one connection in order, and what they mean. */
const SEQUENCES: readonly { title: string; tableBytes: number; blocks: string[]; lists: string[][] }[] = [
  {
    title: 'C.3 requests without Huffman coding',
    tableBytes: 4096,
    blocks: [
      '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
      '8286 84be 5808 6e6f 2d63 6163 6865',
      '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
    ],
    lists: REQUESTS,
  },
  {
    title: 'C.4 requests with Huffman coding',
    tableBytes: 4096,
    blocks: [
      '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
      '8286 84be 5886 a8eb 1064 9cbf',
      '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
    ],
    lists: REQUESTS,
  },
  {
    title: 'C.5 responses without Huffman coding, table of 256 bytes',
    tableBytes: 256,
    blocks: [
      `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
       2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
      '4803 3330 37c1 c0bf',
      `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
       54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
       5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
    ],
    lists: RESPONSES,
  },
  {
    title: 'C.6 responses with Huffman coding, table of 256 bytes',
    tableBytes: 256,
    blocks: [
      `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
       2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
      '4883 640e ffc1 c0bf',
      `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
       77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
       9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
    ],
    lists: RESPONSES,
  },
]

describe('header compression', () => {
  it.each(SEQUENCES)('driver 2 RFC 7541 $title', ({ tableBytes, blocks, lists }) => {
    const decoder = createDecoder({ ...LIMITS, tableBytes })
    expect(blocks.map((block) => lines(decoder.decode(hex(block.replaceAll(/\s/g, '')))))).toEqual(lists)
    const bytes = decoder.table().reduce((sum, { name, value }) => sum + name.length + value.length + 32, 0)
    expect(bytes).toBe(tableBytes === 256 ? 215 : 164)
  })

  it('driver 2 RFC 7541 C.1 integers', () => {
    expect(encodeInteger(10, 5, 0)).toEqual(hex('0a'))
    expect(encodeInteger(1337, 5, 0)).toEqual(hex('1f9a0a'))
    expect(encodeInteger(42, 8, 0)).toEqual(hex('2a'))
  })

  it('driver 2 RFC 7541 C.2 each representation of a field', () => {
    const decoder = createDecoder(LIMITS)
    expect(lines(decoder.decode(hex('400a637573746f6d2d6b65790d637573746f6d2d686561646572')))).toEqual([
      'custom-key: custom-header',
    ])
    expect(lines(decoder.decode(hex('040c2f73616d706c652f70617468')))).toEqual([':path: /sample/path'])
    expect(lines(decoder.decode(hex('100870617373776f726406736563726574')))).toEqual(['password: secret'])
    expect(lines(decoder.decode(hex('82')))).toEqual([':method: GET'])
    expect(lines(decoder.table())).toEqual(['custom-key: custom-header'])
  })

  it('driver 2 a table size update evicts, and one over the announced size is refused', () => {
    const decoder = createDecoder(LIMITS)
    decoder.decode(hex('400a637573746f6d2d6b65790d637573746f6d2d686561646572'))
    decoder.decode(Buffer.concat([encodeInteger(0, 5, 0x20), encodeInteger(4096, 5, 0x20)]))
    expect(decoder.table()).toEqual([])
    expect(() => decoder.decode(encodeInteger(4097, 5, 0x20))).toThrow(HpackError)
  })

  it('driver 2 any bytes survive Huffman coding', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(huffmanDecode(huffmanEncode(bytes))).toEqual(Buffer.from(bytes))
      }),
    )
  })

  it('driver 2 nghttp2 reads our Huffman code for every byte that a header value may hold', async () => {
    const value = Buffer.from(
      Array.from({ length: 256 }, (_, byte) => byte).filter((b) => b > 32 && b !== 127),
    )
    const block = encodeHeaders(
      [
        field(':method', 'GET'),
        field(':scheme', 'http'),
        field(':path', '/'),
        field(':authority', 'x'),
        { name: Buffer.from('x-all'), value },
      ],
      { huffman: true },
    )
    const headers = await headersSeenByNode(Buffer.concat([PREFACE, frame(4, 0, 0), frame(1, 5, 1, block)]))
    expect(Buffer.from(String(headers['x-all']), 'latin1')).toEqual(value)
  })

  it('driver 2 any header list survives encoding, whatever bytes it holds', () => {
    const bytes = fc.uint8Array({ maxLength: 60 }).map((b) => Buffer.from(b))
    fc.assert(
      fc.property(
        fc.array(fc.record({ name: bytes, value: bytes }), { maxLength: 20 }),
        fc.boolean(),
        (list, huffman) => {
          expect(createDecoder(LIMITS).decode(encodeHeaders(list, { huffman }))).toEqual(list)
        },
      ),
    )
  })

  it('T14 a header bomb is refused before it is unpacked', () => {
    const decoder = createDecoder(LIMITS)
    decoder.decode(
      Buffer.concat([
        Buffer.of(0x40),
        encodeInteger(1, 7, 0),
        Buffer.from('a'),
        encodeInteger(4000, 7, 0),
        Buffer.alloc(4000, 0x61),
      ]),
    )
    expect(() => decoder.decode(Buffer.alloc(16_000, 0xbe))).toThrow('header list over the limit')
  })

  it('T14 arbitrary blocks decode or throw HpackError, and never grow the table over its size', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 5 }), (blocks) => {
        const decoder = createDecoder(LIMITS)
        try {
          for (const block of blocks) decoder.decode(Buffer.from(block))
        } catch (error) {
          expect(error).toBeInstanceOf(HpackError)
        }
        const size = decoder
          .table()
          .reduce((sum, entry) => sum + entry.name.length + entry.value.length + 32, 0)
        expect(size).toBeLessThanOrEqual(LIMITS.tableBytes)
      }),
      { numRuns: 3000 },
    )
  })
})

/** Sends raw bytes to a node:http2 server and returns the headers of the first stream it sees. */
async function headersSeenByNode(bytes: Buffer): Promise<IncomingHttpHeaders> {
  const server = createServer()
  const seen = new Promise<IncomingHttpHeaders>((resolve, reject) => {
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {})
      stream.close(constants.NGHTTP2_NO_ERROR)
      resolve(headers)
    })
    server.on('sessionError', reject)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const socket = createConnection(address.port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(bytes)
  try {
    return await seen
  } finally {
    socket.destroy()
    server.close()
  }
}
