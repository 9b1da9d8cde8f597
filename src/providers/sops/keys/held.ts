/** Owns the type of an identity that the provider holds: a private key and whom it serves (sops A11, B6). */
import type { webcrypto } from 'node:crypto'
import type { Identity as AgeIdentity } from 'age-encryption'
import type { PrivateKey } from 'openpgp'
import type { Subject } from '../subjects.ts'

/** A private key, ready for use. */
export type PrivateIdentity =
  | {
      readonly kind: 'age'
      /** `age1…`, or type and key of an SSH public key: what an entry's `recipient` hints at. */
      readonly recipient: string
      /** What the age library takes: an X25519 key that cannot be exported, a hybrid key's text, or our own. */
      readonly identity: webcrypto.CryptoKey | string | AgeIdentity
    }
  | { readonly kind: 'pgp'; readonly key: PrivateKey }

/** Whom an identity serves. */
export interface Scope {
  /** Callers for whom it may be tried (A11.1). Not used when shared. */
  readonly subjects: readonly Subject[]
  /** Tried for everyone, but opens only documents with a binding (A11.2). */
  readonly shared: boolean
}

export type HeldIdentity = PrivateIdentity & Scope
