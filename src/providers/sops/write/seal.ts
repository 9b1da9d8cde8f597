/** Owns turning a tree in clear into a SOPS document: data key, tokens, MAC, metadata (sops A6–A10, A20). */
import { randomBytes } from 'node:crypto'
import { canonicalBytes } from '../canonical.ts'
import { macHash, macToken, type MacHash } from '../mac.ts'
import type { Rule } from '../metadata.ts'
import { aadOf, encryptToken } from '../token.ts'
import { text, type Entry, type MapTree, type Tree } from '../tree.ts'
import { EMIT } from './emit.ts'
import type { Format } from '../stores/store.ts'
import { selectionOf, type Encryption, type Selection } from './encryption-rule.ts'
import { WriteError } from './error.ts'
import { wrapDataKey, type WrappedKey } from './recipients.ts'

/** The SOPS release whose rules we follow; stock refuses a document without such a text (sops A20). */
const WRITTEN_VERSION = '3.13.3'
const DATA_KEY_BYTES = 32

export interface SealRequest {
  readonly format: Format
  /** In clear; several for YAML only. `binary`: one mapping whose only key is `data`. */
  readonly documents: readonly MapTree[]
  readonly encryption: Encryption
  readonly now: Date
}

/** `lastmodified`: UTC, whole seconds. */
export function lastModifiedText(now: Date): string {
  return `${now.toISOString().slice(0, 19)}Z`
}

interface Sealing {
  readonly dataKey: Buffer
  readonly isEncrypted: Selection
  readonly mac: MacHash
}

/** The tree with tokens in place of the selected leaves; every leaf is fed to the MAC on the way. */
function sealTree(tree: Tree, path: readonly string[], sealing: Sealing): Tree {
  if (tree.type === 'map') {
    return {
      type: 'map',
      entries: tree.entries.map(({ key, value }): Entry => {
        return { key, value: sealTree(value, [...path, key], sealing) }
      }),
    }
  }
  if (tree.type === 'list') {
    return { type: 'list', items: tree.items.map((item) => sealTree(item, path, sealing)) }
  }
  const encrypted = sealing.isEncrypted(path)
  sealing.mac.leaf(tree, encrypted)
  if (!encrypted || tree.type === 'null' || canonicalBytes(tree).length === 0) return tree
  return text(encryptToken(tree, sealing.dataKey, aadOf(path)))
}

/** The metadata list `age`. */
export function ageList(keys: readonly WrappedKey[]): Tree {
  return {
    type: 'list',
    items: keys.map(({ recipient, enc }): Tree => {
      return {
        type: 'map',
        entries: [
          { key: 'recipient', value: text(recipient) },
          { key: 'enc', value: text(enc) },
        ],
      }
    }),
  }
}

function metadataOf(
  keys: readonly WrappedKey[],
  lastModified: string,
  mac: string,
  rule: Rule | undefined,
  macOnlyEncrypted: boolean,
): MapTree {
  const optional: readonly Entry[] = [
    ...(rule === undefined ? [] : [{ key: rule.kind, value: text(rule.text) }]),
    ...(macOnlyEncrypted
      ? [{ key: 'mac_only_encrypted', value: { type: 'bool' as const, value: true } }]
      : []),
  ]
  return {
    type: 'map',
    entries: [
      { key: 'age', value: ageList(keys) },
      { key: 'lastmodified', value: text(lastModified) },
      { key: 'mac', value: text(mac) },
      ...optional,
      { key: 'version', value: text(WRITTEN_VERSION) },
    ],
  }
}

/** SOPS keeps whole files under one key and records no rule for them. */
function everything(): boolean {
  return true
}

/**
 * A complete document, encrypted under a fresh data key. Needs public keys only: whoever seals a
 * document cannot open it.
 * @throws WriteError `usage` when a name or clear value cannot be expressed in the format.
 */
export async function seal(request: SealRequest): Promise<Buffer> {
  const { format, documents, encryption, now } = request
  const isBinary = format === 'binary'
  if (
    documents.some((document) => document.entries.some(({ key }) => key === 'sops')) &&
    format !== 'dotenv'
  ) {
    throw new WriteError(
      'usage',
      'the input has a key "sops", where SOPS keeps its own data',
      'Rename the key.',
    )
  }
  const dataKey = randomBytes(DATA_KEY_BYTES)
  try {
    const macOnlyEncrypted = !isBinary && encryption.macOnlyEncrypted
    const sealing: Sealing = {
      dataKey,
      isEncrypted: isBinary ? everything : selectionOf(encryption.rule),
      mac: macHash(macOnlyEncrypted),
    }
    const sealed = documents.map((document) => sealTree(document, [], sealing) as MapTree)
    const lastModified = lastModifiedText(now)
    const mac = macToken(sealing.mac.digest(), dataKey, lastModified)
    const keys = await wrapDataKey(dataKey, encryption.recipients)
    const rule = isBinary ? undefined : encryption.rule
    return EMIT[format](sealed, metadataOf(keys, lastModified, mac, rule, macOnlyEncrypted))
  } finally {
    dataKey.fill(0)
  }
}
