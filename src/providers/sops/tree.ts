/** Owns the tree model of a SOPS document (sops A3): pair arrays, never JavaScript objects. */

/** A scalar with the type that decides its canonical bytes (sops A7). */
export type Scalar =
  /** Text or binary. Bytes, because binary documents hold anything. */
  | { readonly type: 'str'; readonly bytes: Buffer }
  | { readonly type: 'int'; readonly value: bigint }
  | { readonly type: 'float'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  /** Canonical RFC 3339 text (A7); a Date would lose digits. */
  | { readonly type: 'time'; readonly text: string }
  | { readonly type: 'null' }

export interface Entry {
  readonly key: string
  readonly value: Tree
}

/** A mapping. Keys are unique, except that INI sections may repeat. */
export interface MapTree {
  readonly type: 'map'
  /** Document order is part of the format: the MAC depends on it. */
  readonly entries: readonly Entry[]
}

export interface ListTree {
  readonly type: 'list'
  readonly items: readonly Tree[]
}

export type Tree = Scalar | MapTree | ListTree

/** A `str` scalar of a text's UTF-8. */
export function text(value: string): Extract<Scalar, { type: 'str' }> {
  return { type: 'str', bytes: Buffer.from(value) }
}

/** Whether a tree is a scalar, null included. */
export function isScalar(tree: Tree): tree is Scalar {
  return tree.type !== 'map' && tree.type !== 'list'
}

/** The first value under `key`, if any. */
export function entryOf(map: MapTree, key: string): Tree | undefined {
  return map.entries.find((entry) => entry.key === key)?.value
}

/** Overwrites all text of a decrypted tree with zeros; the tree must not be used afterwards. */
export function wipeTree(tree: Tree): void {
  if (tree.type === 'str') tree.bytes.fill(0)
  else if (tree.type === 'map') for (const entry of tree.entries) wipeTree(entry.value)
  else if (tree.type === 'list') for (const item of tree.items) wipeTree(item)
}
