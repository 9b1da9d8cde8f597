/** Owns strict base64 and strict UTF-8: what does not survive a round trip is refused (sops A6.2, A4). */

/** Bytes of standard base64 with padding, or undefined. `Buffer.from` alone would skip junk. */
export function strictBase64(text: string): Buffer | undefined {
  if (text.length % 4 !== 0) return undefined
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : undefined
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text of bytes that are valid UTF-8, a BOM kept; undefined when they are not. */
export function strictUtf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}
