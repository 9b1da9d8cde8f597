/** Owns how a schema of the server becomes JSON Schema, and what is done to the result: tidied, changed, described. */
import { toJsonSchema } from '@valibot/to-json-schema'
import type * as v from 'valibot'
import type { Meanings } from './schema-words.ts'

/** As much of JSON Schema (draft 07, which every editor knows) as is used here. */
export interface JsonSchema {
  [keyword: string]: unknown
  properties?: Record<string, JsonSchema>
  additionalProperties?: boolean | JsonSchema
  items?: JsonSchema
  anyOf?: JsonSchema[]
}

/** The JSON Schema of what may be written. @throws Error for a schema that has none */
export function jsonSchemaOf(schema: v.GenericSchema): JsonSchema {
  const { $schema: _, ...json } = toJsonSchema(schema, {
    typeMode: 'input',
    overrideAction: ({ valibotAction, jsonSchema }) =>
      valibotAction.type === 'check' ? jsonSchema : undefined,
    overrideSchema: ({ valibotSchema }) => unusual(valibotSchema),
  })
  return tidied(json as JsonSchema)
}

/** What the converter does not know, or not well enough. */
function unusual(schema: {
  readonly type: string
  readonly wrapped?: v.GenericSchema
  readonly getter?: Getter
}): JsonSchema | undefined {
  if (schema.type === 'non_optional' && schema.wrapped) return jsonSchemaOf(schema.wrapped)
  return schema.getter && { anyOf: alternatives(schema.getter) }
}

type Getter = (input: unknown) => v.GenericSchema

/** Inputs that make a lazy schema show each of its alternatives. */
const SAMPLES: readonly unknown[] = ['off', {}, { refs: [] }, { expand: {} }, { template: '' }]

function alternatives(getter: Getter): JsonSchema[] {
  const schemas = SAMPLES.map((sample) => jsonSchemaOf(getter(sample)))
  return [...new Map(schemas.map((schema) => [JSON.stringify(schema), schema])).values()]
}

/** Without what says nothing: empty lists of required keys, empty defaults. */
function tidied(schema: JsonSchema): JsonSchema {
  return mapped(schema, (node) => {
    const { required, default: value, ...rest } = node
    return {
      ...rest,
      ...(Array.isArray(required) && required.length > 0 && { required }),
      ...(value !== undefined && JSON.stringify(value) !== '{}' && { default: value }),
    }
  })
}

/** Every schema inside a schema, and itself, changed. */
export function mapped(schema: JsonSchema, change: (node: JsonSchema) => JsonSchema): JsonSchema {
  const inner = (value: JsonSchema): JsonSchema => mapped(value, change)
  const { properties, additionalProperties, items, anyOf } = schema
  return change({
    ...schema,
    ...(properties && {
      properties: Object.fromEntries(Object.entries(properties).map(([key, value]) => [key, inner(value)])),
    }),
    ...(typeof additionalProperties === 'object' && { additionalProperties: inner(additionalProperties) }),
    ...(items && { items: inner(items) }),
    ...(anyOf && { anyOf: anyOf.map(inner) }),
  })
}

/** With the meaning of each key, which `meanings` has under its path: `leases.keep`. */
export function described(schema: JsonSchema, meanings: Meanings, path = ''): JsonSchema {
  const { properties, anyOf } = schema
  const meaning = path === '' ? undefined : meanings.get(path)
  return {
    ...(meaning !== undefined && { description: meaning }),
    ...schema,
    ...(anyOf && { anyOf: anyOf.map((one) => below(one, meanings, path)) }),
    ...(properties && { properties: below(schema, meanings, path).properties }),
  }
}

/** The same for the keys inside, which stand under `path`. */
export function below(schema: JsonSchema, meanings: Meanings, path = ''): JsonSchema {
  const { properties } = schema
  if (!properties) return schema
  const entries = Object.entries(properties).map(([key, value]) => [
    key,
    described(value, meanings, path === '' ? key : `${path}.${key}`),
  ])
  return { ...schema, properties: Object.fromEntries(entries) as Record<string, JsonSchema> }
}

/** What holds where a condition does: the keywords `if` and `then`. */
export function when(condition: JsonSchema, consequence: JsonSchema): JsonSchema {
  const schema = new Map([['if', condition]]).set('then', consequence)
  return Object.fromEntries(schema)
}
