/** Owns composing YAML into nodes under limits: counted before anything is built, stopped at the first error (sops A15, T15). */
import { Composer, Lexer, Parser, type Document } from 'yaml'
import { withinLimit, type Limits } from '../limits.ts'
import { positionAt } from './store.ts'
import { createPieces, type Pieces } from './yaml-pieces.ts'

/** What the lexer puts before a plain scalar. */
const PLAIN_MARK = '\u001f'
/** Parser states that one level of nesting may take, with some to spare for the document itself. */
const STATES_PER_LEVEL = 3
/** Lexemes beside white space that one node may take: quotes apart, a mark, `:`, `,`, a tag, an anchor. */
const LEXEMES_PER_NODE = 8
/** Lines that one node may take, on average: what the tool writes takes one, a text of many lines is one node. */
const LINES_PER_NODE = 3

type Token = Parameters<Composer['next']>[0]

/** A text that is no YAML we take. The message never quotes it. */
export class YamlFault extends Error {
  override readonly name = 'YamlFault'
  /** Both from 1. */
  readonly at: { readonly line: number; readonly column: number } | undefined

  constructor(what: string, at?: { readonly line: number; readonly column: number }) {
    super(what)
    this.at = at
  }
}

function linesOf(source: string): number {
  let lines = 1
  for (let i = source.indexOf('\n'); i !== -1; i = source.indexOf('\n', i + 1)) lines += 1
  return lines
}

/**
 * Splits the text into tokens of whole documents, counting before anything is built: documents,
 * nesting, nodes, lines of text.
 */
function* tokensOf(source: string, limits: Limits): Generator<Token | undefined, undefined> {
  // Each line may become tokens of its own, which together would fill the heap before they are counted.
  withinLimit(limits, 'nodes', Math.ceil(linesOf(source) / LINES_PER_NODE))
  const parser = new Parser()
  const states = limits.depth * STATES_PER_LEVEL + 16
  let documents = 0
  let lexemes = 0
  let lines = 0
  let separators = 0
  let aliases = 0
  for (const lexeme of new Lexer().lex(source)) {
    const first = lexeme[0]
    if (first === '%') throw new YamlFault('a % directive')
    // Each costs the composer a search and the heap an object, long before anybody follows it.
    if (first === '*' && lexeme.length > 1) withinLimit(limits, 'aliases', (aliases += 1))
    if (first !== ' ' && first !== '\n' && first !== '\r' && first !== '\t' && first !== '#') {
      lexemes += 1
      if (lexemes > limits.nodes * LEXEMES_PER_NODE) withinLimit(limits, 'nodes', limits.nodes + 1)
      // The composer takes time for each line of a text, all at once.
      if (lexeme.length > 1 && first !== PLAIN_MARK) {
        for (let i = lexeme.indexOf('\n'); i !== -1; i = lexeme.indexOf('\n', i + 1)) lines += 1
        if (lines > limits.nodes) withinLimit(limits, 'nodes', lines)
      }
    }
    // A run of commas or anchors without values only makes the composer collect errors.
    if (lexeme === ',' || first === '&') {
      separators += 1
      if (separators > 1 && lexeme === ',') throw new YamlFault('a list or mapping has an empty place')
      if (separators > 4) throw new YamlFault('several anchors on one value')
    } else if (first !== ' ' && first !== '\n' && first !== '\r' && first !== '\t' && first !== '#')
      separators = 0
    for (const token of parser.next(lexeme)) {
      if (token.type === 'document') withinLimit(limits, 'documents', (documents += 1))
      yield token
    }
    if (parser.stack.length > states) withinLimit(limits, 'depth', limits.depth + 1)
    yield
  }
  for (const token of parser.end()) {
    if (token.type === 'document') withinLimit(limits, 'documents', (documents += 1))
    yield token
  }
  return undefined
}

/** Offset that the library reports an error at, in one of its three forms. */
function offsetOf(at: unknown): number {
  if (typeof at === 'number') return at
  if (Array.isArray(at)) return at[0] as number
  return (at as { offset?: number }).offset ?? 0
}

/** A document whose collections may be in pieces. */
export interface LoadedDocument {
  readonly document: Document.Parsed
  readonly pieces: Pieces
}

/**
 * The documents of a text, one after the other; undefined where the caller may rest.
 * @throws YamlFault at the first error
 * @throws BackendError `LIMIT_EXCEEDED`
 */
export function* yamlDocuments(
  source: string,
  limits: Limits,
): Generator<LoadedDocument | undefined, undefined> {
  let first: YamlFault | undefined
  // Its own messages may quote the text; its codes never do. It catches what is thrown inside and
  // reports that as an error in turn, so the first fault is kept.
  const fail = (offset: number, code: string): never => {
    first ??= new YamlFault(code.toLowerCase().replaceAll('_', ' '), positionAt(source, offset))
    throw first
  }
  const newComposer = (): Composer => {
    const composer = new Composer({
      schema: 'failsafe',
      uniqueKeys: false,
      version: '1.2',
      keepSourceTokens: true,
    })
    // The composer would go on and collect one error a character; the first one is enough.
    return Object.assign(composer, {
      onError: (at: unknown, code: string, _message: string, isWarning?: boolean) => {
        if (isWarning !== true) fail(offsetOf(at), code)
      },
    })
  }
  const composer = newComposer()
  const pieces = createPieces((token) => {
    const [document] = newComposer().compose([token])
    return document
  })
  function* checked(documents: Iterable<unknown>): Generator<LoadedDocument, undefined> {
    for (const one of documents) {
      const document = one as Document.Parsed
      const [error] = document.errors
      if (error !== undefined) fail(error.pos[0], error.code)
      yield { document, pieces }
    }
    return undefined
  }
  let nodes = 0
  for (const token of tokensOf(source, limits)) {
    yield undefined
    if (token === undefined) continue
    for (const found of pieces.takeApart(token)) {
      withinLimit(limits, 'nodes', (nodes += found))
      yield undefined
    }
    yield* checked(composer.next(token))
  }
  return yield* checked(composer.end())
}
