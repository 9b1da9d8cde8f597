/** Owns what the converters write: entries of `files`, as the keyferry dialect reads them, and their checks. */
import { isVersion, keyFault } from '../../providers/keyferry/kinds.ts'
import type { Field } from './field.ts'
import type { OnRevoked } from '../../providers/adapter.ts'
import type { SourceObject } from './documents.ts'
import { allow, type StoreHandle } from './stores.ts'

/** What an entry fetches, and what it takes of it. */
export interface Taken {
  readonly store: string
  readonly key: string
  readonly version?: string
  readonly property?: string
  readonly jmesPath?: string
  readonly decode?: 'base64' | 'base64url' | 'hex'
}

/** One object as one file. */
export interface FileEntry extends Taken {
  readonly path: string
  /** Octal, e.g. `0400`. */
  readonly mode?: string
  readonly optional?: 'true'
}

/** Several objects as one text. */
export interface TemplateEntry {
  readonly path: string
  readonly template: string
  readonly refs: readonly (Taken & { readonly name: string })[]
}

/** One document as many files. */
export interface ExpandEntry {
  readonly store: string
  readonly version?: string
  readonly property?: string
  readonly expand: {
    readonly key: string
    readonly into?: string
    readonly rename?: Readonly<Record<string, string>>
  }
  readonly mode?: string
  readonly optional?: 'true'
}

/** One document of which all members become files. */
export interface Extract {
  readonly taken: Taken
  /** Some of the files have other names than their members. */
  readonly renamed: boolean
}

export type Entry = FileEntry | TemplateEntry | ExpandEntry

/** A class that a source object became. */
export interface ConvertedClass {
  readonly name: string
  /** Undefined where the source names none. */
  readonly namespace: string | undefined
  /** The namespace that the stores are allowed to. */
  readonly usedIn: string
  readonly entries: readonly Entry[]
  /** What the source says of files whose objects are gone. */
  readonly onRevoked?: OnRevoked
  /** Kind, namespace and name of the source, and where it stands. */
  readonly source: { readonly object: string; readonly file: string; readonly line: number }
  /** Stores that the entries name. */
  readonly stores: ReadonlySet<StoreHandle>
}

/** Whether a key can be asked for, and allowed exactly; if not, it is listed at `field`. */
export function usableKey(field: Field, key: string): boolean {
  const fault = key === '' ? 'is empty' : keyFault(key)
  const wide = key.includes('*') ? 'contains *, which a rule of the store would read as a pattern' : undefined
  const reason = fault ?? wide
  if (reason === undefined) return true
  field.lost(
    `the name of the object ${reason}, so it cannot be asked for`,
    'Rename the object in the store, or keep this file where it is',
  )
  return false
}

/** Whether a version can be asked for; if not, it is listed at `field`. */
export function usableVersion(field: Field, version: string): boolean {
  if (isVersion(version)) return true
  field.lost(
    'the version has characters that are not taken',
    'Name a version of letters, digits and _ . : + = @ -',
  )
  return false
}

/** Permission bits as the language writes them. */
export function modeText(mode: number): string {
  return `0${mode.toString(8).padStart(3, '0')}`
}

/** The entries, each left out where its object does not exist. A template needs all of its values. */
export function optionalEntries(entries: readonly Entry[]): readonly Entry[] {
  return entries.map((entry) => ('refs' in entry ? entry : { ...entry, optional: 'true' }))
}

/** The entries without those whose path a later one has: what vendors whose last entry wins would write. */
export function lastOfEachPath(entries: readonly Entry[]): readonly Entry[] {
  const last = new Map(
    entries.flatMap((entry, index) => ('path' in entry ? [[entry.path, index] as const] : [])),
  )
  return entries.filter((entry, index) => !('path' in entry) || last.get(entry.path) === index)
}

/** The class of a source object, for pods of `namespace`. */
export function classOf(
  { root, name, namespace: own }: SourceObject,
  namespace: string,
  entries: readonly Entry[],
  stores: Iterable<StoreHandle>,
  onRevoked?: OnRevoked,
): ConvertedClass {
  const { object, file } = root.origin
  const named = new Set(fetches(entries).map(({ store }) => store))
  const used = new Set([...stores].filter((handle) => named.has(handle.name)))
  const source = { object, file, line: root.place.line }
  return {
    name,
    namespace: own,
    usedIn: namespace,
    entries,
    source,
    stores: used,
    ...(onRevoked && { onRevoked }),
  }
}

/** Lets the namespaces of the classes read what these name, and nothing else. */
export function allowExactly(classes: readonly ConvertedClass[], stores: Iterable<StoreHandle>): void {
  for (const { allowed } of stores) allowed.clear()
  for (const { entries, stores: used, usedIn } of classes) {
    const byName = new Map(Array.from(used, (handle) => [handle.name, handle] as const))
    for (const { store, key } of fetches(entries)) {
      const handle = byName.get(store)
      if (handle) allow(handle, usedIn, key)
    }
  }
}

function fetches(entries: readonly Entry[]): readonly Pick<Taken, 'store' | 'key'>[] {
  return entries.flatMap((entry): readonly Pick<Taken, 'store' | 'key'>[] => {
    if ('refs' in entry) return entry.refs
    return 'expand' in entry ? [{ store: entry.store, key: entry.expand.key }] : [entry]
  })
}
