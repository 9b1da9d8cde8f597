/** Owns access to the published documents of `test/vectors/sops` (see its README). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { HeldIdentity } from '../../../src/providers/sops/keys/held.ts'
import { parseIdentities } from '../../../src/providers/sops/keys/parse-identity.ts'
import type { Format } from '../../../src/providers/sops/stores/store.ts'

export const VECTORS = join(import.meta.dirname, '../../vectors/sops')

export type Leaf = [number, string, string, string | { b64: string }, 'clear'?]

export interface Vector {
  readonly id: string
  readonly file?: string
  readonly base?: string
  readonly edits?: readonly (readonly [number, number, string])[]
  readonly format: Format
  readonly identities?: readonly string[]
  readonly outcome: 'opens' | 'refused'
  readonly code?: readonly string[]
  readonly mac?: string
  readonly leaves?: readonly Leaf[]
  readonly unauthenticated?: readonly string[]
  readonly plainExact?: boolean
  readonly covers: readonly string[]
}

const expected = JSON.parse(readFileSync(join(VECTORS, 'expected.json'), 'utf8')) as {
  identities: Record<string, string>
  documents: Vector[]
}

export const vectors: readonly Vector[] = expected.documents

/** The entry of an id. */
export function vector(id: string): Vector {
  const found = vectors.find((v) => v.id === id)
  if (found === undefined) throw new Error(`no vector ${id}`)
  return found
}

/** The document of an entry, its edits applied. */
export function bytesOf(v: Vector): Buffer {
  if (v.file !== undefined) return readFileSync(join(VECTORS, v.file))
  const base = readFileSync(join(VECTORS, v.base ?? ''))
  const out: Buffer[] = []
  let at = 0
  for (const [offset, drop, put] of v.edits ?? []) {
    out.push(base.subarray(at, offset), Buffer.from(put))
    at = offset + drop
  }
  return Buffer.concat([...out, base.subarray(at)])
}

const loaded = new Map<string, Promise<readonly HeldIdentity[]>>()

/** Path of a published key file. */
export function identityPath(name: string): string {
  return join(VECTORS, expected.identities[name] ?? '')
}

/** Published identities by name, serving everybody as their own. */
export async function identities(names: readonly string[] = ['age-a']): Promise<readonly HeldIdentity[]> {
  const passphrase = readFileSync(join(VECTORS, 'keys/pgp-locked.passphrase'), 'utf8').trim()
  const held = names.map((name) => {
    let entry = loaded.get(name)
    if (entry === undefined) {
      entry = parseIdentities(readFileSync(identityPath(name)), passphrase).then((keys) =>
        keys.map((key) => ({ ...key, subjects: [{ namespace: '*', serviceAccount: '*' }], shared: false })),
      )
      loaded.set(name, entry)
    }
    return entry
  })
  return (await Promise.all(held)).flat()
}
