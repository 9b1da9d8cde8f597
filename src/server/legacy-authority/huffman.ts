/** Owns HPACK's Huffman code (RFC 7541 section 5.2 and appendix B). */
import { HpackError } from './hpack-error.ts'

/**
 * Bits per symbol 0..255 and, last, the end-of-string symbol. The code is canonical: equally long codes
 * ascend with their symbols, so the lengths are the whole table.
 */
const LENGTHS: readonly number[] = [
  [13, 23, ...Array<number>(7).fill(28), 24, 30, 28, 28, 30, ...Array<number>(8).fill(28), 30],
  Array<number>(9).fill(28),
  [6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10],
  [13, 6, ...Array<number>(22).fill(7), 8, 7, 8, 13, 19, 13, 14, 6],
  [15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28],
  [20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23],
  [21, 22, 23, 22, 23, 23, 24],
  [22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20],
  [22, 22, 22, 23, 22, 22, 23],
  [26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21],
  [21, 26, 26, 28, 27, 27, 27],
  [20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27],
  [28, 27, 27, 27, 27, 27, 26],
  [30],
].flat()

const END_OF_STRING = 256
const LONGEST = 30

/** Symbols in code order, and for each length the first code and where its symbols begin. */
const SYMBOLS = LENGTHS.map((_, symbol) => symbol).toSorted(
  (a, b) => (LENGTHS[a] ?? 0) - (LENGTHS[b] ?? 0) || a - b,
)
const FIRST_CODE = new Uint32Array(LONGEST + 1)
const COUNT = new Uint32Array(LONGEST + 1)
const OFFSET = new Uint32Array(LONGEST + 1)
const CODES = new Uint32Array(LENGTHS.length)
buildTables()

function buildTables(): void {
  for (const length of LENGTHS) COUNT[length] = (COUNT[length] ?? 0) + 1
  let code = 0
  let offset = 0
  for (let length = 1; length <= LONGEST; length++) {
    code *= 2
    FIRST_CODE[length] = code
    OFFSET[length] = offset
    for (let index = 0; index < (COUNT[length] ?? 0); index++) CODES[SYMBOLS[offset + index] ?? 0] = code++
    offset += COUNT[length] ?? 0
  }
}

/**
 * Decodes Huffman-coded text to bytes.
 * @throws HpackError on an end-of-string symbol and on padding that is not fewer than 8 one bits.
 */
export function huffmanDecode(coded: Uint8Array): Buffer {
  // The shortest code has 5 bits, so the text is at most 8/5 as long.
  const text = Buffer.allocUnsafeSlow(Math.ceil((coded.length * 8) / 5))
  let written = 0
  let code = 0
  let length = 0
  for (const byte of coded) {
    for (let bit = 7; bit >= 0; bit--) {
      code = code * 2 + ((byte >> bit) & 1)
      length++
      const index = code - (FIRST_CODE[length] ?? 0)
      if (index >= 0 && index < (COUNT[length] ?? 0)) {
        const symbol = SYMBOLS[(OFFSET[length] ?? 0) + index] ?? END_OF_STRING
        if (symbol === END_OF_STRING) throw new HpackError('end-of-string symbol inside a string')
        text[written++] = symbol
        code = 0
        length = 0
      } else if (length >= LONGEST) {
        throw new HpackError('unknown Huffman code')
      }
    }
  }
  if (length > 7 || code !== 2 ** length - 1) throw new HpackError('bad Huffman padding')
  return text.subarray(0, written)
}

/** Encodes bytes; the last byte is filled up with one bits. */
export function huffmanEncode(text: Uint8Array): Buffer {
  const bits = text.reduce((sum, symbol) => sum + (LENGTHS[symbol] ?? 0), 0)
  const coded = Buffer.alloc(Math.ceil(bits / 8))
  let at = 0
  const put = (code: number, length: number): void => {
    for (let bit = length - 1; bit >= 0; bit--, at++) {
      if ((code >>> bit) & 1) coded[at >> 3] = (coded[at >> 3] ?? 0) | (0x80 >> (at & 7))
    }
  }
  for (const symbol of text) put(CODES[symbol] ?? 0, LENGTHS[symbol] ?? 0)
  put(0xff >>> (8 - (coded.length * 8 - at)), coded.length * 8 - at)
  return coded
}
