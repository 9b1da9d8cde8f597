/** Owns classes of `provider: aws`, read with that dialect's own parser. */
import { resultOf } from '../../formats/steps.ts'
import { splitSelector } from '../../providers/aws/names.ts'
import { checkedObjects, type CheckedObject, type JmesEntry } from '../../providers/aws/objects.ts'
import { spcSettings } from '../../providers/aws/parameters.ts'
import { filePath } from '../../providers/aws/names.ts'
import { modeText, usableKey, usableVersion, type Entry, type Taken } from './entries.ts'
import type { Field } from './field.ts'
import { DEFAULT_MODE, entryField, type SpcReading, type SpcResult } from './spc-reading.ts'
import type { StoreHandle } from './stores.ts'

const BACKENDS = { secretsmanager: 'aws-secrets-manager', ssmparameter: 'aws-parameter-store' } as const

export function convertAws(reading: SpcReading): SpcResult {
  const { parameters, book, object: source, fields } = reading
  const settings = spcSettings(parameters, () => undefined)
  const { store, translation } = settings
  if (settings.strictJmesPath)
    fields
      .get('jmesPathStrict')
      ?.note(
        'changed',
        'numbers and booleans that a path finds are written, not refused',
        'Nothing, where the values are texts',
      )
  const objects = resultOf(
    checkedObjects(
      parameters.get('objects') ?? '',
      { region: store.region, failoverRegion: store.failoverRegion, translation, defaultMode: DEFAULT_MODE },
      [],
    ),
  )
  const stores = new Set<StoreHandle>()
  const entries = objects.flatMap((object, index): readonly Entry[] => {
    const field = entryField(reading, 'objects', object.line, `[${index}]`)
    const taken = takenOf(object, field)
    if (taken === undefined) return []
    const backend = BACKENDS[object.type]
    const hint = [backend, store.region, store.assumeRoleArn?.split('/').at(-1)].filter(Boolean).join('-')
    const handle = book.shared(hint, { backend, settings: { ...store }, identity: 'pod' }, source)
    stores.add(handle)
    return entriesOf(object, { store: handle.name, ...taken }, (alias) => filePath(alias, translation), field)
  })
  return { entries, stores }
}

function entriesOf(
  { descriptor, mode, path }: CheckedObject,
  taken: Taken,
  pathOf: (alias: string) => string,
  field: Field,
): readonly Entry[] {
  const decode = descriptor.objectEncoding === 'base64' ? { decode: 'base64' as const } : {}
  const own = descriptor.filePermission === '' ? {} : { mode: modeText(mode) }
  return [
    { path, ...taken, ...decode, ...own },
    ...descriptor.jmesPath.flatMap((entry) => {
      const entryMode =
        entry.filePermission === ''
          ? own
          : { mode: modeText(Number.parseInt(entry.filePermission, 8) & 0o777) }
      return (
        jmesEntry(entry, descriptor.objectEncoding !== '', { ...taken, ...entryMode }, pathOf, field) ?? []
      )
    }),
  ]
}

function jmesEntry(
  { path, objectAlias, objectEncoding }: JmesEntry,
  encoded: boolean,
  taken: Taken & { readonly mode?: string },
  pathOf: (alias: string) => string,
  field: Field,
): Entry | undefined {
  if (path === '*') {
    const { key, ...rest } = taken
    field.note(
      'changed',
      'members that are objects, lists or null become files, too: they were left out',
      'Name the members to take in expand.select, if there are such',
    )
    return { ...rest, expand: { key, ...(objectAlias !== '' && { into: pathOf(objectAlias) }) } }
  }
  if (encoded)
    return field.note(
      'lost',
      'a field of a value that is base64 as a whole cannot be chosen: values are decoded after the choice',
      'Store the value without base64, or keep this class beside the new one',
    )
  return {
    path: pathOf(objectAlias),
    ...taken,
    jmesPath: path,
    ...(objectEncoding === 'base64' && { decode: 'base64' as const }),
  }
}

/** Name and version as the keyferry dialect says them. */
function takenOf({ descriptor, type }: CheckedObject, field: Field): Omit<Taken, 'store'> | undefined {
  const { objectName, objectVersion: version, objectVersionLabel: label, failoverObject } = descriptor
  if (failoverObject.objectName + failoverObject.objectVersion + failoverObject.objectVersionLabel !== '')
    field.note(
      'lost',
      'its failoverObject is not carried over: an object has one name and version in both regions',
      'Give the replica the same name',
    )
  if (type === 'ssmparameter') {
    const { name, selector } = splitSelector(objectName)
    const wanted = version || label || selector
    return checked(field, name, wanted)
  }
  if (version !== '' && label !== '')
    return field.note(
      'lost',
      'a version is named by its id or its label, not by both',
      'Remove objectVersionLabel',
    )
  return checked(field, objectName, version === '' ? label : `uuid/${version}`)
}

function checked(field: Field, key: string, version: string | undefined): Omit<Taken, 'store'> | undefined {
  if (!usableKey(field, key)) return undefined
  if (version && !usableVersion(field, version)) return undefined
  return { key, ...(version && { version }) }
}
