/** Owns the object versions: the backend's where it has one, else a keyed digest of the content (T23). */
import { createHmac, randomBytes } from 'node:crypto'

/** Turns file bytes into a version that changes with them and cannot be guessed from them. */
export type Digest = (path: string, contents: Uint8Array) => string

/**
 * A digest keyed with a random key: equal content has equal versions while the key lives, and nobody
 * without the key can test a guess against a version that is readable in the cluster.
 */
export function keyedDigest(key: Uint8Array = randomBytes(32)): Digest {
  return (path, contents) =>
    createHmac('sha256', key).update(path).update('\0').update(contents).digest('hex').slice(0, 32)
}
