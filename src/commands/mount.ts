/** Owns `keyferry mount`: SecretProviderClass files into a directory, without a cluster, through the real server and the driver's side. */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { LoadedConfig } from '../config.ts'
import { startNode, type TestNode, type VolumeResult } from '../driver/node.ts'
import type { PublishedVolumes } from '../mount/published.ts'
import { silentAudit } from '../telemetry/audit.ts'
import { createLogger } from '../telemetry/pino-log.ts'
import { silentLogger, type LogLevel } from '../telemetry/log.ts'
import { silentMeter } from '../telemetry/metrics.ts'
import { createProviderProcess } from './provider-process.ts'
import { effectiveConfig } from './serve.ts'
import { readSpcFile, type SpcFile } from './spc-files.ts'
import { keyValue, UsageError } from './usage.ts'

export interface MountFlags {
  readonly file: readonly string[]
  readonly target: string
  readonly namespace?: string
  readonly serviceAccount: string
  readonly pod: string
  readonly volumeAttribute?: readonly string[]
  readonly token?: readonly string[]
  readonly secret?: readonly string[]
  readonly identity?: readonly string[]
  readonly config?: string
  readonly logLevel?: LogLevel
  readonly json?: boolean
  readonly reveal?: boolean
}

/** One file as the pod would find it. */
interface SeenFile {
  readonly path: string
  readonly mode: string
  readonly size: number
  /** Only with `--reveal`. */
  readonly text?: string
}

/** What became of one SecretProviderClass. */
interface Outcome {
  readonly secretProviderClass: string
  readonly namespace: string
  readonly provider: string
  readonly target: string
  readonly mounted: boolean
  readonly files: readonly SeenFile[]
  readonly versions: readonly { readonly id: string; readonly version: string }[]
  /** gRPC code and text as kubelet's event would show them. */
  readonly error?: { readonly code: string; readonly message: string }
}

/** Mounts every class of the files. @returns whether all of them were mounted. @throws UsageError, ConfigError */
export async function mount(flags: MountFlags): Promise<boolean> {
  if (flags.reveal && !process.stdout.isTTY)
    throw new UsageError('--reveal prints values, so it works on a terminal only')
  const classes = (await Promise.all(flags.file.map(readSpcFile))).flat()
  const scratch = await mkdtemp(join(tmpdir(), 'keyferry-mount-'))
  try {
    return await mountAll(classes, scratch, flags)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function mountAll(classes: readonly SpcFile[], scratch: string, flags: MountFlags): Promise<boolean> {
  const loaded = withIdentities(
    await effectiveConfig(flags),
    await ownIdentities(flags.identity ?? [], scratch),
  )
  const sockets = join(scratch, 'sockets')
  await mkdir(sockets, { mode: 0o700 })
  const log = flags.logLevel ? createLogger(flags.logLevel) : silentLogger
  const provider = await createProviderProcess({
    loaded,
    log,
    audit: silentAudit,
    meter: silentMeter,
    env: process.env,
    published: filledBefore,
  })
  const server = await provider.listen({ directories: [{ path: sockets }], alsoSearched: [] })
  const node = await startNode({
    profile: '1.6',
    providerDirs: [sockets],
    root: sockets,
    mounts: 'directory',
  })
  try {
    const outcomes: Outcome[] = []
    for (const spc of classes) {
      const target = resolve(classes.length === 1 ? flags.target : join(flags.target, spc.name))
      outcomes.push(await mountOne(node, spc, target, flags))
    }
    process.stdout.write(
      flags.json
        ? `${JSON.stringify({ mounts: outcomes }, undefined, 2)}\n`
        : outcomes.map(describe).join('\n'),
    )
    return outcomes.every((outcome) => outcome.mounted)
  } finally {
    await node.close()
    await server.close({ drainMs: 1000 })
    await provider.close()
  }
}

/**
 * A folder that an earlier run filled is a volume that is published again, so that `onRevoked: remove` shows:
 * the driver's writer leaves `..data` behind.
 */
const filledBefore: PublishedVolumes = {
  isRepublish: ({ targetPath }) => existsSync(join(targetPath, '..data')),
  delivered: () => {},
  close: () => Promise.resolve(),
}

/** Copies of identity files that only we can read: what the provider demands of a node's identities. */
async function ownIdentities(files: readonly string[], scratch: string): Promise<string[]> {
  return Promise.all(
    files.map(async (file, index) => {
      const copy = join(scratch, `identity-${index}.agekey`)
      const content = await readFile(file).catch(() => {
        throw new UsageError(`--identity: the file ${file} cannot be read`)
      })
      await writeFile(copy, content, { mode: 0o400 })
      content.fill(0)
      return copy
    }),
  )
}

/** The configuration with further identities for SOPS documents; they open those that carry a binding. */
function withIdentities(loaded: LoadedConfig, files: readonly string[]): LoadedConfig {
  if (files.length === 0) return loaded
  const sops = loaded.config.backends['sops']
  const settings: { readonly identities?: unknown } = typeof sops === 'object' && sops !== null ? sops : {}
  const known: readonly unknown[] = Array.isArray(settings.identities) ? settings.identities : []
  const identities = [...known, ...files.map((path) => ({ path, shared: true }))]
  return {
    ...loaded,
    config: { ...loaded.config, backends: { ...loaded.config.backends, sops: { ...settings, identities } } },
  }
}

async function mountOne(node: TestNode, spc: SpcFile, target: string, flags: MountFlags): Promise<Outcome> {
  const namespace = flags.namespace ?? spc.namespace ?? 'default'
  const result = await node.publish({
    pod: { name: flags.pod, namespace, serviceAccount: flags.serviceAccount },
    spc: { name: spc.name, provider: spc.provider, parameters: spc.parameters },
    volumeAttributes: Object.fromEntries(
      (flags.volumeAttribute ?? []).map((one) => keyValue('--volume-attribute', one)),
    ),
    tokens: Object.fromEntries(await Promise.all((flags.token ?? []).map(readToken))),
    ...(flags.secret && {
      secrets: Object.fromEntries(flags.secret.map((one) => keyValue('--secret', one))),
    }),
    targetPath: target,
  })
  const base = { secretProviderClass: spc.name, namespace, provider: spc.provider, target }
  if (result.code !== 'OK')
    return { ...base, mounted: false, files: [], versions: [], error: errorOf(result) }
  return {
    ...base,
    mounted: true,
    files: seenFiles(node, target, flags.reveal ?? false),
    versions: versionsOf(node, target),
  }
}

async function readToken(text: string): Promise<[string, string]> {
  const [audience, file] = keyValue('--token', text)
  const token = await readFile(file, 'utf8').catch(() => {
    throw new UsageError(`--token ${audience}: the file ${file} cannot be read`)
  })
  return [audience, token.trim()]
}

function errorOf(result: VolumeResult): { code: string; message: string } {
  return { code: result.code, message: result.message }
}

function seenFiles(node: TestNode, target: string, reveal: boolean): SeenFile[] {
  return [...node.files(target)].map(([path, { mode, contents }]) => ({
    path,
    mode: mode.toString(8).padStart(4, '0'),
    size: contents.length,
    ...(reveal && { text: contents.toString() }),
  }))
}

/** The versions that the driver wrote into the pod's status object. */
function versionsOf(
  node: TestNode,
  target: string,
): readonly { readonly id: string; readonly version: string }[] {
  for (const { status } of node.objects.statuses.values())
    if (status.targetPath === target) return status.objects
  return []
}

function describe(outcome: Outcome): string {
  const head = `${outcome.namespace}/${outcome.secretProviderClass} (provider ${outcome.provider})`
  if (outcome.error) {
    const { code, message } = outcome.error
    return `${head}: not mounted\n  ${code}: ${message}\n`
  }
  const version = new Map(outcome.versions.map((one) => [one.id, one.version]))
  const rows = outcome.files.map((file) => [
    file.mode,
    String(file.size),
    version.get(file.path) ?? '',
    file.path,
  ])
  const table = columns([['MODE', 'BYTES', 'VERSION', 'FILE'], ...rows])
  const paths = new Set(outcome.files.map((file) => file.path))
  const others = outcome.versions.filter(({ id }) => !paths.has(id)).map((one) => [one.version, one.id])
  const objects = others.length > 0 ? columns([['VERSION', 'OBJECT'], ...others]) : ''
  const values = outcome.files.flatMap((file) =>
    file.text === undefined ? [] : [`--- ${file.path}\n${file.text}\n`],
  )
  return `${head} → ${outcome.target}\n${table}${objects}${values.join('')}`
}

function columns(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map(
      (row) =>
        `  ${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('')
}
