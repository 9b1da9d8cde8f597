/** Owns what the dialect asks of the backend: one file of one document. */
import { createHash } from 'node:crypto'
import type { Format } from './stores/store.ts'

/** Where a document is. */
export type DocumentSource =
  /** Inside the SPC: its text, or the base64 of its bytes. */
  | { readonly text: string }
  | { readonly base64: string }
  /** Below a root of the operator; with a final `/` every file in that directory. */
  | { readonly file: string }

/** Who unwraps the data key (A1). */
export const KEY_IDENTITIES = ['offline', 'pod', 'provider'] as const
export type KeyIdentity = (typeof KEY_IDENTITIES)[number]

export const ENCODINGS = ['utf-8', 'base64', 'hex'] as const
export type Encoding = (typeof ENCODINGS)[number]

export const OUTPUT_FORMATS = ['raw', 'json', 'dotenv'] as const
export type OutputFormat = (typeof OUTPUT_FORMATS)[number]

export const EXPANSIONS = ['topLevel', 'whole'] as const
export type Expansion = (typeof EXPANSIONS)[number]

/** What to take out of a document. */
export type Take =
  | {
      readonly what: 'value'
      /** JSON Pointer or brackets. */
      readonly path: string
      readonly document: number
      readonly format: OutputFormat
      readonly encoding: Encoding
    }
  /** The whole document as one file. */
  | { readonly what: 'whole' }
  /** A file a top-level key or, for a directory, what each document's format asks for. */
  | { readonly what: 'expand'; readonly expansion?: Expansion }

/** Plain data. */
export interface SopsRef {
  readonly source: DocumentSource
  /** Absent: by the suffix of the file. */
  readonly format?: Format
  readonly take: Take
  readonly keyIdentity: KeyIdentity
  readonly allowCleartext: boolean
  /**
   * `namespace/serviceaccount`, with `keyIdentity: provider`: such a value is fetched with the node's
   * identity but is the caller's own, so nobody else may be given it from a cache.
   */
  readonly caller?: string
}

const SUFFIX_FORMATS: ReadonlyMap<string, Format> = new Map([
  ['.yaml', 'yaml'],
  ['.yml', 'yaml'],
  ['.json', 'json'],
  ['.env', 'dotenv'],
  ['.ini', 'ini'],
])

/** Format by the suffix of a file name, as stock has it: case matters, anything else is binary. */
export function formatOfFile(name: string): Format {
  const dot = name.lastIndexOf('.')
  return (dot === -1 ? undefined : SUFFIX_FORMATS.get(name.slice(dot))) ?? 'binary'
}

/** Default of `expand`. */
export function expansionOf(format: Format): Expansion {
  return format === 'binary' ? 'whole' : 'topLevel'
}

/** File name of a whole document: its last segment without a trailing `.enc` or `.sops`. */
export function wholeName(file: string): string {
  const last = file.slice(file.lastIndexOf('/') + 1)
  return last.replace(/(?<=.)\.(?:enc|sops)$/, '')
}

/** Bytes of an inline document. */
export function inlineBytes(source: Exclude<DocumentSource, { file: string }>): Buffer {
  return 'text' in source ? Buffer.from(source.text) : Buffer.from(source.base64, 'base64')
}

const keys = new WeakMap<DocumentSource, string>()

/** Names a document without holding it: the path, or a digest of the ciphertext. */
export function sourceKey(source: DocumentSource): string {
  if ('file' in source) return `file:${source.file}`
  // The refs of one mount share one source, which may be half a megabyte.
  const known = keys.get(source)
  if (known !== undefined) return known
  const key = `inline:${createHash('sha256').update(inlineBytes(source)).digest('hex')}`
  keys.set(source, key)
  return key
}

/** Refs with equal document keys are served from one opening of the document. */
export function documentKey(ref: SopsRef): string {
  return JSON.stringify([sourceKey(ref.source), ref.format, ref.keyIdentity, ref.caller])
}

/** See {@link import('../adapter.ts').Backend.refKey}. */
export function refKey(ref: SopsRef): string {
  const { take } = ref
  const what =
    take.what === 'value'
      ? [take.path, take.document, take.format, take.encoding]
      : ['expansion' in take ? take.expansion : '']
  return JSON.stringify([documentKey(ref), ref.allowCleartext, take.what, ...what])
}

/** Version of a document: says nothing about what it decrypts to. */
export function versionOf(document: Uint8Array): string {
  return createHash('sha256').update(document).digest('hex').slice(0, 16)
}
