/** Owns the layout of the embedded store: `<root>/<namespace>/<name>.<suffix>`, one document a secret (sops B1). */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { readRegularFile } from '../regular-file.ts'
import { FORMATS, type Format } from '../stores/store.ts'
import { WriteError } from '../write/error.ts'
import { safeDirectory } from './ancestors.ts'
import { replaceFile, syncDirectory } from './atomic-file.ts'
import { withLock } from './lock.ts'

/** Formats that the store writes, with the suffix by which `sopsFile` recognises them (sops A1). */
export const SUFFIXES: Readonly<Record<Format, string>> = {
  yaml: '.yaml',
  json: '.json',
  dotenv: '.env',
  ini: '.ini',
  binary: '.bin',
}

/** Largest document that the provider reads from a file (sops A15). */
const MAX_DOCUMENT_BYTES = 1024 * 1024
const LOCK_WAIT_MS = 30_000

/** `NAMESPACE/NAME`, checked. */
export interface SecretName {
  readonly namespace: string
  readonly name: string
}

/** A document in the store, found but not opened. */
export interface StoredDocument extends SecretName {
  readonly format: Format
  /** Absolute path. */
  readonly path: string
  /** Path below the root, as `sopsFile` and `path_regex` of `.sops.yaml` see it. */
  readonly relativePath: string
}

/** An open store: its real root, checked for tampering. */
export interface Store {
  readonly root: string
}

/** The text a user would type for it. */
export function nameText({ namespace, name }: SecretName): string {
  return `${namespace}/${name}`
}

/** @throws WriteError `usage` when `text` is no `NAMESPACE/NAME`. */
export function parseSecretName(text: string): SecretName {
  const [namespace = '', name = '', ...rest] = text.split('/')
  const isNamespace = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/.test(namespace)
  const isName = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,119}$/.test(name)
  if (rest.length > 0 || !isNamespace || !isName) {
    throw new WriteError(
      'usage',
      `${JSON.stringify(text.slice(0, 120))} is no NAMESPACE/NAME`,
      'NAMESPACE is the Kubernetes namespace of the pods; NAME holds letters, digits, "_", "." and "-".',
    )
  }
  return { namespace, name }
}

/** Opens the store at `root`. @throws WriteError when it is absent or others could tamper with it. */
export function openStore(root: string): Store {
  return { root: safeDirectory(root) }
}

/** First 16 hex digits of SHA-256 over the ciphertext: the version that the provider reports (sops A12). */
export function documentVersion(document: Uint8Array): string {
  return createHash('sha256').update(document).digest('hex').slice(0, 16)
}

function documentAt(store: Store, { namespace, name }: SecretName, format: Format): StoredDocument {
  const relativePath = `${namespace}/${name}${SUFFIXES[format]}`
  return { namespace, name, format, relativePath, path: join(store.root, relativePath) }
}

function formatOf(fileName: string): Format | undefined {
  return FORMATS.find((format) => fileName.endsWith(SUFFIXES[format]))
}

async function entriesOf(path: string): Promise<readonly string[]> {
  try {
    return (await readdir(path)).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/**
 * The directory of a namespace, which may be absent.
 * @throws WriteError `permission` when it leads elsewhere, or others can write to it.
 */
function namespaceDirectory(store: Store, namespace: string): string {
  const path = join(store.root, namespace)
  if (existsSync(path) && safeDirectory(path) !== path) {
    throw new WriteError(
      'permission',
      `${path} is a symbolic link`,
      'A namespace of the store must be a directory of its own.',
    )
  }
  return path
}

/** Every document of the store, by namespace and name. */
export async function listDocuments(store: Store): Promise<readonly StoredDocument[]> {
  const namespaces = await readdir(store.root, { withFileTypes: true })
  const found: StoredDocument[] = []
  for (const entry of namespaces.filter((e) => e.isDirectory() && !e.name.startsWith('.'))) {
    for (const file of await entriesOf(join(store.root, entry.name))) {
      const format = formatOf(file)
      if (format === undefined || file.startsWith('.')) continue
      const name = file.slice(0, -SUFFIXES[format].length)
      found.push(documentAt(store, { namespace: entry.name, name }, format))
    }
  }
  return found.sort((a, b) => (a.relativePath < b.relativePath ? -1 : 1))
}

/** The document of that name, or undefined. @throws WriteError `conflict` when two formats share the name. */
export async function findDocument(store: Store, name: SecretName): Promise<StoredDocument | undefined> {
  const files = new Set(await entriesOf(namespaceDirectory(store, name.namespace)))
  const formats = FORMATS.filter((f) => files.has(name.name + SUFFIXES[f]))
  if (formats.length > 1) {
    throw new WriteError(
      'conflict',
      `${nameText(name)} exists as ${formats.join(' and ')}`,
      'Remove the file that is not wanted.',
    )
  }
  return formats[0] === undefined ? undefined : documentAt(store, name, formats[0])
}

/** Like {@link findDocument}. @throws WriteError `not-found` when there is none. */
export async function requireDocument(store: Store, name: SecretName): Promise<StoredDocument> {
  const document = await findDocument(store, name)
  if (document === undefined) {
    throw new WriteError(
      'not-found',
      `there is no secret ${nameText(name)} in ${store.root}`,
      '`keyferry secret list` shows what there is.',
    )
  }
  return document
}

/**
 * The bytes of a document: a regular file with one name, opened without following links.
 * @throws WriteError `integrity` for anything else, `not-found` when it has gone.
 */
export async function readDocument(document: StoredDocument): Promise<Buffer> {
  const bytes = await readRegularFile(document.path, MAX_DOCUMENT_BYTES)
  if (!('fault' in bytes)) return bytes
  throw new WriteError(
    bytes.fault === 'missing' ? 'not-found' : 'integrity',
    `${document.relativePath} is no document: ${bytes.why}`,
    'Only regular files with a single name and at most 1 MiB are read as documents.',
  )
}

/** What a caller who gave `--expect-version` expects: a version, or `none` for no document. */
export type ExpectedVersion = string | undefined

function checkExpected(name: SecretName, expected: ExpectedVersion, current: Buffer | undefined): void {
  if (expected === undefined) return
  const actual = current === undefined ? 'none' : documentVersion(current)
  if (actual === expected) return
  throw new WriteError(
    'conflict',
    `${nameText(name)} has version ${actual}, not ${expected}`,
    'Someone else wrote it. Look at it again, then repeat with the version it has now.',
  )
}

export interface ChangeOptions {
  readonly expect: ExpectedVersion
  /** Called under the lock with the current document; the bytes to store instead, or undefined to delete it. */
  readonly change: (current: Buffer | undefined, at: StoredDocument) => Promise<Buffer | undefined>
  /** Format of a new document. A document of the same name in another format is a conflict. */
  readonly format?: Format
  readonly lockWaitMs?: number
}

/** What {@link changeDocument} did. */
export interface Changed {
  readonly document: StoredDocument
  /** Version after the change; undefined when the document was deleted. */
  readonly version: string | undefined
  /** False when `change` gave back what was there: nothing was written. */
  readonly written: boolean
}

/** Removes what writers that died have left behind; only while the lock on the name is held. */
async function cleanStaging(staging: string, fileName: string): Promise<void> {
  for (const left of await entriesOf(staging)) {
    if (left.startsWith(`${fileName}.`) && left.endsWith('.tmp')) await unlink(join(staging, left))
  }
}

/**
 * Reads, changes and replaces one document under its exclusive lock. Readers never see a part of it.
 * @throws WriteError `conflict` for another version than expected; `not-found` for a document that
 * must exist (no `format` given).
 */
export async function changeDocument(
  store: Store,
  name: SecretName,
  options: ChangeOptions,
): Promise<Changed> {
  const locks = join(store.root, '.locks')
  const staging = join(store.root, '.staging')
  for (const directory of [locks, staging]) await mkdir(directory, { recursive: true, mode: 0o700 })
  const lock = join(locks, `${name.namespace}.${name.name}.lock`)
  return withLock(lock, { waitMs: options.lockWaitMs ?? LOCK_WAIT_MS, what: nameText(name) }, async () => {
    const found =
      options.format === undefined ? await requireDocument(store, name) : await findDocument(store, name)
    if (found !== undefined && options.format !== undefined && found.format !== options.format) {
      throw new WriteError(
        'conflict',
        `${nameText(name)} exists as ${found.format}`,
        `Use --format ${found.format}, or delete it first.`,
      )
    }
    const document = found ?? documentAt(store, name, options.format ?? 'yaml')
    const current = found === undefined ? undefined : await readDocument(found)
    checkExpected(name, options.expect, current)
    const next = await options.change(current, document)
    if (next === undefined) {
      await unlink(document.path)
      await syncDirectory(join(store.root, name.namespace))
      return { document, version: undefined, written: true }
    }
    if (current?.equals(next) === true) return { document, version: documentVersion(current), written: false }
    if (next.length > MAX_DOCUMENT_BYTES) {
      throw new WriteError('usage', `${nameText(name)} would be larger than the 1 MiB that a mount reads`)
    }
    const directory = join(store.root, name.namespace)
    if ((await mkdir(directory, { recursive: true, mode: 0o700 })) !== undefined)
      await syncDirectory(store.root)
    await cleanStaging(staging, `${name.name}${SUFFIXES[document.format]}`)
    await replaceFile(document.path, next, { staging })
    return { document, version: documentVersion(next), written: true }
  })
}
