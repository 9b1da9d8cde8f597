/** Owns what the registry loads for HashiCorp Vault and OpenBao. */
import type { Adapter } from '../adapter.ts'
import { vaultFactory } from './backend.ts'
import { openbaoDialect, vaultDialect } from './dialect.ts'
import { transitFactory } from './transit.ts'

export const adapter: Adapter = {
  dialects: [vaultDialect, openbaoDialect],
  backends: [vaultFactory],
  keyServices: [transitFactory],
}
