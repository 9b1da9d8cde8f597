/** Owns TLS material from files: reading, re-reading when they change, and which trust it means (vault section 2.2). */
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { getCACertificates } from 'node:tls'
import type { TlsSettings } from '../../net/http.ts'
import type { Logger } from '../../telemetry/log.ts'
import { failed } from './failure.ts'
import type { Layer } from './settings.ts'
import type { Flavour } from './store.ts'

/** A layer and who wrote it: an SPC's files must lie below the operator's directories (T12). */
export interface TrustedLayer {
  readonly layer: Layer
  readonly from: 'operator' | 'parameter'
}

export interface TlsFilesOptions {
  /** Directories below which an SPC may name files. */
  readonly directories: readonly string[]
  readonly log: Logger
  /** Milliseconds since the epoch. */
  readonly now: () => number
}

/** Reads TLS settings of layers, lowest first. */
export interface TlsFiles {
  /** @throws BackendError `config` naming the file, never its content. */
  settings(layers: readonly TrustedLayer[], flavour: Flavour): Promise<TlsSettings>
}

/** Largest file that is read. The biggest public trust store has about 250 KiB. */
const MAX_FILE_BYTES = 1024 * 1024
const MAX_DIRECTORY_FILES = 500
/** Links are followed, so a loop of links must end. */
const MAX_DIRECTORY_DEPTH = 4
/** How long file times are trusted before they are looked at again. */
const CHECK_EVERY_MS = 10_000
const CERTIFICATE = '-----BEGIN CERTIFICATE-----'
const MAX_KEPT = 256

interface Kept {
  readonly pem: string
  readonly stamp: string
  readonly checkedAt: number
}

export function createTlsFiles(options: TlsFilesOptions): TlsFiles {
  const kept = new Map<string, Kept>()

  /** Content of a file or a directory's certificates, read again when time, size or inode changed. */
  async function load(
    path: string,
    read: (files: readonly string[]) => Promise<string>,
    list: () => Promise<readonly string[]>,
  ) {
    const known = kept.get(path)
    if (known && options.now() - known.checkedAt < CHECK_EVERY_MS) return known.pem
    const files = await list()
    const stamp = (await Promise.all(files.map(fileStamp))).join()
    const pem = known?.stamp === stamp ? known.pem : await read(files)
    kept.delete(path)
    kept.set(path, { pem, stamp, checkedAt: options.now() })
    for (const oldest of kept.keys()) {
      if (kept.size <= MAX_KEPT) break
      kept.delete(oldest)
    }
    return pem
  }

  /** The path with links resolved, if it may be read at all. Missing and forbidden look alike. */
  async function allowed(path: string, from: TrustedLayer['from'], what: string): Promise<string> {
    const real = await realpath(path).catch(() => undefined)
    if (from === 'operator') return real ?? path
    for (const directory of options.directories) {
      const root = await realpath(directory).catch(() => directory)
      if (real !== undefined && real.startsWith(root.endsWith(sep) ? root : root + sep)) return real
    }
    throw unusable(
      path,
      what,
      `Put it below one of backends.vault.tlsDirectories: ${options.directories.join(', ')}`,
    )
  }

  async function file(
    path: string,
    from: TrustedLayer['from'],
    what: string,
    marker: string,
  ): Promise<string> {
    const real = await allowed(path, from, what)
    try {
      const pem = await load(
        real,
        ([only]) => readRegular(only ?? real),
        async () => [real],
      )
      if (pem.includes(marker)) return pem
    } catch (error) {
      options.log.debug('TLS file cannot be read', { file: path, error: codeOf(error) })
    }
    throw unusable(path, what, 'Check that the file exists, is readable and holds PEM')
  }

  async function directory(path: string, from: TrustedLayer['from']): Promise<string> {
    const what = 'CA directory'
    const real = await allowed(path, from, what)
    try {
      const pem = await load(
        `${real}${sep}`,
        async (files) => {
          const texts = await Promise.all(files.map((one) => readRegular(one).catch(() => '')))
          const certificates = texts.filter((text) => text.includes(CERTIFICATE))
          if (certificates.length < files.length) {
            options.log.warn('files without a certificate in the CA directory are skipped', {
              directory: path,
            })
          }
          return certificates.join('\n')
        },
        () => certificateFiles(real),
      )
      if (pem !== '') return pem
    } catch (error) {
      options.log.debug('CA directory cannot be read', { directory: path, error: codeOf(error) })
    }
    throw unusable(path, what, 'Check that the directory exists and holds PEM certificates')
  }

  async function anchors(
    { layer, from }: TrustedLayer,
    flavour: Flavour,
  ): Promise<readonly string[] | undefined> {
    const own: string[] = []
    // HashiCorp: bytes, else file, else directory. OpenBao: all of them, on top of the system's.
    const every = flavour === 'openbao'
    if (layer.caPem !== undefined) own.push(layer.caPem)
    if (layer.caFile !== undefined && (every || own.length === 0)) {
      own.push(await file(layer.caFile, from, 'CA certificate', CERTIFICATE))
    }
    if (layer.caDirectory !== undefined && (every || own.length === 0)) {
      own.push(await directory(layer.caDirectory, from))
    }
    if (own.length === 0) return undefined
    return every ? [...getCACertificates('system'), ...own] : own
  }

  return {
    async settings(layers, flavour) {
      let merged: { -readonly [K in keyof TlsSettings]: TlsSettings[K] } = {}
      for (const trusted of layers) {
        const { layer, from } = trusted
        const ca = await anchors(trusted, flavour)
        if (ca !== undefined) merged.ca = ca
        if ((layer.clientCertFile === undefined) !== (layer.clientKeyFile === undefined)) throw halfPair()
        if (layer.clientCertFile !== undefined && layer.clientKeyFile !== undefined) {
          const cert = await file(layer.clientCertFile, from, 'client certificate', CERTIFICATE)
          const key = await file(layer.clientKeyFile, from, 'client key', '-----BEGIN ')
          merged = { ...merged, cert, key }
        }
        if (layer.serverName !== undefined) merged.serverName = layer.serverName
        if (layer.skipVerify === true) merged.insecureSkipVerify = true
      }
      return merged
    },
  }
}

function halfPair() {
  return failed({
    kind: 'config',
    code: 'VAULT_CLIENT_CERT_PAIR',
    message: 'both client cert and client key must be provided',
    remedy: 'Set vaultTLSClientCertPath and vaultTLSClientKeyPath, or neither',
  })
}

function unusable(path: string, what: string, remedy: string) {
  return failed({
    kind: 'config',
    code: 'VAULT_TLS_FILE',
    message: `the ${what} "${path}" cannot be used`,
    remedy,
  })
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
}

async function fileStamp(path: string): Promise<string> {
  const { mtimeMs, ino, size } = await stat(path)
  return `${path} ${mtimeMs} ${ino} ${size}`
}

async function readRegular(path: string): Promise<string> {
  const facts = await stat(path)
  if (!facts.isFile() || facts.size > MAX_FILE_BYTES) throw new Error('not a regular file of at most 1 MiB')
  return readFile(path, 'utf8')
}

/** Files below a directory, links resolved, without the `..data` folders of Kubernetes volumes. */
async function certificateFiles(root: string, depth = 0): Promise<readonly string[]> {
  if (depth > MAX_DIRECTORY_DEPTH) return []
  const entries = await readdir(root)
  const paths = entries
    .filter((name) => !name.startsWith('..'))
    .sort()
    .map((name) => join(root, name))
  const nested = await Promise.all(
    paths.map(async (path) => {
      const facts = await stat(path).catch(() => undefined)
      if (facts?.isDirectory()) return certificateFiles(path, depth + 1)
      return facts?.isFile() ? [path] : []
    }),
  )
  return nested.flat().slice(0, MAX_DIRECTORY_FILES)
}
