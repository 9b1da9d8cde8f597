/**
 * Owns a look into the serving process: provider `prototype` mounts the names that Object.prototype,
 * Array.prototype and an empty object have there (T16).
 */
import { SecretBytes, type Adapter } from 'keyferry/adapter'
import * as v from 'valibot'

function names(): string {
  const inherited: string[] = []
  for (const name in {}) inherited.push(name)
  return JSON.stringify({
    object: Reflect.ownKeys(Object.prototype).map(String),
    array: Reflect.ownKeys(Array.prototype).length,
    inherited,
  })
}

export const adapter: Adapter = {
  backends: [
    {
      kind: 'prototype',
      create: () => ({
        kind: 'prototype',
        storeSchema: v.strictObject({}),
        ref: ({ key }) => key,
        refKey: String,
        resolve: async (_store, refs) =>
          refs.map(() => ({ bytes: SecretBytes.copyOf(names()), version: '1' })),
      }),
    },
  ],
  dialects: [
    {
      name: 'prototype',
      needs: {},
      plan: ({ parameters, defaultMode }) => ({
        outputs: [
          {
            kind: 'file',
            path: 'names',
            object: 'names',
            mode: defaultMode,
            source: { backend: 'prototype', store: {}, identity: 'pod', ref: parameters.get('round') ?? '' },
          },
        ],
      }),
    },
  ],
}
