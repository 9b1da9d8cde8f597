/** Owns `target.template` of an ExternalSecret: Go templates that name values, as templates of the keyferry language. */
import type { Extract, Taken, TemplateEntry } from './entries.ts'
import type { Field } from './field.ts'
import { literalProperty } from './gjson.ts'

/** What a template may name. */
export interface TemplateValues {
  readonly apiVersion: string
  /** `data` of the ExternalSecret by its secret keys. */
  readonly data: ReadonlyMap<string, Taken>
  /** The only `dataFrom`: other names are members of it. */
  readonly extract: Extract | undefined
}

export interface TemplatePlan {
  readonly entries: readonly TemplateEntry[]
  /** The templates stand in place of the values, which get no files of their own. */
  readonly replaces: boolean
}

const NO_SECRET = 'no Kubernetes Secret is made'

/** The files that a template makes. */
export function templateEntries(template: Field | undefined, values: TemplateValues): TemplatePlan {
  if (template === undefined) return { entries: [], replaces: false }
  template
    .get('type')
    ?.changed(NO_SECRET, 'The files have the names of its keys: mount them where they are read')
  template.get('metadata')?.changed(NO_SECRET, 'Nothing, unless somebody reads its labels or annotations')
  template.get('metadata')?.ignore()
  const from = template.get('templateFrom')
  from?.lost(
    'templates of ConfigMaps, Secrets and literals that make several keys are not read',
    'Write each file as a template in the class (docs/templates.md)',
  )
  const data = template.get('data')
  const merges = template.get('mergePolicy')?.text() === 'Merge'
  const replaces = !merges && (from !== undefined || data !== undefined)
  const engine = template.get('engineVersion')
  const version = engine?.text() ?? (values.apiVersion.endsWith('/v1alpha1') ? 'v1' : 'v2')
  if (version !== 'v2') {
    ;(engine ?? data)?.lost(
      'templates of engine v1 are not carried over',
      'Move to engineVersion v2 first, or write the template anew (docs/templates.md)',
    )
    data?.ignore()
    return { entries: [], replaces }
  }
  const entries = Array.from(data?.entries() ?? []).flatMap(
    ([path, field]) => entryOf(path, field, values) ?? [],
  )
  return { entries, replaces }
}

const REMEDY = 'Write the template anew in the language of docs/templates.md'

function entryOf(path: string, field: Field, values: TemplateValues): TemplateEntry | undefined {
  if (!/^[-._a-zA-Z0-9]{1,253}$/.test(path) || path === '.' || path.startsWith('..'))
    return field.lost(
      'the name of the file is itself a template, or no name of a file',
      'Give it a plain name',
    )
  const text = field.text()
  if (text === undefined) return undefined
  const parts = partsOf(text)
  if (typeof parts === 'string') return field.lost(parts, REMEDY)
  const refs = new Map<string, Taken>()
  const made: string[] = []
  const about: string[] = []
  for (const part of parts) {
    if ('text' in part) {
      made.push(part.text)
      continue
    }
    const written = actionText(part, values, refs)
    if ('fault' in written) return field.lost(written.fault, REMEDY)
    about.push(...written.about)
    made.push(written.text)
  }
  if (refs.size === 0) {
    // A file needs an object, and this one is fetched anyway.
    const [first] = values.data
    if (first === undefined)
      return field.lost(
        'a text without any value is no secret, so no file is made of it',
        'Put it into a ConfigMap',
      )
    refs.set(...first)
    field.changed(
      `a file needs an object, so "${first[0].slice(0, 100)}" is fetched for this text without a value`,
      'Put the text into a ConfigMap instead, if it can stand there',
    )
  }
  for (const change of new Set(about)) field.changed(change, 'Check that the reader of the file takes both')
  return { path, template: made.join(''), refs: Array.from(refs, ([name, taken]) => ({ name, ...taken })) }
}

interface Action {
  /** With their trim markers. */
  readonly open: string
  readonly close: string
  readonly pipe: string
}

/** Text and actions of a Go template, or why it cannot be read. */
function partsOf(template: string): readonly ({ readonly text: string } | Action)[] | string {
  const parts: ({ readonly text: string } | Action)[] = []
  let from = 0
  for (let at = template.indexOf('{{'); at !== -1; at = template.indexOf('{{', from)) {
    const end = template.indexOf('}}', at)
    if (end === -1) return 'the template has a {{ without its }}'
    const literal = literalText(template.slice(from, at))
    if (literal === undefined) return LIQUID_TEXT
    parts.push({ text: literal })
    const inner = template.slice(at + 2, end)
    const trimsBefore = /^-\s/.test(inner)
    const trimsBehind = /\s-$/.test(inner)
    const pipe = inner.slice(trimsBefore ? 1 : 0, trimsBehind ? -1 : undefined).trim()
    if (pipe.includes('{{')) return COMPLEX
    parts.push({ open: trimsBefore ? '{{-' : '{{', close: trimsBehind ? '-}}' : '}}', pipe })
    from = end + 2
  }
  const rest = literalText(template.slice(from))
  if (rest === undefined) return LIQUID_TEXT
  return [...parts, { text: rest }]
}

const COMPLEX =
  'the template does more than writing values: Go conditions, loops, variables and functions are not carried over'
const LIQUID_TEXT = 'the text has marks that mean something in a template of a class'

/** Text that Liquid writes as it stands; undefined for what it cannot be told to. */
function literalText(text: string): string | undefined {
  if (!text.includes('{%')) return text
  return text.includes('endraw') ? undefined : `{% raw %}${text}{% endraw %}`
}

const NAME = /^(?:\.([A-Za-z_][A-Za-z0-9_]*)|\(?index\s+\.\s+"([-._a-zA-Z0-9]+)"\)?)$/
const WORD = /^[A-Za-z_][A-Za-z0-9_]*$/
/** Words that Liquid takes for something else. */
const RESERVED: ReadonlySet<string> = new Set([
  'true',
  'false',
  'nil',
  'null',
  'empty',
  'blank',
  'and',
  'or',
  'not',
  'contains',
  'in',
  'forloop',
])

/** A Go function as filters, and what is different about them. */
const FUNCTIONS: ReadonlyMap<string, { readonly filters: string; readonly about?: string }> = new Map([
  ['toString', { filters: '' }],
  ['b64enc', { filters: ' | base64' }],
  ['trim', { filters: ' | strip' }],
  ['toRawJson', { filters: ' | json' }],
  ['squote', { filters: ` | prepend: "'" | append: "'"` }],
  [
    'toJson',
    {
      filters: ' | json',
      about: 'the function toJson writes <, > and & as \\u escapes, the filter json as they are',
    },
  ],
  [
    'quote',
    {
      filters: ' | json',
      about: 'the function quote writes control characters as Go does, the filter json as JSON does',
    },
  ],
  [
    'urlquery',
    { filters: ' | url', about: 'the function urlquery writes a blank as +, the filter url as %20' },
  ],
])

type Written = { readonly text: string; readonly about: readonly string[] } | { readonly fault: string }

/** One action in the keyferry language. The values that it names are added to `refs`. */
function actionText(
  { open, close, pipe }: Action,
  values: TemplateValues,
  refs: Map<string, Taken>,
): Written {
  const [first = '', ...functions] = pipe.split('|').map((one) => one.trim())
  const [, dotted, indexed] = NAME.exec(first) ?? []
  const name = dotted ?? indexed
  if (name === undefined) return { fault: COMPLEX }
  const taken = values.data.get(name) ?? memberOf(name, values.extract)
  if (taken === undefined)
    return {
      fault: `the template names "${name.slice(0, 100)}", of which it is not plain where it comes from`,
    }
  let ref = name
  if (functions[0] === 'b64dec') {
    if (taken.decode !== undefined) return { fault: 'a value is decoded once only' }
    functions.shift()
    ref = `${name}_b64dec`
    if (values.data.has(ref)) return { fault: `"${ref.slice(0, 100)}" is the name of another value` }
    refs.set(ref, { ...taken, decode: 'base64' })
  } else refs.set(ref, taken)
  const filters: string[] = []
  const about: string[] = []
  for (const one of functions) {
    const known = FUNCTIONS.get(one)
    const [, fallback] = /^default\s+"([^"\\{}]*)"$/.exec(one) ?? []
    if (known === undefined && fallback === undefined)
      return { fault: `the function "${(/^[A-Za-z0-9]{1,40}/.exec(one) ?? ['?'])[0]}" is not carried over` }
    filters.push(known?.filters ?? ` | default: "${fallback}"`)
    if (known?.about !== undefined) about.push(known.about)
  }
  const shown = WORD.test(ref) && !RESERVED.has(ref) ? ref : `[${JSON.stringify(ref)}]`
  return { text: `${open} ${shown}${filters.join('')} ${close}`, about }
}

/** A name that `data` does not have is a member of the only document that is extracted. */
function memberOf(name: string, extract: Extract | undefined): Taken | undefined {
  if (extract === undefined || extract.renamed) return undefined
  const { taken } = extract
  // A literal name with points in it could not be told from a path any more.
  if (/[\\.]/.test(taken.property ?? '')) return undefined
  const member = literalProperty(name)
  return { ...taken, property: taken.property === undefined ? member : `${taken.property}.${member}` }
}
