/** Owns what the tests of the writer share: keys, small trees, and random documents of each format. */
import { Buffer } from 'node:buffer'
import fc from 'fast-check'
import { canonicalBytes } from '../../../../src/providers/sops/canonical.ts'
import type { KeyRing } from '../../../../src/providers/sops/keys/data-key.ts'
import { parseIdentities } from '../../../../src/providers/sops/keys/parse-identity.ts'
import { openDocument } from '../../../../src/providers/sops/open.ts'
import type { Format } from '../../../../src/providers/sops/stores/store.ts'
import {
  text,
  type Entry,
  type MapTree,
  type Scalar,
  type Tree,
} from '../../../../src/providers/sops/tree.ts'
import type { Encryption } from '../../../../src/providers/sops/write/encryption-rule.ts'
import { seal } from '../../../../src/providers/sops/write/seal.ts'

/** The published test identity of sops A19. Never encrypt anything to it. */
export const IDENTITY = 'AGE-SECRET-KEY-15GDTSD40P5628V3W4DL2SWJL2HGNHHCLQ23GRDZESQD2HNNWTY8SSE2NTL'
export const RECIPIENT = 'age16v07jna668e03nx4lfsklwvt23z9yxhyxrfy5p4497u5wkgxt56qmke6ls'
export const NOW = new Date('2026-05-01T10:00:00.750Z')

export const ENCRYPTION: Encryption = {
  recipients: [RECIPIENT],
  rule: { kind: 'unencrypted_suffix', text: '_unencrypted' },
  macOnlyEncrypted: false,
}

export async function ringOf(identityFile: string | Buffer): Promise<KeyRing> {
  const identities = await parseIdentities(Buffer.from(identityFile))
  return { identities: identities.map((identity) => ({ ...identity, subjects: [], shared: false })) }
}

export const RING = await ringOf(IDENTITY)

/** `{a: 'x', b: {c: 'y'}}` as a tree; texts and trees as values. */
export function map(entries: readonly (readonly [string, string | Tree])[]): MapTree {
  return {
    type: 'map',
    entries: entries.map(([key, value]) => ({ key, value: typeof value === 'string' ? text(value) : value })),
  }
}

/** A tree as nested plain text, so that a failing comparison can be read. */
export function shown(tree: Tree): unknown {
  if (tree.type === 'map') return tree.entries.map(({ key, value }) => [key, shown(value)])
  if (tree.type === 'list') return { list: tree.items.map(shown) }
  return `${tree.type}:${canonicalBytes(tree).toString('latin1')}`
}

/** Seals and opens again: what the reader sees. */
export async function sealedAndOpened(
  format: Format,
  documents: readonly MapTree[],
  encryption: Encryption = ENCRYPTION,
): Promise<unknown> {
  const bytes = await seal({ format, documents, encryption, now: NOW })
  const opened = await openDocument(format, bytes, RING)
  return opened.branches.map(shown)
}

const bytes: fc.Arbitrary<Buffer> = fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array))
const unicode: fc.Arbitrary<string> = fc.string({ unit: 'binary', maxLength: 30 })
const str: fc.Arbitrary<Scalar> = fc.oneof(
  unicode.map(text),
  fc.constantFrom('null', '0x10', '1_000', '~').map(text),
)
const int: fc.Arbitrary<Scalar> = fc
  .bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
  .map((value) => ({ type: 'int', value }))
const float: fc.Arbitrary<Scalar> = fc
  .double({ noNaN: true, noDefaultInfinity: true })
  .filter((value) => !Object.is(value, -0))
  .map((value) => ({ type: 'float', value }))
const bool: fc.Arbitrary<Scalar> = fc.boolean().map((value) => ({ type: 'bool', value }))
const none: fc.Arbitrary<Scalar> = fc.constant({ type: 'null' })
const time: fc.Arbitrary<Scalar> = fc.constantFrom<Scalar>(
  { type: 'time', text: '2001-12-14T21:59:43.1Z' },
  { type: 'time', text: '2001-12-14T21:59:43+05:30' },
)

/** Values that both YAML and JSON can hold in clear. */
const common = fc.oneof(str, int, float, bool, none)

function key(suffix: string): fc.Arbitrary<string> {
  return unicode.map(
    (name) => (name === 'sops' ? 'other' : name.endsWith('_unencrypted') ? 'x' : name) + suffix,
  )
}

function mapOf(name: fc.Arbitrary<string>, value: fc.Arbitrary<Tree>): fc.Arbitrary<MapTree> {
  const entry: fc.Arbitrary<Entry> = fc.record({ key: name, value })
  return fc
    .uniqueArray(entry, { selector: (e) => e.key, maxLength: 6 })
    .map((entries) => ({ type: 'map', entries }))
}

function treeOf(leaf: fc.Arbitrary<Scalar>, name: fc.Arbitrary<string>): fc.Arbitrary<Tree> {
  return fc.letrec<{ tree: Tree }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 3, depthSize: 'small' },
      leaf,
      fc.array(tie('tree'), { maxLength: 4 }).map((items): Tree => ({ type: 'list', items })),
      mapOf(name, tie('tree')),
    ),
  })).tree
}

/** Documents in which some top-level keys, and all below them, stay in clear. */
function document(clear: fc.Arbitrary<Scalar>): fc.Arbitrary<MapTree> {
  const secret = fc.oneof(
    common,
    time,
    bytes.map((b): Scalar => ({ type: 'str', bytes: b })),
    fc.constantFrom<Scalar>({ type: 'float', value: Infinity }, { type: 'float', value: -0 }),
  )
  const hidden = mapOf(key(''), treeOf(secret, key('')))
  const open = mapOf(key('_unencrypted'), treeOf(clear, key('')))
  return fc.tuple(hidden, open).map(([a, b]) => ({ type: 'map', entries: [...a.entries, ...b.entries] }))
}

export const YAML_DOCUMENT: fc.Arbitrary<MapTree> = document(fc.oneof(common, time))
export const JSON_DOCUMENT: fc.Arbitrary<MapTree> = document(common)
export const ANY_BYTES = bytes
export const ANY_TEXT = unicode
