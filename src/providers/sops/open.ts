/** Owns opening a document: parse, metadata, rule, data key, every leaf, MAC, in this order (sops A17). */
import { sopsError } from './errors.ts'
import { DEFAULT_LIMITS, type Limits } from './limits.ts'
import { openDataKey, type KeyRing } from './keys/data-key.ts'
import { macHash, macMatches, type MacHash } from './mac.ts'
import { readMetadata, type Metadata } from './metadata.ts'
import { pace as newPace, type Pace } from './pace.ts'
import { pointerOf } from './pointer.ts'
import { selectorOf, type Selector } from './rules.ts'
import { readDotenv } from './stores/dotenv.ts'
import { readIni } from './stores/ini.ts'
import { readBinary, readJson } from './stores/json.ts'
import type { Format, Store } from './stores/store.ts'
import { readYaml } from './stores/yaml.ts'
import { aadOf, decryptToken, looksLikeToken, parseToken } from './token.ts'
import { wipeTree, type Entry, type MapTree, type Scalar, type Tree } from './tree.ts'
import { ALONE, type Turn } from './turns.ts'

/** The stores, by `sopsFormat`. */
export const STORES: { readonly [F in Format]: Store } = {
  yaml: readYaml,
  json: readJson,
  binary: readBinary,
  dotenv: readDotenv,
  ini: readIni,
}

/** A decrypted document whose MAC was verified. */
export interface OpenedDocument {
  readonly format: Format
  /** Decrypted trees without metadata and comments, one a YAML document. */
  readonly branches: readonly MapTree[]
  /** Non-empty leaves that stood in clear. */
  readonly clear: ReadonlySet<Tree>
  readonly metadata: Metadata
  /** Hexadecimal, as recorded. */
  readonly mac: string
  /** 32 bytes, for writers that keep it; {@link closeDocument} wipes it. */
  readonly dataKey: Buffer
  /** See {@link import('./keys/data-key.ts').DataKey.usedShared}. */
  readonly usedShared: boolean
}

/** Where in a document a walk is. */
interface Place {
  /** Mapping keys from the root: AAD and rule see these. */
  readonly keys: readonly string[]
  /** Keys and list positions, for messages. */
  readonly pointer: readonly string[]
  /** Whether some key on the way matches the rule. */
  readonly matched: boolean
  readonly inList: boolean
}

interface Decryption {
  readonly key: Buffer
  readonly selector: Selector
  readonly mac: MacHash
  readonly clear: Set<Tree>
}

/** A comment of a list: dropped. */
const COMMENT = Symbol('comment')

function tokenInvalid(place: Place, what: string): never {
  throw sopsError(
    'TOKEN_INVALID',
    `the value at ${pointerOf(place.pointer)} cannot be decrypted: ${what}`,
    'The document was changed after encryption; take it from its source again.',
  )
}

function isSelected(leaf: Scalar, place: Place, selector: Selector): boolean {
  if (selector.by === 'shape') return leaf.type === 'str' && looksLikeToken(leaf.bytes)
  return place.matched === selector.matchedIsEncrypted
}

function decryptLeaf(leaf: Scalar, place: Place, work: Decryption): Scalar | typeof COMMENT {
  // Never encrypted, never in the MAC (A6.4, A7).
  if (leaf.type === 'null' || (leaf.type === 'str' && leaf.bytes.length === 0)) return { ...leaf }
  if (!isSelected(leaf, place, work.selector)) {
    const own: Scalar = leaf.type === 'str' ? { type: 'str', bytes: Buffer.from(leaf.bytes) } : { ...leaf }
    work.clear.add(own)
    work.mac.leaf(own, false)
    return own
  }
  if (leaf.type !== 'str') tokenInvalid(place, 'it is no encrypted value')
  const token = parseToken(leaf.bytes)
  if ('fault' in token) return tokenInvalid(place, token.fault)
  if (token.type === 'comment' && !place.inList) return tokenInvalid(place, 'it is a comment')
  const plain = decryptToken(token, work.key, aadOf(place.keys))
  if ('fault' in plain) return tokenInvalid(place, plain.fault)
  if (token.type === 'comment') return COMMENT
  work.mac.leaf(plain, true)
  return plain
}

function below(place: Place, key: string, selector: Selector): Place {
  return {
    keys: [...place.keys, key],
    pointer: [...place.pointer, key],
    matched: place.matched || (selector.by === 'path' && selector.matches(key)),
    inList: false,
  }
}

function* decryptTree(
  tree: Tree,
  place: Place,
  work: Decryption,
): Generator<undefined, Tree | typeof COMMENT> {
  yield
  if (tree.type === 'map') return yield* decryptMap(tree, place, work)
  if (tree.type !== 'list') return decryptLeaf(tree, place, work)
  const items: Tree[] = []
  for (const item of tree.items) {
    const pointer = [...place.pointer, String(items.length)]
    const plain = yield* decryptTree(item, { ...place, pointer, inList: true }, work)
    if (plain !== COMMENT) items.push(plain)
  }
  return { type: 'list', items }
}

function* decryptMap(map: MapTree, place: Place, work: Decryption): Generator<undefined, MapTree> {
  const entries: Entry[] = []
  for (const { key, value } of map.entries) {
    const plain = yield* decryptTree(value, below(place, key, work.selector), work)
    // Only lists have comments; decryptLeaf refuses them elsewhere.
    if (plain !== COMMENT) entries.push({ key, value: plain })
  }
  return { type: 'map', entries }
}

const ROOT: Place = { keys: [], pointer: [], matched: false, inList: false }

async function decryptBranches(
  branches: readonly MapTree[],
  work: Decryption,
  pace: Pace,
): Promise<readonly MapTree[]> {
  const plain: MapTree[] = []
  try {
    for (const branch of branches) plain.push(await pace.run(decryptMap(branch, ROOT, work)))
    return plain
  } catch (error) {
    plain.forEach(wipeTree)
    throw error
  }
}

/** Parses a document without any key: trees still encrypted, and its metadata. */
export async function readDocument(
  format: Format,
  bytes: Uint8Array,
  limits: Limits = DEFAULT_LIMITS,
  pace: Pace = newPace(limits),
): Promise<{ readonly branches: readonly MapTree[]; readonly block: MapTree; readonly metadata: Metadata }> {
  const { branches, metadata: block } = await STORES[format](bytes, limits, pace)
  return { branches, block, metadata: readMetadata(block, limits) }
}

/**
 * Opens a document when its turn has come: nothing is returned before every leaf is decrypted and the MAC
 * holds. Size is the caller's to check, who knows where the bytes come from.
 * @throws BackendError of sops A17
 */
export async function openDocument(
  format: Format,
  bytes: Uint8Array,
  ring: KeyRing,
  limits: Limits = DEFAULT_LIMITS,
  turn: Turn = ALONE,
): Promise<OpenedDocument> {
  await turn.enter()
  try {
    return await opened(format, bytes, ring, limits, newPace(limits, turn))
  } finally {
    turn.leave()
  }
}

async function opened(
  format: Format,
  bytes: Uint8Array,
  ring: KeyRing,
  limits: Limits,
  pace: Pace,
): Promise<OpenedDocument> {
  const { branches: encrypted, metadata } = await readDocument(format, bytes, limits, pace)
  const selector = selectorOf(metadata.rule)
  const { key, usedShared } = await openDataKey(metadata, ring, limits, pace)
  const mac = macHash(metadata.macOnlyEncrypted)
  const clear = new Set<Tree>()
  let isOpen = false
  let branches: readonly MapTree[] = []
  try {
    branches = await decryptBranches(encrypted, { key, selector, mac, clear }, pace)
    const digest = mac.digest()
    if (!macMatches(digest, metadata.mac, key, metadata.lastModified)) {
      throw sopsError(
        'MAC_MISMATCH',
        'the message authentication code of the document does not fit its content',
        'The document was changed after encryption; take it from its source again, or encrypt it anew.',
      )
    }
    isOpen = true
    return { format, branches, clear, metadata, mac: digest, dataKey: key, usedShared }
  } finally {
    if (!isOpen) {
      branches.forEach(wipeTree)
      key.fill(0)
    }
  }
}

/** Overwrites everything secret in an opened document; it must not be used afterwards. */
export function closeDocument(document: OpenedDocument): void {
  document.branches.forEach(wipeTree)
  document.dataKey.fill(0)
}

/**
 * The MAC digest that a document of this content must record, whatever it records now: for writers,
 * who hold the data key already.
 * @throws BackendError of sops A17
 */
export async function digestOf(
  format: Format,
  bytes: Uint8Array,
  dataKey: Buffer,
  limits: Limits = DEFAULT_LIMITS,
): Promise<string> {
  const pace = newPace(limits)
  const { branches, metadata } = await readDocument(format, bytes, limits, pace)
  const mac = macHash(metadata.macOnlyEncrypted)
  const work = { key: dataKey, selector: selectorOf(metadata.rule), mac, clear: new Set<Tree>() }
  const plain = await decryptBranches(branches, work, pace)
  plain.forEach(wipeTree)
  return mac.digest()
}
