/** Owns how a `provider: keyferry` SPC names a file of a SOPS document. */
import { PlanError, type Problem, type RefItem } from '../adapter.ts'
import { quoted } from './errors.ts'
import { parsePath } from './pointer.ts'
import { ENCODINGS, EXPANSIONS, OUTPUT_FORMATS, type Encoding, type SopsRef, type Take } from './ref.ts'
import { parseFilePath } from './source.ts'
import { FORMATS, type Format } from './stores/store.ts'

/** Arguments of an object of `provider: keyferry`; the key is a path below a root. */
const ARGUMENTS = new Map<string, readonly string[] | undefined>([
  ['path', undefined],
  ['document', undefined],
  ['encoding', ENCODINGS],
  ['format', OUTPUT_FORMATS],
  ['sopsFormat', FORMATS],
  ['expand', EXPANSIONS],
  ['allowCleartext', ['true', 'false']],
])

/** A ref of the keyferry dialect: `key: payments/db.yaml`, `args: { path: /password }`. */
export function refOf(item: RefItem): SopsRef {
  const problems: Problem[] = []
  const report = (message: string): void => void problems.push({ code: 'INVALID_PARAMETER', message })
  const args = new Map(Object.entries(item.args ?? {}))
  for (const [name, value] of args) {
    const words = ARGUMENTS.get(name)
    if (!ARGUMENTS.has(name))
      report(`sops: unknown argument ${quoted(name)}; known are ${[...ARGUMENTS.keys()].join(', ')}`)
    else if (words?.includes(value) === false) report(`sops: ${name} must be one of ${words.join(', ')}`)
  }
  if (parseFilePath(item.key) === undefined)
    report(`sops: key ${quoted(item.key)} is no clean path below a root`)
  if (item.version !== undefined) report('sops: documents have no versions to choose from')
  const path = args.get('path')
  if (path !== undefined && parsePath(path) === undefined)
    report(`sops: path ${quoted(path)} is no JSON Pointer`)
  const document = args.get('document') ?? '0'
  if (!/^\d{1,4}$/.test(document)) report('sops: document must be the index of a YAML document, from 0')
  if (problems.length > 0) throw new PlanError(problems)
  const format = (args.get('format') ?? 'raw') as (typeof OUTPUT_FORMATS)[number]
  const expansion = args.get('expand') as (typeof EXPANSIONS)[number] | undefined
  const encoding = (args.get('encoding') ?? 'utf-8') as Encoding
  const sopsFormat = args.get('sopsFormat') as Format | undefined
  const isWhole = path === undefined && format === 'raw'
  const take: Take =
    expansion === 'topLevel'
      ? { what: 'expand', expansion }
      : isWhole
        ? { what: 'whole' }
        : { what: 'value', path: path ?? '', document: Number(document), format, encoding }
  return {
    source: { file: item.key },
    ...(sopsFormat === undefined ? {} : { format: sopsFormat }),
    take,
    keyIdentity: 'offline',
    allowCleartext: args.get('allowCleartext') === 'true',
  }
}
