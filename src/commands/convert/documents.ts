/** Owns reading streams of Kubernetes objects, YAML or JSON, as fields with places. Hostile input: bounded in every way. */
import { loadYaml, YamlError, type YamlNode } from '../../formats/yaml-nodes.ts'
import { UsageError } from '../usage.ts'
import { Field, type Origin } from './field.ts'
import type { Note } from './notes.ts'

/** A source object. */
export interface SourceObject {
  readonly root: Field
  readonly apiVersion: string
  /** Group of {@link apiVersion}; `''` for the core one. */
  readonly group: string
  readonly kind: string
  readonly name: string
  readonly namespace: string | undefined
}

/** Larger streams are refused: a whole cluster's objects are far below it. */
const MAX_BYTES = 16 * 1024 * 1024
const LIMITS = { maxBytes: MAX_BYTES, maxTokens: 1_000_000, maxDepth: 100 }

/**
 * Every object of a text, those in lists as kubectl prints them included.
 * @throws UsageError with file, line and reason where it is no YAML, too large, or a bomb.
 */
export function readObjects(file: string, text: string, notes: Note[]): readonly SourceObject[] {
  if (Buffer.byteLength(text) > MAX_BYTES)
    throw new UsageError(`${file}: is larger than ${MAX_BYTES / 1024 ** 2} MiB; convert it in parts`)
  return yamlDocuments(text).flatMap(({ source, lineOffset }) => {
    try {
      const node = loadYaml(source, LIMITS)
      if (node === undefined) return []
      const origin = (): Origin => ({ file, lineOffset, object: '', notes, seen: new Set() })
      return objectsOf(node, origin)
    } catch (error) {
      if (!(error instanceof YamlError)) throw error
      const { line = 1, column = 1 } = error
      const reason = error.message.replace(/^yaml: (?:line \d+: )?/, '')
      const helm = text.includes('{{')
        ? '; a Helm template must be rendered first: helm template … | keyferry convert -'
        : ''
      throw new UsageError(`${file}:${line + lineOffset}:${column}: this is not YAML: ${reason}${helm}`)
    }
  })
}

interface YamlText {
  readonly source: string
  readonly lineOffset: number
}

/** The documents of a stream. A line that begins with `---` always begins one, also inside a block scalar. */
function yamlDocuments(text: string): readonly YamlText[] {
  const documents: YamlText[] = []
  let lines: string[] = []
  let lineOffset = 0
  for (const [index, line] of text.split('\n').entries()) {
    if (/^---(?:\s|$)/.test(line) && lines.some((one) => !/^(?:%|\s*(?:#|$))/.test(one))) {
      documents.push({ source: lines.join('\n'), lineOffset })
      lines = []
      lineOffset = index
    }
    lines.push(line)
  }
  return [...documents, { source: lines.join('\n'), lineOffset }]
}

function objectsOf(node: YamlNode, origin: () => Origin): readonly SourceObject[] {
  if (node.kind !== 'map') return []
  const list = new Field(node, '', origin())
  const items = list.get('items')
  if (items?.node.kind === 'list' && list.get('kind')?.text()?.endsWith('List'))
    return items.items().flatMap(({ node: item }) => objectOf(item, origin()))
  return objectOf(node, origin())
}

function objectOf(node: YamlNode, origin: Origin): readonly SourceObject[] {
  if (node.kind !== 'map') return []
  const root = new Field(node, '', origin)
  const apiVersion = plainText(root.get('apiVersion'))
  const kind = plainText(root.get('kind'))
  if (apiVersion === undefined || kind === undefined) return []
  const found = root.get('metadata')
  const metadata = found?.node.kind === 'map' ? found : undefined
  const name = plainText(metadata?.get('name')) ?? ''
  const namespace = plainText(metadata?.get('namespace'))
  origin.object = `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`.slice(0, 300)
  const slash = apiVersion.indexOf('/')
  return [{ root, apiVersion, group: slash === -1 ? '' : apiVersion.slice(0, slash), kind, name, namespace }]
}

/** Of whatever stands there, without a note: objects of other kinds may look any way. */
function plainText(field: Field | undefined): string | undefined {
  return field?.node.kind === 'scalar' && field.node.text !== '' ? field.node.text : undefined
}
