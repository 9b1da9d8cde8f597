/** Owns what the Azure folder offers to the registry. */
import type { Adapter } from '../adapter.ts'
import { keyVaultBackend } from './backend.ts'
import { dialect } from './dialect.ts'
import { azureKeyService, KEY_SERVICE, keyServiceSettingsSchema } from './key-service.ts'
import { settingsSchema } from './settings.ts'
import { KEY_VAULT } from './store.ts'

export const adapter: Adapter = {
  dialects: [dialect],
  backends: [{ kind: KEY_VAULT, settingsSchema, create: keyVaultBackend }],
  keyServices: [
    {
      kind: 'azure_kv',
      settingsName: KEY_SERVICE,
      settingsSchema: keyServiceSettingsSchema,
      create: azureKeyService,
    },
  ],
}
