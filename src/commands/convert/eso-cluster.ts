/** Owns ClusterExternalSecrets: one class for each namespace that they name. */
import type { SourceObject } from './documents.ts'
import type { ConvertedClass } from './entries.ts'
import { convertExternalSecret, type StoreFinder } from './eso.ts'

export function convertClusterExternalSecret(
  object: SourceObject,
  find: StoreFinder,
): readonly ConvertedClass[] {
  const { root } = object
  const spec = root.get('spec')
  for (const name of ['namespaceSelector', 'namespaceSelectors'])
    spec
      ?.get(name)
      ?.lost(
        'labels of namespaces are not looked up',
        'Copy the class into the namespaces that are meant, and add them to the rules of the store',
      )
  spec
    ?.get('refreshTime')
    ?.changed('namespaces are not looked for again', 'Add the class to new namespaces with what makes them')
  spec?.get('externalSecretMetadata')?.changed('labels and annotations of a class mean nothing', 'Nothing')
  const name = spec?.get('externalSecretName')?.text() ?? object.name
  const namespaces = (spec?.get('namespaces')?.items() ?? []).flatMap((item) => item.text() ?? [])
  const inner = spec?.get('externalSecretSpec')
  if (namespaces.length === 0) {
    root.ignore()
    root.note(
      'lost',
      'it names no namespace, so there is none to make a class in',
      'List them under namespaces',
    )
    return []
  }
  return [...new Set(namespaces)].flatMap((namespace, index) => {
    const before = root.origin.notes.length
    const made = convertExternalSecret({ ...object, name, namespace }, inner, namespace, find)
    // What is wrong with it is the same everywhere, and told once.
    if (index > 0) root.origin.notes.length = before
    return made ?? []
  })
}
