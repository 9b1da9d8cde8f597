/**
 * Owns what a template does with values: members are looked up in parsed JSON and nowhere else, operators are a
 * closed table, and every step and every character is counted against a budget, so that a rendering ends after
 * the same work on any machine.
 */
import { isUtf8 } from 'node:buffer'
import { Context, Drop, LiquidError, toValueSync, type Liquid, type Operators, type Template } from 'liquidjs'
import { JsonNumber, type JsonValue } from '../../formats/json.ts'
import { SelectError } from '../adapter.ts'
import { documentOf } from './select.ts'
import { Binary, CHARACTER, writtenText, type Spend, type TemplateValue } from './template-filters.ts'
import type { NameUse } from './template-names.ts'
import { clipped } from './template-parse.ts'

/** What one rendering may cost, in characters that are looked at. */
export const MAX_WORK = 4 * 1024 * 1024
/** What a step of the rendering costs: a text between tags, a tag, an output, a filter. */
export const STEP = 800
/** What looking up a name or a member costs, and an operator. */
const SMALL_STEP = 400
/** Most values of JSON that one rendering may read. */
const MAX_JSON_VALUES = 10_000

/** A template that has been read. */
export interface ReadTemplate {
  readonly liquid: Liquid
  readonly templates: readonly Template[]
  readonly use: NameUse
}

/** A value as Liquid hands it over: its own objects stand for null. */
export function plain(value: unknown): TemplateValue {
  return value instanceof Drop ? null : (value as TemplateValue)
}

export function spenderOf(context: unknown): Spend {
  if (context instanceof ValueContext) return context.spend
  throw new Error('a filter was called outside of a rendering')
}

/** Comparisons of texts, numbers and booleans. Lists and objects equal nothing. */
export const OPERATORS: Operators = {
  '==': equal,
  '!=': (left: unknown, right: unknown, context: unknown) => !equal(left, right, context),
  '<': ordering((a, b) => a < b),
  '>': ordering((a, b) => a > b),
  '<=': ordering((a, b) => a <= b),
  '>=': ordering((a, b) => a >= b),
  and: (left: unknown, right: unknown, context: unknown) => isTrue(left, context) && isTrue(right, context),
  or: (left: unknown, right: unknown, context: unknown) => isTrue(left, context) || isTrue(right, context),
  not: (operand: unknown, context: unknown) => !isTrue(operand, context),
}

function isTrue(value: unknown, context: unknown): boolean {
  spenderOf(context)(SMALL_STEP)
  const given = plain(value)
  return given !== undefined && given !== null && given !== false
}

function equal(left: unknown, right: unknown, context: unknown): boolean {
  const [a, b] = compared(left, right, context)
  return (a === null || typeof a !== 'object') && a === b
}

function ordering(holds: (a: number | string, b: number | string) => boolean) {
  return (left: unknown, right: unknown, context: unknown): boolean => {
    const [a, b] = compared(left, right, context)
    if (typeof a === 'number' && typeof b === 'number') return holds(a, b)
    return typeof a === 'string' && typeof b === 'string' && holds(a, b)
  }
}

/** Two values, the work of comparing them paid. */
function compared(left: unknown, right: unknown, context: unknown): readonly [TemplateValue, TemplateValue] {
  const [a, b] = [comparable(left), comparable(right)]
  const characters = typeof a === 'string' && typeof b === 'string' ? Math.min(a.length, b.length) : 0
  spenderOf(context)(SMALL_STEP + characters)
  return [a, b]
}

function comparable(value: unknown): TemplateValue {
  const given = plain(value)
  if (given === undefined) return null
  return given instanceof JsonNumber ? Number(given.text) : given
}

/** What the engine may ask of the loop it is in. */
const LOOP_FACTS: ReadonlySet<unknown> = new Set([
  'first',
  'last',
  'index',
  'index0',
  'rindex',
  'rindex0',
  'length',
])

/** Names and members: those of the values, and nothing that JavaScript adds to them. */
class ValueContext extends Context {
  readonly spend: Spend

  constructor(scope: object, liquid: Liquid, spend: Spend) {
    // Liquid's own limit is of time and would fail on a busy node what passes on an idle one; it is asked
    // once a step, so that ours counts there.
    const renderLimit = {
      use: () => undefined,
      check: () => spend(STEP),
    } as unknown as Context['renderLimit']
    super(scope, liquid.options, { sync: true }, { renderLimit, liquid })
    this.spend = spend
  }

  override readProperty(from: unknown, key: unknown): unknown {
    this.spend(SMALL_STEP)
    const found = memberOf(from, key)
    if (!(found instanceof JsonNumber)) return found
    const number = Number(found.text)
    // Numbers that would be written in another way stay as they are.
    return String(number) === found.text ? number : found
  }
}

function memberOf(from: unknown, key: unknown): unknown {
  if (from instanceof Map) return (from as ReadonlyMap<unknown, JsonValue>).get(key)
  if (Array.isArray(from)) {
    const list = from as readonly JsonValue[]
    if (typeof key === 'number') return Number.isInteger(key) ? list.at(key) : undefined
    if (key === 'size') return list.length
    return key === 'first' ? list.at(0) : key === 'last' ? list.at(-1) : undefined
  }
  if (from instanceof Drop) {
    if (!LOOP_FACTS.has(key)) return undefined
    const fact: unknown = Reflect.get(from, key as string)
    return typeof fact === 'function' ? Reflect.apply(fact, from, []) : fact
  }
  // Scopes are the only objects without a prototype.
  if (typeof from !== 'object' || from === null || Object.getPrototypeOf(from) !== null) return undefined
  return typeof key === 'string' && Object.hasOwn(from, key) ? Reflect.get(from, key) : undefined
}

/** The values by name, as text, or as JSON where the template asks for members. */
function scopeOf(
  values: ReadonlyMap<string, Uint8Array>,
  { used, documents }: NameUse,
  text: string,
  spend: Spend,
): object {
  const scope = Object.create(null) as Record<string, TemplateValue>
  for (const name of used) {
    const bytes = values.get(name)
    if (bytes === undefined) continue
    const at = documents.get(name)
    spend(at === undefined ? bytes.length : CHARACTER * bytes.length)
    if (at === undefined) scope[name] = isUtf8(bytes) ? Buffer.from(bytes).toString() : new Binary(bytes)
    else
      try {
        scope[name] = documentOf(bytes, { maxValues: Math.floor(MAX_JSON_VALUES / documents.size) })
      } catch (error) {
        if (!(error instanceof SelectError)) throw error
        const { kind, code, message } = error
        const remedy = 'Store a JSON object or list, or write the name without members'
        throw placed(new SelectError({ kind, code, message, remedy }), text, at, `"${clipped(name)}": `)
      }
  }
  return scope
}

/** The file. @throws SelectError naming line and expression, never a value */
export function rendered(
  { liquid, templates, use }: ReadTemplate,
  values: ReadonlyMap<string, Uint8Array>,
  text: string,
  maxBytes: number,
): Uint8Array {
  let left = MAX_WORK
  const spend: Spend = (characters) => {
    left -= characters
    if (left < 0) throw tooLarge('takes more steps than a template may', 'Loop over less, or split the file')
  }
  const emitter = {
    buffer: '',
    write(value: unknown) {
      emitter.buffer += writtenText(plain(value), spend)
      if (emitter.buffer.length > maxBytes)
        throw tooLarge(`writes more than ${maxBytes} bytes`, 'Raise limits.fileBytes in the configuration')
    },
  }
  const context = new ValueContext(scopeOf(values, use, text, spend), liquid, spend)
  try {
    toValueSync(liquid.renderer.renderTemplates([...templates], context, emitter))
  } catch (error) {
    throw told(error, text)
  }
  return Buffer.from(emitter.buffer)
}

function tooLarge(message: string, remedy: string): SelectError {
  return new SelectError({ kind: 'too-large', code: 'KEYFERRY_TEMPLATE_LIMIT', message, remedy })
}

/** What went wrong in a rendering, with its place; Liquid's own message may quote values. */
function told(error: unknown, text: string): unknown {
  if (!LiquidError.is(error)) return error
  const { token, originalError } = error
  const expression = clipped(token.getText().replaceAll(/\s+/g, ' '))
  // Whatever fails while a name is looked up bears this name.
  if (error.name === 'UndefinedVariableError' && !(originalError instanceof SelectError))
    return placed(
      new SelectError({
        kind: 'malformed',
        code: 'KEYFERRY_TEMPLATE_NAME',
        message: `"${expression}" is not there`,
        remedy: 'Ask for what may be missing with {% if … %} or the filter default',
      }),
      text,
      token.begin,
    )
  return originalError instanceof SelectError
    ? placed(originalError, text, token.begin, `${expression}: `)
    : (originalError ?? error)
}

function placed(error: SelectError, text: string, at: number, what = ''): SelectError {
  const { kind, code, remedy, message } = error
  const line = text.slice(0, at).split('\n').length
  return new SelectError({ kind, code, remedy, message: `template line ${line}: ${what}${message}` })
}
