/** Owns the verb `keyferry secret delete`. */
import type { Command } from 'commander'
import { changeDocument, openStore, parseSecretName } from '../../providers/sops/store/directory.ts'
import { verb } from './options.ts'
import { runVerb, type CommonOptions } from './run.ts'

interface Options extends CommonOptions {
  readonly expectVersion?: string
}

const HELP = `
Unlinks the document. Copies in Git and in backups still open with the identity: change the value where
it is used as well. New pods do not start. Pods that run keep their files; with onRevoked: remove, in policy or
in the class, the files of this document are taken away at the next republish.

  keyferry secret delete payments/db
  keyferry secret delete payments/db --expect-version 3f0c9a1be2d47758
`

async function remove(text: string, options: Options): Promise<void> {
  await runVerb('delete', text, options, async () => {
    const name = parseSecretName(text)
    await changeDocument(openStore(options.root), name, {
      expect: options.expectVersion,
      change: () => Promise.resolve(undefined),
    })
    return { json: { name: text, deleted: true }, lines: [`${text} deleted`] }
  })
}

/** `keyferry secret delete` */
export function deleteCommand(): Command {
  return verb('delete', 'remove a secret')
    .argument('<namespace/name>')
    .option('--expect-version <version>', 'only if the document has this version')
    .addHelpText('after', HELP)
    .action(remove)
}
