/** Owns the binding of a document to service accounts: `csi_bind` (sops A11.2). */
import type { BackendError } from '../adapter.ts'
import { sopsError } from './errors.ts'
import type { OpenedDocument } from './open.ts'
import { isEveryone, matchesSubject, parseSubject, type Caller } from './subjects.ts'
import type { Entry, MapTree, Tree } from './tree.ts'

const BIND = 'csi_bind'
const INI_SECTION = 'DEFAULT'

/** One reply for every way of not being meant, so that it tells nothing (A11, T19). */
export function notBound(): BackendError {
  return sopsError(
    'NOT_BOUND',
    'this document is not for this service account',
    'Encrypt it with `csi_bind: <namespace>/<serviceaccount>` inside, or use an identity of the namespace.',
  )
}

/** Values under the binding key. INI keeps it in the section DEFAULT, of which there may be several. */
export function bindingsOf(document: OpenedDocument): readonly Tree[] {
  const [first] = document.branches
  const maps: readonly Tree[] =
    document.format === 'ini'
      ? (first?.entries ?? []).filter((entry) => entry.key === INI_SECTION).map((entry) => entry.value)
      : first === undefined
        ? []
        : [first]
  return maps.flatMap((map) =>
    map.type === 'map' ? map.entries.filter((entry) => entry.key === BIND).map((entry) => entry.value) : [],
  )
}

/**
 * Refuses a caller for whom a document is not meant. A document that was opened with a shared
 * identity must have a binding; a binding that is there always counts.
 * @param allowEveryone whether policy lets a binding name every service account
 * @throws BackendError `NOT_BOUND`
 */
export function requireBinding(document: OpenedDocument, caller: Caller, allowEveryone: boolean): void {
  const bindings = bindingsOf(document)
  const [binding] = bindings
  if (binding === undefined) {
    if (document.usedShared) throw notBound()
    return
  }
  // In clear neither the key's name nor the edges of the value are authenticated (A14).
  if (bindings.length > 1 || binding.type !== 'str' || document.clear.has(binding)) throw notBound()
  const subjects = binding.bytes
    .toString()
    .split(',')
    .map((text) => parseSubject(text.trim()))
  const isMeant = subjects.some(
    (subject) =>
      subject !== undefined && (allowEveryone || !isEveryone(subject)) && matchesSubject(subject, caller),
  )
  if (!isMeant) throw notBound()
}

/** The branches without the binding, which is never projected. */
export function withoutBinding(document: OpenedDocument): readonly MapTree[] {
  const strip = (map: MapTree): MapTree => ({
    type: 'map',
    entries: map.entries.filter((entry) => entry.key !== BIND),
  })
  return document.branches.map((branch, index): MapTree => {
    if (index > 0) return branch
    if (document.format !== 'ini') return strip(branch)
    const entries = branch.entries.map((entry): Entry =>
      entry.key === INI_SECTION && entry.value.type === 'map'
        ? { key: entry.key, value: strip(entry.value) }
        : entry,
    )
    return { type: 'map', entries }
  })
}
