/** Owns editing INI documents line by line; comments and order stay (sops A20). */
import { flatten } from '../../flatten.ts'
import { iniLine, iniMetadataLine } from '../emit/ini.ts'
import { flatText } from '../emit/text.ts'
import { ageList } from '../seal.ts'
import { cannotEdit, type Edits } from './edits.ts'

/** What a line of the file is. A value over several lines is one entry with all of them. */
interface Item {
  readonly kind: 'section' | 'entry' | 'other'
  /** Section in which it stands (for a header: which it opens), counted: names may repeat. */
  readonly section: number
  /** Section name, or key. */
  readonly name: string
  readonly text: string
}

interface Layout {
  readonly names: readonly string[]
  readonly items: readonly Item[]
}

/** The quote that a value opens with and does not close on its line. */
function openQuote(value: string): string | undefined {
  const quote = ['"""', '`'].find((mark) => value.startsWith(mark))
  return quote !== undefined && value.lastIndexOf(quote) < quote.length ? quote : undefined
}

/** How many lines the value that begins on `lines[at]` takes; the reader's check follows every edit. */
function lineCount(lines: readonly string[], at: number, value: string): number {
  const quote = openQuote(value)
  let count = 1
  if (quote !== undefined) {
    while (at + count < lines.length && !(lines[at + count] ?? '').includes(quote)) count += 1
    return Math.min(count + 1, lines.length - at)
  }
  for (let line = value; line.trimEnd().endsWith('\\'); line = lines[at + count - 1] ?? '') {
    if (at + count >= lines.length) break
    count += 1
  }
  return count
}

function layoutOf(source: string): Layout {
  const lines = source.split('\n')
  const names = ['DEFAULT']
  const items: Item[] = []
  for (let at = 0; at < lines.length;) {
    const line = lines[at] ?? ''
    const trimmed = line.trim()
    const section = names.length - 1
    const delimiter = trimmed.search(/[=:]/)
    if (trimmed.startsWith('[')) {
      const name = trimmed.slice(1, trimmed.lastIndexOf(']'))
      names.push(name)
      items.push({ kind: 'section', section: section + 1, name, text: line })
      at += 1
    } else if (/^[;#]/.test(trimmed) || delimiter === -1) {
      items.push({ kind: 'other', section, name: '', text: line })
      at += 1
    } else {
      const count = lineCount(lines, at, trimmed.slice(delimiter + 1).trimStart())
      const name = trimmed.slice(0, delimiter).trimEnd()
      items.push({ kind: 'entry', section, name, text: lines.slice(at, at + count).join('\n') })
      at += count
    }
  }
  return { names, items }
}

/** The first section of that name which has the key, else the first of that name, else -1. */
function sectionOf({ names, items }: Layout, name: string, key: string): number {
  const having = items.find((i) => i.kind === 'entry' && i.name === key && names[i.section] === name)
  return having?.section ?? names.indexOf(name)
}

function withEntry(layout: Layout, sectionName: string, key: string, line: string): Layout {
  const { names, items } = layout
  const section = sectionOf(layout, sectionName, key)
  const entry: Item = { kind: 'entry', section, name: key, text: line }
  // A repeated key keeps its first position and takes its last value (A4).
  const last = items.findLastIndex((i) => i.kind === 'entry' && i.section === section && i.name === key)
  if (last !== -1) return { names, items: items.with(last, entry) }
  if (section === -1) {
    const metadata = items.findIndex((i) => i.kind === 'section' && i.name === 'sops')
    const text = `[${sectionName}]\n${line}\n`
    return { names, items: items.toSpliced(metadata, 0, { ...entry, text }) }
  }
  const end = items.findLastIndex((i) => i.section === section && i.kind !== 'other')
  return { names, items: items.toSpliced(end + 1, 0, entry) }
}

function withAge(layout: Layout, age: NonNullable<Edits['age']>): Layout {
  const section = layout.names.indexOf('sops')
  const isAge = (i: Item): boolean => i.section === section && i.name.startsWith('age__list_')
  const header = layout.items.findIndex((i) => i.section === section)
  const first = layout.items.findIndex(isAge)
  const flat = flatten({ type: 'map', entries: [{ key: 'age', value: ageList(age) }] })
  const lines = flat.map(({ name, value }): Item => {
    return { kind: 'entry', section, name, text: iniMetadataLine(name, flatText(value, name)).trimEnd() }
  })
  const rest = layout.items.filter((i) => !isAge(i))
  return { names: layout.names, items: rest.toSpliced(first === -1 ? header + 1 : first, 0, ...lines) }
}

/** @throws WriteError when the document has no `sops` section, or a value cannot be expressed. */
export function editIni(document: Buffer, edits: Edits): Buffer {
  let layout = layoutOf(document.toString())
  if (!layout.names.includes('sops')) throw cannotEdit('the document has no section "sops"')
  for (const { path, value } of edits.leaves) {
    const [section = '', key = ''] = path
    layout = withEntry(layout, section, key, iniLine(section, key, value).trimEnd())
  }
  for (const [name, value] of edits.metadata) {
    layout = withEntry(layout, 'sops', name, iniMetadataLine(name, value).trimEnd())
  }
  if (edits.age !== undefined) layout = withAge(layout, edits.age)
  return Buffer.from(layout.items.map((item) => item.text).join('\n'))
}
