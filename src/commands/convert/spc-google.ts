/** Owns classes of `provider: gcp` and `gke`, read with that dialect's own parser. */
import { resultOf } from '../../formats/steps.ts'
import { readEntries, type Entry as GoogleEntry } from '../../providers/gcp/entries.ts'
import { modeText, usableKey, usableVersion, type Entry, type Taken } from './entries.ts'
import type { Field } from './field.ts'
import { literalProperty } from './gjson.ts'
import { entryField, type SpcReading, type SpcResult } from './spc-reading.ts'
import type { StoreHandle } from './stores.ts'

export function convertGoogle(reading: SpcReading): SpcResult {
  const { parameters, plan, book, object: source, given } = reading
  const [output] = plan.outputs
  const { entries: wanted } = resultOf(readEntries(parameters.get('secrets'), []))
  const identity = output?.source.identity ?? 'pod'
  if (identity === 'node')
    given.note(
      'changed',
      "auth: provider-adc is the node's identity: every pod that a rule allows reads with it",
      'Prefer workload identity, or keep the rules of the store narrow',
    )
  const stores = new Set<StoreHandle>()
  const entries = wanted.flatMap((entry) => {
    const field = entryField(reading, 'secrets', entry.line, entry.place.slice('secrets'.length))
    const { project, location, key, version } = nameOf(entry)
    if (!usableKey(field, key) || (version !== undefined && !usableVersion(field, version))) return []
    const backend = entry.resource.kind === 'secret' ? 'gcp-secret-manager' : 'gcp-parameter-manager'
    const settings = {
      project,
      ...(location !== undefined && { location }),
      ...(identity === 'node' && { auth: 'provider-adc' }),
    }
    const hint = [backend, project, location].filter(Boolean).join('-')
    const handle = book.shared(hint, { backend, settings, identity }, source)
    stores.add(handle)
    const taken = { store: handle.name, key, ...(version !== undefined && { version }) }
    return entriesOf(entry, taken, field)
  })
  return { entries, stores }
}

/** The parts of a name whose form the dialect has checked. The current version needs no words. */
function nameOf({ fields, resource }: GoogleEntry) {
  const segments = fields.resourceName.split('/')
  const regional = segments[2] === 'locations'
  const [, key = '', , version = ''] = segments.slice(regional ? 4 : 2)
  const current = resource.kind === 'secret' && version === 'latest'
  return {
    project: segments[1] ?? '',
    location: resource.location,
    key,
    version: current ? undefined : version,
  }
}

function entriesOf({ fields, file, mode }: GoogleEntry, taken: Taken, field: Field): readonly Entry[] {
  const base = {
    ...taken,
    ...(mode !== undefined && { mode: modeText(mode) }),
    ...(fields.optional && { optional: 'true' as const }),
  }
  const decode = fields.decodeBase64 ? { decode: 'base64' as const } : {}
  const picked = fields.jmesPath.map(({ path, objectAlias }): Entry => ({
    path: objectAlias,
    ...base,
    jmesPath: path,
    ...decode,
  }))
  if (fields.stringify)
    field.note(
      'changed',
      'a member that is no text is written as JSON in its own order of members',
      'Nothing, for a reader of JSON',
    )
  if (fields.extractAll) {
    const { key, ...rest } = base
    field.note('changed', 'all members are taken of JSON only, not of YAML', 'Store the payload as JSON')
    return [{ ...rest, expand: { key, ...(file !== '' && { into: file }) } }, ...picked]
  }
  if (fields.extractYAMLKey !== '') {
    field.note(
      'lost',
      'a key of a YAML payload cannot be chosen: payloads are read as JSON only',
      'Store the payload as JSON, or keep this class beside the new one',
    )
    return picked
  }
  if (file === '') return picked
  const property = fields.extractJSONKey === '' ? {} : { property: literalProperty(fields.extractJSONKey) }
  return [{ path: file, ...base, ...property, ...decode }, ...picked]
}
