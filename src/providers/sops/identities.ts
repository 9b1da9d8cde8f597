/** Owns the identities that the provider holds: where they lie, who may be served with them, reloading (sops A11.1, B6). */
import { lstat, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BackendContext } from '../adapter.ts'
import { sopsError } from './errors.ts'
import type { HeldIdentity, Scope } from './keys/held.ts'
import { parseIdentities } from './keys/parse-identity.ts'
import { readRegularFile } from './regular-file.ts'
import { matchesSubject, parseSubject, type Caller } from './subjects.ts'

/** One entry of `backends.sops.identities`. Exactly one of `subjects`, `shared` and `perNamespace` says whom it serves. */
export interface IdentitySetting {
  /** A file, or a directory of `*.agekey` and `*.asc` files. */
  readonly path: string
  /** Callers for whom these identities may be tried. */
  readonly subjects?: readonly string[] | undefined
  /** Tried for everyone; opens only documents with a `csi_bind`. */
  readonly shared?: boolean | undefined
  /** `path` holds a directory a namespace, whose identities serve that namespace. */
  readonly perNamespace?: boolean | undefined
}

/** The identities of this node. */
export interface IdentitySet {
  /** Those that may be tried for a caller. @throws BackendError when they could never be loaded */
  for(caller: Caller): Promise<readonly HeldIdentity[]>
}

interface IdentityFile extends Scope {
  readonly path: string
}

const MAX_FILE_BYTES = 256 * 1024
const SUFFIXES = ['.agekey', '.asc']
/** How often a change of the directories is looked for, in milliseconds. */
const LOOK_EVERY_MS = 1000

/** Files of a directory that can hold identities. */
async function identityFilesIn(directory: string, scope: Scope): Promise<readonly IdentityFile[]> {
  const names = await readdir(directory)
  return names
    .filter((name) => !name.startsWith('.') && SUFFIXES.some((suffix) => name.endsWith(suffix)))
    .sort()
    .map((name) => ({ path: join(directory, name), ...scope }))
}

async function filesOf(setting: IdentitySetting): Promise<readonly IdentityFile[]> {
  if (setting.perNamespace === true) {
    const entries = await readdir(setting.path, { withFileTypes: true })
    const namespaces = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    const found = await Promise.all(
      namespaces.map(({ name }) =>
        identityFilesIn(join(setting.path, name), {
          subjects: [{ namespace: name, serviceAccount: '*' }],
          shared: false,
        }),
      ),
    )
    return found.flat()
  }
  const subjects = (setting.subjects ?? []).flatMap((text) => parseSubject(text) ?? [])
  const scope: Scope = { subjects, shared: setting.shared === true }
  const isDirectory = (await lstat(setting.path)).isDirectory()
  return isDirectory ? identityFilesIn(setting.path, scope) : [{ path: setting.path, ...scope }]
}

/** Conditions of B6 on a private key's file. */
function refuseLooseFile(stats: { readonly uid: number; readonly mode: number }): string | undefined {
  if (stats.uid !== process.geteuid?.()) return 'it belongs to another user'
  return (stats.mode & 0o077) === 0 ? undefined : 'group or others have access to it (chmod 0400)'
}

async function readIdentities(
  file: IdentityFile,
  passphrase: string | undefined,
): Promise<readonly HeldIdentity[]> {
  const bytes = await readRegularFile(file.path, MAX_FILE_BYTES, refuseLooseFile)
  if ('fault' in bytes) throw new RangeError(`identity file ${file.path} is refused: ${bytes.why}`)
  try {
    const keys = await parseIdentities(bytes, passphrase)
    return keys.map((key) => ({ ...key, subjects: file.subjects, shared: file.shared }))
  } catch (error) {
    const why = error instanceof RangeError ? error.message : 'it cannot be read'
    throw new RangeError(`identity file ${file.path} is refused: ${why}`)
  } finally {
    bytes.fill(0)
  }
}

async function readPassphrase(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined
  const bytes = await readRegularFile(path, 4096, refuseLooseFile)
  if ('fault' in bytes) throw new RangeError(`passphrase file ${path} is refused: ${bytes.why}`)
  const text = bytes.toString('utf8')
  bytes.fill(0)
  return text.endsWith('\n') ? text.slice(0, text.endsWith('\r\n') ? -2 : -1) : text
}

/** What changes when an identity file or its directory does. */
async function fingerprint(files: readonly IdentityFile[]): Promise<string> {
  const parts = await Promise.all(
    files.map(async ({ path }) => {
      const { ino, mtimeMs, ctimeMs, size } = await lstat(path)
      return [path, ino, mtimeMs, ctimeMs, size].join(':')
    }),
  )
  return parts.join('\n')
}

/**
 * The identities of some settings: loaded now, and again when files change. A failed reload keeps
 * the old set, is logged and counted.
 */
export function identitySet(
  settings: readonly IdentitySetting[],
  passphraseFile: string | undefined,
  { log, meter }: Pick<BackendContext, 'log' | 'meter'>,
): IdentitySet {
  let held: readonly HeldIdentity[] | undefined
  let print: string | undefined
  let lookedAt = Number.NEGATIVE_INFINITY
  let looking: Promise<void> | undefined

  const look = async (): Promise<void> => {
    try {
      const files = (await Promise.all(settings.map(filesOf))).flat()
      const seen = await fingerprint(files)
      if (seen === print) return
      // Remembered even when loading fails: an unchanged bad file is reported once, not every second.
      print = seen
      const passphrase = await readPassphrase(passphraseFile)
      const loaded = await Promise.all(files.map((file) => readIdentities(file, passphrase)))
      held = loaded.flat()
      log.info('sops identities loaded', { files: files.length, identities: held.length })
    } catch (error) {
      const reason =
        error instanceof RangeError
          ? error.message
          : `cannot list them (${String((error as NodeJS.ErrnoException).code)})`
      meter.count('keyferry_identity_reload_failures_total', { backend: 'sops' })
      log.error('sops identities not loaded', { reason, kept: held?.length ?? 0 })
    }
  }

  const fresh = async (): Promise<void> => {
    if (performance.now() - lookedAt >= LOOK_EVERY_MS) {
      lookedAt = performance.now()
      looking = look()
    }
    await looking
  }
  void fresh()

  return {
    async for(caller) {
      await fresh()
      if (held === undefined) {
        throw sopsError(
          'KEY_SERVICE_UNAVAILABLE',
          'the identities of this node could not be loaded; this is transient',
          'Let the operator read the log of the provider: it names the file and the reason.',
        )
      }
      return held.filter(
        (identity) => identity.shared || identity.subjects.some((subject) => matchesSubject(subject, caller)),
      )
    },
  }
}

/** Warns when memory, private keys with it, may be written to disk (B6). */
export async function warnAboutSwap(log: BackendContext['log']): Promise<void> {
  const swaps = await readFile('/proc/swaps', 'utf8').catch(() => '')
  if (swaps.trim().split('\n').length > 1) {
    log.warn('swap is on: private keys may reach the disk', { remedy: 'turn swap off or encrypt it' })
  }
}
