/** Owns the verb `keyferry secret init`. */
import type { Command } from 'commander'
import { initStore } from '../../providers/sops/store/init.ts'
import { WriteError } from '../../providers/sops/write/error.ts'
import { DEFAULT_IDENTITIES, repeated, verb } from './options.ts'
import { runVerb, type CommonOptions } from './run.ts'

interface Options extends CommonOptions {
  readonly identityFile: string
  readonly recoveryRecipient: readonly string[]
  readonly withoutRecovery: boolean
  readonly postQuantum: boolean
}

const HELP = `
Makes the directory (0700), an age identity in a file of its own (0400, outside the directory) and
.sops.yaml, which names the public keys that new secrets are encrypted to. Overwrites nothing.

If the identity is lost, so is every secret. Give the public key of a second identity that you keep
offline, e.g. on paper in a safe:

  age-keygen -o recovery.agekey            # on another machine; prints "Public key: age1…"
  keyferry secret init --recovery-recipient age1…

For a store whose documents go to Git, add --post-quantum (and age-keygen -pq for the recovery key):
what is committed today can be attacked for decades.
`

async function init(options: Options): Promise<void> {
  await runVerb('init', '', options, async () => {
    const recovery = options.recoveryRecipient
    if ((recovery.length === 0) !== options.withoutRecovery) {
      throw new WriteError(
        'usage',
        recovery.length === 0
          ? 'no recovery recipient is given: a lost identity would lose every secret'
          : '--recovery-recipient and --without-recovery exclude each other',
        'Give --recovery-recipient age1… (its private half offline), or accept the loss with --without-recovery.',
      )
    }
    const made = await initStore({
      root: options.root,
      identityFile: options.identityFile,
      recoveryRecipients: recovery,
      postQuantum: options.postQuantum,
      now: new Date(),
    })
    return {
      json: made,
      lines: [
        `store      ${made.root}`,
        `identity   ${made.identityFile}   (private: back it up, keep it out of the store and out of Git)`,
        `recipient  ${made.recipient}`,
        ...made.recipients.slice(1).map((recipient) => `recovery   ${recipient}`),
        ...(recovery.length === 0
          ? ['recovery   none: whoever loses the identity file loses every secret']
          : []),
      ],
    }
  })
}

/** `keyferry secret init` */
export function initCommand(): Command {
  return verb('init', 'make a store and the key that opens it')
    .option('--identity-file <file>', 'where the private key goes', `${DEFAULT_IDENTITIES}/store.agekey`)
    .addOption(repeated('--recovery-recipient <key>', 'public key kept offline; may be repeated'))
    .option('--without-recovery', 'accept that a lost identity loses every secret', false)
    .option('--post-quantum', 'make a hybrid identity (X25519 and ML-KEM-768)', false)
    .addHelpText('after', HELP)
    .action(init)
}
