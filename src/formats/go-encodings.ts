/** Owns base64 and hexadecimal as Go's standard library reads them: strict, with its error texts. */

/** The text is not in the encoding. The message says where, never what. */
export class EncodingError extends Error {
  override readonly name = 'EncodingError'
}

const ALPHABET = /^[A-Za-z0-9+/]$/
const isBreak = (char: string): boolean => char === '\r' || char === '\n'

/**
 * Standard base64 with padding; CR and LF anywhere are skipped, like `base64.StdEncoding`.
 * @throws EncodingError `illegal base64 data at input byte <n>`
 */
export function decodeGoBase64(text: string): Buffer {
  const bare = text.includes('\n') || text.includes('\r') ? text.replaceAll(/[\r\n]/g, '') : text
  if (bare.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(bare)) return Buffer.from(bare, 'base64')
  throw new EncodingError(`illegal base64 data at input byte ${illegalAt(text)}`)
}

/** Where Go's decoder gives up: it reads four digits at a time. */
function illegalAt(text: string): number {
  let at = 0
  const skipBreaks = (): void => {
    while (at < text.length && isBreak(text.charAt(at))) at += 1
  }
  for (;;) {
    let digits = 0
    while (digits < 4) {
      if (at === text.length) return at - digits
      const char = text.charAt(at)
      at += 1
      if (isBreak(char)) continue
      if (ALPHABET.test(char)) {
        digits += 1
        continue
      }
      if (char !== '=' || digits < 2) return at - 1
      skipBreaks()
      if (digits === 3) return at
      if (at === text.length) return at
      if (text.charAt(at) !== '=') return at - 1
      at += 1
      skipBreaks()
      return at
    }
  }
}

/**
 * Hexadecimal in either case, like `hex.DecodeString`.
 * @throws EncodingError
 */
export function decodeGoHex(text: string): Buffer {
  for (let at = 0; at < text.length; at += 1) {
    // Go quotes the byte; a byte of a secret has no place in a message.
    if (!/^[0-9A-Fa-f]$/.test(text.charAt(at)))
      throw new EncodingError(`encoding/hex: invalid byte: at position ${at}`)
  }
  if (text.length % 2 !== 0) throw new EncodingError('encoding/hex: odd length hex string')
  return Buffer.from(text, 'hex')
}
