/** Owns loading identities for the command line, with the checks that the provider makes too (sops B6). */
import type { Stats } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { KeyRing } from '../keys/data-key.ts'
import type { PrivateIdentity } from '../keys/held.ts'
import { parseIdentities } from '../keys/parse-identity.ts'
import { readRegularFile } from '../regular-file.ts'
import { WriteError } from '../write/error.ts'

const MAX_IDENTITY_BYTES = 64 * 1024

function refuseLoose(stats: Stats): string | undefined {
  if (stats.uid !== 0 && stats.uid !== process.getuid?.()) return `it is owned by uid ${stats.uid}`
  return (stats.mode & 0o077) === 0 ? undefined : 'group or others have access to it'
}

async function loadFile(path: string): Promise<readonly PrivateIdentity[]> {
  const bytes = await readRegularFile(path, MAX_IDENTITY_BYTES, refuseLoose)
  if ('fault' in bytes) {
    throw new WriteError(
      'permission',
      `the identity file ${path} is refused: ${bytes.why}`,
      'It must be yours or root’s alone: `chmod 0400` it. If others could read it, make a new one and rekey.',
    )
  }
  try {
    return await parseIdentities(bytes)
  } catch (error) {
    const why = error instanceof RangeError ? error.message : 'it is no identity'
    throw new WriteError('usage', `the identity file ${path} is not understood: ${why}`)
  } finally {
    bytes.fill(0)
  }
}

/** Every `*.agekey` of a directory; none when there is no such directory. */
async function filesOf(directory: string): Promise<readonly string[]> {
  try {
    const names = await readdir(directory)
    return names
      .filter((name) => name.endsWith('.agekey'))
      .sort()
      .map((name) => join(directory, name))
  } catch (error) {
    const { code = 'an error' } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return []
    throw new WriteError('permission', `${directory} cannot be read (${code})`)
  }
}

/** What to open documents with: the files named, else those of `directory`. Possibly nothing. */
export async function loadKeyRing(files: readonly string[], directory: string): Promise<KeyRing> {
  const loaded: PrivateIdentity[] = []
  for (const path of files.length > 0 ? files : await filesOf(directory))
    loaded.push(...(await loadFile(path)))
  return { identities: loaded.map((identity) => ({ ...identity, subjects: [], shared: false })) }
}

/** Like {@link loadKeyRing}. @throws WriteError `permission` when there is no identity at all. */
export async function requireKeyRing(files: readonly string[], directory: string): Promise<KeyRing> {
  const ring = await loadKeyRing(files, directory)
  if (ring.identities.length > 0) return ring
  throw new WriteError(
    'permission',
    `no identity was found in ${directory}`,
    'This verb opens documents: name the private key with --identity FILE.',
  )
}
