/** Owns the object versions: the store's where it has one, else made with the node's key (T23). */
import { createHmac, type KeyObject } from 'node:crypto'

/**
 * A version that changes with path and contents and cannot be guessed from them: equal content has equal
 * versions while the key lives, and nobody without the key can test a guess against a version that is
 * readable in the cluster. 32 hexadecimal digits.
 */
export function keyedDigest(key: KeyObject, path: string, contents: Uint8Array): string {
  return createHmac('sha256', key).update(path).update('\0').update(contents).digest('hex').slice(0, 32)
}
