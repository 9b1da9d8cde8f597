/** Owns reading SecretProviderClasses from YAML files, with the checks that the API server would make. */
import { readFile } from 'node:fs/promises'
import { isMap, isNode, isScalar, LineCounter, parseAllDocuments, type Document } from 'yaml'
import { UsageError } from './usage.ts'

/** One SecretProviderClass as the driver would read it. */
export interface SpcFile {
  readonly file: string
  readonly name: string
  readonly namespace: string | undefined
  readonly provider: string
  readonly parameters: Readonly<Record<string, string>>
}

const API_GROUP = 'secrets-store.csi.x-k8s.io/'

/**
 * Every SecretProviderClass of a file, which may hold several YAML documents of any kind.
 * @throws UsageError with file, line and reason.
 */
export async function readSpcFile(file: string): Promise<SpcFile[]> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw new UsageError(
      `${file}: cannot be read (${error instanceof Error && 'code' in error ? String(error.code) : 'unknown'})`,
    )
  })
  return parseSpcs(file, text)
}

/** See {@link readSpcFile}. */
export function parseSpcs(file: string, text: string): SpcFile[] {
  const lines = new LineCounter()
  const found: SpcFile[] = []
  for (const document of parseAllDocuments(text, { lineCounter: lines, logLevel: 'error' })) {
    const at = (offset: number): string => `${file}:${lines.linePos(offset).line}`
    const [problem] = document.errors
    if (problem) throw new UsageError(`${at(problem.pos[0])}: ${problem.message.split('\n')[0]}`)
    if (!isSpc(document)) continue
    found.push(readSpc(file, document, at))
  }
  if (found.length === 0)
    throw new UsageError(`${file}: has no SecretProviderClass (apiVersion ${API_GROUP}v1)`)
  return found
}

function isSpc(document: Document): boolean {
  if (!isMap(document.contents)) return false
  const version = document.get('apiVersion')
  return (
    document.get('kind') === 'SecretProviderClass' &&
    typeof version === 'string' &&
    version.startsWith(API_GROUP)
  )
}

function readSpc(file: string, document: Document, at: (offset: number) => string): SpcFile {
  const text = (path: readonly string[], required: boolean): string | undefined => {
    const node = document.getIn(path, true)
    if (isScalar(node) && typeof node.value === 'string') return node.value
    if (node === undefined && !required) return undefined
    throw new UsageError(
      `${at(isNode(node) && node.range ? node.range[0] : 0)}: ${path.join('.')} must be a string`,
    )
  }
  const parameters: [string, string][] = []
  const map = document.getIn(['spec', 'parameters'])
  if (!isMap(map))
    throw new UsageError(`${at(0)}: spec.parameters must be a mapping; the driver refuses a class without`)
  for (const { key, value } of map.items) {
    const name = isScalar(key) ? String(key.value) : ''
    if (isScalar(value) && typeof value.value === 'string') parameters.push([name, value.value])
    else {
      const offset = isNode(value) && value.range ? value.range[0] : 0
      throw new UsageError(
        `${at(offset)}: spec.parameters.${name} must be a string; put it in quotes, or use a block scalar (|)`,
      )
    }
  }
  return {
    file,
    name: text(['metadata', 'name'], true) ?? '',
    namespace: text(['metadata', 'namespace'], false),
    provider: text(['spec', 'provider'], true) ?? '',
    parameters: Object.fromEntries(parameters),
  }
}
