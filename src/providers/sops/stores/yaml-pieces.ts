/** Owns composing a large YAML document in pieces, so that no step of it takes long (sops A15, T17). */
import { isMap, isSeq, type CST, type Composer, type Document, type YAMLMap, type YAMLSeq } from 'yaml'

/** Nodes that are composed in one step, which takes about 2 ms. */
const PIECE_NODES = 500

type Token = Parameters<Composer['next']>[0]
type Block = CST.BlockMap | CST.BlockSequence
type Collection = YAMLMap.Parsed | YAMLSeq.Parsed

/** Takes large documents apart, and composes the parts when they are asked for. */
export interface Pieces {
  /**
   * Leaves in a document's token what one step may compose. Where the caller may rest it gives the number
   * of nodes that it has found since it last did.
   */
  takeApart(document: Token): Generator<number, undefined>
  /** A collection in order: parts of it, each composed when it is asked for, and the rest, which is itself. */
  of(node: Collection): Generator<Collection, undefined>
}

/** @param compose makes a document of a token, or throws */
export function createPieces(compose: (document: CST.Document) => Document.Parsed | undefined): Pieces {
  const taken = new Map<unknown, readonly Block[]>()

  /** The number of nodes that are left below a token. */
  function* reduced(token: CST.Token | null | undefined): Generator<number, number> {
    if (!token || !('items' in token)) return 0
    const weights: number[] = []
    for (const item of token.items) {
      const key = yield* reduced(item.key)
      const value = yield* reduced(item.value)
      const own = isEntry(item) ? 1 : 0
      weights.push(own + key + value)
      yield own
    }
    if (token.type === 'flow-collection') return sum(weights)
    const groups = grouped(token.items, weights)
    const last = groups.pop()
    if (last === undefined || groups.length === 0) return sum(weights)
    const parts = groups.map(({ items }) => partOf(token, items))
    // The last part stays, so that the collection ends where it did.
    Object.assign(token, partOf(token, last.items))
    taken.set(token, parts)
    return last.weight
  }

  return {
    *takeApart(document) {
      if (document.type === 'document') yield* reduced(document.value)
      return undefined
    },
    *of(node) {
      for (const value of taken.get(node.srcToken) ?? []) {
        const contents: unknown = compose({
          type: 'document',
          offset: value.offset,
          start: [],
          value,
        })?.contents
        if (isMap(contents) || isSeq(contents)) yield contents as Collection
      }
      yield node
      return undefined
    },
  }
}

/** Whether a node comes of it: white space and comments at the end make items, too. */
function isEntry({ start, key, sep, value }: CST.CollectionItem): boolean {
  return Boolean(key ?? sep ?? value) || start.some(({ type }) => type === 'seq-item-ind')
}

interface Group {
  readonly items: CST.CollectionItem[]
  weight: number
}

function grouped(items: readonly CST.CollectionItem[], weights: readonly number[]): Group[] {
  const groups: Group[] = []
  for (const [index, item] of items.entries()) {
    const weight = weights[index] ?? 0
    const last = groups.at(-1)
    if (last === undefined || last.weight + weight > PIECE_NODES) groups.push({ items: [item], weight })
    else {
      last.items.push(item)
      last.weight += weight
    }
  }
  return groups
}

/** The same collection with these items only, beginning where they do. */
function partOf(token: Block, items: readonly CST.CollectionItem[]): Block {
  const [first] = items
  const begin = first?.start[0] ?? first?.key ?? first?.sep?.[0] ?? first?.value
  return { ...token, offset: begin?.offset ?? token.offset, items: [...items] } as Block
}

function sum(weights: readonly number[]): number {
  return weights.reduce((total, weight) => total + weight, 0)
}
