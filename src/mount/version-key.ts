/**
 * Owns the key of object versions that the store itself does not version. It has to be secret, so that
 * nobody can test a guess against a version that is readable in the cluster (threat model T23), and the
 * same from mount to mount. It never comes from a Kubernetes Secret of ours.
 */
import { randomBytes } from 'node:crypto'
import { link, lstat, mkdir, readFile, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../telemetry/log.ts'

const KEY_BYTES = 32
const MIN_BYTES = 16
const FILE = 'version.key'

export interface VersionKeyOptions {
  /** A key that the operator provides; at least 16 bytes, used as it is. */
  readonly file?: string | undefined
  /** Directory (0700) in which a key is made once and kept over restarts and upgrades. */
  readonly stateDir?: string | undefined
  readonly log: Logger
}

/** The configured key cannot be used. The text names the file and says why. */
export class VersionKeyError extends Error {
  override readonly name = 'VersionKeyError'
}

/**
 * The key, from the first source that is configured: file, state directory, else a random one for this
 * process: versions then change once with each restart, which is logged.
 * @throws VersionKeyError
 */
export async function loadVersionKey({ file, stateDir, log }: VersionKeyOptions): Promise<Buffer> {
  if (file !== undefined) return readKey(file, MIN_BYTES)
  if (stateDir !== undefined) return keptKey(stateDir)
  log.info('object versions that a store does not give change when this process restarts', {
    remedy: 'Set node.stateDir or node.versionKeyFile',
  })
  return randomBytes(KEY_BYTES)
}

/** Made under another name and linked: processes that start at the same time agree on one key. */
async function keptKey(dir: string): Promise<Buffer> {
  const path = join(dir, FILE)
  await mkdir(dir, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw new VersionKeyError(`node.stateDir ${dir} cannot be made (${codeOf(error)})`)
  })
  if (await exists(path)) return readKey(path, KEY_BYTES)
  const temporary = join(dir, `.${FILE}.${randomBytes(6).toString('hex')}`)
  try {
    await writeFile(temporary, randomBytes(KEY_BYTES), { mode: 0o600, flag: 'wx', flush: true })
    await link(temporary, path).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error
    })
  } catch (error) {
    throw new VersionKeyError(`node.stateDir ${dir} cannot be written (${codeOf(error)})`)
  } finally {
    await unlink(temporary).catch(() => {})
  }
  return readKey(path, KEY_BYTES)
}

async function readKey(path: string, least: number): Promise<Buffer> {
  const key = await readFile(path).catch((error: unknown) => {
    throw new VersionKeyError(`the version key ${path} cannot be read (${codeOf(error)})`)
  })
  if (key.length < least)
    throw new VersionKeyError(`the version key ${path} has ${key.length} bytes; at least ${least} are needed`)
  return key
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
}
