/** Owns what the Google folder offers to the registry. */
import type { Adapter } from '../adapter.ts'
import { dialect } from './dialect.ts'
import { gcpKmsKeyService, kmsSettingsSchema } from './kms.ts'
import { parameterManagerBackend } from './parameter-manager.ts'
import { PARAMETER_MANAGER, SECRET_MANAGER } from './resources.ts'
import { secretManagerBackend } from './secret-manager.ts'
import { settingsSchema } from './settings.ts'

export const adapter: Adapter = {
  dialects: [dialect],
  backends: [
    { kind: SECRET_MANAGER, settingsSchema, create: secretManagerBackend },
    { kind: PARAMETER_MANAGER, settingsSchema, create: parameterManagerBackend },
  ],
  keyServices: [
    { kind: 'gcp_kms', settingsName: 'gcp-kms', settingsSchema: kmsSettingsSchema, create: gcpKmsKeyService },
  ],
}
