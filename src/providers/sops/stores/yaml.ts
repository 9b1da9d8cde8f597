/** Owns the YAML store: nodes of the `yaml` library without its types, limits before every bulk step (sops A4). */
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Scalar as YamlScalar,
  type ParsedNode,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml'
import { strictUtf8 } from '../encodings.ts'
import { withinLimit, type Limits } from '../limits.ts'
import type { Pace } from '../pace.ts'
import type { Entry, MapTree, Scalar, Tree } from '../tree.ts'
import {
  checkKey,
  documentText,
  duplicateKey,
  formatInvalid,
  nodeCounter,
  positionAt,
  splitMetadata,
  type ParsedDocument,
} from './store.ts'
import { YamlFault, yamlDocuments, type LoadedDocument } from './yaml-documents.ts'
import { typeScalar } from './yaml-scalars.ts'

const BOM = '\ufeff'
type Node = ParsedNode | YamlScalar | null

/** What is known while the nodes of one document are walked. */
interface Walk {
  readonly limits: Limits
  readonly count: () => void
  readonly countAlias: () => void
  /** Anchors seen so far; a later one of the same name replaces the earlier. */
  readonly anchors: Map<string, Node>
  /** Containers that are being walked: meeting one again is a cycle. */
  readonly open: Set<Node>
  readonly pieces: LoadedDocument['pieces']
  readonly position: (node: Node) => { line: number; column: number } | undefined
}

function scalarOf(node: Node, walk: Walk): Scalar {
  if (node === null) return { type: 'null' }
  if (!isScalar(node)) return formatInvalid('yaml', 'a scalar expected', walk.position(node))
  const isPlain = node.type === YamlScalar.PLAIN || node.type === undefined
  const scalar = typeScalar(node.source ?? '', isPlain, node.tag)
  return 'fault' in scalar ? formatInvalid('yaml', scalar.fault, walk.position(node)) : scalar
}

/** Follows an alias, counting it. */
function target(node: Node, walk: Walk): Node {
  if (!isAlias(node)) return node
  walk.countAlias()
  const found = walk.anchors.get(node.source)
  if (found === undefined)
    return formatInvalid('yaml', 'an alias without anchor in its document', walk.position(node))
  if (walk.open.has(found))
    return formatInvalid('yaml', 'an alias inside its own anchor', walk.position(node))
  return found
}

function keyOf(key: Node, walk: Walk): string {
  const node = target(key, walk)
  if (isScalar(node) && node.anchor !== undefined) walk.anchors.set(node.anchor, node)
  // Stock writes a merge key as `!!merge <<:`; it is an ordinary key (its node has no value, only a source).
  const scalar = scalarOf(node, walk)
  const name = scalar.type === 'str' ? strictUtf8(scalar.bytes) : undefined
  return name ?? formatInvalid('yaml', 'a key is no text', walk.position(key))
}

function* treeOf(start: Node, depth: number, walk: Walk): Generator<undefined, Tree> {
  const node = target(start, walk)
  walk.count()
  yield
  if (node !== null && !isAlias(node) && node.anchor !== undefined) walk.anchors.set(node.anchor, node)
  if (!isMap(node) && !isSeq(node)) return scalarOf(node, walk)
  withinLimit(walk.limits, 'depth', depth)
  walk.open.add(node)
  const tree = isMap(node) ? yield* mapOf(node, depth, walk) : yield* listOf(node, depth, walk)
  walk.open.delete(node)
  return tree
}

function* mapOf(map: YAMLMap.Parsed, depth: number, walk: Walk): Generator<undefined, MapTree> {
  const entries: Entry[] = []
  const seen = new Set<string>()
  for (const piece of walk.pieces.of(map)) {
    for (const pair of isMap(piece) ? piece.items : []) {
      const key = keyOf(pair.key, walk)
      checkKey(key, walk.limits)
      if (seen.has(key)) duplicateKey('yaml', key, depth === 0)
      seen.add(key)
      entries.push({ key, value: yield* treeOf(pair.value ?? null, depth + 1, walk) })
    }
  }
  return { type: 'map', entries }
}

function* listOf(list: YAMLSeq.Parsed, depth: number, walk: Walk): Generator<undefined, Tree> {
  const items: Tree[] = []
  for (const piece of walk.pieces.of(list))
    for (const node of isSeq(piece) ? piece.items : []) items.push(yield* treeOf(node, depth + 1, walk))
  return { type: 'list', items }
}

function* branchOf(
  { document, pieces }: LoadedDocument,
  walk: Omit<Walk, 'anchors' | 'open' | 'pieces'>,
): Generator<undefined, MapTree> {
  const tree = yield* treeOf(document.contents, 0, { ...walk, pieces, anchors: new Map(), open: new Set() })
  if (tree.type === 'map') return tree
  if (tree.type === 'null') return { type: 'map', entries: [] }
  return formatInvalid('yaml', 'the top level of a document is no mapping')
}

function* branchesOf(source: string, limits: Limits): Generator<undefined, readonly MapTree[]> {
  let aliases = 0
  const walk = {
    limits,
    count: nodeCounter(limits),
    countAlias: () => withinLimit(limits, 'aliases', (aliases += 1)),
    position: (node: Node) =>
      node?.range === undefined || node.range === null ? undefined : positionAt(source, node.range[0]),
  }
  const branches: MapTree[] = []
  try {
    for (const loaded of yamlDocuments(source, limits)) {
      yield
      if (loaded !== undefined) branches.push(yield* branchOf(loaded, walk))
    }
  } catch (error) {
    if (error instanceof YamlFault) formatInvalid('yaml', error.message, error.at)
    throw error
  }
  if (branches.length === 0) formatInvalid('yaml', 'it holds no document')
  return branches
}

/** Reads a YAML document, or several in one text. */
export async function readYaml(bytes: Uint8Array, limits: Limits, pace: Pace): Promise<ParsedDocument> {
  const source = documentText('yaml', bytes)
  return splitMetadata(await pace.run(branchesOf(source.startsWith(BOM) ? source.slice(1) : source, limits)))
}
