/** Owns what can be said about a stored document: without a key, and with one (sops B2 `list`, `describe`, `verify`). */
import { bindingsOf } from '../binding.ts'
import { strictUtf8 } from '../encodings.ts'
import type { KeyRing } from '../keys/data-key.ts'
import { closeDocument, openDocument, readDocument as parseDocument, type OpenedDocument } from '../open.ts'
import { parseSubject } from '../subjects.ts'
import { isScalar, type MapTree } from '../tree.ts'
import { BINDING_KEY } from '../write/binding.ts'
import { ageRecipients, sameRecipients } from '../write/rekey.ts'
import { documentVersion, nameText, readDocument, type Store, type StoredDocument } from './directory.ts'
import { readCreationRule } from './creation-rules.ts'

/** What anybody can read off a document. Key names are in clear in every SOPS document. */
export interface PublicFacts {
  readonly name: string
  readonly format: string
  readonly version: string
  readonly lastModified: string
  /** age recipients, and for other kinds of keys their kind. */
  readonly recipients: readonly string[]
  /** Top-level keys; INI: `section/key`. Without the binding. */
  readonly keys: readonly string[]
}

function keysOf(format: StoredDocument['format'], branch: MapTree | undefined): readonly string[] {
  const entries = branch?.entries ?? []
  const names = entries.flatMap(({ key, value }) =>
    format === 'ini' && !isScalar(value) && value.type === 'map'
      ? value.entries.map((entry) => (key === 'DEFAULT' ? entry.key : `${key}/${entry.key}`))
      : [key],
  )
  return names.filter((name) => name !== BINDING_KEY)
}

/** @throws BackendError when the bytes are no SOPS document. */
export async function publicFacts(document: StoredDocument, bytes: Buffer): Promise<PublicFacts> {
  const { branches, metadata } = await parseDocument(document.format, bytes)
  const others = metadata.groups.flat().flatMap((key) => (key.kind === 'age' ? [] : [`(${key.kind})`]))
  return {
    name: nameText(document),
    format: document.format,
    version: documentVersion(bytes),
    lastModified: metadata.lastModified,
    recipients: [...ageRecipients(metadata), ...others],
    keys: keysOf(document.format, branches[0]),
  }
}

/** The subjects of an opened document, or why its binding is none; undefined when it has no binding. */
function subjectsOf(document: OpenedDocument): readonly string[] | string | undefined {
  const [binding, ...more] = bindingsOf(document)
  if (binding === undefined) return undefined
  if (more.length > 0) return 'it has several bindings, so it is refused at mount time'
  if (binding.type !== 'str' || document.clear.has(binding)) {
    return 'its binding is not encrypted, so it is refused at mount time'
  }
  return (strictUtf8(binding.bytes) ?? '').split(',').map((subject) => subject.trim())
}

/** What an identity shows, apart from the values. */
export interface OpenedFacts {
  /** Service accounts that may mount it; empty when it carries no binding. */
  readonly subjects: readonly string[]
  /** Why it would not mount, or not as meant; empty when all is well. */
  readonly problems: readonly string[]
}

function bindingProblems(
  namespace: string,
  subjects: readonly string[] | string | undefined,
): readonly string[] {
  if (subjects === undefined) return []
  if (typeof subjects === 'string') return [subjects]
  const parsed = subjects.map(parseSubject)
  if (parsed.includes(undefined)) return ['its binding is no list of NAMESPACE/SERVICEACCOUNT']
  const isReachable = parsed.some((s) => s?.namespace === '*' || s?.namespace === namespace)
  return isReachable
    ? []
    : [`its binding names no service account of namespace ${namespace}, so no pod can mount it from here`]
}

/**
 * Opens a document and checks MAC and binding. Values are wiped before this returns.
 * @throws BackendError when it does not open or its MAC does not hold.
 */
export async function openedFacts(
  document: StoredDocument,
  bytes: Buffer,
  ring: KeyRing,
): Promise<OpenedFacts> {
  const opened = await openDocument(document.format, bytes, ring)
  try {
    const subjects = subjectsOf(opened)
    return {
      subjects: typeof subjects === 'object' ? subjects : [],
      problems: bindingProblems(document.namespace, subjects),
    }
  } finally {
    closeDocument(opened)
  }
}

/** One line of `verify`. */
export interface Verdict {
  readonly name: string
  /** False: it does not open, was changed, or cannot be mounted from here. */
  readonly sound: boolean
  readonly problems: readonly string[]
  /** It mounts, but is not encrypted to exactly the recipients of `.sops.yaml` (T31: the recovery key!). */
  readonly staleRecipients: boolean
}

/** Checks one document. Only failures of the machine are thrown. */
export async function verifyDocument(
  store: Store,
  document: StoredDocument,
  ring: KeyRing,
  describeFailure: (error: unknown) => string,
): Promise<Verdict> {
  const name = nameText(document)
  try {
    const bytes = await readDocument(document)
    const { metadata } = await parseDocument(document.format, bytes)
    const { problems } = await openedFacts(document, bytes, ring)
    const { recipients } = await readCreationRule(store.root, document.relativePath)
    const staleRecipients = !sameRecipients(ageRecipients(metadata), recipients)
    return { name, sound: problems.length === 0, problems, staleRecipients }
  } catch (error) {
    return { name, sound: false, problems: [describeFailure(error)], staleRecipients: false }
  }
}
