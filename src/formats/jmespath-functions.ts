/** Owns the functions of JMESPath as go-jmespath 0.4.0 has them; community extensions do not exist here. */
import { JmesPathError } from './jmespath-tokens.ts'
import type { Expression } from './jmespath-parse.ts'
import { isEqual, isList, numberOf, spendOn } from './jmespath-values.ts'
import type { Evaluation } from './jmespath-values.ts'
import { compareUtf8, formatGoJson, JsonNumber } from './json.ts'
import type { JsonValue } from './json.ts'

/** A value, or an expression given with `&`. */
export type Argument =
  | { readonly type: 'value'; readonly value: JsonValue }
  | Extract<Expression, { type: 'reference' }>

type Parameter = 'any' | 'number' | 'string' | 'list' | 'object' | 'numbers' | 'strings' | 'reference'

export interface JmesPathFunction {
  /** Accepted types of each argument. */
  readonly parameters: readonly (readonly Parameter[])[]
  /** The last parameter may be repeated. */
  readonly variadic?: boolean
  call(args: readonly Argument[], run: Evaluation): JsonValue
}

const isNumber = (value: JsonValue) => value instanceof JsonNumber
const isText = (value: JsonValue) => typeof value === 'string'

const CHECKS: Readonly<Record<Exclude<Parameter, 'reference'>, (value: JsonValue) => boolean>> = {
  any: () => true,
  number: isNumber,
  string: isText,
  list: isList,
  object: (value) => value instanceof Map,
  numbers: (value) => isList(value) && value.every(isNumber),
  strings: (value) => isList(value) && value.every(isText),
}

const wrong = (message: string) => new JmesPathError('type', message)

/** What a handler works with, after the type check; the accessors only narrow. */
interface Args {
  readonly value: (index: number) => JsonValue
  readonly text: (index: number) => string
  readonly number: (index: number) => number
  readonly list: (index: number) => readonly JsonValue[]
  readonly map: (index: number) => ReadonlyMap<string, JsonValue>
  readonly apply: (index: number, item: JsonValue) => JsonValue
  readonly all: readonly JsonValue[]
  readonly run: Evaluation
}

function narrow(args: readonly Argument[], run: Evaluation): Args {
  const all = args.map((arg) => (arg.type === 'value' ? arg.value : null))
  const value = (index: number) => all[index] ?? null
  return {
    all,
    run,
    value,
    text: (index) => value(index) as string,
    number: (index) => toNumber(value(index)),
    list: (index) => value(index) as readonly JsonValue[],
    map: (index) => value(index) as ReadonlyMap<string, JsonValue>,
    apply(index, item) {
      const arg = args[index]
      return arg?.type === 'reference' ? run.evaluate(arg.operand, item, run) : null
    },
  }
}

const toNumber = (value: JsonValue | undefined) => (value instanceof JsonNumber ? Number(value.text) : 0)

function define(
  name: string,
  parameters: readonly (readonly Parameter[])[],
  handler: (args: Args) => JsonValue,
  variadic = false,
): readonly [string, JmesPathFunction] {
  const call = (args: readonly Argument[], run: Evaluation) => {
    for (const [index, arg] of args.entries()) {
      const accepted = parameters[Math.min(index, parameters.length - 1)] ?? []
      const fits = accepted.some((type) => {
        return arg.type === 'reference' || type === 'reference' ? type === arg.type : CHECKS[type](arg.value)
      })
      if (!fits) throw wrong(`argument ${index + 1} of ${name}() must be ${accepted.join(' or ')}`)
      if (arg.type === 'value') run.spend(sizeOf(arg.value))
    }
    return handler(narrow(args, run))
  }
  return [name, { parameters, variadic, call }]
}

/** Steps for looking at a value once, not into it. */
function sizeOf(value: JsonValue): number {
  if (typeof value === 'string') return 1 + value.length / 64
  if (isList(value)) return 1 + value.length
  return value instanceof Map ? 1 + value.size : 1
}

/** A text that was put together; it must be paid for before it exists. */
function joined(parts: readonly string[], separator: string, run: Evaluation): string {
  const length = parts.reduce((sum, part) => sum + part.length + separator.length, 0)
  run.spend(length / 64)
  return parts.join(separator)
}

const order = (a: JsonValue, b: JsonValue) =>
  typeof a === 'string' && typeof b === 'string' ? compareUtf8(a, b) : toNumber(a) - toNumber(b)

/** Items with their sort keys, which must be all numbers or all texts. */
function keyed({ list, apply, run }: Args, name: string): readonly { item: JsonValue; key: JsonValue }[] {
  const items = list(0)
  if (items.length < 2) return items.map((item) => ({ item, key: null }))
  const pairs = items.map((item) => ({ item, key: apply(1, item) }))
  if (!pairs.every(({ key }) => isNumber(key)) && !pairs.every(({ key }) => isText(key))) {
    throw wrong(`${name}() needs all numbers or all texts to compare`)
  }
  run.spend(pairs.length * Math.ceil(Math.log2(pairs.length)))
  return pairs
}

/** The first item that no other beats. */
function best(pairs: readonly { item: JsonValue; key: JsonValue }[], sign: 1 | -1): JsonValue {
  if (pairs.length === 0) return null
  return pairs.reduce((champion, pair) => (sign * order(pair.key, champion.key) > 0 ? pair : champion)).item
}

const plain = (items: readonly JsonValue[]) => items.map((item) => ({ item, key: item }))
const sortedKeys = (map: ReadonlyMap<string, JsonValue>) => [...map.keys()].sort(compareUtf8)

/** Texts that Go's ParseFloat reads as a finite decimal number. */
const GO_FLOAT =
  /^[-+]?(?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)(?:[eE][-+]?[0-9]+)?$/

function numberFrom(value: JsonValue): JsonValue {
  if (value instanceof JsonNumber) return value
  if (typeof value !== 'string' || !GO_FLOAT.test(value)) return null
  const number = Number(value.replaceAll('_', ''))
  return Number.isFinite(number) ? numberOf(number) : null
}

function typeOf(value: JsonValue): string {
  if (value === null) return 'null'
  if (value instanceof JsonNumber) return 'number'
  if (isList(value)) return 'array'
  return value instanceof Map ? 'object' : typeof value
}

/** To text as Go marshals it; a number goes through float64 there. */
function toText(value: JsonValue, run: Evaluation): string {
  if (typeof value === 'string') return value
  spendOn(value, run)
  return formatGoJson(throughFloat64(value))
}

function throughFloat64(value: JsonValue): JsonValue {
  if (value instanceof JsonNumber) return numberOf(Number(value.text))
  if (isList(value)) return value.map(throughFloat64)
  if (!(value instanceof Map)) return value
  return new Map(
    [...(value as ReadonlyMap<string, JsonValue>)].map(([key, item]) => [key, throughFloat64(item)]),
  )
}

/** All functions by name. */
export const FUNCTIONS: ReadonlyMap<string, JmesPathFunction> = new Map([
  define('abs', [['number']], ({ number }) => numberOf(Math.abs(number(0)))),
  define('avg', [['numbers']], ({ list }) => {
    return numberOf(list(0).reduce((sum: number, item) => sum + toNumber(item), 0) / list(0).length)
  }),
  define('ceil', [['number']], ({ number }) => numberOf(Math.ceil(number(0)))),
  define('contains', [['list', 'string'], ['any']], ({ value, run }) => {
    const [subject, wanted] = [value(0), value(1)]
    if (typeof subject === 'string') return typeof wanted === 'string' && subject.includes(wanted)
    return isList(subject) && subject.some((item) => isEqual(item, wanted, run))
  }),
  define('ends_with', [['string'], ['string']], ({ text }) => text(0).endsWith(text(1))),
  define('floor', [['number']], ({ number }) => numberOf(Math.floor(number(0)))),
  define('join', [['string'], ['strings']], ({ text, list, run }) =>
    joined(list(1) as readonly string[], text(0), run),
  ),
  define('keys', [['object']], ({ map }) => sortedKeys(map(0))),
  define('length', [['string', 'list', 'object']], ({ value }) => {
    const subject = value(0)
    if (typeof subject === 'string') return numberOf([...codePoints(subject)].length)
    return numberOf(isList(subject) ? subject.length : subject instanceof Map ? subject.size : 0)
  }),
  define('map', [['reference'], ['list']], ({ list, apply }) => list(1).map((item) => apply(0, item))),
  define('max', [['numbers', 'strings']], ({ list }) => best(plain(list(0)), 1)),
  define('max_by', [['list'], ['reference']], (args) => best(keyed(args, 'max_by'), 1)),
  define(
    'merge',
    [['object']],
    ({ all }) => new Map(all.flatMap((map) => [...(map as ReadonlyMap<string, JsonValue>)])),
    true,
  ),
  define('min', [['numbers', 'strings']], ({ list }) => best(plain(list(0)), -1)),
  define('min_by', [['list'], ['reference']], (args) => best(keyed(args, 'min_by'), -1)),
  define('not_null', [['any']], ({ all }) => all.find((value) => value !== null) ?? null, true),
  define('reverse', [['list', 'string']], ({ value }) => {
    const subject = value(0)
    if (isList(subject)) return subject.toReversed()
    return [...codePoints(typeof subject === 'string' ? subject : '')].toReversed().join('')
  }),
  define('sort', [['strings', 'numbers']], ({ list, run }) => {
    run.spend(list(0).length * Math.ceil(Math.log2(list(0).length + 1)))
    return list(0).toSorted(order)
  }),
  define('sort_by', [['list'], ['reference']], (args) => {
    return keyed(args, 'sort_by')
      .toSorted((a, b) => order(a.key, b.key))
      .map(({ item }) => item)
  }),
  define('starts_with', [['string'], ['string']], ({ text }) => text(0).startsWith(text(1))),
  define('sum', [['numbers']], ({ list }) => {
    return numberOf(list(0).reduce((sum: number, item) => sum + toNumber(item), 0))
  }),
  define('to_array', [['any']], ({ value }) => (isList(value(0)) ? value(0) : [value(0)])),
  define('to_number', [['any']], ({ value }) => numberFrom(value(0))),
  define('to_string', [['any']], ({ value, run }) => toText(value(0), run)),
  define('type', [['any']], ({ value }) => typeOf(value(0))),
  define('values', [['object']], ({ map }) => sortedKeys(map(0)).map((key) => map(0).get(key) ?? null)),
])

/** A text's code points, which Go counts and reverses; JavaScript would count halves of some. */
function codePoints(text: string): Iterable<string> {
  return text[Symbol.iterator]()
}
