/** Owns canaries: values that stand nowhere by chance, and the search for them in every spelling (T22). */
import { createHash, getHashes, randomBytes } from 'node:crypto'

/** Part of the canary that must not show even alone, in characters. */
const FRAGMENT = 12

export interface Canary {
  /** Readable text with characters that JSON, URLs and Go's JSON each spell in a way of their own. */
  readonly text: string
  /** The random part of it. */
  readonly core: string
}

export function newCanary(label: string): Canary {
  const core = randomBytes(20).toString('hex')
  return { core, text: `${label} "${core}" <é&\\/?+${core}>` }
}

/** Base64 of `bytes` wherever they stand in a longer text: without the digits that its neighbours share. */
function inBase64(bytes: Buffer): string[] {
  return [0, 1, 2].map((before) => {
    const padded = Buffer.concat([Buffer.alloc(before), bytes])
    const whole = Math.floor(padded.length / 3) * 4
    return padded.toString('base64').slice(before === 0 ? 0 : 4, whole)
  })
}

/** Each spelling under its name. */
export function spellings({ text, core }: Canary): ReadonlyMap<string, readonly string[]> {
  const bytes = Buffer.from(text)
  const json = JSON.stringify(text).slice(1, -1)
  const base64 = [...inBase64(bytes), ...inBase64(Buffer.from(core))]
  return new Map([
    ['raw', [text]],
    ['base64', base64],
    ['base64url', base64.map((one) => one.replaceAll('+', '-').replaceAll('/', '_'))],
    ['hex', [bytes.toString('hex'), bytes.toString('hex').toUpperCase(), Buffer.from(core).toString('hex')]],
    ['URL-escaped', [encodeURIComponent(text), encodeURI(text), new URLSearchParams({ text }).toString()]],
    ['JSON-escaped', [json, JSON.stringify(json).slice(1, -1)]],
    [
      'JSON-escaped by Go',
      [json.replaceAll('<', '\\u003c').replaceAll('>', '\\u003e').replaceAll('&', '\\u0026')],
    ],
    [
      'bytes as numbers',
      [[...Buffer.from(core).subarray(0, 8)].join(','), [...Buffer.from(core).subarray(0, 8)].join(', ')],
    ],
    // A text that was cut, wrapped or quoted in part still holds one of these.
    ['a part', Array.from({ length: core.length - FRAGMENT + 1 }, (_, at) => core.slice(at, at + FRAGMENT))],
  ])
}

/** Names of the spellings in which a canary stands in `emitted`. */
export function found(canary: Canary, emitted: string | Buffer): string[] {
  const text = Buffer.isBuffer(emitted) ? emitted.toString('latin1') : emitted
  const utf8 = Buffer.isBuffer(emitted) ? emitted.toString('utf8') : emitted
  return [...spellings(canary)]
    .filter(([, forms]) => forms.some((form) => text.includes(form) || utf8.includes(form)))
    .map(([name]) => name)
}

/** Beginnings of every plain digest of the content: what a dictionary attack would compare (T23). */
export function dictionary(content: Buffer): Set<string> {
  const inputs = [content, Buffer.concat([content, Buffer.from('\n')])]
  const beginnings = new Set<string>()
  for (const name of getHashes().filter((hash) => !hash.startsWith('shake'))) {
    for (const input of inputs) {
      const digest = createHash(name).update(input).digest()
      for (const encoding of ['hex', 'base64', 'base64url'] as const)
        beginnings.add(digest.toString(encoding).slice(0, 8).toLowerCase())
    }
  }
  return beginnings
}
