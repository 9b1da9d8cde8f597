/** Owns `keyferry secret`: the command line that writes SOPS documents, and never reads a value out (sops B2). */
import { Command } from 'commander'
import { deleteCommand } from './secret/delete.ts'
import { describeCommand } from './secret/describe.ts'
import { initCommand } from './secret/init.ts'
import { listCommand } from './secret/list.ts'
import { putCommand } from './secret/put.ts'
import { rekeyCommand } from './secret/rekey.ts'
import { sealCommand } from './secret/seal.ts'
import { verifyCommand } from './secret/verify.ts'

const HELP = `
A store is a directory of SOPS documents on the node, one a secret: <root>/<namespace>/<name>.yaml.
Writing needs public keys only. No verb prints a value; the stock sops tool with the identity does.

First steps:
  keyferry secret init --recovery-recipient age1…
  pass show db | keyferry secret put payments/db --bind payments/api --trim-newline
  keyferry secret verify

Exit codes: 0 done, 1 failed, 2 wrong use, 3 not found, 4 conflict, 5 integrity, 6 permission.
`

/** Commander ends the process itself; wrong use must end it with 2. */
function exitOnUsage(command: Command): Command {
  return command.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
}

/** The command with its verbs, to be added to the program. */
export function secretCommand(): Command {
  const command = exitOnUsage(new Command('secret'))
    .summary('write encrypted secrets')
    .description('Write SOPS documents: into the store on this node, or as a SecretProviderClass for Git.')
    .addHelpText('after', HELP)
  const verbs = [
    initCommand(),
    putCommand(),
    sealCommand(),
    listCommand(),
    describeCommand(),
    rekeyCommand(),
    deleteCommand(),
    verifyCommand(),
  ]
  for (const verb of verbs) command.addCommand(exitOnUsage(verb))
  return command
}
