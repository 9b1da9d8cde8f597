/**
 * Owns the view of a source object through which every converter reads it. A field that is read is remembered, so
 * that at the end whatever nobody read is listed: nothing is dropped without a word.
 */
import { effectivePairs } from '../../formats/yaml-merge.ts'
import type { YamlNode, YamlPair } from '../../formats/yaml-nodes.ts'
import { resolveScalar } from '../../formats/yaml-scalars.ts'
import { UsageError } from '../usage.ts'
import type { Note } from './notes.ts'

/** What the fields of one source object share. */
export interface Origin {
  readonly file: string
  /** Lines before the object's document in the file. */
  readonly lineOffset: number
  /** Kind, namespace and name, for people. */
  object: string
  readonly notes: Note[]
  /** Pairs and nodes that were read or told of. */
  readonly seen: Set<YamlPair | YamlNode>
}

const MAX_PATH = 200
/** A hostile stream can make any number of notes. */
const MAX_NOTES = 10_000

/** A value that is there. Absent and null values have no field, as in the API server. */
export class Field {
  readonly node: YamlNode
  readonly path: string
  readonly origin: Origin

  constructor(node: YamlNode, path: string, origin: Origin) {
    this.node = node
    this.path = path.slice(0, MAX_PATH)
    this.origin = origin
  }

  /** Position in the source file. */
  get place(): { readonly line: number; readonly column: number } {
    return { line: this.node.line + this.origin.lineOffset, column: this.node.column }
  }

  /** The member of a mapping; of one that stands there twice the last. A note where it is no mapping. */
  get(name: string): Field | undefined {
    if (this.node.kind !== 'map' && !this.origin.seen.has(this.node)) return this.#wrongType('a mapping')
    return this.#members().findLast(([key]) => key === name)?.[1]()
  }

  /** Every member of a mapping by its name; a later one of the same name replaces an earlier one. */
  entries(): ReadonlyMap<string, Field> {
    if (this.node.kind !== 'map') this.#wrongType('a mapping')
    const found = new Map<string, Field>()
    for (const [key, read] of this.#members()) {
      const field = read()
      if (field) found.set(key, field)
    }
    return found
  }

  /** The items of a list. */
  items(): readonly Field[] {
    if (this.node.kind !== 'list') {
      this.#wrongType('a list')
      return []
    }
    return this.node.items.flatMap((item, index) =>
      isNull(item) ? [] : [new Field(item, `${this.path}[${index}]`, this.origin)],
    )
  }

  /** The text of a scalar, as it is written; undefined with a note for a list or mapping. */
  text(): string | undefined {
    if (this.node.kind === 'scalar') return this.node.text
    return this.#wrongType('a text')
  }

  /** What stands on a line, from 1, of a text of several lines, for notes about it. */
  line(line: number, path: string): Field {
    const { node } = this
    const isBlock = node.kind === 'scalar' && node.text.includes('\n')
    const at = isBlock ? { line: node.line + line, column: 1 } : { line: node.line, column: node.column }
    const inner = { kind: 'scalar', text: '', plain: false, tag: '', ...at } as const
    return new Field(inner, `${this.path}${path}`, this.origin)
  }

  /** Whether a scalar says true. */
  isTrue(): boolean {
    const text = this.text()
    return text !== undefined && ['true', 'yes', 'on'].includes(text.toLowerCase())
  }

  /** Lists the field as missing from the result, and all that is below it with it. */
  lost(message: string, remedy: string): undefined {
    return this.#all('lost', message, remedy)
  }

  /** Lists the field as working in another way, and all that is below it with it. */
  changed(message: string, remedy: string): undefined {
    return this.#all('changed', message, remedy)
  }

  /** Lists something about the field; what is below it is still to be read. */
  note(severity: Note['severity'], message: string, remedy: string): undefined {
    const { file, object, notes } = this.origin
    if (notes.length >= MAX_NOTES)
      throw new UsageError(`${file}: more than ${MAX_NOTES} things are not carried over; convert it in parts`)
    notes.push({ severity, file, ...this.place, object, field: this.path, message, remedy })
    return undefined
  }

  /** Takes the field and all that is below it as read. */
  ignore(): void {
    this.origin.seen.add(this.node)
  }

  /** Lists every member below that nobody read. */
  listUnread(): void {
    for (const [pair, key] of unreadPairs(this.node, this.path, this.origin.seen))
      new Field(pair.value, key, this.origin).lost(
        'this field is not known to the converter',
        'Check what it does, and whether the class needs it',
      )
  }

  #members(): readonly (readonly [string, () => Field | undefined])[] {
    return pairsOf(this.node).map(
      (pair) =>
        [
          nameOf(pair),
          () => {
            this.origin.seen.add(pair)
            return isNull(pair.value)
              ? undefined
              : new Field(pair.value, joined(this.path, nameOf(pair)), this.origin)
          },
        ] as const,
    )
  }

  #wrongType(wanted: string): undefined {
    return this.lost(`this is not ${wanted}`, 'Correct it: the API server would refuse it, too')
  }

  #all(severity: Note['severity'], message: string, remedy: string): undefined {
    this.ignore()
    return this.note(severity, message, remedy)
  }
}

/** Lists what nobody read of an object's `spec`, and of the object itself. */
export function listRest(root: Field): void {
  for (const known of ['apiVersion', 'kind', 'metadata', 'status']) root.get(known)?.ignore()
  root.listUnread()
}

/** @throws YamlError for a merge key with something that is no mapping. */
function pairsOf(node: YamlNode): readonly YamlPair[] {
  return node.kind === 'map' ? effectivePairs(node, 'sigs').pairs : []
}

function nameOf({ key }: YamlPair): string {
  return key.kind === 'scalar' ? key.text : ''
}

function joined(path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`
}

function isNull(node: YamlNode): boolean {
  return node.kind === 'scalar' && node.plain && resolveScalar(node, 'sigs').type === 'null'
}

/** The outermost unread pairs below a node. A node that aliases repeat is looked at once. */
function* unreadPairs(
  root: YamlNode,
  path: string,
  seen: ReadonlySet<YamlPair | YamlNode>,
): Generator<readonly [YamlPair, string]> {
  const visited = new Set<YamlNode>()
  const open: [YamlNode, string][] = [[root, path]]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const [node, at] = next
    if (seen.has(node) || visited.has(node)) continue
    visited.add(node)
    if (node.kind === 'list')
      for (const [index, item] of node.items.entries()) open.push([item, `${at}[${index}]`])
    for (const pair of pairsOf(node)) {
      const name = joined(at, nameOf(pair))
      if (seen.has(pair)) open.push([pair.value, name])
      else if (!isNull(pair.value)) yield [pair, name]
    }
  }
}
