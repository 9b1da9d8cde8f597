/**
 * Owns what `key` and `version` mean to each kind of backend where that is not simply the backend's own
 * word: what users of External Secrets Operator write there.
 */
import type { RefItem } from '../adapter.ts'

interface Kind {
  /** Version and arguments for a `version` of the SPC. Default: it is the backend's version. */
  readonly version?: (version: string) => Pick<RefItem, 'version' | 'args'>
  /** Arguments that make the backend give a whole document as JSON, for a property, a path or expansion. */
  readonly asDocument?: Readonly<Record<string, string>>
  /** Why the node's credentials cannot be used with it. */
  readonly noNodeIdentity?: string
}

const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  [
    'aws-secrets-manager',
    {
      // A staging label, or the id of a version behind `uuid/`.
      version: (text) =>
        text.startsWith('uuid/') ? { version: text.slice('uuid/'.length) } : { args: { stage: text } },
    },
  ],
  [
    'aws-parameter-store',
    { version: (text) => (/^\d+$/.test(text) ? { version: text } : { args: { label: text } }) },
  ],
  [
    'sops',
    {
      asDocument: { format: 'json' },
      // A document is opened for one pod after the other: a cache entry of the node's would be all pods'.
      noNodeIdentity: 'documents are bound to the service account of the pod',
    },
  ],
])

/** Why a store of this backend kind cannot have `identity: node`, or undefined when it can. */
export function nodeIdentityFault(kind: string): string | undefined {
  return KINDS.get(kind)?.noNodeIdentity
}

/** The item that a backend is asked for. */
export function itemFor(
  kind: string,
  wanted: { readonly key: string; readonly version?: string | undefined; readonly document: boolean },
  podUid: string,
): RefItem {
  const { version: versionOf = (version: string) => ({ version }), asDocument } = KINDS.get(kind) ?? {}
  const chosen: Pick<RefItem, 'version' | 'args'> =
    wanted.version === undefined ? {} : versionOf(wanted.version)
  const { version, args } = chosen
  const all = { ...args, ...(wanted.document && asDocument) }
  return {
    key: wanted.key,
    podUid,
    ...(version !== undefined && { version }),
    ...(Object.keys(all).length > 0 && { args: all }),
  }
}

/**
 * Why a key cannot be asked for, or undefined when it can. What a backend could read as another place than
 * the text that `allow` was matched with is refused: steps upwards, escapes, queries.
 */
export function keyFault(key: string): string | undefined {
  if (key.length > 1024) return 'is longer than 1024 characters'
  if (!key.isWellFormed() || /\p{Cc}/u.test(key)) return 'contains a control character'
  if (/[%?#\\]/.test(key)) return 'contains one of % ? # \\'
  const segments = key.split('/')
  if (segments.some((segment) => segment === '.' || segment === '..')) return "has a '.' or '..' segment"
  if (segments.slice(1).includes('')) return "has an empty segment ('//' or a trailing '/')"
  return undefined
}

/** Whether a version is a plain word; it becomes part of addresses. */
export function isVersion(version: string): boolean {
  return /^(?:uuid\/)?[A-Za-z0-9_][A-Za-z0-9_.:+=@-]{0,255}$/.test(version) && !version.includes('..')
}
