/** Owns editing dotenv documents line by line; comments and order stay (sops A20). */
import { flatten } from '../../flatten.ts'
import { dotenvLine } from '../emit/dotenv.ts'
import { flatText } from '../emit/text.ts'
import { ageList } from '../seal.ts'
import type { Edits } from './edits.ts'

const AGE_PREFIX = 'sops_age__list_'

function keyOf(line: string): string | undefined {
  const equals = line.indexOf('=')
  return line.startsWith('#') || equals === -1 ? undefined : line.slice(0, equals)
}

function ageLines(age: NonNullable<Edits['age']>): readonly string[] {
  const flat = flatten({ type: 'map', entries: [{ key: 'age', value: ageList(age) }] })
  return flat.map(({ name, value }) => `sops_${name}=${flatText(value, name).replaceAll('\n', '\\n')}`)
}

/** @throws WriteError for a value that dotenv cannot express. */
export function editDotenv(document: Buffer, edits: Edits): Buffer {
  const replaced = new Map<string, string>()
  for (const { path, value } of edits.leaves) {
    const key = path[0] ?? ''
    replaced.set(key, dotenvLine(key, value).slice(0, -1))
  }
  for (const [name, value] of edits.metadata) replaced.set(`sops_${name}`, `sops_${name}=${value}`)
  let lines: readonly string[] = document.toString().split('\n')
  if (edits.age !== undefined) {
    const first = lines.findIndex((line) => line.startsWith(AGE_PREFIX))
    const at = first === -1 ? lines.findIndex((line) => line.startsWith('sops_')) : first
    const rest = lines.filter((line) => !line.startsWith(AGE_PREFIX))
    lines = [...rest.slice(0, at), ...ageLines(edits.age), ...rest.slice(at)]
  }
  const present = new Set(lines.map(keyOf))
  const edited = lines.map((line) => replaced.get(keyOf(line) ?? '') ?? line)
  const added = [...replaced].filter(([key]) => !present.has(key)).map(([, line]) => line)
  const metadata = edited.findIndex((line) => line.startsWith('sops_'))
  return Buffer.from([...edited.slice(0, metadata), ...added, ...edited.slice(metadata)].join('\n'))
}
