/** Owns where a line and column inside a YAML scalar's text stand in the file that holds the scalar. */
import { isNode, Scalar, type LineCounter } from 'yaml'

/** A position in a file, both from 1; columns count UTF-16 units, as editors and SARIF do. */
export interface Place {
  readonly line: number
  readonly column: number
}

/** A YAML file's text with what is needed to name places in it. */
export interface SourceText {
  readonly text: string
  readonly lines: LineCounter
}

export function placeAt({ lines }: SourceText, offset: number): Place {
  const { line, col } = lines.linePos(offset)
  return { line, column: col }
}

/** Where a node begins; the file's first character for what is no node of it. */
export function placeOf(source: SourceText, node: unknown): Place {
  return placeAt(source, isNode(node) && node.range ? node.range[0] : 0)
}

/**
 * Where line and column of the scalar's value stand in the file. A block scalar's lines are those of the
 * file, indented; of a text on one line the columns move. Where folding or escapes have moved the text
 * about, the scalar's beginning stands for all of it.
 */
export function placeInScalar(source: SourceText, scalar: Scalar, value: string, at: Place): Place {
  const [from, to] = scalar.range ?? [0, 0]
  const start = placeAt(source, from)
  if (scalar.type === Scalar.BLOCK_LITERAL || scalar.type === Scalar.BLOCK_FOLDED) {
    const wanted = lineOf(value, at.line)
    const found = lineOf(source.text, start.line + at.line)
    if (wanted === undefined || found === undefined || !found.endsWith(wanted)) return start
    return { line: start.line + at.line, column: found.length - wanted.length + at.column }
  }
  const raw = source.text.slice(from, to)
  const quote = raw.startsWith('"') || raw.startsWith("'") ? 1 : 0
  if (at.line !== 1 || raw.slice(quote, raw.length - quote) !== value) return start
  return { line: start.line, column: start.column + quote + at.column - 1 }
}

/** A line of `text` from 1, without its line break. */
function lineOf(text: string, line: number): string | undefined {
  let from = 0
  for (let n = 1; n < line; n += 1) {
    const end = text.indexOf('\n', from)
    if (end === -1) return undefined
    from = end + 1
  }
  const end = text.indexOf('\n', from)
  const found = text.slice(from, end === -1 ? undefined : end)
  return found.endsWith('\r') ? found.slice(0, -1) : found
}
