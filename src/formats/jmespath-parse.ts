/** Owns the grammar of JMESPath as go-jmespath 0.4.0 has it (dependencies.md section 10, aws.md section 6). */
import { JmesPathError, syntax, tokenize } from './jmespath-tokens.ts'
import type { Token } from './jmespath-tokens.ts'
import type { JsonValue } from './json.ts'

export type Comparator = '==' | '!=' | '<' | '<=' | '>' | '>='

export type Expression =
  | { readonly type: 'current' }
  | { readonly type: 'field'; readonly name: string }
  | { readonly type: 'literal'; readonly value: JsonValue }
  | { readonly type: 'index'; readonly index: number }
  | { readonly type: 'slice'; readonly parts: readonly (number | undefined)[] }
  /** `left.right`, `left[0]` and `left | right`: right is evaluated on the result of left. */
  | { readonly type: 'chain'; readonly left: Expression; readonly right: Expression }
  | { readonly type: 'or' | 'and'; readonly left: Expression; readonly right: Expression }
  | { readonly type: 'not'; readonly operand: Expression }
  | {
      readonly type: 'compare'
      readonly operator: Comparator
      readonly left: Expression
      readonly right: Expression
    }
  | { readonly type: 'list'; readonly items: readonly Expression[] }
  | { readonly type: 'hash'; readonly pairs: readonly (readonly [string, Expression])[] }
  | { readonly type: 'flatten'; readonly operand: Expression }
  /** `left[*].right`, `left.*.right`: right on every element. */
  | { readonly type: 'project'; readonly left: Expression; readonly right: Expression }
  | { readonly type: 'project-values'; readonly left: Expression; readonly right: Expression }
  | {
      readonly type: 'filter'
      readonly left: Expression
      readonly right: Expression
      readonly condition: Expression
    }
  | { readonly type: 'call'; readonly name: string; readonly args: readonly Expression[] }
  /** `&expression`: only as an argument. */
  | { readonly type: 'reference'; readonly operand: Expression }

const MAX_NESTING = 200

/** How strongly a token binds what is left of it; unnamed tokens end an expression. */
const POWER: Readonly<Record<string, number>> = {
  '|': 1,
  '||': 2,
  '&&': 3,
  '==': 5,
  '!=': 5,
  '<': 5,
  '<=': 5,
  '>': 5,
  '>=': 5,
  '[]': 9,
  '*': 20,
  '[?': 21,
  '.': 40,
  '!': 45,
  '{': 50,
  '[': 55,
  '(': 60,
}
const power = (kind: string) => (Object.hasOwn(POWER, kind) ? (POWER[kind] ?? 0) : 0)
const COMPARATORS: ReadonlySet<string> = new Set(['==', '!=', '<', '<=', '>', '>='])
const CURRENT: Expression = { type: 'current' }

/**
 * Compiles an expression.
 * @throws JmesPathError `syntax` or `limit`
 */
export function parseJmesPath(expression: string): Expression {
  return new Parser(tokenize(expression)).parse()
}

/** A Pratt parser over the tokens; one use. */
class Parser {
  readonly #tokens: readonly Token[]
  #at = 0
  #nesting = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  parse(): Expression {
    const expression = this.#expression(0)
    if (this.#kind() !== 'end') throw syntax(`unexpected ${this.#shown()} after the expression`)
    return expression
  }

  #kind(ahead = 0): string {
    return this.#tokens[this.#at + ahead]?.kind ?? 'end'
  }

  #shown(): string {
    const kind = this.#kind()
    return kind === 'end' ? 'end' : `"${this.#tokens[this.#at]?.text.slice(0, 20) || kind}"`
  }

  #take(): Token {
    const token = this.#tokens[this.#at] ?? { kind: 'end', text: '' }
    this.#at += 1
    return token
  }

  #expect(kind: string): void {
    if (this.#kind() !== kind) throw syntax(`expected "${kind}" instead of ${this.#shown()}`)
    this.#at += 1
  }

  #expression(binding: number): Expression {
    // Chains nest to the left, so they count too.
    const before = this.#nesting
    this.#deeper()
    let left = this.#prefix()
    while (binding < power(this.#kind())) {
      this.#deeper()
      left = this.#infix(left)
    }
    this.#nesting = before
    return left
  }

  #deeper(): void {
    this.#nesting += 1
    if (this.#nesting > MAX_NESTING) throw new JmesPathError('limit', 'the expression is nested too deeply')
  }

  #prefix(): Expression {
    const shown = this.#shown()
    const token = this.#take()
    switch (token.kind) {
      case 'literal':
        return { type: 'literal', value: token.value ?? null }
      case 'name':
        return this.#kind() === '(' ? this.#call(token.text) : { type: 'field', name: token.text }
      case 'quoted':
        if (this.#kind() === '(') throw syntax('a function name must not be quoted')
        return { type: 'field', name: token.text }
      case '*':
        return {
          type: 'project-values',
          left: CURRENT,
          right: this.#kind() === ']' ? CURRENT : this.#projected('*'),
        }
      case '[?':
        return this.#filter(CURRENT)
      case '{':
        return this.#hash()
      case '[]':
        return { type: 'project', left: { type: 'flatten', operand: CURRENT }, right: this.#projected('[]') }
      case '[':
        if (this.#kind() === 'number' || this.#kind() === ':') return this.#bracket(CURRENT)
        if (this.#kind() === '*' && this.#kind(1) === ']') return this.#bracket(CURRENT)
        return this.#list()
      case '@':
        return CURRENT
      case '!':
        return { type: 'not', operand: this.#expression(power('!')) }
      case '(': {
        const inner = this.#expression(0)
        this.#expect(')')
        return inner
      }
      case '&':
        throw syntax('"&" can only begin an argument of a function')
      default:
        throw syntax(`unexpected ${shown}`)
    }
  }

  #infix(left: Expression): Expression {
    const { kind } = this.#take()
    if (COMPARATORS.has(kind)) {
      return { type: 'compare', operator: kind as Comparator, left, right: this.#expression(power(kind)) }
    }
    switch (kind) {
      case '.':
        if (this.#kind() !== '*') return { type: 'chain', left, right: this.#afterDot(power('.')) }
        this.#at += 1
        return { type: 'project-values', left, right: this.#projected('.') }
      case '|':
        return { type: 'chain', left, right: this.#expression(power(kind)) }
      case '||':
        return { type: 'or', left, right: this.#expression(power(kind)) }
      case '&&':
        return { type: 'and', left, right: this.#expression(power(kind)) }
      case '[?':
        return this.#filter(left)
      case '[]':
        return { type: 'project', left: { type: 'flatten', operand: left }, right: this.#projected('[]') }
      case '[':
        return this.#bracket(left)
      default:
        throw syntax(`unexpected "${kind}"`)
    }
  }

  /** Arguments; like the reference, commas between them may be missing or trail. */
  #call(name: string): Expression {
    this.#at += 1
    const args: Expression[] = []
    while (this.#kind() !== ')') {
      if (this.#kind() === '&') {
        this.#at += 1
        args.push({ type: 'reference', operand: this.#expression(0) })
      } else args.push(this.#expression(0))
      if (this.#kind() === ',') this.#at += 1
    }
    this.#at += 1
    return { type: 'call', name, args }
  }

  /** Behind `[`: an index, a slice or `*`. */
  #bracket(left: Expression): Expression {
    if (this.#kind() === '*') {
      this.#at += 1
      this.#expect(']')
      return { type: 'project', left, right: this.#projected('*') }
    }
    if (this.#kind() === ':' || this.#kind(1) === ':') {
      const chain: Expression = { type: 'chain', left, right: this.#slice() }
      return { type: 'project', left: chain, right: this.#projected('*') }
    }
    if (this.#kind() !== 'number') throw syntax(`expected an index instead of ${this.#shown()}`)
    const index = toInteger(this.#take().text)
    this.#expect(']')
    return { type: 'chain', left, right: { type: 'index', index } }
  }

  #slice(): Expression {
    const parts: (number | undefined)[] = [undefined, undefined, undefined]
    let position = 0
    while (this.#kind() !== ']' && position < 3) {
      const token = this.#take()
      if (token.kind === ':') position += 1
      else if (token.kind === 'number') parts[position] = toInteger(token.text)
      else throw syntax('expected a number or ":" in a slice')
    }
    this.#expect(']')
    if (parts[2] === 0) throw syntax('a slice cannot have the step 0')
    return { type: 'slice', parts }
  }

  #list(): Expression {
    const items = [this.#expression(0)]
    while (this.#kind() !== ']') {
      this.#expect(',')
      items.push(this.#expression(0))
    }
    this.#at += 1
    return { type: 'list', items }
  }

  #hash(): Expression {
    const pairs: (readonly [string, Expression])[] = []
    for (;;) {
      const key = this.#take()
      if (key.kind !== 'name' && key.kind !== 'quoted') throw syntax('expected a name in { }')
      this.#expect(':')
      pairs.push([key.text, this.#expression(0)])
      if (this.#kind() === ',') this.#at += 1
      else if (this.#kind() === '}') break
    }
    this.#at += 1
    return { type: 'hash', pairs }
  }

  #filter(left: Expression): Expression {
    const condition = this.#expression(0)
    this.#expect(']')
    const right = this.#kind() === '[]' ? CURRENT : this.#projected('[?')
    return { type: 'filter', left, right, condition }
  }

  /** What a projection applies to each element. */
  #projected(operator: string): Expression {
    const binding = power(operator)
    const kind = this.#kind()
    if (power(kind) < 10) return CURRENT
    if (kind === '[' || kind === '[?') return this.#expression(binding)
    if (kind !== '.') throw syntax(`unexpected ${this.#shown()}`)
    this.#at += 1
    return this.#afterDot(binding)
  }

  #afterDot(binding: number): Expression {
    const kind = this.#kind()
    if (kind === 'name' || kind === 'quoted' || kind === '*') return this.#expression(binding)
    if (kind !== '[' && kind !== '{') throw syntax(`expected a name, "[" or "{" instead of ${this.#shown()}`)
    this.#at += 1
    return kind === '[' ? this.#list() : this.#hash()
  }
}

const INT64 = 2n ** 63n

function toInteger(text: string): number {
  const value = text.length > 20 ? INT64 : BigInt(text)
  if (value >= INT64 || value < -INT64) throw syntax('an index is out of range')
  return Number(value)
}
