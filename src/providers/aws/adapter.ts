/** Owns what the AWS folder offers to the registry. */
import type { Adapter } from '../adapter.ts'
import { dialect } from './dialect.ts'
import { kmsKeyService, kmsSettingsSchema } from './kms.ts'
import { PARAMETER_STORE, parameterStoreBackend } from './parameter-store.ts'
import { SECRETS_MANAGER, secretsManagerBackend } from './secrets-manager.ts'
import { settingsSchema } from './settings.ts'

export const adapter: Adapter = {
  dialects: [dialect],
  backends: [
    { kind: SECRETS_MANAGER, settingsSchema, create: secretsManagerBackend },
    { kind: PARAMETER_STORE, settingsSchema, create: parameterStoreBackend },
  ],
  keyServices: [
    { kind: 'kms', settingsName: 'aws-kms', settingsSchema: kmsSettingsSchema, create: kmsKeyService },
  ],
}
