/** Owns wrapping the data key to age recipients, one armored age file each (sops A10, A20). */
import { armor, Encrypter, type Recipient } from 'age-encryption'
import { WriteError } from './error.ts'
import { sshRecipient } from './ssh-recipient.ts'

/** One entry of the metadata list `age`. */
export interface WrappedKey {
  readonly recipient: string
  /** Armored age file of the 32 bytes. */
  readonly enc: string
}

/** `age1` and 58 characters: X25519. */
const X25519 = /^age1[02-9ac-hj-np-z]{58}$/
const HYBRID = /^age1pq1[02-9ac-hj-np-z]+$/

function refuse(recipient: string): never {
  // An identity in the wrong place must not end in a log: name its kind, never quote it.
  if (recipient.toUpperCase().startsWith('AGE-SECRET-KEY-')) {
    throw new WriteError(
      'usage',
      'a private age identity was given where a recipient belongs',
      'Give its public half, age1…, as `age-keygen -y FILE` prints it. Treat the identity as exposed.',
    )
  }
  throw new WriteError(
    'usage',
    `${JSON.stringify(recipient.slice(0, 24))}… is no recipient that Keyferry can encrypt to`,
    'Recipients are age1… (X25519), age1pq1… (post-quantum hybrid), ssh-ed25519 and ssh-rsa public keys; ' +
      'for plugins and key services write the document with the stock sops tool.',
  )
}

function wrapperFor(recipient: string): string | Recipient {
  if (X25519.test(recipient) || HYBRID.test(recipient)) return recipient
  if (recipient.startsWith('ssh-ed25519 ') || recipient.startsWith('ssh-rsa ')) return sshRecipient(recipient)
  return refuse(recipient)
}

/** The same key in two spellings of an SSH comment is one key. */
export function recipientId(recipient: string): string {
  return recipient.startsWith('ssh-') ? recipient.split(' ', 2).join(' ') : recipient
}

/** @throws WriteError `usage` when `recipient` cannot be encrypted to. */
export function checkRecipient(recipient: string): void {
  const wrapper = wrapperFor(recipient)
  if (typeof wrapper !== 'string') return
  try {
    new Encrypter().addRecipient(wrapper)
  } catch {
    refuse(recipient)
  }
}

/** Wraps the data key to each recipient. @throws WriteError `usage` */
export async function wrapDataKey(
  dataKey: Uint8Array,
  recipients: readonly string[],
): Promise<readonly WrappedKey[]> {
  for (const recipient of recipients) checkRecipient(recipient)
  return Promise.all(
    recipients.map(async (recipient) => {
      const encrypter = new Encrypter()
      encrypter.addRecipient(wrapperFor(recipient))
      return { recipient, enc: armor.encode(await encrypter.encrypt(dataKey)) }
    }),
  )
}
