/**
 * Owns templates: a text in a small part of Liquid, read when the class is planned, rendered with the values of a
 * mount. Imported when a class has a template, since this brings the engine into the process.
 *
 * The engine is used for its grammar and its control flow. What reaches values is ours: `template-render.ts` and
 * `template-filters.ts`.
 */
import { Liquid } from 'liquidjs'
import { FILTERS, type Escape } from './template-filters.ts'
import { nameUse } from './template-names.ts'
import { parsed, restrict, type TemplateFault } from './template-parse.ts'
import {
  MAX_WORK,
  OPERATORS,
  plain,
  rendered,
  spenderOf,
  STEP,
  type ReadTemplate,
} from './template-render.ts'
import { tagsIn } from './template-text.ts'

/** Longest text of a template, in characters. */
const MAX_TEXT = 32 * 1024
/** Most tags and outputs of a template. */
const MAX_TAGS = 300
/** Most KiB of all read templates that are kept. */
const MAX_KEPT_KIB = 8000
export interface TemplateOptions {
  readonly text: string
  /** Filter that ends every output without an escaping one of its own. */
  readonly escape: Escape | undefined
  /** What the values are called. */
  readonly names: ReadonlySet<string>
  /** Most bytes of what is rendered. */
  readonly maxBytes: number
}

/** A template without faults. */
export interface CompiledTemplate {
  /** Names that it asks for. */
  readonly used: ReadonlySet<string>
  /** Those of them that have to be JSON, because it asks for their members. */
  readonly documents: ReadonlySet<string>
  /**
   * The file. A value that is not in `values` is missing, and may be.
   * @throws SelectError naming line and expression, never a value
   */
  readonly render: (values: ReadonlyMap<string, Uint8Array>) => Uint8Array
}

/** Reads a template: what it is, or all its faults at once. Pure. */
export type TemplateCompiler = (options: TemplateOptions) => CompiledTemplate | Faulty

/** Makes a compiler, which keeps one engine for each way of escaping, and what was read last. */
export function createTemplateCompiler(): TemplateCompiler {
  const engines = new Map<Escape | undefined, Liquid>()
  const kept = keptTemplates()
  const read = ({ text, names, escape }: TemplateOptions): ReadTemplate | Faulty => {
    const liquid = engines.get(escape) ?? engineFor(escape)
    engines.set(escape, liquid)
    const { templates, faults } = parsed(liquid, text)
    const use = nameUse(templates, names)
    const all = [...faults, ...use.faults].sort((a, b) => a.at - b.at)
    return all.length > 0 ? { faults: all } : { liquid, templates, use }
  }
  return (options) => {
    const { text, names, escape, maxBytes } = options
    if (text.length > MAX_TEXT) return tooLong(`${MAX_TEXT} characters`)
    const tags = tagsIn(text)
    if (tags > MAX_TAGS) return tooLong(`${MAX_TAGS} tags`)
    const key = JSON.stringify([escape, [...names], text])
    // A plan outlives what was read: that takes a hundred times the memory of its text.
    const current = (): ReadTemplate | Faulty => kept(key, tags, () => read(options))
    const first = current()
    if ('faults' in first) return first
    const { used, documents } = first.use
    return {
      used,
      documents: new Set(documents.keys()),
      render: (values) => {
        const again = current()
        if ('faults' in again) throw new Error('a template has faults that it did not have')
        return rendered(again, values, text, maxBytes)
      },
    }
  }
}

interface Faulty {
  readonly faults: readonly TemplateFault[]
}

/** About how many KiB a read template takes: its text and its key, two bytes a character, and 1 KiB for each tag. */
function sizeOf(key: string, tags: number): number {
  return tags + Math.ceil((4 * key.length) / 1024)
}

/** Gives what was read before under a key, or reads it; the least recently used is forgotten first. */
function keptTemplates() {
  const entries = new Map<string, { readonly value: ReadTemplate | Faulty; readonly size: number }>()
  let total = 0
  return (key: string, tags: number, make: () => ReadTemplate | Faulty): ReadTemplate | Faulty => {
    const known = entries.get(key)
    const value = known?.value ?? make()
    const size = sizeOf(key, tags)
    entries.delete(key)
    entries.set(key, { value, size })
    total += known ? 0 : size
    for (const [oldest, { size: freed }] of entries) {
      if (total <= MAX_KEPT_KIB) break
      entries.delete(oldest)
      total -= freed
    }
    return value
  }
}

function tooLong(limit: string): Faulty {
  return { faults: [{ code: 'KEYFERRY_TEMPLATE', message: `is over the limit of ${limit}`, at: 0 }] }
}

/** An engine with our tags, filters and operators only. It has no files and no network to reach. */
function engineFor(escape: Escape | undefined): Liquid {
  const liquid = new Liquid({
    strictVariables: true,
    strictFilters: false, // Unknown filters are told by us, all at once and with their places.
    lenientIf: true,
    ownPropertyOnly: true,
    relativeReference: false,
    dynamicPartials: false,
    templates: {},
    operators: OPERATORS,
    locale: 'en', // Else it is asked of Intl, whose first use takes 20 ms.
    parseLimit: MAX_TEXT,
    memoryLimit: MAX_WORK,
    ...(escape !== undefined && {
      outputEscape: function (this: { context?: unknown }, value: unknown): string {
        return FILTERS.get(escape)?.apply(plain(value), undefined, spenderOf(this.context)) as string
      },
    }),
  })
  restrict(liquid, [])
  for (const [name, { final = false, apply }] of FILTERS)
    liquid.registerFilter(name, {
      raw: final,
      handler(value: unknown, arg: unknown) {
        const spend = spenderOf(this.context)
        spend(STEP)
        return apply(plain(value), plain(arg), spend)
      },
    })
  return liquid
}
