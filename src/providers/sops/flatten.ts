/** Owns the flat form of metadata in INI and dotenv: `age__list_0__map_enc` (sops A5). */
import { quoted, sopsError } from './errors.ts'
import type { MapTree, Scalar, Tree } from './tree.ts'

/** A scalar of the flat form, and the name it stands under. */
export interface FlatEntry {
  readonly name: string
  readonly value: Scalar
}

type Node =
  | { readonly type: 'leaf'; readonly value: Scalar }
  | { readonly type: 'map' | 'list'; readonly children: Map<string, Node> }

function invalid(name: string, what: string): never {
  throw sopsError('METADATA_INVALID', `metadata entry ${quoted(name)} ${what}`)
}

/** `a__list_0__map_b` as steps: map a, list 0, map b. */
function stepsOf(name: string): readonly { readonly in: 'map' | 'list'; readonly key: string }[] {
  const pieces = name.split(/__(map|list)_/)
  return pieces.flatMap((piece, i) => {
    if (i % 2 === 1) return []
    return [{ in: i === 0 || pieces[i - 1] === 'map' ? ('map' as const) : ('list' as const), key: piece }]
  })
}

/** Puts a value into the tree under construction, making the containers on its way. */
function place(root: Map<string, Node>, entry: FlatEntry): void {
  const steps = stepsOf(entry.name)
  let children = root
  steps.forEach((step, i) => {
    const next = steps[i + 1]
    const found = children.get(step.key)
    if (next === undefined) {
      if (found !== undefined) invalid(entry.name, 'stands beside another of that name')
      children.set(step.key, { type: 'leaf', value: entry.value })
      return
    }
    const node: Node = found ?? { type: next.in, children: new Map() }
    if (node.type !== next.in)
      invalid(entry.name, 'is both a scalar and a container, or a mapping and a list')
    children.set(step.key, node)
    children = node.children
  })
}

function treeOf(node: Node, name: string): Tree {
  if (node.type === 'leaf') return node.value
  if (node.type === 'map') {
    return {
      type: 'map',
      entries: Array.from(node.children, ([key, child]) => ({ key, value: treeOf(child, key) })),
    }
  }
  return {
    type: 'list',
    // Positions must be exactly 0..n-1 in plain decimals; they may come in any order.
    items: Array.from({ length: node.children.size }, (_, i) => {
      const child = node.children.get(String(i))
      return child === undefined ? invalid(name, `has no position ${i}`) : treeOf(child, name)
    }),
  }
}

/**
 * The metadata block of flat entries. The caller may rest after each entry.
 * @throws BackendError `METADATA_INVALID` on duplicates, gaps and names that contradict each other
 */
export function* unflatten(entries: readonly FlatEntry[]): Generator<undefined, MapTree> {
  const root = new Map<string, Node>()
  for (const entry of entries) {
    place(root, entry)
    yield
  }
  return { type: 'map', entries: Array.from(root, ([key, node]) => ({ key, value: treeOf(node, key) })) }
}

function flattenInto(out: FlatEntry[], name: string, tree: Tree): void {
  if (tree.type === 'map') {
    for (const { key, value } of tree.entries) flattenInto(out, `${name}__map_${key}`, value)
  } else if (tree.type === 'list') {
    tree.items.forEach((item, i) => flattenInto(out, `${name}__list_${i}`, item))
  } else {
    out.push({ name, value: tree })
  }
}

/** The flat entries of a metadata block, in its order; empty containers vanish. */
export function flatten(block: MapTree): readonly FlatEntry[] {
  const out: FlatEntry[] = []
  for (const { key, value } of block.entries) flattenInto(out, key, value)
  return out
}
