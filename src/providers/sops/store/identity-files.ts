/** Owns loading identities for the command line, with the checks that the provider makes too (sops B6). */
import { constants, type Stats } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { KeyRing } from '../keys/data-key.ts'
import type { PrivateIdentity } from '../keys/held.ts'
import { parseIdentities } from '../keys/parse-identity.ts'
import { WriteError } from '../write/error.ts'

const MAX_IDENTITY_BYTES = 64 * 1024

function fault(stats: Stats, uid: number): string | undefined {
  if (!stats.isFile()) return 'is no regular file'
  if (stats.nlink !== 1) return 'has a second name (hard link)'
  if (stats.uid !== 0 && stats.uid !== uid) return `is owned by uid ${stats.uid}`
  if ((stats.mode & 0o077) !== 0) return 'can be read by group or others'
  return stats.size > MAX_IDENTITY_BYTES ? 'is larger than 64 KiB' : undefined
}

async function loadFile(path: string): Promise<readonly PrivateIdentity[]> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch((error: unknown) => {
    const { code = 'an error' } = error as NodeJS.ErrnoException
    const why = code === 'ELOOP' ? 'it is a symbolic link' : code
    throw new WriteError('permission', `the identity file ${path} cannot be read (${why})`)
  })
  try {
    const wrong = fault(await handle.stat(), process.getuid?.() ?? 0)
    if (wrong !== undefined) {
      throw new WriteError(
        'permission',
        `the identity file ${path} ${wrong}`,
        'It must be yours or root’s alone: `chmod 0400` it. If others could read it, make a new one and rekey.',
      )
    }
    const bytes = await handle.readFile()
    try {
      return await parseIdentities(bytes)
    } catch (error) {
      const why = error instanceof RangeError ? error.message : 'it is no identity'
      throw new WriteError('usage', `the identity file ${path} is not understood: ${why}`)
    } finally {
      bytes.fill(0)
    }
  } finally {
    await handle.close()
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
