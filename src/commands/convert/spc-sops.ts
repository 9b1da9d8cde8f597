/** Owns classes of `provider: sops` that name a document on the node; their plan says all there is to know. */
import type { Output } from '../../providers/adapter.ts'
import { parsePath } from '../../providers/sops/pointer.ts'
import type { SopsRef } from '../../providers/sops/ref.ts'
import { modeText, usableKey, type Entry } from './entries.ts'
import type { Field } from './field.ts'
import { literalProperty } from './gjson.ts'
import { DEFAULT_MODE, type SpcReading, type SpcResult } from './spc-reading.ts'

const OWN_CLASS = 'Keep this class: provider: sops is ours'

export function convertSops({ plan, book, object: source, fields, given }: SpcReading): SpcResult {
  const none: SpcResult = { entries: [], stores: new Set() }
  const [first] = plan.outputs
  if (first === undefined) return none
  const ref = first.source.ref as SopsRef
  const field = fields.get('sopsFile') ?? given
  if (!('file' in ref.source)) {
    given.note('lost', 'a document inside the class has no counterpart', OWN_CLASS)
    return none
  }
  const { file } = ref.source
  const fault = documentFault(ref, file)
  if (fault !== undefined) {
    field.note('lost', fault, OWN_CLASS)
    return none
  }
  if (!usableKey(field, file)) return none
  const handle = book.shared('sops', { backend: 'sops', settings: {}, identity: 'pod' }, source)
  const entries = plan.outputs.flatMap(
    (output) => entryOf(output, { store: handle.name, key: file }, given) ?? [],
  )
  return { entries, stores: new Set([handle]) }
}

function documentFault({ format, keyIdentity, allowCleartext }: SopsRef, file: string): string | undefined {
  if (file.endsWith('/')) return 'a directory of documents has no counterpart'
  if (format !== undefined) return 'sopsFormat has no counterpart: the suffix of the file says the format'
  if (keyIdentity !== 'offline') return `keyIdentity ${keyIdentity} has no counterpart`
  if (allowCleartext) return 'allowCleartext has no counterpart'
  return undefined
}

function entryOf(
  output: Output,
  taken: { readonly store: string; readonly key: string },
  field: Field,
): Entry | undefined {
  const { take } = output.source.ref as SopsRef
  const lost = (message: string): undefined =>
    field.note('lost', `"${output.object.slice(0, 100)}": ${message}`, OWN_CLASS)
  const base = {
    ...(output.mode !== DEFAULT_MODE && { mode: modeText(output.mode) }),
    ...(output.optional && { optional: 'true' as const }),
  }
  if (output.kind === 'expand') {
    const { store, key } = taken
    field.note(
      'changed',
      'members that are no text are written as JSON writes them',
      'Nothing, where the members are texts',
    )
    return { store, ...base, expand: { key } }
  }
  if (output.kind !== 'file') return undefined
  if (take.what === 'whole') return { path: output.path, ...taken, ...base }
  if (take.what !== 'value' || take.format !== 'raw')
    return lost('a part of the document written in a format has no counterpart')
  if (take.document !== 0) return lost('only the first YAML document of a file can be asked for')
  const steps = parsePath(take.path) ?? []
  if (steps.length === 0) return lost('the root of a document has no counterpart')
  const property = steps
    .map((step) =>
      'position' in step ? String(step.position) : literalProperty('key' in step ? step.key : step.either),
    )
    .join('.')
  const decode = take.encoding === 'utf-8' ? {} : { decode: take.encoding }
  return { path: output.path, ...taken, property, ...decode, ...base }
}
