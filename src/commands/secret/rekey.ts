/** Owns the verb `keyferry secret rekey`. */
import type { Command } from 'commander'
import { readCreationRule } from '../../providers/sops/store/creation-rules.ts'
import {
  changeDocument,
  listDocuments,
  nameText,
  openStore,
  parseSecretName,
} from '../../providers/sops/store/directory.ts'
import { requireKeyRing } from '../../providers/sops/store/identity-files.ts'
import { rekeyDocument } from '../../providers/sops/write/rekey.ts'
import { DEFAULT_IDENTITIES, verb, withIdentity } from './options.ts'
import { runVerb, type CommonOptions } from './run.ts'

interface Options extends CommonOptions {
  readonly identity: readonly string[]
}

const HELP = `
Encrypts the data keys anew to the recipients that .sops.yaml names now; values stay byte for byte.
Without names: every secret. Those that are encrypted to them already are left alone.

  $EDITOR /var/lib/keyferry/secrets/.sops.yaml     # add or remove recipients
  keyferry secret rekey
  keyferry secret rekey payments/db payments/tls --identity ./store.agekey

Removing a recipient does not take back what it could read: old copies in Git and backups still open
with it. Change the values too.
`

async function rekey(names: readonly string[], options: Options): Promise<void> {
  await runVerb('rekey', names.join(','), options, async () => {
    const store = openStore(options.root)
    const chosen = names.length > 0 ? names.map(parseSecretName) : await listDocuments(store)
    const ring = await requireKeyRing(options.identity, DEFAULT_IDENTITIES)
    const done: { name: string; version: string; rekeyed: boolean }[] = []
    for (const name of chosen) {
      const { version = '', written } = await changeDocument(store, name, {
        expect: undefined,
        change: async (current = Buffer.alloc(0), { format, relativePath }) => {
          const { recipients } = await readCreationRule(store.root, relativePath)
          return rekeyDocument(format, current, recipients, ring)
        },
      })
      done.push({ name: nameText(name), version, rekeyed: written })
    }
    return {
      json: done,
      lines: done.map(({ name, version, rekeyed }) =>
        rekeyed ? `${name} rekeyed, version ${version}` : `${name} unchanged`,
      ),
    }
  })
}

/** `keyferry secret rekey` */
export function rekeyCommand(): Command {
  return withIdentity(
    verb('rekey', 'encrypt secrets to the recipients of .sops.yaml').argument('[namespace/name...]'),
  )
    .addHelpText('after', HELP)
    .action(rekey)
}
