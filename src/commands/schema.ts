/** Owns `keyferry schema`: the published JSON Schemas, printed. */

/** What there is a schema of. */
export type SchemaName = 'config' | 'spc' | 'files' | 'stores'

const LOAD: Readonly<Record<SchemaName, () => Promise<{ default: unknown }>>> = {
  config: () => import('../../schemas/keyferry-config.schema.json', { with: { type: 'json' } }),
  spc: () => import('../../schemas/secretproviderclass.schema.json', { with: { type: 'json' } }),
  files: () => import('../../schemas/keyferry-files.schema.json', { with: { type: 'json' } }),
  stores: () => import('../../schemas/keyferry-stores.schema.json', { with: { type: 'json' } }),
}

/** The text of a schema, as it is in `schemas/`. */
export async function schemaText(name: SchemaName): Promise<string> {
  const { default: schema } = await LOAD[name]()
  return `${JSON.stringify(schema, undefined, 2)}\n`
}
