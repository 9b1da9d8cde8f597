/** Owns the way from a sealed tree and its metadata to the bytes of a file, per format (sops A4, A20). */
import type { Format } from '../stores/store.ts'
import type { MapTree } from '../tree.ts'
import { emitDotenv } from './emit/dotenv.ts'
import { emitIni } from './emit/ini.ts'
import { emitJson } from './emit/json.ts'
import { emitYaml } from './emit/yaml.ts'
import { WriteError } from './error.ts'

function withMetadata(document: MapTree, metadata: MapTree): MapTree {
  return { type: 'map', entries: [...document.entries, { key: 'sops', value: metadata }] }
}

function only(documents: readonly MapTree[]): MapTree {
  const [first, ...more] = documents
  if (first === undefined || more.length > 0) {
    throw new WriteError('usage', 'only YAML files hold several documents', 'Use --format yaml.')
  }
  return first
}

type Emit = (documents: readonly MapTree[], metadata: MapTree) => Buffer

/** One file of each format. `metadata` is the `sops` mapping; it is written last (sops A20). */
export const EMIT: Readonly<Record<Format, Emit>> = {
  yaml: ([first = { type: 'map', entries: [] }, ...more], metadata) =>
    emitYaml([withMetadata(first, metadata), ...more]),
  json: (documents, metadata) => emitJson(withMetadata(only(documents), metadata)),
  binary: (documents, metadata) => emitJson(withMetadata(only(documents), metadata)),
  dotenv: (documents, metadata) => emitDotenv(only(documents), metadata),
  ini: (documents, metadata) => emitIni(only(documents), metadata),
}
