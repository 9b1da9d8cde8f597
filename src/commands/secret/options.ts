/** Owns the options that several verbs of `keyferry secret` share, and their defaults. */
import { Command, Option } from 'commander'

/** Where the store is unless `--root` says otherwise. */
export const DEFAULT_ROOT = '/var/lib/keyferry/secrets'
/** Where identities are (sops B6, K1). */
export const DEFAULT_IDENTITIES = '/etc/keyferry/identities'

/** Collects an option that may be repeated. */
function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value]
}

/** An option that may be given several times. */
export function repeated(flags: string, description: string): Option {
  return new Option(flags, description).argParser(collect).default([], 'none')
}

/** A verb with the options that all have. */
export function verb(name: string, summary: string): Command {
  return new Command(name)
    .summary(summary)
    .option('--root <dir>', 'directory of the store', DEFAULT_ROOT)
    .option('--json', 'print one JSON value instead of text', false)
    .option('--audit-file <file>', 'append the audit line here (default: .audit.jsonl in the store)')
    .showHelpAfterError('(add --help for examples)')
}

/** The ways values come in. */
export function withInput(command: Command): Command {
  return command
    .addOption(repeated('--from-file <key=path>', 'value of KEY is the content of the file; may be repeated'))
    .addOption(
      repeated('--from-env-file <path>', 'KEY=VALUE lines, verbatim; - is standard input; may be repeated'),
    )
    .option('--trim-newline', 'drop one final line feed of each file and of standard input', false)
}

/** Private keys, for the verbs that open documents. */
export function withIdentity(command: Command): Command {
  return command.addOption(
    repeated(
      '--identity <file>',
      `age or OpenSSH identity file; may be repeated (default: ${DEFAULT_IDENTITIES}/*.agekey)`,
    ),
  )
}
