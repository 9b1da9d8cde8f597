/**
 * Owns the patterns of policy: `*` stands for any run of characters within a segment, `**` for any run at
 * all, every other character for itself. No regular expression, so no text makes matching slow (T17).
 */

/** Longer texts match nothing: names of secrets and hosts are far below it. */
export const MAX_GLOB_TEXT = 4096

type Token = { readonly literal: string } | { readonly star: 'segment' | 'all' }

/**
 * Whether the whole of `text` is what `pattern` describes. Work is at most pattern length × text length.
 * @param separator the character that ends a segment, e.g. `/` in `shop/*`, `.` in `*.example.org`
 */
export function matchesGlob(pattern: string, text: string, separator: string): boolean {
  return globMatcher(pattern, separator)(text)
}

/**
 * {@link matchesGlob} for many texts: the pattern is read once.
 * @returns a function of a text; `spend` is told of every step and may throw when there were enough
 */
export function globMatcher(
  pattern: string,
  separator: string,
): (text: string, spend?: (steps: number) => void) => boolean {
  const tokens = tokensOf(pattern)
  const first = withSkippedStars(new Set([0]), tokens)
  return (text, spend) => {
    if (text.length > MAX_GLOB_TEXT) return false
    let states = first
    for (const char of text) {
      spend?.(states.size)
      const next = new Set<number>()
      for (const state of states) {
        const token = tokens[state]
        if (token === undefined) continue
        if ('literal' in token) {
          if (token.literal === char) next.add(state + 1)
        } else if (token.star === 'all' || char !== separator) next.add(state)
      }
      if (next.size === 0) return false
      states = withSkippedStars(next, tokens)
    }
    return states.has(tokens.length)
  }
}

function tokensOf(pattern: string): readonly Token[] {
  const tokens: Token[] = []
  for (const char of pattern) {
    const last = tokens.at(-1)
    if (char !== '*') tokens.push({ literal: char })
    else if (last !== undefined && 'star' in last) tokens[tokens.length - 1] = { star: 'all' }
    else tokens.push({ star: 'segment' })
  }
  return tokens
}

/** A star may stand for nothing, so whoever stands before one may stand behind it, too. */
function withSkippedStars(states: ReadonlySet<number>, tokens: readonly Token[]): ReadonlySet<number> {
  const all = new Set<number>()
  for (const start of states) {
    let state = start
    all.add(state)
    for (let token = tokens[state]; token !== undefined && 'star' in token; token = tokens[state]) {
      state += 1
      all.add(state)
    }
  }
  return all
}
