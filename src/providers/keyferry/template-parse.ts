/**
 * Owns how the text of a template becomes Liquid's templates: the closed list of tags, bounds that hold before
 * anything is parsed, and faults in our words.
 */
import { LiquidError, Parser, Tokenizer, TypeGuards, type Liquid, type Template } from 'liquidjs'
import { nearMiss } from '../../formats/near-miss.ts'

/** A fault of the template's text. */
export interface TemplateFault {
  readonly code: 'KEYFERRY_TEMPLATE' | 'KEYFERRY_TEMPLATE_NAME'
  readonly message: string
  readonly remedy?: string
  /** Position in the template, in characters from its start. */
  readonly at: number
}

/** Tags that open a block, and those inside of it. Each block ends with `end` and its name. */
const BLOCKS: ReadonlyMap<string, readonly string[]> = new Map([
  ['if', ['elsif', 'else']],
  ['unless', ['elsif', 'else']],
  ['for', ['else']],
  ['comment', []],
  ['raw', []],
])
/** Most blocks inside each other. */
const MAX_DEPTH = 20
/** Most characters of all tags and outputs together. */
const MAX_CODE = 12 * 1024
/** Most faults told of one template. */
const MAX_FAULTS = 10

/** Every tag by which a block can be opened, divided or closed. */
const TAGS: ReadonlySet<string> = new Set(
  [...BLOCKS].flatMap(([name, inner]) => [name, ...inner, `end${name}`]),
)

/** Removes what is not in the closed lists from an engine. */
export function restrict(liquid: Liquid, filters: Iterable<string>): void {
  const kept = new Set(filters)
  for (const name of Object.keys(liquid.filters)) if (!kept.has(name)) liquid.unregisterFilter(name)
  for (const name of Object.keys(liquid.tags)) if (!BLOCKS.has(name)) delete liquid.tags[name]
}

/** The templates of a text, as far as they can be understood, and what is wrong with it. */
export function parsed(
  liquid: Liquid,
  text: string,
): { readonly templates: readonly Template[]; readonly faults: readonly TemplateFault[] } {
  const templates: Template[] = []
  const faults: TemplateFault[] = []
  try {
    const tokenizer = new Tokenizer(text, liquid.options.operators)
    const tokens = tokenizer.readTopLevelTokens(liquid.options)
    const code = tokens.reduce((sum, token) => sum + (TypeGuards.isHTMLToken(token) ? 0 : token.size()), 0)
    if (code > MAX_CODE)
      faults.push({
        code: 'KEYFERRY_TEMPLATE',
        message: `has more than ${MAX_CODE} characters inside of {{ }} and {% %}`,
        at: 0,
      })
    const tags = tokens.flatMap((token) =>
      TypeGuards.isTagToken(token) ? [{ name: token.name, at: token.begin }] : [],
    )
    faults.push(...faultsOfTags(tags))
    if (faults.length > 0) return { templates, faults: faults.slice(0, MAX_FAULTS) }
    const parser = new Parser(liquid)
    for (let token = tokens.shift(); token !== undefined; token = tokens.shift()) {
      try {
        templates.push(parser.parseToken(token, tokens))
      } catch (error) {
        faults.push(faultOf(error, token.begin))
        // What follows a broken block only seems to be wrong.
        if (TypeGuards.isTagToken(token) || faults.length === MAX_FAULTS) break
      }
    }
  } catch (error) {
    faults.push(faultOf(error, 0))
  }
  return { templates, faults }
}

interface NamedTag {
  readonly name: string
  readonly at: number
}

/** Tags that are not there, and blocks that do not fit into each other. */
function faultsOfTags(tags: readonly NamedTag[]): TemplateFault[] {
  const faults: TemplateFault[] = []
  const open: NamedTag[] = []
  const fault = (at: number, message: string, remedy?: string): void => {
    faults.push({ code: 'KEYFERRY_TEMPLATE', message, at, ...(remedy !== undefined && { remedy }) })
  }
  for (const tag of tags) {
    const { name, at } = tag
    const block = open.at(-1)
    if (block?.name === 'comment' && name !== 'endcomment') continue
    if (!TAGS.has(name)) {
      const meant = nearMiss(name, TAGS)
      fault(
        at,
        `there is no tag "${clipped(name)}"`,
        meant === undefined ? `There are ${[...BLOCKS.keys()].join(', ')}` : `Is "${meant}" meant?`,
      )
    } else if (BLOCKS.has(name)) {
      open.push(tag)
      if (open.length === MAX_DEPTH + 1) fault(at, `blocks are nested deeper than ${MAX_DEPTH}`)
    } else if (!name.startsWith('end')) {
      if (block === undefined || !BLOCKS.get(block.name)?.includes(name))
        fault(at, `the tag "${name}" stands outside of a block that it could divide`)
    } else if (name === `end${block?.name}`) open.pop()
    else if (block === undefined) fault(at, `the tag "${name}" closes nothing`)
    else {
      fault(at, `the tag "${name}" stands where "end${block.name}" is expected`)
      // The blocks behind it would only seem to be wrong.
      return faults
    }
  }
  for (const { name, at } of open) fault(at, `the tag "${name}" is not closed by "end${name}"`)
  return faults
}

/** Beginnings of Liquid's messages, which quote the text, and what we say. */
const REASONS: readonly (readonly [beginning: string, reason: string])[] = [
  ['tag ', 'a {% is not closed by %}'],
  ['output ', 'a {{ is not closed by }}'],
  ['raw ', 'the tag "raw" is not closed by "endraw"'],
  ['illegal tag syntax', 'a {% %} names no tag'],
  ['illegal tag: ', 'a "for" is not written as for NAME in LIST'],
  ['invalid value expression', 'a value is missing'],
  [
    'expected "|" before filter',
    'the value is followed by something that is neither an operator nor a filter',
  ],
  ['expected filter name', 'a | is not followed by the name of a filter'],
  ['expected ":" after filter name', 'arguments of a filter begin with :'],
  ['unexpected character', 'arguments of a filter are separated by commas'],
  ['[ not closed', 'a [ is not closed by ]'],
  ['unexpected token', 'a value is missing'],
  ['invalid range syntax', 'parentheses are not taken'],
  ['unexpected elsif', 'an "elsif" stands behind "else"'],
  ['duplicated else', 'there is a second "else"'],
  ['unexpected ', 'the tag takes no arguments'],
]

function faultOf(error: unknown, at: number): TemplateFault {
  const known = LiquidError.is(error) ? error : undefined
  const message = known?.message ?? ''
  const reason = REASONS.find(([beginning]) => message.startsWith(beginning))?.[1]
  return {
    code: 'KEYFERRY_TEMPLATE',
    message: reason ?? 'cannot be understood',
    at: known?.token.begin ?? at,
  }
}

/** A word of the author, cut. */
export function clipped(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 60)}…`
}
