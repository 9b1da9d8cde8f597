/** Owns taking files out of an opened document: paths, whole documents, expansion (sops A12, A13). */
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Value } from '../adapter.ts'
import { strictBase64 } from './encodings.ts'
import { quoted, sopsError } from './errors.ts'
import { withinLimit, type Limits } from './limits.ts'
import type { OpenedDocument } from './open.ts'
import { parsePath, valueAt } from './pointer.ts'
import { expansionOf, versionOf, wholeName, type Encoding, type SopsRef, type Take } from './ref.ts'
import { dotenvBytes, jsonBytes, rawBytes, topLevelFiles, wholeBytes, type NamedBytes } from './render.ts'
import type { Format } from './stores/store.ts'
import type { MapTree, Tree } from './tree.ts'

/** A document as bytes, before it is opened. */
export interface Found {
  readonly name: string
  readonly format: Format
  readonly bytes: Buffer
}

/** An opened document, ready to be taken from. */
export interface Ready extends Found {
  readonly opened: OpenedDocument
  /** Without the binding. */
  readonly branches: readonly MapTree[]
  readonly version: string
}

/** Refuses to take leaves that nothing authenticates (A13). */
function requireAuthenticated(trees: readonly Tree[], ready: Ready, ref: SopsRef): void {
  if (!ready.opened.metadata.macOnlyEncrypted || ref.allowCleartext) return
  const isClear = (tree: Tree): boolean =>
    tree.type === 'map'
      ? tree.entries.some((entry) => isClear(entry.value))
      : tree.type === 'list'
        ? tree.items.some(isClear)
        : ready.opened.clear.has(tree)
  if (!trees.some(isClear)) return
  throw sopsError(
    'CLEARTEXT_UNAUTHENTICATED',
    'a value stands in clear and, with mac_only_encrypted, nothing protects it',
    'Encrypt it, or set allowCleartext: "true" if anyone may change it.',
  )
}

function decoded(bytes: Buffer, encoding: Encoding, path: string): Buffer {
  if (encoding === 'utf-8') return bytes
  const text = bytes.toString('latin1').replaceAll('\r', '').replaceAll('\n', '')
  bytes.fill(0)
  const isHex = text.length % 2 === 0 && /^[0-9a-fA-F]*$/.test(text)
  const result = encoding === 'base64' ? strictBase64(text) : isHex ? Buffer.from(text, 'hex') : undefined
  if (result !== undefined) return result
  throw sopsError(
    'FORMAT_INVALID',
    `the value at ${quoted(path)} is no ${encoding}`,
    'Correct encoding in objects.',
  )
}

function takenValue(take: Extract<Take, { what: 'value' }>, ready: Ready, ref: SopsRef): Buffer {
  const branch = ready.branches[take.document]
  const value = branch === undefined ? undefined : valueAt(branch, parsePath(take.path) ?? [])
  if (value === undefined) {
    const where = take.document === 0 ? '' : ` of document ${take.document}`
    throw sopsError(
      'OBJECT_NOT_FOUND',
      `there is no value at ${quoted(take.path)}${where}`,
      'Correct path in objects.',
    )
  }
  requireAuthenticated([value], ready, ref)
  if (take.format === 'json') return jsonBytes(value)
  if (take.format === 'dotenv') return dotenvBytes(value)
  return decoded(rawBytes(value), take.encoding, take.path)
}

function expandedFiles(take: Extract<Take, { what: 'expand' }>, ready: Ready): readonly NamedBytes[] {
  const { format, branches } = ready
  const expansion = take.expansion ?? expansionOf(format)
  if (expansion === 'whole') return [{ name: wholeName(ready.name), bytes: wholeBytes(format, branches) }]
  return topLevelFiles(format, branches[0] ?? { type: 'map', entries: [] })
}

function secret(bytes: Buffer, limits: Limits): SecretBytes {
  try {
    withinLimit(limits, 'outputBytes', bytes.length)
    return SecretBytes.copyOf(bytes)
  } finally {
    bytes.fill(0)
  }
}

function expanded(
  take: Extract<Take, { what: 'expand' }>,
  ref: SopsRef,
  all: readonly Ready[],
  limits: Limits,
): Value {
  const seen = new Set<string>()
  let total = 0
  const parts = all.flatMap((ready) => {
    requireAuthenticated(ready.branches, ready, ref)
    return expandedFiles(take, ready).map(({ name, bytes }) => {
      if (seen.has(name)) {
        throw sopsError(
          'INVALID_PARAMETER',
          `two values want the file ${quoted(name)}`,
          'Name the files yourself with objects.',
        )
      }
      seen.add(name)
      total += bytes.length
      withinLimit(limits, 'totalBytes', total)
      return { name, bytes: secret(bytes, limits), version: ready.version }
    })
  })
  const version =
    all.length === 1 ? (all[0]?.version ?? '') : versionOf(Buffer.from(all.map((r) => r.version).join()))
  return { bytes: SecretBytes.copyOf(''), version, parts }
}

/** The value of a ref, out of its opened documents. */
export function taken(ref: SopsRef, all: readonly Ready[], limits: Limits): Value {
  const { take } = ref
  if (take.what === 'expand') return expanded(take, ref, all, limits)
  const [ready] = all
  if (ready === undefined || all.length > 1) {
    throw sopsError('INVALID_PARAMETER', 'sopsFile names a directory where one document is meant')
  }
  if (take.what === 'value') {
    return { bytes: secret(takenValue(take, ready, ref), limits), version: ready.version }
  }
  requireAuthenticated(ready.branches, ready, ref)
  return { bytes: secret(wholeBytes(ready.format, ready.branches), limits), version: ready.version }
}
