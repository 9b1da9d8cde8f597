/** Owns the verb `keyferry secret describe`. */
import type { Command } from 'commander'
import {
  openStore,
  parseSecretName,
  readDocument,
  requireDocument,
} from '../../providers/sops/store/directory.ts'
import { loadKeyRing } from '../../providers/sops/store/identity-files.ts'
import { openedFacts, publicFacts } from '../../providers/sops/store/inspect.ts'
import { DEFAULT_IDENTITIES, verb, withIdentity } from './options.ts'
import { runVerb, type CommonOptions } from './run.ts'

interface Options extends CommonOptions {
  readonly identity: readonly string[]
}

const HELP = `
Shows key names, recipients and the version that a mount reports; with an identity also who may mount
it. Never a value: to read one, use the stock sops tool with the identity.

  keyferry secret describe payments/db
  keyferry secret describe payments/db --identity ./store.agekey
`

async function describe(text: string, options: Options): Promise<void> {
  await runVerb('describe', text, options, async () => {
    const document = await requireDocument(openStore(options.root), parseSecretName(text))
    const bytes = await readDocument(document)
    const facts = await publicFacts(document, bytes)
    const ring = await loadKeyRing(options.identity, DEFAULT_IDENTITIES)
    const opened = ring.identities.length === 0 ? undefined : await openedFacts(document, bytes, ring)
    return {
      version: facts.version,
      json: { ...facts, ...(opened === undefined ? {} : { subjects: opened.subjects }) },
      lines: [
        `name          ${facts.name}`,
        `format        ${facts.format}`,
        `version       ${facts.version}`,
        `lastmodified  ${facts.lastModified}`,
        ...facts.recipients.map((recipient) => `recipient     ${recipient}`),
        ...facts.keys.map((key) => `key           ${key}`),
        ...(opened === undefined
          ? ['binding       unknown without an identity']
          : opened.subjects.length === 0
            ? ['binding       none']
            : opened.subjects.map((subject) => `binding       ${subject}`)),
      ],
    }
  })
}

/** `keyferry secret describe` */
export function describeCommand(): Command {
  return withIdentity(verb('describe', 'show all but the values of a secret').argument('<namespace/name>'))
    .addHelpText('after', HELP)
    .action(describe)
}
