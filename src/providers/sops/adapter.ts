/** Owns the registration of SOPS: its dialect and its backend. */
import type { Adapter } from '../adapter.ts'
import { sopsBackend } from './backend.ts'
import { BACKEND_KIND, sopsDialect } from './dialect.ts'
import type { KeyService } from './keys/key-service.ts'
import { settingsSchema } from './settings.ts'

/** SOPS with key services (AWS KMS and the like) that other modules bring. */
export function sopsAdapter(services: readonly KeyService[]): Adapter {
  return {
    dialects: [sopsDialect],
    backends: [
      {
        kind: BACKEND_KIND,
        settingsSchema,
        create: (context) => sopsBackend(context, services),
      },
    ],
  }
}

/** SOPS with the keys that this node holds. */
export const adapter: Adapter = sopsAdapter([])
