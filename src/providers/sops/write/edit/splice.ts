/** Owns editing text by position, so that everything that is not named stays byte for byte (sops A20). */

/** Replaces `[start, end)`, in UTF-16 units of the text; `start === end` inserts. */
export interface Splice {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** The text with all splices applied. They must not overlap; insertions at one place keep their order. */
export function spliced(source: string, splices: readonly Splice[]): string {
  const parts: string[] = []
  let at = 0
  for (const { start, end, text } of splices.toSorted((a, b) => a.start - b.start)) {
    parts.push(source.slice(at, start), text)
    at = Math.max(at, end)
  }
  return [...parts, source.slice(at)].join('')
}
