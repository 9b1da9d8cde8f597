/** Owns the rules that say which values are encrypted (sops A8). */
import { RE2JS } from 're2js'
import { sopsError } from './errors.ts'
import type { Rule } from './metadata.ts'

/** Instructions of a compiled rule, so that one search in a key of 1 KiB stays within some milliseconds. */
const MAX_PROGRAM = 2000

/**
 * How a rule decides. `path`: a value is governed when some key on its way matches, and is then in
 * clear or encrypted. `shape`: the two comment rules, decided by what the leaf looks like.
 */
export type Selector =
  | { readonly by: 'shape' }
  | { readonly by: 'path'; matches(key: string): boolean; readonly matchedIsEncrypted: boolean }

/** Refuses a repetition count that would compile to a huge program, before compiling it. */
function estimatedProgram(pattern: string): number {
  const groups: number[] = []
  let sum = 0
  let atom = 0
  for (let i = 0; i < pattern.length; i += 1) {
    const char = pattern[i]
    if (char === '\\') {
      i += 1
      sum += atom
      atom = 1
    } else if (char === '(') {
      groups.push(sum + atom)
      sum = 1
      atom = 0
    } else if (char === ')') {
      atom += sum + 1
      sum = groups.pop() ?? 0
    } else if (char === '{') {
      const end = pattern.indexOf('}', i)
      const times = /^\{(\d{1,4})(?:,(\d{0,4}))?\}$/.exec(pattern.slice(i, end + 1))
      const most = times === null ? 1 : Math.max(Number(times[1]), Number(times[2] ?? 0), 1)
      atom = times === null ? atom + 1 : atom * (most + 1)
      if (times !== null) i = end
    } else {
      sum += atom
      atom = 1
    }
  }
  return groups.reduce((total, outer) => total + outer, sum + atom)
}

function compiled(pattern: string): RE2JS {
  const refuse = (why: string): never => {
    throw sopsError(
      'RULE_INVALID',
      `the rule of the document ${why}`,
      'Encrypt it again with a simpler rule.',
    )
  }
  if (estimatedProgram(pattern) > MAX_PROGRAM * 2) refuse('is a regular expression that is too large')
  let regex: RE2JS
  try {
    regex = RE2JS.compile(pattern)
  } catch {
    // The library's message quotes the pattern.
    return refuse('is no RE2 regular expression')
  }
  return regex.programSize() > MAX_PROGRAM ? refuse('is a regular expression that is too large') : regex
}

/**
 * The selector of a rule. Each distinct key is searched once.
 * @throws BackendError `RULE_INVALID`
 */
export function selectorOf(rule: Rule): Selector {
  const isRegex = rule.kind.endsWith('_regex')
  const regex = isRegex ? compiled(rule.text) : undefined
  if (rule.kind.endsWith('_comment_regex')) return { by: 'shape' }
  const known = new Map<string, boolean>()
  return {
    by: 'path',
    matchedIsEncrypted: rule.kind.startsWith('encrypted'),
    matches(key) {
      const before = known.get(key)
      if (before !== undefined) return before
      const found = regex === undefined ? key.endsWith(rule.text) : regex.matcher(key).find()
      known.set(key, found)
      return found
    },
  }
}
