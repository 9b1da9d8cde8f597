/** Owns the registration of SOPS: its dialect and its backend. */
import type { Adapter } from '../adapter.ts'
import { sopsBackend } from './backend.ts'
import { BACKEND_KIND, sopsDialect } from './dialect.ts'
import { settingsSchema } from './settings.ts'

export const adapter: Adapter = {
  dialects: [sopsDialect],
  backends: [{ kind: BACKEND_KIND, settingsSchema, create: sopsBackend }],
}
