/** Owns what JMESPath values are: false ones, equal ones, computed numbers, and what handling them costs. */
import { formatGoJsonFloat } from './go-numbers.ts'
import { JmesPathError } from './jmespath-tokens.ts'
import type { Expression } from './jmespath-parse.ts'
import { JsonNumber } from './json.ts'
import type { JsonValue } from './json.ts'

/** Bounds an evaluation. */
export interface Budget {
  /** @throws JmesPathError `limit` when the evaluation has used up its steps. */
  spend(steps: number): void
}

/** One run of an expression. */
export interface Evaluation extends Budget {
  evaluate(expression: Expression, data: JsonValue, run: Evaluation): JsonValue
}

export const isList = (value: JsonValue): value is readonly JsonValue[] => Array.isArray(value)

/** False in JMESPath: null, false, and empty texts, lists and objects. */
export function isFalse(value: JsonValue): boolean {
  if (value === null || value === false || value === '') return true
  if (isList(value)) return value.length === 0
  return value instanceof Map && value.size === 0
}

/** Deep equality; numbers by their float64 value. */
export function isEqual(left: JsonValue, right: JsonValue, run: Budget): boolean {
  run.spend(typeof left === 'string' ? 1 + left.length / 64 : 1)
  if (left instanceof JsonNumber)
    return right instanceof JsonNumber && Number(left.text) === Number(right.text)
  if (isList(left)) {
    if (!isList(right) || left.length !== right.length) return false
    return left.every((item, index) => isEqual(item, right[index] ?? null, run))
  }
  if (!(left instanceof Map)) return left === right
  if (!(right instanceof Map) || left.size !== right.size) return false
  return [...(left as ReadonlyMap<string, JsonValue>)].every(([key, value]) => {
    const other = right.get(key) as JsonValue | undefined
    return other !== undefined && isEqual(value, other, run)
  })
}

/** Spends a step for every part of `value` as it would be written out. */
export function spendOn(value: JsonValue, run: Budget): void {
  run.spend(typeof value === 'string' ? 1 + value.length / 64 : 1)
  if (isList(value)) for (const item of value) spendOn(item, run)
  else if (value instanceof Map) for (const item of value.values() as Iterable<JsonValue>) spendOn(item, run)
}

/** A computed number. @throws JmesPathError for infinities and NaN, which no JSON can hold. */
export function numberOf(value: number): JsonNumber {
  const text = formatGoJsonFloat(value)
  if (text === undefined) throw new JmesPathError('type', 'a result is not a finite number')
  return new JsonNumber(text)
}
