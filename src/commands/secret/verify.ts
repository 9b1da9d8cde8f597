/** Owns the verb `keyferry secret verify`. */
import type { Command } from 'commander'
import {
  listDocuments,
  openStore,
  parseSecretName,
  requireDocument,
} from '../../providers/sops/store/directory.ts'
import { requireKeyRing } from '../../providers/sops/store/identity-files.ts'
import { verifyDocument, type Verdict } from '../../providers/sops/store/inspect.ts'
import { DEFAULT_IDENTITIES, verb, withIdentity } from './options.ts'
import { asWriteError, runVerb, type CommonOptions } from './run.ts'

interface Options extends CommonOptions {
  readonly identity: readonly string[]
}

const HELP = `
Opens every secret (or those named), checks its integrity and that its binding names a service account
of its own namespace. Exit code 5 when one is not sound. Run it with the recovery identity once a
quarter: that is the drill for the day when the other one is lost.

  keyferry secret verify
  keyferry secret verify --identity ./recovery.agekey
`

function line({ name, sound, problems, staleRecipients }: Verdict): string {
  const stale = staleRecipients ? '; recipients differ from .sops.yaml: run `keyferry secret rekey`' : ''
  return sound ? `${name} ok${stale}` : `${name} NOT SOUND: ${problems.join('; ')}`
}

async function verify(names: readonly string[], options: Options): Promise<void> {
  await runVerb('verify', names.join(','), options, async () => {
    const store = openStore(options.root)
    const ring = await requireKeyRing(options.identity, DEFAULT_IDENTITIES)
    const documents =
      names.length === 0
        ? await listDocuments(store)
        : await Promise.all(names.map((name) => requireDocument(store, parseSecretName(name))))
    const verdicts: Verdict[] = []
    for (const document of documents) {
      verdicts.push(await verifyDocument(store, document, ring, (error) => asWriteError(error).message))
    }
    return {
      json: verdicts,
      lines: verdicts.length === 0 ? ['no secrets'] : verdicts.map(line),
      unsound: verdicts.some(({ sound }) => !sound),
    }
  })
}

/** `keyferry secret verify` */
export function verifyCommand(): Command {
  return withIdentity(
    verb('verify', 'check integrity and binding of secrets').argument('[namespace/name...]'),
  )
    .addHelpText('after', HELP)
    .action(verify)
}
