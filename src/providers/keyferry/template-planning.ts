/** Owns the templates of a class that is being planned: compiled, their faults reported with their place. Pure. */
import type { Path } from './language.ts'
import type { Planning } from './planning.ts'
import type { CompiledTemplate } from './template-engine.ts'
import type { Escape } from './template-filters.ts'
import { tagsIn } from './template-text.ts'

/** Most of all templates of a class together, so that planning it stays short. */
const MAX_TOGETHER = { characters: 64 * 1024, tags: 600, faults: 30 }

interface Wanted {
  /** Path of the file. */
  readonly path: string
  readonly text: string
  readonly escape: Escape | undefined
  readonly names: readonly string[]
}

/** The template of the entry at `at`, or undefined with its faults reported. */
export function compiledTemplate(
  { path, text, escape, names }: Wanted,
  at: Path,
  {
    reading,
    problems,
    templates,
    warnings,
  }: Pick<Planning, 'reading' | 'problems' | 'templates' | 'warnings'>,
): CompiledTemplate | undefined {
  const { compiler, maxBytes } = templates
  if (!compiler) throw new Error('a class with a template was planned without prepare')
  const place = [...at, 'template']
  templates.characters += text.length
  templates.tags += tagsIn(text)
  if (templates.characters > MAX_TOGETHER.characters || templates.tags > MAX_TOGETHER.tags) {
    problems.push(
      reading.problemAt(place, {
        code: 'KEYFERRY_TEMPLATE',
        message: `is over the limit of all templates together: ${MAX_TOGETHER.characters} characters, ${MAX_TOGETHER.tags} tags`,
        remedy: 'Split the SecretProviderClass',
      }),
    )
    return undefined
  }
  const compiled = compiler({ text, escape, names: new Set(names), maxBytes })
  if ('faults' in compiled) {
    for (const { at: offset, code, message, remedy } of compiled.faults) {
      templates.faults += 1
      if (templates.faults > MAX_TOGETHER.faults) break
      problems.push(
        reading.problemInside(place, placeIn(text, offset), {
          code,
          message: `${message} (file "${path.slice(0, 100)}")`,
          ...(remedy !== undefined && { remedy }),
        }),
      )
    }
    return undefined
  }
  const unused = names.filter((name) => !compiled.used.has(name))
  if (unused.length > 0)
    warnings.push(
      `the template of "${path.slice(0, 100)}" does not use ${unused
        .slice(0, 5)
        .map((name) => `"${name.slice(0, 100)}"`)
        .join(', ')}`,
    )
  return compiled
}

function placeIn(text: string, offset: number): { readonly line: number; readonly column: number } {
  const before = text.slice(0, offset).split('\n')
  return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 }
}
