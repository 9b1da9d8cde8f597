/** Owns putting the list of service accounts that may mount a document into it, encrypted (sops A11.2). */
import { entryOf, text, type MapTree } from '../tree.ts'
import type { Format } from '../stores/store.ts'
import type { Selection } from './encryption-rule.ts'
import { WriteError } from './error.ts'

export const BINDING_KEY = 'csi_bind'
const INI_SECTION = 'DEFAULT'

/** @throws WriteError `usage` when `subject` is no `namespace/serviceaccount`, either of them possibly `*`. */
export function checkSubject(subject: string): void {
  const segment = String.raw`(?:\*|[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)`
  if (!new RegExp(`^${segment}/${segment}$`).test(subject)) {
    throw new WriteError(
      'usage',
      `${JSON.stringify(subject.slice(0, 120))} is no NAMESPACE/SERVICEACCOUNT`,
      'Write `--bind payments/api`, or `--bind "payments/*"` for every service account of the namespace.',
    )
  }
}

/** Mapping keys under which the binding stands. */
export function bindingPath(format: Format): readonly string[] {
  return format === 'ini' ? [INI_SECTION, BINDING_KEY] : [BINDING_KEY]
}

function prepend(map: MapTree, subjects: readonly string[]): MapTree {
  if (entryOf(map, BINDING_KEY) !== undefined) {
    throw new WriteError(
      'usage',
      `the input has a key "${BINDING_KEY}" already`,
      'Leave it out: --bind writes it.',
    )
  }
  return { type: 'map', entries: [{ key: BINDING_KEY, value: text(subjects.join(',')) }, ...map.entries] }
}

/**
 * The first document with the binding as its first key.
 * @throws WriteError when the format cannot carry one, or the rule would leave it in clear.
 */
export function withBinding(
  document: MapTree,
  format: Format,
  subjects: readonly string[],
  isEncrypted: Selection,
): MapTree {
  for (const subject of subjects) checkSubject(subject)
  if (format === 'binary') {
    throw new WriteError(
      'usage',
      'a binary document cannot carry a binding',
      'Use --format yaml, or --unbound with an identity that the operator maps to the namespace.',
    )
  }
  if (!isEncrypted(bindingPath(format))) {
    throw new WriteError(
      'usage',
      `the rule of .sops.yaml leaves "${BINDING_KEY}" in clear, and a clear binding is refused at mount time`,
      'Widen the rule so that it encrypts that key.',
    )
  }
  if (format !== 'ini') return prepend(document, subjects)
  const [first, ...rest] = document.entries
  const isDefault = first?.key === INI_SECTION && first.value.type === 'map'
  const section: MapTree =
    isDefault && first.value.type === 'map' ? first.value : { type: 'map', entries: [] }
  return {
    type: 'map',
    entries: [
      { key: INI_SECTION, value: prepend(section, subjects) },
      ...(isDefault ? rest : document.entries),
    ],
  }
}
