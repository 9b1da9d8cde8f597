/** Owns Cloud KMS of the fake Google: encrypt and decrypt with symmetric keys, bindings checked. */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { Call } from './fake-google.ts'
import type { FakeIdentity } from './fake-identity.ts'
import { apiError, ok } from './fake-reply.ts'
import type { Reply } from './fake-reply.ts'
import { checksum } from './fake-stores.ts'

export class FakeKms {
  readonly #identity: FakeIdentity
  readonly #keys = new Map<string, Buffer>()

  constructor(identity: FakeIdentity) {
    this.#identity = identity
  }

  addKey(name: string, ...members: readonly string[]): void {
    this.#keys.set(name, randomBytes(32))
    for (const member of members) this.#identity.grant(name, member)
  }

  /** Base64 of a ciphertext. */
  encrypt(name: string, plaintext: Buffer): string {
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', this.#keys.get(name) ?? Buffer.alloc(32), nonce)
    const sealed = Buffer.concat([cipher.update(plaintext), cipher.final()])
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64')
  }

  answer(call: Call, path: string): Reply {
    const member = this.#identity.member(call)
    if (typeof member !== 'string') return member
    const at = path.lastIndexOf(':')
    const [name, verb] = [path.slice('/v1/'.length, at), path.slice(at + 1)]
    const key = this.#keys.get(name)
    if (key === undefined || !this.#identity.bindings.get(name)?.has(member))
      return apiError(
        403,
        'PERMISSION_DENIED',
        `Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource '${name}' (or it may not exist).`,
        'IAM_PERMISSION_DENIED',
      )
    const body = JSON.parse(call.body) as { plaintext?: string; ciphertext?: string }
    if (verb === 'encrypt') {
      const plaintext = Buffer.from(body.plaintext ?? '', 'base64')
      return ok({ name: `${name}/cryptoKeyVersions/1`, ciphertext: this.encrypt(name, plaintext) })
    }
    const sealed = Buffer.from(body.ciphertext ?? '', 'base64')
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12))
      decipher.setAuthTag(sealed.subarray(12, 28))
      const plaintext = Buffer.concat([decipher.update(sealed.subarray(28)), decipher.final()])
      return ok({ plaintext: plaintext.toString('base64'), plaintextCrc32c: checksum(plaintext) })
    } catch {
      return apiError(400, 'INVALID_ARGUMENT', 'Decryption failed: the ciphertext is invalid.')
    }
  }
}
