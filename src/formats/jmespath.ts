/**
 * Owns evaluating JMESPath with go-jmespath's results: no prototypes, bounded steps, numbers as written.
 *
 * Own code because no library gives Go's bytes or can be stopped: an expression of 100 characters may
 * double a list 30 times (threat model T17).
 */
import { FUNCTIONS } from './jmespath-functions.ts'
import type { Argument } from './jmespath-functions.ts'
import { parseJmesPath } from './jmespath-parse.ts'
import { JmesPathError } from './jmespath-tokens.ts'
import type { Expression } from './jmespath-parse.ts'
import { isEqual, isFalse, isList, spendOn } from './jmespath-values.ts'
import type { Evaluation } from './jmespath-values.ts'
import { compareUtf8, JsonNumber } from './json.ts'
import type { JsonValue } from './json.ts'

export { JmesPathError } from './jmespath-tokens.ts'

/** A compiled expression. */
export interface JmesPath {
  /**
   * Evaluates against `data`. A missing value is `null`. Numbers straight out of `data` keep their text.
   * @throws JmesPathError `type` for wrong arguments, `limit` when it would take too long
   */
  search(data: JsonValue): JsonValue
}

/** Steps of one evaluation; about 20 ms at most. */
const MAX_STEPS = 100_000

/**
 * Compiles an expression, so that its faults show before anything is fetched.
 * @throws JmesPathError `syntax` or `limit`
 */
export function compileJmesPath(expression: string): JmesPath {
  const parsed = parseJmesPath(expression)
  checkCalls(parsed)
  return {
    search(data) {
      let left = MAX_STEPS
      const evaluation: Evaluation = {
        evaluate,
        spend(steps) {
          left -= steps
          if (left < 0) throw new JmesPathError('limit', 'the expression takes too many steps on this value')
        },
      }
      const result = evaluate(parsed, data, evaluation)
      // Shared parts may make a small result endless when it is written out.
      spendOn(result, evaluation)
      return result
    },
  }
}

/** Go knows functions only when it meets them; we know them, and how many arguments they take, before. */
function checkCalls(expression: Expression): void {
  for (const child of childrenOf(expression)) checkCalls(child)
  if (expression.type !== 'call') return
  const known = FUNCTIONS.get(expression.name)
  if (known === undefined)
    throw new JmesPathError('syntax', `unknown function "${expression.name.slice(0, 40)}"`)
  const { length } = expression.args
  if (known.variadic === true ? length < known.parameters.length : length !== known.parameters.length) {
    throw new JmesPathError('syntax', `${expression.name}() has the wrong number of arguments`)
  }
}

function childrenOf(expression: Expression): readonly Expression[] {
  switch (expression.type) {
    case 'chain':
    case 'or':
    case 'and':
    case 'compare':
    case 'project':
    case 'project-values':
      return [expression.left, expression.right]
    case 'filter':
      return [expression.left, expression.right, expression.condition]
    case 'not':
    case 'flatten':
    case 'reference':
      return [expression.operand]
    case 'list':
      return expression.items
    case 'hash':
      return expression.pairs.map(([, value]) => value)
    case 'call':
      return expression.args
    default:
      return []
  }
}

function evaluate(expression: Expression, data: JsonValue, run: Evaluation): JsonValue {
  run.spend(1)
  switch (expression.type) {
    case 'current':
      return data
    case 'literal':
      return expression.value
    case 'field':
      return data instanceof Map ? (data.get(expression.name) ?? null) : null
    case 'index': {
      if (!isList(data)) return null
      return data[expression.index < 0 ? expression.index + data.length : expression.index] ?? null
    }
    case 'slice':
      return isList(data) ? slice(data, expression.parts, run) : null
    case 'chain':
      return evaluate(expression.right, evaluate(expression.left, data, run), run)
    case 'or': {
      const left = evaluate(expression.left, data, run)
      return isFalse(left) ? evaluate(expression.right, data, run) : left
    }
    case 'and': {
      const left = evaluate(expression.left, data, run)
      return isFalse(left) ? left : evaluate(expression.right, data, run)
    }
    case 'not':
      return isFalse(evaluate(expression.operand, data, run))
    case 'compare':
      return compare(expression, data, run)
    case 'list':
      return data === null ? null : expression.items.map((item) => evaluate(item, data, run))
    case 'hash': {
      if (data === null) return null
      return new Map(expression.pairs.map(([key, value]) => [key, evaluate(value, data, run)]))
    }
    case 'call': {
      const known = FUNCTIONS.get(expression.name)
      if (known === undefined) throw new JmesPathError('syntax', 'unknown function')
      const args = expression.args.map((arg): Argument => {
        return arg.type === 'reference' ? arg : { type: 'value', value: evaluate(arg, data, run) }
      })
      return known.call(args, run)
    }
    case 'reference':
      throw new JmesPathError('syntax', '"&" can only begin an argument of a function')
    default:
      return project(expression, data, run)
  }
}

type Projection = Extract<Expression, { type: 'flatten' | 'project' | 'project-values' | 'filter' }>

function project(expression: Projection, data: JsonValue, run: Evaluation): JsonValue {
  if (expression.type === 'flatten') {
    const source = lenient(expression.operand, data, run)
    if (!isList(source)) return null
    const flat = source.flat() as readonly JsonValue[]
    run.spend(flat.length)
    return flat
  }
  if (expression.type === 'project') {
    const source = evaluate(expression.left, data, run)
    return isList(source) ? eachOf(source, expression.right, run) : null
  }
  const source = lenient(expression.left, data, run)
  if (expression.type === 'project-values') {
    if (!(source instanceof Map)) return null
    const entries = [...(source as ReadonlyMap<string, JsonValue>)].sort(([a], [b]) => compareUtf8(a, b))
    // The reference projects one null for every value first; with a function behind it that shows.
    const nulls = Array<JsonValue>(entries.length).fill(null)
    return eachOf([...nulls, ...entries.map(([, value]) => value)], expression.right, run)
  }
  if (!isList(source)) return null
  const kept = source.filter((item) => !isFalse(evaluate(expression.condition, item, run)))
  return eachOf(kept, expression.right, run)
}

/** In the reference, a function that fails left of these projections counts as null. */
function lenient(expression: Expression, data: JsonValue, run: Evaluation): JsonValue {
  try {
    return evaluate(expression, data, run)
  } catch (error) {
    if (error instanceof JmesPathError && error.reason === 'type') return null
    throw error
  }
}

function eachOf(items: readonly JsonValue[], expression: Expression, run: Evaluation): JsonValue {
  const results: JsonValue[] = []
  for (const item of items) {
    const result = evaluate(expression, item, run)
    if (result !== null) results.push(result)
  }
  return results
}

function slice(
  items: readonly JsonValue[],
  parts: readonly (number | undefined)[],
  run: Evaluation,
): JsonValue {
  const [from, to, step = 1] = parts
  const { length } = items
  const capped = (value: number) => {
    if (value < 0) return value + length < 0 ? (step < 0 ? -1 : 0) : value + length
    return value >= length ? (step < 0 ? length - 1 : length) : value
  }
  const start = from === undefined ? (step < 0 ? length - 1 : 0) : capped(from)
  const stop = to === undefined ? (step < 0 ? -1 : length) : capped(to)
  const result: JsonValue[] = []
  for (let at = start; step > 0 ? at < stop : at > stop; at += step) result.push(items[at] ?? null)
  run.spend(result.length)
  return result
}

const ORDER: Readonly<Record<'<' | '<=' | '>' | '>=', (a: number, b: number) => boolean>> = {
  '<': (a, b) => a < b,
  '<=': (a, b) => a <= b,
  '>': (a, b) => a > b,
  '>=': (a, b) => a >= b,
}

function compare(
  expression: Extract<Expression, { type: 'compare' }>,
  data: JsonValue,
  run: Evaluation,
): JsonValue {
  const left = evaluate(expression.left, data, run)
  const right = evaluate(expression.right, data, run)
  if (expression.operator === '==') return isEqual(left, right, run)
  if (expression.operator === '!=') return !isEqual(left, right, run)
  if (!(left instanceof JsonNumber) || !(right instanceof JsonNumber)) return null
  return ORDER[expression.operator](Number(left.text), Number(right.text))
}
