/** Owns SecretProviderClasses of vendors as classes of `provider: keyferry`: what all vendors have in common. */
import { planNow } from '../../mount/planner.ts'
import { PlanError, type Dialect, type Plan, type Problem } from '../../providers/adapter.ts'
import { convertAws } from './spc-aws.ts'
import { convertAzure } from './spc-azure.ts'
import { convertGoogle } from './spc-google.ts'
import { convertSops } from './spc-sops.ts'
import { convertVault } from './spc-vault.ts'
import type { SourceObject } from './documents.ts'
import { classOf, lastOfEachPath, type ConvertedClass } from './entries.ts'
import { listRest, type Field } from './field.ts'
import { DEFAULT_MODE, type SpcReading, type VendorConverter } from './spc-reading.ts'
import type { StoreBook } from './stores.ts'

const VENDORS: ReadonlyMap<string, VendorConverter> = new Map<string, VendorConverter>([
  ['aws', convertAws],
  ['azure', convertAzure],
  ['gcp', convertGoogle],
  ['gke', convertGoogle],
  ['vault', convertVault],
  ['openbao', convertVault],
  ['sops', convertSops],
])

/** The class of a vendor's class; undefined, with the reason listed, where nothing of it can be carried over. */
export async function convertSpc(
  object: SourceObject,
  namespace: string,
  book: StoreBook,
  dialectOf: (provider: string) => Promise<Dialect>,
): Promise<ConvertedClass | undefined> {
  const { root } = object
  const spec = root.get('spec')
  const provider = spec?.get('provider')
  const name = provider?.text() ?? ''
  if (name === 'keyferry') {
    root.ignore()
    return root.note('changed', 'it is of provider keyferry already', 'Nothing: it was left where it is')
  }
  const convert = VENDORS.get(name)
  const given = spec?.get('parameters')
  if (convert === undefined || given === undefined) {
    root.ignore()
    return (provider ?? root).note(
      'lost',
      given === undefined ? 'the class has no parameters' : 'classes of this provider are not known',
      `Providers that are: ${[...VENDORS.keys()].join(', ')}`,
    )
  }
  spec
    ?.get('secretObjects')
    ?.lost(
      'copies in Kubernetes Secrets are not carried over',
      'Let the pods read the files; or copy secretObjects into the class: the driver makes them whatever the provider is, and the files have the same names',
    )
  const fields = given.entries()
  const parameters = new Map(Array.from(fields, ([key, field]) => [key, field.text() ?? ''] as const))
  given.ignore()
  const dialect = await dialectOf(name)
  const planned = plan(dialect, name, parameters, namespace)
  if ('problems' in planned) {
    for (const problem of planned.problems) problemNote(problem, fields, given)
    return undefined
  }
  const reading: SpcReading = {
    provider: name,
    parameters,
    fields,
    given,
    book,
    object: root.origin.object,
    plan: planned,
  }
  const { entries, stores } = convert(reading)
  listRest(root)
  const kept = lastOfEachPath(entries)
  if (kept.length === 0)
    return root.note('lost', 'nothing of it can be carried over', 'See what else is listed of it')
  return classOf(object, namespace, kept, stores, planned.onRevoked)
}

/** The server's own plan, so that a class with faults is not carried over half. */
function plan(
  dialect: Dialect,
  provider: string,
  parameters: ReadonlyMap<string, string>,
  namespace: string,
): Plan | { readonly problems: readonly Problem[] } {
  const { nodePublishKeys: keys = [] } = dialect.needs
  const request = {
    pod: { name: 'pod', namespace, uid: '00000000-0000-0000-0000-000000000000', serviceAccount: 'default' },
    parameters,
    defaultMode: DEFAULT_MODE,
    provider,
  }
  try {
    try {
      return planNow(dialect, { ...request, nodePublishKeys: new Set() })
    } catch (error) {
      if (!(error instanceof PlanError) || keys.length === 0) throw error
      return planNow(dialect, { ...request, nodePublishKeys: new Set(keys) })
    }
  } catch (error) {
    if (error instanceof PlanError) return { problems: error.problems }
    throw error
  }
}

function problemNote(
  { code, message, remedy, parameter, line }: Problem,
  fields: ReadonlyMap<string, Field>,
  given: Field,
): void {
  const field = fields.get(parameter ?? '') ?? given
  const at = line === undefined ? field : field.line(line, '')
  at.note(
    'lost',
    `the class has a fault: ${code}: ${message}`,
    remedy ?? 'Correct it: keyferry lint shows the same',
  )
}
