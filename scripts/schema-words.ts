/** Owns what keys mean, for the JSON Schemas: out of the tables of docs/, and out of comments beside schemas. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Path of a key, e.g. `leases.keep` → what it means, in plain text. */
export type Meanings = ReadonlyMap<string, string>

const ROOT = join(import.meta.dirname, '..')

/**
 * The tables of a page's section: every name of a first cell with the text of the last, or of the second one. A
 * name that is there twice keeps its first meaning.
 */
export function tableOf(page: string, section: string, column: 1 | -1 = -1): Meanings {
  const text = readFileSync(join(ROOT, 'docs', page), 'utf8')
  const part = text.split(`\n## ${section}\n`)[1]?.split('\n## ')[0]
  if (part === undefined) throw new Error(`docs/${page} has no section ${section}`)
  const meanings = new Map<string, string>()
  for (const line of part.split('\n').filter((one) => one.startsWith('| '))) {
    const cells = line.slice(2, -2).split(' | ')
    const meaning = plainText((cells.at(column) ?? '').replace(/: \[[^\]]*\]\([^)]*\)$/, ''))
    for (const [, name = ''] of (cells[0] ?? '').matchAll(/`([A-Za-z][\w.-]*)`/g))
      if (meaning !== '' && !meanings.has(name)) meanings.set(name, meaning)
  }
  return meanings
}

/** The comments above the keys of object schemas in src/providers, those of later places over earlier ones. */
export function commentsOf(places: readonly (readonly [file: string, name: string])[]): Meanings {
  const meanings = new Map<string, string>()
  for (const [file, name] of places) {
    const text = readFileSync(join(ROOT, 'src/providers', file), 'utf8')
    const [, block] = text.split(new RegExp(`const ${name} = (?:v\\.strictObject\\()?\\{\n`))
    if (block === undefined) throw new Error(`src/providers/${file} has no schema ${name}`)
    for (const [key, meaning] of keysOf(block.split(/^\}/m)[0] ?? '')) meanings.set(key, meaning)
  }
  return meanings
}

function* keysOf(block: string): Generator<[string, string]> {
  const parents: string[] = []
  let comment = ''
  for (const line of block.split('\n')) {
    const [, indent = '', key] = /^( +)(\w+): v\./.exec(line) ?? []
    if (key === undefined) {
      comment = /^ +\/?\*/.test(line)
        ? `${comment} ${line.replace(/^ +\/?\*+(?: |\/$)?|\*\/$/g, '')}`
        : comment
      continue
    }
    // Objects of objects are wrapped: their keys stand two levels further in.
    parents.length = Math.floor((indent.length - 2) / 4)
    const path = [...parents, key].join('.')
    parents.push(key)
    if (comment.trim() !== '') yield [path, plainText(comment.trim())]
    comment = ''
  }
}

/** Without the marks of Markdown and of doc comments. */
function plainText(text: string): string {
  const plain = text
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replaceAll(/\{@link ([^}]*)\}/g, '$1')
    .replaceAll(/[`*]/g, '')
    .replaceAll(/\s+/g, ' ')
    .trim()
  return plain === '' || /[.!?]$/.test(plain) ? plain : `${plain}.`
}
