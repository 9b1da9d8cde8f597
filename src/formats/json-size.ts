/**
 * Owns a look at JSON text before it is parsed: how many things it would make. A few MiB of text can
 * make hundreds of thousands of objects, which is more than the heap of a small process holds.
 */

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const BRACKET = 0x5b
const BRACE = 0x7b

/**
 * Whether parsing `text` would make more than `limit` members, items, lists and objects together. Says
 * nothing about whether it is JSON at all. Takes one pass and no memory.
 */
export function hasMoreElements(text: string, limit: number): boolean {
  let elements = 0
  let inString = false
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at)
    if (unit === QUOTE) inString = !inString
    else if (inString) at += unit === BACKSLASH ? 1 : 0
    else if (unit === COMMA || unit === BRACKET || unit === BRACE) {
      elements += 1
      if (elements > limit) return true
    }
  }
  return false
}
