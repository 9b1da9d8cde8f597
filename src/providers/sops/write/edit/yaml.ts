/** Owns editing YAML documents in place: comments, order and spelling of all else stay (sops A20). */
import { isMap, isScalar, isSeq, parseAllDocuments, type Node, type Pair, type YAMLMap } from 'yaml'
import { text, type MapTree, type Tree } from '../../tree.ts'
import { yamlEntryLines, yamlQuoted, yamlScalar } from '../emit/yaml.ts'
import { ageList } from '../seal.ts'
import { cannotEdit, type Edits, type LeafEdit } from './edits.ts'
import { spliced, type Splice } from './splice.ts'

type Range = readonly [start: number, valueEnd: number, nodeEnd: number]

function rangeOf(node: unknown): Range {
  const { range, tag, anchor } = node as Node & { anchor?: string }
  // Positions of a node do not cover its tag and anchor.
  if (range === null || range === undefined || tag !== undefined || anchor !== undefined) {
    throw cannotEdit('the document has tags or anchors where it is to be changed')
  }
  return range
}

function pairOf(map: YAMLMap, key: string): Pair | undefined {
  return map.items.find((pair) => isScalar(pair.key) && pair.key.value === key)
}

/** `{a: {b: leaf}}` for the path `a`, `b` below the first key. */
function nestedTree(path: readonly string[], value: Tree): Tree {
  return path.reduceRight<Tree>(
    (inner, key): MapTree => ({ type: 'map', entries: [{ key, value: inner }] }),
    value,
  )
}

/** Flow text of a tree; JSON in YAML's own quoting. */
function flowText(tree: Tree): string {
  if (tree.type === 'map') {
    return `{${tree.entries.map(({ key, value }) => `${yamlQuoted(key)}: ${flowText(value)}`).join(', ')}}`
  }
  if (tree.type === 'list') return `[${tree.items.map(flowText).join(', ')}]`
  return yamlScalar(tree, [])
}

/** Where the text of a node ends, white space and comments behind it left out. */
function endOf(node: unknown): number {
  if (isMap(node) && node.flow !== true) {
    const last = node.items.at(-1)
    if (last !== undefined) return last.value === null ? rangeOf(last.key)[1] + 1 : endOf(last.value)
  }
  if (isSeq(node) && node.flow !== true && node.items.length > 0) return endOf(node.items.at(-1))
  return rangeOf(node)[1]
}

function columnOf(source: string, offset: number): number {
  return offset - (source.lastIndexOf('\n', offset - 1) + 1)
}

/** Text of a block entry whose first line begins at `column`. */
function blockEntry(key: string, value: Tree, column: number): string {
  return yamlEntryLines(key, value).join(`\n${' '.repeat(column)}`)
}

/** A new entry in front of an existing one. */
function insertBefore(source: string, map: YAMLMap, next: Pair, key: string, value: Tree): Splice {
  const [start] = rangeOf(next.key)
  if (map.flow === true) return { start, end: start, text: `${yamlQuoted(key)}: ${flowText(value)}, ` }
  const column = columnOf(source, start)
  if (source.slice(start - column, start).trim() !== '') throw cannotEdit('the document uses "? key" entries')
  return { start, end: start, text: `${blockEntry(key, value, column)}\n${' '.repeat(column)}` }
}

/** A new entry behind the last one. */
function append(source: string, map: YAMLMap, key: string, value: Tree): Splice {
  const first = map.items[0]
  if (first === undefined) {
    const at = rangeOf(map)[0] + 1
    return { start: at, end: at, text: `${yamlQuoted(key)}: ${flowText(value)}` }
  }
  const end = endOf(map.flow === true ? map.items.at(-1)?.value : map)
  if (map.flow === true) return { start: end, end, text: `, ${yamlQuoted(key)}: ${flowText(value)}` }
  const column = columnOf(source, rangeOf(first.key)[0])
  const entry = `${' '.repeat(column)}${blockEntry(key, value, column)}`
  if (source[end - 1] === '\n') return { start: end, end, text: `${entry}\n` }
  const feed = source.indexOf('\n', end)
  const at = feed === -1 ? source.length : feed
  return { start: at, end: at, text: `\n${entry}` }
}

function replaceValue(source: string, pair: Pair, value: LeafEdit['value'], name: string): Splice {
  const node = pair.value
  if ((isMap(node) || isSeq(node)) && node.items.length > 0) {
    throw cannotEdit(`"${name}" is a mapping or a list: name the value below it`)
  }
  if (node !== null && !isScalar(node) && !isMap(node) && !isSeq(node)) {
    throw cannotEdit(`"${name}" is an alias`)
  }
  const [start, end] = rangeOf(node ?? pair.key)
  const at = node === null ? end + 1 : start
  const lead = source[at - 1] === ':' ? ' ' : ''
  const tail = source[end - 1] === '\n' && end > start ? '\n' : ''
  return { start: at, end: Math.max(at, end), text: `${lead}${yamlScalar(value, [name])}${tail}` }
}

function leafSplice(source: string, root: YAMLMap, sops: Pair, { path, value }: LeafEdit): Splice {
  let map = root
  for (const [depth, key] of path.entries()) {
    const pair = pairOf(map, key)
    const below = path.slice(depth + 1)
    if (pair === undefined) {
      const tree = nestedTree(below, value)
      // Before `sops`, which stays last; elsewhere behind what is there.
      return map === root ? insertBefore(source, map, sops, key, tree) : append(source, map, key, tree)
    }
    if (below.length === 0) return replaceValue(source, pair, value, path.join('/'))
    if (!isMap(pair.value)) throw cannotEdit(`"${path.slice(0, depth + 1).join('/')}" is no mapping`)
    map = pair.value
  }
  throw cannotEdit('no key is named')
}

function ageSplice(source: string, sops: YAMLMap, tree: Tree): Splice {
  const pair = pairOf(sops, 'age')
  if (pair === undefined) {
    const mac = pairOf(sops, 'mac')
    if (mac === undefined) throw cannotEdit('the metadata has no "mac"')
    return insertBefore(source, sops, mac, 'age', tree)
  }
  const [start, keyEnd] = rangeOf(pair.key)
  const end = pair.value === null ? keyEnd + 1 : endOf(pair.value)
  if (sops.flow === true) return { start, end, text: `"age": ${flowText(tree)}` }
  const tail = source[end - 1] === '\n' ? '\n' : ''
  return { start, end, text: `${blockEntry('age', tree, columnOf(source, start))}${tail}` }
}

interface Place {
  readonly root: YAMLMap
  /** The pair `sops` of the first document, and its mapping. */
  readonly sops: Pair
  readonly metadata: YAMLMap
}

function placeOf(source: string): Place {
  const [first] = parseAllDocuments(source, { schema: 'failsafe', uniqueKeys: false, prettyErrors: false })
  const root: unknown = first !== undefined && 'contents' in first ? first.contents : undefined
  if (!isMap(root)) throw cannotEdit('the document is no mapping')
  const sops = pairOf(root, 'sops')
  if (sops === undefined || !isMap(sops.value)) throw cannotEdit('the metadata is no mapping of its own')
  return { root, sops, metadata: sops.value }
}

/** @throws WriteError when the document is written in a way that we do not edit. */
export function editYaml(document: Buffer, edits: Edits): Buffer {
  let source = document.toString()
  // One at a time: a later value may belong below one that an earlier edit put there.
  for (const leaf of edits.leaves) {
    const { root, sops } = placeOf(source)
    source = spliced(source, [leafSplice(source, root, sops, leaf)])
  }
  const { metadata } = placeOf(source)
  const splices: Splice[] = []
  for (const [name, value] of edits.metadata) {
    const pair = pairOf(metadata, name)
    if (pair === undefined) throw cannotEdit(`the metadata has no "${name}"`)
    splices.push(replaceValue(source, pair, text(value), `sops/${name}`))
  }
  if (edits.age !== undefined) splices.push(ageSplice(source, metadata, ageList(edits.age)))
  return Buffer.from(spliced(source, splices))
}
