/** Owns editing an existing document of any format (sops A20). */
import { readDocument } from '../open.ts'
import { text, type MapTree } from '../tree.ts'
import { editDotenv } from './edit/dotenv.ts'
import type { Edits } from './edit/edits.ts'
import { editIni } from './edit/ini.ts'
import { editYaml } from './edit/yaml.ts'
import { EMIT } from './emit.ts'
import type { Format } from '../stores/store.ts'
import { withValue } from './key-path.ts'
import { ageList } from './seal.ts'

/** JSON has no comments and one layout: it is read, changed and written again, value for value. */
async function editJson(format: 'json' | 'binary', document: Buffer, edits: Edits): Promise<Buffer> {
  const { branches, block } = await readDocument(format, document)
  let data = branches[0] ?? { type: 'map', entries: [] }
  for (const { path, value } of edits.leaves) data = withValue(data, path, value)
  let metadata: MapTree = block
  for (const [name, value] of edits.metadata) metadata = withValue(metadata, [name], text(value))
  if (edits.age !== undefined) metadata = withValue(metadata, ['age'], ageList(edits.age))
  return EMIT[format]([data], metadata)
}

/**
 * The document with the edits made; nothing else changes.
 * @throws WriteError when the document is written in a way that we do not edit.
 */
export function editDocument(format: Format, document: Buffer, edits: Edits): Promise<Buffer> {
  switch (format) {
    case 'yaml':
      return Promise.resolve(editYaml(document, edits))
    case 'dotenv':
      return Promise.resolve(editDotenv(document, edits))
    case 'ini':
      return Promise.resolve(editIni(document, edits))
    default:
      return editJson(format, document, edits)
  }
}
