/** Owns what the readers of a SecretStore's provider share. */
import type { Field } from './field.ts'
import type { StoreDefinition } from './stores.ts'

/** What a `remoteRef.key` stands for in a Keyferry store; undefined, with a note, where it stands for nothing there. */
export type KeyReader = (field: Field, key: string) => string | undefined

/** A provider of a SecretStore as a Keyferry store. */
export interface Provider {
  readonly definition: StoreDefinition
  readonly keyOf: KeyReader
}

/** Reads the fields of `spec.provider.<name>`. */
export type ProviderReader = (field: Field) => Provider | undefined

export const POD_IDENTITY =
  'Keyferry asks as the service account of the pod that mounts: give that one the permission, or run the pods as the one named here'
export const AS_POD =
  'this identity is not used: Keyferry reads no Kubernetes Secret, and asks as the pod that mounts'

/** A setting as text, under the name that it has in the Keyferry store. */
export function setting(field: Field | undefined, name: string): Record<string, string> {
  const text = field?.text()
  return text === undefined || text === '' ? {} : { [name]: text }
}

/** Whether an address carries credentials (`https://user:password@host`, or a query), which are never written anywhere. */
export function hasCredentials(address: string): boolean {
  if (!URL.canParse(address)) return /[@?#]/.test(address)
  const { username, password, search, hash } = new URL(address)
  return [username, password, search, hash].some((part) => part !== '')
}

export const CREDENTIALS_IN_ADDRESS = [
  'the address carries credentials, so it is not written',
  'Set address of the store, without them',
] as const
