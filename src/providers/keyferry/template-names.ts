/** Owns what can be said of a parsed template without a value: its names, its filters, what is not taken. Pure. */
import {
  ForTag,
  IfTag,
  toValueSync,
  TypeGuards,
  UnlessTag,
  Value,
  type PropertyAccessToken,
  type Template,
  type Token,
} from 'liquidjs'
import { nearMiss } from '../../formats/near-miss.ts'
import { FILTERS } from './template-filters.ts'
import { clipped, type TemplateFault } from './template-parse.ts'

/** What a template needs of its names. */
export interface NameUse {
  readonly used: ReadonlySet<string>
  /** Names with members, or that are gone through, which are read as JSON; and where that is asked for first. */
  readonly documents: ReadonlyMap<string, number>
  readonly faults: readonly TemplateFault[]
}

/** Walks through the templates once. @param names what the values are called */
export function nameUse(templates: readonly Template[], names: ReadonlySet<string>): NameUse {
  const used = new Set<string>()
  const documents = new Map<string, number>()
  const faults: TemplateFault[] = []
  const fault = (token: Pick<Token, 'begin'>, message: string, remedy?: string): void => {
    faults.push({
      code: 'KEYFERRY_TEMPLATE',
      message,
      at: token.begin,
      ...(remedy !== undefined && { remedy }),
    })
  }

  function access(token: PropertyAccessToken, local: ReadonlySet<string>, asDocument: boolean): void {
    const [root, ...members] = token.props
    const name = root && (TypeGuards.isWordToken(root) || TypeGuards.isQuotedToken(root)) && root.content
    if (token.variable !== undefined || typeof name !== 'string')
      return fault(token, 'members can only be taken of a name')
    if (members.length > MAX_PARTS) return fault(token, `has more than ${MAX_PARTS} members`)
    for (const member of members) if (!TypeGuards.isWordToken(member)) operand(member, local)
    if (local.has(name)) return
    if (!names.has(name)) {
      const meant = nearMiss(name, names)
      faults.push({
        code: 'KEYFERRY_TEMPLATE_NAME',
        message: `"${clipped(name)}" is not the name of a value`,
        remedy: meant === undefined ? `There are ${listed(names)}` : `Is "${meant}" meant?`,
        at: token.begin,
      })
      return
    }
    used.add(name)
    if ((asDocument || members.length > 0) && !documents.has(name)) documents.set(name, token.begin)
  }

  function operand(token: Token, local: ReadonlySet<string>, asDocument = false): void {
    if (TypeGuards.isPropertyAccessToken(token)) access(token, local, asDocument)
    else if (TypeGuards.isQuotedToken(token)) {
      const text = token.getText()
      if (text.length < 2 || !text.endsWith(text.charAt(0))) fault(token, 'a quote is not closed')
    } else if (TypeGuards.isLiteralToken(token)) {
      if (token.literal === 'empty' || token.literal === 'blank')
        fault(token, `the word ${token.literal} is not taken`, 'Compare with ""')
    } else if (!TypeGuards.isNumberToken(token)) fault(token, 'ranges and parentheses are not taken')
  }

  function value(one: Value, tag: Token, local: ReadonlySet<string>): void {
    if (one.initial.postfix.length + one.filters.length > MAX_PARTS)
      return fault(tag, `has more than ${MAX_PARTS} values, operators and filters`)
    let operands = 0
    for (const token of one.initial.postfix) {
      if (TypeGuards.isOperatorToken(token)) operands -= token.operator === 'not' ? 0 : 1
      else {
        operands += 1
        operand(token, local)
      }
      if (operands < 1) break
    }
    if (operands !== 1)
      fault(
        one.initial.postfix[0] ?? tag,
        'values and operators do not fit together',
        'Between two values stands one of == != < > <= >= and or',
      )
    for (const { name, args } of one.filters) {
      if (name === ESCAPE_FILTER) continue
      const known = FILTERS.get(name)
      // Where a filter stands is Liquid's secret: behind the first | with its name.
      const bar = tag.input.indexOf('|', tag.begin)
      const place = { begin: Math.max(tag.input.indexOf(name, bar), tag.begin) }
      if (!known) {
        const meant = nearMiss(name, FILTERS.keys())
        fault(
          place,
          `there is no filter "${clipped(name)}"`,
          meant === undefined ? `There are ${[...FILTERS.keys()].join(', ')}` : `Is "${meant}" meant?`,
        )
      } else if (args.length !== known.args)
        fault(place, `the filter "${name}" takes ${known.args === 0 ? 'no argument' : 'one argument'}`)
      for (const arg of args) {
        if (Array.isArray(arg)) fault(place, `the filter "${clipped(name)}" takes no named argument`)
        else operand(arg, local)
      }
    }
  }

  function visit(template: Template, local: ReadonlySet<string>): void {
    let inner = local
    if (template instanceof ForTag) {
      operand(template.collection, local, true)
      const end = template.token.contentRange[1]
      if (template.token.input.slice(template.collection.end, end).trim() !== '')
        fault(template.token, 'a "for" takes nothing behind its list')
      if (template.variable === 'forloop') fault(template.token, 'the word forloop is not taken')
      inner = new Set([...local, template.variable, 'forloop'])
    } else {
      const isCondition = template instanceof IfTag || template instanceof UnlessTag
      for (const one of template.arguments?.() ?? []) {
        if (!(one instanceof Value)) continue
        value(one, template.token, local)
        const [only, more] = one.initial.postfix
        // It would be worth nothing, and cost time that nobody counts.
        if (isCondition && only && !more && !TypeGuards.isPropertyAccessToken(only))
          fault(only, 'a condition asks for no value')
      }
    }
    if (!template.children) return
    const children = toValueSync(template.children(false, true)) as readonly Template[]
    for (const child of children) visit(child, inner)
  }

  for (const template of templates) visit(template, new Set())
  return { used, documents, faults }
}

/** Most members of a name, and most parts of an expression: what the engine evaluates between two steps. */
const MAX_PARTS = 40

/** What Liquid calls the filter that it adds for `escape`. */
const ESCAPE_FILTER = '[object Function]'

/** How many names a remedy lists. */
const MAX_LISTED = 6

function listed(names: ReadonlySet<string>): string {
  const shown = [...names]
    .slice(0, MAX_LISTED)
    .map((name) => clipped(name))
    .join(', ')
  return names.size > MAX_LISTED ? `${shown} and ${names.size - MAX_LISTED} more` : shown
}
