/** Owns the tree model of a SOPS document (sops A3): pair arrays, never JavaScript objects. */

/** A scalar with the type that decides its canonical bytes (sops A7). */
export type Scalar =
  /** Text or binary. Bytes, because binary documents hold anything. */
  | { readonly type: 'str'; readonly bytes: Buffer }
  | { readonly type: 'int'; readonly value: bigint }
  | { readonly type: 'float'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  /** RFC 3339 text as written; a Date would lose digits. */
  | { readonly type: 'time'; readonly text: string }
  | { readonly type: 'null' }

export interface Entry {
  readonly key: string
  readonly value: Tree
}

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
