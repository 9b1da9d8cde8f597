/** Owns merge keys and duplicate keys of a YAML mapping, which Go's two libraries treat differently. */
import { YamlError } from './yaml-nodes.ts'
import type { YamlMap, YamlNode, YamlPair } from './yaml-nodes.ts'
import { resolveScalar } from './yaml-scalars.ts'
import type { GoYamlFlavour } from './yaml-scalars.ts'

interface Effective {
  /** Pairs in the order of assignment: a later pair of the same key overrides an earlier one. */
  readonly pairs: readonly YamlPair[]
  /** Keys that yaml.v3 refuses because the same mapping has them already. */
  readonly duplicates: readonly { readonly key: YamlNode; readonly first: YamlNode }[]
}

/** The cap on pairs after merging; without it, merges of merges would grow without an alias in sight. */
const MAX_PAIRS = 100_000

/**
 * The pairs a mapping stands for once its `<<` keys are resolved.
 * yaml.v3: own keys win wherever they stand, then earlier merges; sigs: strictly in document order, so
 * that a merge overrides the keys written above it.
 * @throws YamlError when a merge is not of mappings.
 */
export function effectivePairs(node: YamlNode, flavour: GoYamlFlavour): Effective {
  if (node.kind !== 'map') throw wantMap(node)
  const duplicates = flavour === 'yaml3' ? duplicateKeys(node) : []
  if (!node.pairs.some(({ key }) => isMerge(key, flavour))) return { pairs: node.pairs, duplicates }
  const pairs = flavour === 'yaml3' ? mergedByName(node) : mergedInOrder(node)
  return { pairs, duplicates }
}

function isMerge(key: YamlNode, flavour: GoYamlFlavour): boolean {
  return key.kind === 'scalar' && key.text === '<<' && resolveScalar(key, flavour).type === 'merge'
}

const wantMap = (node: YamlNode) =>
  new YamlError('map merge requires map or sequence of maps as the value', node)

function mergeSources(node: YamlNode): readonly YamlMap[] {
  const nodes = node.kind === 'list' ? node.items : [node]
  return nodes.map((source) => {
    if (source.kind !== 'map') throw wantMap(source)
    return source
  })
}

function add(pairs: YamlPair[], more: readonly YamlPair[], node: YamlNode): void {
  if (pairs.length + more.length > MAX_PAIRS) throw new YamlError('document contains excessive merging', node)
  for (const pair of more) pairs.push(pair)
}

function mergedInOrder(node: YamlMap): readonly YamlPair[] {
  const pairs: YamlPair[] = []
  for (const pair of node.pairs) {
    if (!isMerge(pair.key, 'sigs')) add(pairs, [pair], node)
    else {
      // Backwards, so that the first of a list is assigned last and wins.
      for (const source of mergeSources(pair.value).toReversed()) {
        add(pairs, effectivePairs(source, 'sigs').pairs, node)
      }
    }
  }
  return pairs
}

function mergedByName(node: YamlMap): readonly YamlPair[] {
  const pairs: YamlPair[] = []
  const taken = new Set<string>()
  const take = (more: readonly YamlPair[]) => {
    const fresh = more.filter(({ key }) => key.kind !== 'scalar' || !taken.has(key.text))
    for (const { key } of fresh) if (key.kind === 'scalar') taken.add(key.text)
    add(pairs, fresh, node)
  }
  take(node.pairs.filter(({ key }) => !isMerge(key, 'yaml3')))
  // Two `<<` keys are a duplicate already; the last one is the one Go looks at.
  const merge = node.pairs.findLast(({ key }) => isMerge(key, 'yaml3'))
  if (merge !== undefined) {
    for (const source of mergeSources(merge.value)) {
      const { pairs: inherited, duplicates } = effectivePairs(source, 'yaml3')
      const [duplicate] = duplicates
      if (duplicate !== undefined) throw new YamlError('mapping key already defined', duplicate.key)
      take(inherited)
    }
  }
  return pairs
}

function duplicateKeys(node: YamlMap): Effective['duplicates'] {
  const first = new Map<string, YamlNode>()
  const duplicates: { key: YamlNode; first: YamlNode }[] = []
  for (const { key } of node.pairs) {
    // Keys that are not scalars are refused later whatever their content.
    if (key.kind !== 'scalar') continue
    const before = first.get(key.text)
    if (before === undefined) first.set(key.text, key)
    else duplicates.push({ key, first: before })
  }
  return duplicates
}
