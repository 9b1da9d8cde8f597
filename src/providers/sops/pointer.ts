/** Owns the two notations of a path into a document: JSON Pointer and SOPS's brackets (sops A12). */
import type { Tree } from './tree.ts'

/** One step: a mapping's key, or a position in a list. A pointer's digits may be either. */
export type Step = { readonly key: string } | { readonly position: number } | { readonly either: string }

const POSITION = /^(?:0|[1-9]\d{0,8})$/

/** Escaped JSON Pointer of keys and positions; `""` prints as `(root)`. */
export function pointerOf(steps: readonly string[]): string {
  if (steps.length === 0) return '(root)'
  const whole = steps.map((step) => `/${step.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
  return JSON.stringify(whole.length > 200 ? `${whole.slice(0, 200)}…` : whole)
}

/** `/db/password`, with `~1` for `/` and `~0` for `~`; the empty text is the whole document. */
function parseJsonPointer(text: string): readonly Step[] | undefined {
  if (text === '') return []
  if (!text.startsWith('/')) return undefined
  const steps: Step[] = []
  for (const raw of text.slice(1).split('/')) {
    if (/~(?![01])/.test(raw)) return undefined
    steps.push({ either: raw.replaceAll('~1', '/').replaceAll('~0', '~') })
  }
  return steps
}

/** `["db"]["password"]`, `["hosts"][0]`; the quoted part is a JSON text without escapes but `\"` and `\\`. */
function parseBrackets(text: string): readonly Step[] | undefined {
  const steps: Step[] = []
  const piece = /\[(?:"((?:[^"\\]|\\["\\])*)"|(0|[1-9]\d{0,8}))\]/y
  while (piece.lastIndex < text.length) {
    const match = piece.exec(text)
    if (match === null) return undefined
    const [, key, position] = match
    steps.push(key === undefined ? { position: Number(position) } : { key: key.replace(/\\(["\\])/g, '$1') })
  }
  return steps
}

/** Steps of a path; undefined when it is in neither notation. */
export function parsePath(text: string): readonly Step[] | undefined {
  return text.startsWith('[') ? parseBrackets(text) : parseJsonPointer(text)
}

function take(trees: readonly Tree[], step: Step): readonly Tree[] {
  return trees.flatMap((tree) => {
    if (tree.type === 'map') {
      const key = 'key' in step ? step.key : 'either' in step ? step.either : undefined
      return tree.entries.filter((entry) => entry.key === key).map((entry) => entry.value)
    }
    if (tree.type !== 'list') return []
    const digits = 'either' in step ? step.either : 'position' in step ? String(step.position) : ''
    const item = POSITION.test(digits) ? tree.items[Number(digits)] : undefined
    return item === undefined ? [] : [item]
  })
}

/** The value under a path; with repeated INI sections, of the first section that has it. */
export function valueAt(tree: Tree, steps: readonly Step[]): Tree | undefined {
  return steps.reduce<readonly Tree[]>(take, [tree])[0]
}
