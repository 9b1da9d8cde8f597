/** Owns the `sops` block of a document: which keys, which rule, which date (sops A5). */
import { parseBoolWord } from './canonical.ts'
import { quoted, sopsError } from './errors.ts'
import { withinLimit, type Limits } from './limits.ts'
import { lastModifiedAad } from './time.ts'
import { entryOf, isScalar, type ListTree, type MapTree, type Tree } from './tree.ts'

/** Which values are encrypted (A8). */
export const RULE_KINDS = [
  'unencrypted_suffix',
  'encrypted_suffix',
  'unencrypted_regex',
  'encrypted_regex',
  'unencrypted_comment_regex',
  'encrypted_comment_regex',
] as const

export interface Rule {
  readonly kind: (typeof RULE_KINDS)[number]
  readonly text: string
}

/** What applies when a document records no rule. */
export const DEFAULT_RULE: Rule = { kind: 'unencrypted_suffix', text: '_unencrypted' }

/** One wrapping of the data key, or of a share of it (A10). Fields that are absent are `''`. */
export type MasterKey = { readonly enc: string } & (
  | { readonly kind: 'age'; readonly recipient: string }
  | { readonly kind: 'pgp'; readonly fingerprint: string }
  | {
      readonly kind: 'kms'
      readonly arn: string
      readonly role: string
      /** Null entries are left out. */
      readonly context: ReadonlyMap<string, string>
    }
  | { readonly kind: 'gcp_kms'; readonly resourceId: string }
  | { readonly kind: 'hckms'; readonly keyId: string }
  | { readonly kind: 'azure_kv'; readonly vaultUrl: string; readonly name: string; readonly version: string }
  | {
      readonly kind: 'hc_vault'
      readonly vaultAddress: string
      readonly enginePath: string
      readonly keyName: string
    }
)

/** The lists of master keys, in the order in which a group's keys are tried (A10). */
export const KEY_KINDS = ['age', 'pgp', 'kms', 'gcp_kms', 'hckms', 'azure_kv', 'hc_vault'] as const
export type KeyKind = (typeof KEY_KINDS)[number]

/** Any one of these keys opens the group. In the order of {@link KEY_KINDS}. */
export type KeyGroup = readonly MasterKey[]

export interface Metadata {
  /** RFC 3339 text as written; AAD of the MAC token. */
  readonly lastModified: string
  /** The `mac` token, or undefined when there is none. */
  readonly mac: Buffer | undefined
  /** SOPS version that wrote the document, or `''`. */
  readonly version: string
  readonly rule: Rule
  readonly macOnlyEncrypted: boolean
  /** Groups needed; 0 when the document does not say. Meaningful with several groups only. */
  readonly shamirThreshold: number
  /** At least one, each possibly empty. */
  readonly groups: readonly KeyGroup[]
}

function invalid(message: string): never {
  throw sopsError('METADATA_INVALID', message, 'Encrypt the document again with sops or `keyferry secret`.')
}

/** A text field: `''` when absent, null or empty. */
function textField(map: MapTree, name: string): string {
  const tree = entryOf(map, name)
  if (tree === undefined || tree.type === 'null') return ''
  if (tree.type !== 'str') invalid(`metadata field "${name}" is no text`)
  return tree.bytes.toString()
}

function boolField(map: MapTree, name: string): boolean {
  const tree = entryOf(map, name)
  if (tree?.type === 'bool') return tree.value
  if (tree === undefined || tree.type === 'null') return false
  const word = tree.type === 'str' ? tree.bytes.toString() : undefined
  if (word === '') return false
  const value = word === undefined ? undefined : parseBoolWord(word)
  return value ?? invalid(`metadata field "${name}" is no boolean`)
}

function countField(map: MapTree, name: string): number {
  const tree = entryOf(map, name)
  if (tree === undefined || tree.type === 'null') return 0
  if (tree.type === 'int' && tree.value >= 0n && tree.value <= 255n) return Number(tree.value)
  const digits = tree.type === 'str' ? tree.bytes.toString() : '-'
  if (digits === '') return 0
  return /^\d{1,3}$/.test(digits)
    ? Number(digits)
    : invalid(`metadata field "${name}" is no number of groups`)
}

function listField(map: MapTree, name: string): readonly MapTree[] {
  const tree: Tree = entryOf(map, name) ?? { type: 'null' }
  if (tree.type === 'null' || (tree.type === 'str' && tree.bytes.length === 0)) return []
  if (tree.type !== 'list') invalid(`metadata field "${name}" is no list`)
  return (tree satisfies ListTree).items.map((item, index) =>
    item.type === 'map' ? item : invalid(`metadata field "${name}"[${index}] is no mapping`),
  )
}

function contextField(map: MapTree): ReadonlyMap<string, string> {
  const tree: Tree = entryOf(map, 'context') ?? { type: 'null' }
  if (isScalar(tree)) {
    if (tree.type === 'null' || (tree.type === 'str' && tree.bytes.length === 0)) return new Map()
    invalid('metadata field "context" of a kms entry is no mapping')
  }
  if (tree.type === 'list') invalid('metadata field "context" of a kms entry is no mapping')
  return new Map(
    tree.entries
      .filter((entry) => entry.value.type !== 'null')
      .map(({ key, value }): [string, string] =>
        value.type === 'str'
          ? [key, value.bytes.toString()]
          : invalid(`metadata field "context" of a kms entry: ${quoted(key)} is no text`),
      ),
  )
}

/** One row a kind of key: its fields beside `enc`. */
const READ_KEY: { readonly [Kind in KeyKind]: (map: MapTree, enc: string) => MasterKey } = {
  age: (map, enc) => ({ kind: 'age', enc, recipient: textField(map, 'recipient') }),
  pgp: (map, enc) => ({ kind: 'pgp', enc, fingerprint: textField(map, 'fp') }),
  kms: (map, enc) => ({
    kind: 'kms',
    enc,
    arn: textField(map, 'arn'),
    role: textField(map, 'role'),
    context: contextField(map),
  }),
  gcp_kms: (map, enc) => ({ kind: 'gcp_kms', enc, resourceId: textField(map, 'resource_id') }),
  hckms: (map, enc) => ({ kind: 'hckms', enc, keyId: textField(map, 'key_id') }),
  azure_kv: (map, enc) => ({
    kind: 'azure_kv',
    enc,
    vaultUrl: textField(map, 'vault_url'),
    name: textField(map, 'name'),
    version: textField(map, 'version'),
  }),
  hc_vault: (map, enc) => ({
    kind: 'hc_vault',
    enc,
    vaultAddress: textField(map, 'vault_address'),
    enginePath: textField(map, 'engine_path'),
    keyName: textField(map, 'key_name'),
  }),
}

function groupOf(map: MapTree, limits: Limits): KeyGroup {
  const keys = KEY_KINDS.flatMap((kind) =>
    listField(map, kind).map((entry) => READ_KEY[kind](entry, textField(entry, 'enc'))),
  )
  for (const key of keys) withinLimit(limits, 'armoredKeyBytes', key.enc.length)
  return keys
}

function ruleOf(map: MapTree, limits: Limits): Rule {
  const rules = RULE_KINDS.map((kind) => ({ kind, text: textField(map, kind) })).filter(
    (rule) => rule.text !== '',
  )
  if (rules.length > 1) invalid(`it records ${rules.length} rules where one is allowed`)
  const rule = rules[0] ?? DEFAULT_RULE
  withinLimit(limits, 'ruleBytes', Buffer.byteLength(rule.text))
  return rule
}

/** Version 1.x may be a number. */
function versionOf(map: MapTree): string {
  const tree = entryOf(map, 'version')
  if (tree?.type === 'float') return String(tree.value)
  return tree?.type === 'int' ? tree.value.toString() : textField(map, 'version')
}

/**
 * Reads the `sops` mapping; for INI and dotenv after unflattening. Unknown fields are ignored.
 * @throws BackendError `METADATA_INVALID` or `LIMIT_EXCEEDED`
 */
export function readMetadata(block: MapTree, limits: Limits): Metadata {
  const lastModified = textField(block, 'lastmodified')
  if (lastModifiedAad(lastModified) === undefined) {
    invalid('metadata field "lastmodified" is missing or no RFC 3339 text')
  }
  const mac = entryOf(block, 'mac')
  const macOnlyEncrypted = boolField(block, 'mac_only_encrypted')
  const shamirThreshold = countField(block, 'shamir_threshold')
  const rule = ruleOf(block, limits)
  const top = groupOf(block, limits)
  const listed = listField(block, 'key_groups')
  withinLimit(limits, 'groups', listed.length)
  // The list of groups counts only when no key stands outside it.
  const groups = top.length > 0 ? [top] : listed.map((group) => groupOf(group, limits))
  const keys = groups.flat().length
  if (keys === 0) invalid('it names no key')
  withinLimit(limits, 'masterKeys', keys)
  return {
    lastModified,
    mac: mac?.type === 'str' && mac.bytes.length > 0 ? mac.bytes : undefined,
    version: versionOf(block),
    rule,
    macOnlyEncrypted,
    shamirThreshold,
    groups,
  }
}
