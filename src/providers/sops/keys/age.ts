/** Owns opening an age entry of a document with the held identities (sops A10). */
import { armor, Decrypter } from 'age-encryption'
import { withinLimit, type Limits } from '../limits.ts'
import type { HeldIdentity } from './held.ts'

export type HeldAge = Extract<HeldIdentity, { kind: 'age' }>

/** The first two words: an SSH public key keeps its comment in `recipient`. */
export function recipientHint(recipient: string): string {
  return recipient.split(' ', 2).join(' ')
}

/** Types of the stanzas in an age header; the payload is binary and is not looked at. */
function stanzaTypes(file: Uint8Array): readonly string[] {
  const types: string[] = []
  const text = Buffer.from(file).toString('latin1')
  for (let at = 0; at < text.length;) {
    const end = text.indexOf('\n', at)
    const line = text.slice(at, end === -1 ? text.length : end)
    if (line.startsWith('---')) break
    if (line.startsWith('-> ')) types.push(line.split(' ', 2)[1] ?? '')
    if (end === -1) break
    at = end + 1
  }
  return types
}

/**
 * Decrypts an armored age file with the first identity that fits; those whose recipient is hinted at
 * are tried first.
 * @returns the plaintext, or a phrase why not
 * @throws BackendError `LIMIT_EXCEEDED` for too many stanzas
 */
export async function unwrapAge(
  enc: string,
  recipient: string,
  identities: readonly HeldAge[],
  limits: Limits,
): Promise<Buffer | string> {
  let file: Uint8Array
  try {
    file = armor.decode(enc)
  } catch {
    return 'its armor is damaged'
  }
  const types = stanzaTypes(file)
  withinLimit(limits, 'stanzas', types.length)
  // The work factor of a passphrase stanza is the document's to choose, so none is ever tried.
  if (types.includes('scrypt')) return 'it is protected by a passphrase, which is refused'
  const hint = recipientHint(recipient)
  const sorted = [
    ...identities.filter((held) => held.recipient === hint),
    ...identities.filter((held) => held.recipient !== hint),
  ]
  const decrypter = new Decrypter()
  for (const { identity } of sorted) decrypter.addIdentity(identity)
  try {
    return Buffer.from(await decrypter.decrypt(file))
  } catch {
    return 'no held identity fits'
  }
}
