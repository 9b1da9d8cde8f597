import { readdirSync, readFileSync } from 'node:fs'
import { join, parse } from 'node:path'
import { describe, expect, test } from 'vitest'
import { BackendError } from '../../../src/providers/adapter.ts'
import { canonicalText } from '../../../src/providers/sops/canonical.ts'
import { openDocument, type OpenedDocument } from '../../../src/providers/sops/open.ts'
import { wholeBytes } from '../../../src/providers/sops/render.ts'
import type { Tree } from '../../../src/providers/sops/tree.ts'
import { bytesOf, identities, vectors, VECTORS, type Leaf } from './vectors.ts'

/** File of the plaintext by id. */
const plainFiles = new Map(readdirSync(join(VECTORS, 'plain')).map((name) => [parse(name).name, name]))

function textOf(bytes: Buffer): string | { b64: string } {
  const text = bytes.toString()
  return Buffer.from(text).equals(bytes) ? text : { b64: bytes.toString('base64') }
}

function leavesOf(opened: OpenedDocument): Leaf[] {
  const out: Leaf[] = []
  const walk = (tree: Tree, document: number, path: string): void => {
    if (tree.type === 'map' && tree.entries.length > 0) {
      for (const { key, value } of tree.entries) {
        walk(value, document, `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`)
      }
    } else if (tree.type === 'list' && tree.items.length > 0) {
      tree.items.forEach((item, i) => walk(item, document, `${path}/${i}`))
    } else if (tree.type === 'map' || tree.type === 'list') {
      out.push([document, path, tree.type, ''])
    } else {
      const text = tree.type === 'str' ? textOf(tree.bytes) : canonicalText(tree)
      const isClear = opened.clear.has(tree)
      out.push(isClear ? [document, path, tree.type, text, 'clear'] : [document, path, tree.type, text])
    }
  }
  opened.branches.forEach((branch, document) => walk(branch, document, ''))
  return out
}

/** Our tree has one type for text and bytes; only the token's word differs (A7). */
function asStr([document, path, type, text, clear]: Leaf): Leaf {
  const word = type === 'bytes' ? 'str' : type
  return clear === undefined ? [document, path, word, text] : [document, path, word, text, clear]
}

describe('every published document', () => {
  for (const v of vectors) {
    const name = `sops ${v.covers.join(', ')}: ${v.id}`
    if (v.outcome === 'opens') {
      test(`${name} opens into its leaves and MAC`, async () => {
        const opened = await openDocument(v.format, bytesOf(v), {
          identities: await identities(v.identities),
        })
        expect(leavesOf(opened)).toEqual(v.leaves?.map(asStr))
        expect(opened.mac.slice(0, 32)).toBe(v.mac)
        if (v.plainExact === true) {
          const plain = readFileSync(join(VECTORS, 'plain', plainFiles.get(v.id) ?? ''))
          expect(wholeBytes(v.format, opened.branches)).toEqual(plain)
        }
      })
    } else {
      test(`${name} is refused with ${v.code?.join(' or ')}`, async () => {
        const held = await identities(v.identities)
        const failure: unknown = await openDocument(v.format, bytesOf(v), { identities: held }).catch(
          (error: unknown) => error,
        )
        expect(failure).toBeInstanceOf(BackendError)
        expect(v.code).toContain((failure as BackendError).code)
      })
    }
  }
})
