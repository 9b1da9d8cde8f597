/** Owns the question which known word a misspelt one was meant to be. */

/** Most edits between a word and what was meant. */
const MAX_SLIP = 2
/** No word of ours is longer; longer ones are not compared. */
const MAX_LENGTH = 32

/** The first of `known` that is at most two edits away from `word`, whatever their case. */
export function nearMiss(word: string, known: Iterable<string>): string | undefined {
  if (word.length > MAX_LENGTH) return undefined
  for (const one of known)
    if (one.length <= MAX_LENGTH && distance(word.toLowerCase(), one.toLowerCase()) <= slipOf(one)) return one
  return undefined
}

/** A short name is another name after two edits: `aws` is not `gke`. */
function slipOf(word: string): number {
  return word.length <= 4 ? 1 : MAX_SLIP
}

/** Insertions, deletions and replacements between two short words; swapped neighbours count as one. */
function distance(a: string, b: string): number {
  let before: readonly number[] = []
  let row: readonly number[] = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      next.push(
        Math.min(
          replaced,
          (row[j] ?? 0) + 1,
          (next[j - 1] ?? 0) + 1,
          swapped ? (before[j - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY,
        ),
      )
    }
    before = row
    row = next
  }
  return row[b.length] ?? 0
}
