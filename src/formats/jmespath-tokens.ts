/** Owns the tokens of a JMESPath expression, and the one error of everything JMESPath. */
import type { JsonValue } from './json.ts'
import { JsonError, parseJson } from './json-parse.ts'

/** An expression that cannot be compiled or evaluated. The message never quotes data. */
export class JmesPathError extends Error {
  override readonly name = 'JmesPathError'
  /**
   * `syntax`: the expression itself; `type`: a function got the wrong arguments; `limit`: the expression
   * or its evaluation is too large.
   */
  readonly reason: 'syntax' | 'type' | 'limit'

  constructor(reason: 'syntax' | 'type' | 'limit', message: string) {
    super(message)
    this.reason = reason
  }
}

const MAX_LENGTH = 16 * 1024

/** A token. */
export interface Token {
  /** The symbol itself, or one of the kinds below. */
  readonly kind: string
  readonly text: string
  readonly value?: JsonValue
}

/** A fault of the expression itself. */
export const syntax = (message: string) => new JmesPathError('syntax', message)

const SYMBOLS = /(\[\?|\[\]|\|\||&&|==|!=|<=|>=|[[\]{}().,:*@|&<>!])/y
const IDENTIFIER = /([A-Za-z_][A-Za-z0-9_]*)/y
const INTEGER = /(-?[0-9]+)/y
const SPACE = /[ \t\r\n]*/y

/**
 * The tokens of an expression, the last one `end`.
 * @throws JmesPathError `syntax` or `limit`
 */
export function tokenize(text: string): readonly Token[] {
  if (text.length > MAX_LENGTH) {
    throw new JmesPathError('limit', `the expression is longer than ${MAX_LENGTH} characters`)
  }
  const tokens: Token[] = []
  let at = 0
  const match = (pattern: RegExp) => {
    pattern.lastIndex = at
    return pattern.exec(text)?.[1]
  }
  for (;;) {
    SPACE.lastIndex = at
    at += SPACE.exec(text)?.[0].length ?? 0
    if (at >= text.length) break
    const quoteMark = text.charAt(at)
    if (quoteMark === '"' || quoteMark === '`' || quoteMark === "'") {
      const end = closing(text, at, quoteMark)
      tokens.push(quoted(quoteMark, text.slice(at + 1, end)))
      at = end + 1
      continue
    }
    const word = match(IDENTIFIER)
    const number = word === undefined ? match(INTEGER) : undefined
    const symbol = word === undefined && number === undefined ? match(SYMBOLS) : undefined
    const found = word ?? number ?? symbol
    if (found === undefined) throw syntax(`unexpected character at position ${at + 1}`)
    tokens.push({ kind: word !== undefined ? 'name' : number !== undefined ? 'number' : found, text: found })
    at += found.length
  }
  tokens.push({ kind: 'end', text: '' })
  return tokens
}

/** Where a quoted token ends. In raw strings a backslash protects the quote only, else any character. */
function closing(text: string, start: number, mark: string): number {
  for (let at = start + 1; at < text.length; at++) {
    const char = text.charAt(at)
    if (char === mark) return at
    if (char === '\\' && (mark !== "'" || text.charAt(at + 1) === mark)) at += 1
  }
  throw syntax(`the ${mark} at position ${start + 1} is not closed`)
}

function quoted(mark: string, content: string): Token {
  if (mark === "'") return { kind: 'literal', text: '', value: content.replaceAll("\\'", "'") }
  const json = mark === '`' ? content.replaceAll('\\`', '`') : `"${content}"`
  try {
    const value = parseJson(json, { float64: true, maxDepth: 100 })
    return mark === '`'
      ? { kind: 'literal', text: '', value }
      : { kind: 'quoted', text: typeof value === 'string' ? value : '' }
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw syntax(
      mark === '`' ? 'a literal between backquotes is not JSON' : 'a quoted name has a broken escape',
    )
  }
}
