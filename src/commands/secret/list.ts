/** Owns the verb `keyferry secret list`. */
import type { Command } from 'commander'
import { listDocuments, nameText, openStore, readDocument } from '../../providers/sops/store/directory.ts'
import { publicFacts } from '../../providers/sops/store/inspect.ts'
import { verb } from './options.ts'
import { asWriteError, runVerb, type CommonOptions } from './run.ts'

const HELP = `
Needs no key. Documents that are no SOPS documents are shown with the reason.

  keyferry secret list
  keyferry secret list --json
`

async function list(options: CommonOptions): Promise<void> {
  await runVerb('list', '', options, async () => {
    const lines: string[] = []
    const json: unknown[] = []
    for (const document of await listDocuments(openStore(options.root))) {
      try {
        const facts = await publicFacts(document, await readDocument(document))
        json.push(facts)
        lines.push(`${facts.name}  ${facts.format}  ${facts.version}  ${facts.lastModified}`)
      } catch (error) {
        const { message } = asWriteError(error)
        json.push({ name: nameText(document), format: document.format, error: message })
        lines.push(`${nameText(document)}  ${document.format}  unreadable: ${message}`)
      }
    }
    return { json, lines: lines.length === 0 ? ['no secrets'] : lines }
  })
}

/** `keyferry secret list` */
export function listCommand(): Command {
  return verb('list', 'show what secrets there are').addHelpText('after', HELP).action(list)
}
