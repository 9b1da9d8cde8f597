/**
 * Owns the hardened YAML reader: text in, the first document's nodes out, nothing resolved yet.
 *
 * What a scalar means depends on who asks (see `go-yaml.ts`), so nodes keep the exact text, style, tag
 * and position. Limits, control characters and alias budgets are enforced here (dependencies.md
 * section 9, threat model T15, T17).
 */
import { isUtf8 } from 'node:buffer'
import { Composer, LineCounter, Parser, Lexer, isAlias, isMap, isPair, isScalar, isSeq } from 'yaml'
import type { Document, Node, ErrorCode } from 'yaml'
import { resultOf, type Steps } from './steps.ts'

export interface YamlLimits {
  /** Longest text in bytes of UTF-8. Default 1 MiB. */
  readonly maxBytes?: number
  /** Deepest nesting, aliases expanded. Default 500 (Go: 10 000). */
  readonly maxDepth?: number
  /** Most lexical tokens of a document, which bounds the time that reading takes: 20 000 (the default, about
   * 1000 objects of two fields) take about 50 ms. */
  readonly maxTokens?: number
}

const MAX_BYTES = 1024 * 1024
const MAX_DEPTH = 500
const MAX_TOKENS = 20_000
/** Nodes that aliases may stand for, all together. */
const MAX_ALIASED = 100_000

interface Place {
  /** Position in the text, both from 1. */
  readonly line: number
  readonly column: number
}

export interface YamlScalar extends Place {
  readonly kind: 'scalar'
  /** The text after unquoting, unfolding and unescaping; nothing else has been done to it. */
  readonly text: string
  /** Unquoted, so that it may mean a number, a boolean or null. */
  readonly plain: boolean
  /** Resolved explicit tag, e.g. `tag:yaml.org,2002:int` or `!foo`; `''` without one. */
  readonly tag: string
}

export interface YamlMap extends Place {
  readonly kind: 'map'
  /** In document order, duplicates and merge keys included. */
  readonly pairs: readonly YamlPair[]
  readonly tag: string
}

export interface YamlPair {
  readonly key: YamlNode
  readonly value: YamlNode
}

export interface YamlList extends Place {
  readonly kind: 'list'
  readonly items: readonly YamlNode[]
  readonly tag: string
}

/** A node. An alias is the very object it refers to. */
export type YamlNode = YamlScalar | YamlMap | YamlList

/** The text is not YAML that we accept. `message` begins like Go's (`yaml: line 3: …`), never quotes the text. */
export class YamlError extends Error {
  override readonly name = 'YamlError'
  /** From 1; `undefined` when the fault has no place. */
  readonly line: number | undefined
  readonly column: number | undefined

  constructor(reason: string, place?: Place) {
    super(place === undefined ? `yaml: ${reason}` : `yaml: line ${place.line}: ${reason}`)
    this.line = place?.line
    this.column = place?.column
  }
}

/** Our words for the parser's error codes: its own messages quote source text, ours must not (T22). */
const REASONS: Partial<Record<ErrorCode, string>> = {
  ALIAS_PROPS: 'an alias cannot have an anchor or a tag',
  BAD_ALIAS: 'an anchor or alias name is malformed',
  BAD_DIRECTIVE: 'a % directive is malformed',
  BAD_DQ_ESCAPE: 'found unknown escape character in a double-quoted text',
  BAD_INDENT: 'the indentation does not fit what is above',
  BAD_PROP_ORDER: 'anchors and tags must come before the indicator they belong to',
  BAD_SCALAR_START: 'found character that cannot start any token',
  BLOCK_AS_IMPLICIT_KEY: 'mapping values are not allowed in this context',
  BLOCK_IN_FLOW: 'block lists and mappings are not allowed inside brackets',
  BAD_COLLECTION_TYPE: 'the tag does not fit the list or mapping behind it',
  KEY_OVER_1024_CHARS: 'could not find expected ":" within 1024 characters',
  MISSING_CHAR: 'a closing quote, bracket or separator is missing',
  MULTILINE_IMPLICIT_KEY: 'could not find expected ":" on the same line',
  MULTIPLE_ANCHORS: 'a node can have one anchor only',
  MULTIPLE_TAGS: 'a node can have one tag only',
  RESOURCE_EXHAUSTION: 'the document is nested too deeply',
  TAB_AS_INDENT: 'found a tab where spaces must indent',
  TAG_RESOLVE_FAILED: 'found a tag with an undefined handle',
  UNEXPECTED_TOKEN: 'did not find what the YAML grammar expects here',
}

/**
 * Reads the first document of `source`; later documents are ignored, as Go ignores them.
 * A byte sequence may be UTF-8 or, with a byte-order mark, UTF-16. Lone surrogates of a string
 * become U+FFFD, as they do on Go's way from JSON.
 * @returns `undefined` when there is no document or nothing in it.
 * @throws YamlError
 */
export function loadYaml(source: string | Uint8Array, limits: YamlLimits = {}): YamlNode | undefined {
  return resultOf(yamlSteps(source, limits))
}

/** {@link loadYaml} in small steps (T17). @throws YamlError */
export function* yamlSteps(
  source: string | Uint8Array,
  limits: YamlLimits = {},
): Steps<YamlNode | undefined> {
  const maxBytes = limits.maxBytes ?? MAX_BYTES
  const text = decode(source, maxBytes)
  const lines = new LineCounter()
  refuseControlCharacters(text)
  const document = yield* firstDocument(text, lines, limits)
  if (document === undefined) return undefined
  return new Builder(lines, limits.maxDepth ?? MAX_DEPTH).build(document)
}

function decode(source: string | Uint8Array, maxBytes: number): string {
  const tooLarge = () => new YamlError(`the text is larger than ${maxBytes} bytes`)
  let text: string
  if (typeof source === 'string') {
    if (source.length > maxBytes || Buffer.byteLength(source) > maxBytes) throw tooLarge()
    text = source.toWellFormed()
  } else {
    if (source.byteLength > maxBytes) throw tooLarge()
    const bytes = Buffer.from(source.buffer, source.byteOffset, source.byteLength)
    const mark = bytes.subarray(0, 2).toString('hex')
    if (mark === 'fffe') text = bytes.toString('utf16le')
    else if (mark === 'feff' && bytes.length % 2 === 0) text = Buffer.from(bytes).swap16().toString('utf16le')
    else if (isUtf8(bytes)) text = bytes.toString('utf8')
    else throw new YamlError('the text is not UTF-8')
    if (!text.isWellFormed()) throw new YamlError('the text is not well-formed UTF-16')
  }
  return text.startsWith('\uFEFF') ? text.slice(1) : text
}

/** What libyaml's reader refuses anywhere in a stream: C0 and C1 controls but tab, LF, CR and NEL, and others. */
const FORBIDDEN = /[^\t\n\r\x20-\x7E\x85\xA0-\uFFFD]/

function refuseControlCharacters(text: string): void {
  const found = FORBIDDEN.exec(text)
  if (found !== null) throw new YamlError('control characters are not allowed', placeIn(text, found.index))
}

function placeIn(text: string, offset: number): Place {
  const before = text.slice(0, offset).split('\n')
  return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 }
}

/** Tokens after which nesting without end has been noticed, for each level that is allowed. */
const TOKENS_PER_LEVEL = 12
/** Tokens that stand for nothing in the text. */
const MARKS = new Set(['\u0002', '\u0018', '\u001F'])
/** What may end a document before the text ends. */
const MARKER = /^(?:---|\.\.\.)/m

/** Refuses by the lexer alone what would be refused while it is parsed, in a quarter of the time. */
function refuseManyTokens(text: string, maxTokens: number): void {
  // Only the first document counts, and where it ends is the parser's to say.
  if (MARKER.test(text)) return
  let count = 0
  let offset = 0
  for (const lexeme of new Lexer().lex(text)) {
    if (++count > maxTokens) throw manyTokens(maxTokens, placeIn(text, offset))
    if (!MARKS.has(lexeme)) offset += lexeme.length
  }
}

function manyTokens(maxTokens: number, at: Place): YamlError {
  return new YamlError(`the document has more than ${maxTokens} tokens`, at)
}

/** Tokens of one step. */
const STEP_TOKENS = 256

function* firstDocument(
  text: string,
  lines: LineCounter,
  limits: YamlLimits,
): Steps<Document.Parsed | undefined> {
  const maxDepth = limits.maxDepth ?? MAX_DEPTH
  const maxTokens = limits.maxTokens ?? MAX_TOKENS
  const composer = new Composer({
    schema: 'failsafe',
    resolveKnownTags: false,
    uniqueKeys: false,
    merge: false,
    prettyErrors: false,
    logLevel: 'silent',
  })
  keepFirstError(composer)
  const parser = new Parser(lines.addNewLine)
  const at = () => place(lines, parser.offset)
  let count = 0
  let complete = false
  lines.addNewLine(0)
  // Driven token by token, so that a bomb is noticed while it is read, and nothing behind the first
  // document is looked at. What one token completes is handled together: its errors belong to it.
  for (const lexeme of new Lexer().lex(text)) {
    if (++count > maxTokens) throw manyTokens(maxTokens, at())
    // Not before: nesting without end is noticed sooner, and told as what it is.
    if (count === TOKENS_PER_LEVEL * maxDepth) refuseManyTokens(text, maxTokens)
    // The parser keeps up to two entries a level: the collection and the scalar or key in it.
    if (parser.stack.length > 2 * maxDepth + 4) throw new YamlError('exceeded max depth', at())
    if (count % STEP_TOKENS === 0) yield
    for (const token of parser.next(lexeme)) {
      const [document] = composer.next(token)
      if (document !== undefined) return accepted(document, lines)
      complete ||= token.type === 'document'
    }
    if (complete) {
      yield
      return accepted([...composer.end()][0], lines)
    }
  }
  for (const token of parser.end()) {
    const [document] = composer.next(token)
    if (document !== undefined) return accepted(document, lines)
  }
  yield
  // Without a document there may still be errors to hear of.
  return accepted([...composer.end(true, text.length)][0], lines)
}

/** The library would make an error object, with a stack, for each fault and each unknown tag of a text. */
function keepFirstError(composer: Composer): void {
  const reported = composer as unknown as { onError: (...fault: unknown[]) => void }
  const report = reported.onError
  let found = false
  reported.onError = (source, code, message, isWarning) => {
    if (found || isWarning === true) return
    found = true
    report(source, code, message)
  }
}

/** The document, if it has no error. */
function accepted(value: Document.Parsed | undefined, lines: LineCounter): Document.Parsed | undefined {
  if (value === undefined) return undefined
  const error = value.errors[0]
  if (error !== undefined) {
    throw new YamlError(REASONS[error.code] ?? 'the text is not YAML', place(lines, error.pos[0]))
  }
  if (value.directives.yaml.explicit === true && value.directives.yaml.version !== '1.1') {
    throw new YamlError('found incompatible YAML document', { line: 1, column: 1 })
  }
  return value
}

function place(lines: LineCounter, offset: number): Place {
  const { line, col } = lines.linePos(offset)
  return { line: Math.max(line, 1), column: Math.max(col, 1) }
}

/** How large a node is once every alias in it is written out. */
interface Expanded {
  readonly nodes: number
  readonly aliased: number
  readonly depth: number
}

/** Turns the library's nodes into ours; one use. */
class Builder {
  readonly #lines: LineCounter
  readonly #maxDepth: number
  readonly #anchors = new Map<string, YamlNode | 'open'>()
  readonly #sizes = new Map<YamlNode, Expanded>()

  constructor(lines: LineCounter, maxDepth: number) {
    this.#lines = lines
    this.#maxDepth = maxDepth
  }

  build(document: Document.Parsed): YamlNode | undefined {
    const contents = document.contents as Node | null
    if (contents === null) return undefined
    const root = this.#node(contents, 0)
    const size = this.#sizes.get(root)
    // The ratio rule of Go's decoder; the absolute cap is ours and is checked at every alias.
    if (size !== undefined && size.aliased > 100 && size.nodes > 1000 && size.aliased / size.nodes > 0.99) {
      throw new YamlError('document contains excessive aliasing')
    }
    const empty = root.kind === 'scalar' && root.text === '' && root.plain && root.tag === ''
    return empty ? undefined : root
  }

  #node(node: unknown, offset: number): YamlNode {
    if (isAlias(node)) return this.#alias(node.source, this.#place(node, offset))
    const at = this.#place(node, offset)
    const anchor = isScalar(node) || isMap(node) || isSeq(node) ? node.anchor : undefined
    if (anchor !== undefined) this.#anchors.set(anchor, 'open')
    const built = this.#build(node, at, offset)
    if (anchor !== undefined) this.#anchors.set(anchor, built)
    return built
  }

  #build(node: unknown, at: Place, offset: number): YamlNode {
    if (isMap(node)) return this.#map(node.items, node.tag ?? '', at, offset)
    if (isSeq(node)) {
      const items = node.items.map((item) => this.#node(item, offset))
      return this.#sized({ kind: 'list', items, tag: explicit(node.tag), ...at }, items)
    }
    const scalar = isScalar(node) ? node : undefined
    const built: YamlScalar = {
      kind: 'scalar',
      text: typeof scalar?.value === 'string' ? scalar.value : '',
      plain: scalar?.type === undefined || scalar.type === 'PLAIN',
      tag: scalar?.tag ?? '',
      ...at,
    }
    return this.#sized(built, [])
  }

  #map(items: readonly unknown[], tag: string, at: Place, offset: number): YamlMap {
    const pairs: YamlPair[] = []
    for (const item of items) {
      if (!isPair(item)) continue
      const key = this.#node(item.key, offset)
      pairs.push({ key, value: this.#node(item.value, offset) })
    }
    const children = pairs.flatMap(({ key, value }) => [key, value])
    return this.#sized({ kind: 'map', pairs, tag: explicit(tag), ...at }, children)
  }

  #alias(name: string, at: Place): YamlNode {
    const target = this.#anchors.get(name)
    if (target === undefined) throw new YamlError('unknown anchor referenced', at)
    if (target === 'open') throw new YamlError('anchor value contains itself', at)
    return target
  }

  #sized<N extends YamlNode>(node: N, children: readonly YamlNode[]): N {
    let nodes = 1
    let aliased = 0
    let depth = 0
    for (const child of children) {
      const size = this.#sizes.get(child)
      if (size === undefined) continue
      nodes += size.nodes
      depth = Math.max(depth, size.depth)
      // A child whose position is outside its parent's text was reached through an alias.
      aliased += this.#seen.has(child) ? size.nodes : size.aliased
      this.#seen.add(child)
    }
    if (aliased > MAX_ALIASED) throw new YamlError('document contains excessive aliasing', node)
    if (depth + 1 > this.#maxDepth) throw new YamlError('exceeded max depth', node)
    this.#sizes.set(node, { nodes, aliased, depth: depth + 1 })
    return node
  }

  /** Nodes that already have a parent: meeting one again means an alias. */
  readonly #seen = new Set<YamlNode>()

  #place(node: unknown, offset: number): Place {
    const range = isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? node.range : undefined
    return place(this.#lines, range?.[0] ?? offset)
  }
}

/** The tag, unless it only says what the node is anyway. */
function explicit(tag: string | undefined): string {
  return tag === undefined || tag === 'tag:yaml.org,2002:map' || tag === 'tag:yaml.org,2002:seq' ? '' : tag
}
