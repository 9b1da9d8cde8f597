/**
 * Owns the interface through which a network key service unwraps a data key (sops A10). Vendor
 * modules bring implementations; the backend is handed them, so that no vendor imports another.
 */
import type { Host } from '../../adapter.ts'
import type { MasterKey } from '../metadata.ts'

/** Kinds of master key that need a service. */
export const SERVICE_KINDS = ['kms', 'gcp_kms', 'azure_kv', 'hc_vault'] as const
export type ServiceKind = (typeof SERVICE_KINDS)[number]

/** Unwraps entries of one kind. */
export interface KeyService<Kind extends ServiceKind = ServiceKind> {
  readonly kind: Kind
  /**
   * Asks the service for the plaintext of an entry, with the host's identity. Every address in the
   * entry is hostile: nothing may be sent to one that the operator has not listed.
   * @param version SOPS version that wrote the document (AWS contexts before 3.3.0, A10)
   * @returns 32 bytes, or 33 of a share; the caller checks
   * @throws BackendError; `unavailable`, `timeout` and `throttled` are reported as transient
   */
  unwrap(entry: Extract<MasterKey, { kind: Kind }>, host: Host, version: string): Promise<Buffer>
}
