/** Owns `keyferry serve`: the process of the DaemonSet. */
import { existsSync, readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import {
  DEFAULT_CONFIG_FILE,
  DEFAULT_SOCKET_DIRECTORIES,
  loadConfig,
  parseConfig,
  type Config,
  type LoadedConfig,
} from '../config.ts'
import type { AdminListener } from '../server/admin.ts'
import type { RunningServer } from '../server/server.ts'
import { auditTo, silentAudit, together, type Audit } from '../telemetry/audit.ts'
import type { Logger, LogLevel } from '../telemetry/log.ts'
import { createMeter, silentMeter, type ReadableMeter } from '../telemetry/metrics.ts'
import { createLogger } from '../telemetry/pino-log.ts'
import { VERSION } from '../version.ts'
import { guardMemory } from './memory-guard.ts'
import { createProviderProcess } from './provider-process.ts'
import { watchConfig, type ConfigWatch, type WatchOptions } from './reload.ts'

/** Flags of `keyferry serve`; each wins over the configuration file. */
export interface ServeFlags {
  readonly config?: string
  readonly socketDir?: readonly string[]
  readonly dialects?: readonly string[]
  readonly adminAddress?: string
  readonly logLevel?: LogLevel
  readonly takeover?: boolean
}

/** The configuration file, or the defaults where there is none, with the flags laid over it. @throws ConfigError */
export async function effectiveConfig(flags: ServeFlags): Promise<LoadedConfig> {
  const file = configFile(flags)
  const loaded = file === undefined ? parseConfig('(no configuration file)', '') : await loadConfig(file)
  return withFlags(loaded, flags)
}

function configFile(flags: ServeFlags): string | undefined {
  return flags.config ?? (existsSync(DEFAULT_CONFIG_FILE) ? DEFAULT_CONFIG_FILE : undefined)
}

function withFlags(loaded: LoadedConfig, flags: ServeFlags): LoadedConfig {
  const { config } = loaded
  const overlaid: Config = {
    ...config,
    sockets: {
      ...config.sockets,
      ...(flags.socketDir && { directories: [...flags.socketDir] }),
      ...(flags.dialects && { dialects: [...flags.dialects] }),
      ...(flags.takeover && { takeover: true }),
    },
    admin: { ...config.admin, ...(flags.adminAddress !== undefined && { address: flags.adminAddress }) },
    log: { ...config.log, ...(flags.logLevel && { level: flags.logLevel }) },
  }
  return { ...loaded, config: overlaid }
}

/**
 * Runs until SIGTERM or SIGINT, then drains and resolves.
 * @throws ConfigError, SocketError before the sockets are bound.
 */
export async function serve(flags: ServeFlags): Promise<void> {
  const loaded = await effectiveConfig(flags)
  const { config } = loaded
  const log = createLogger(config.log.level)
  guardMemory(log, process.env)
  const meter = config.admin.address === 'off' ? undefined : await createMeter()
  const provider = await createProviderProcess({
    loaded,
    log,
    audit: auditOf(config),
    meter: meter ?? silentMeter,
    env: process.env,
  })
  const server = await provider.listen(socketDirectories(config))
  const watch = watched(flags, loaded, {
    log,
    meter: meter ?? silentMeter,
    async apply(reading) {
      await provider.apply(reading)
      log.setLevel(reading.config.log.level)
    },
  })
  // Without a file there is nothing to read, and nothing to die of either.
  process.on('SIGHUP', () => void watch?.look('now'))
  // Before anybody is told that we run: who is told may end us at once.
  const end = ended()
  const state = { ready: true }
  const admin = meter && (await openAdmin(config.admin.address, server, meter, state))
  warnAboutSwap(log, meter)
  // Written at every level: what starts us waits for this line.
  createLogger('info').info('ready', {
    version: VERSION,
    sockets: server.paths,
    dialects: config.sockets.dialects ?? provider.registry.providers,
    policy: provider.policy.profile,
    policyHash: provider.policy.hash,
    ...(admin && { adminPort: admin.port }),
  })

  const signal = await end
  watch?.close()
  state.ready = false
  log.info('draining', { signal, drainMs: config.limits.drain })
  await server.close({ drainMs: config.limits.drain })
  await provider.close()
  await admin?.close()
  log.info('ended')
}

/** Looks after the configuration file from now on. Undefined where the process was started without one. */
function watched(
  flags: ServeFlags,
  started: LoadedConfig,
  options: Pick<WatchOptions, 'apply' | 'log' | 'meter'>,
): ConfigWatch | undefined {
  const file = configFile(flags)
  if (file === undefined) return undefined
  return watchConfig({
    file,
    started,
    parse: (text) => withFlags(parseConfig(file, text), flags),
    ...options,
  })
}

/** Configured directories have to exist; of the defaults those that do are used. */
function socketDirectories(config: Config): {
  directories: { path: string; optional: boolean }[]
  alsoSearched: readonly string[]
} {
  const { directories } = config.sockets
  if (directories)
    return {
      directories: directories.map((path) => ({ path, optional: false })),
      alsoSearched: DEFAULT_SOCKET_DIRECTORIES,
    }
  return {
    directories: DEFAULT_SOCKET_DIRECTORIES.map((path) => ({ path, optional: true })),
    alsoSearched: [],
  }
}

function auditOf(config: Config): Audit {
  const { audit } = config.log
  if (audit === 'off') return silentAudit
  const stream = audit === 'stdout' ? process.stdout : process.stderr
  return auditTo(together((lines) => stream.write(lines)))
}

async function openAdmin(
  address: string,
  server: RunningServer,
  meter: ReadableMeter,
  state: { ready: boolean },
): Promise<AdminListener> {
  const colon = address.lastIndexOf(':')
  const lag = monitorEventLoopDelay({ resolution: 10 })
  lag.enable()
  const { startAdmin } = await import('../server/admin.ts')
  return startAdmin({
    host: address.slice(0, colon).replace(/^\[|\]$/g, ''),
    port: Number(address.slice(colon + 1)),
    ready: () => state.ready,
    metrics: async () => {
      const { running, waiting } = server.stats()
      meter.gauge('keyferry_mounts_running', running)
      meter.gauge('keyferry_mounts_queued', waiting)
      meter.gauge('keyferry_event_loop_lag_seconds', lag.max / 1e9)
      lag.reset()
      return { contentType: 'text/plain; version=0.0.4; charset=utf-8', text: await meter.text() }
    },
  })
}

/** The driver's tmpfs has no `noswap`: with swap on, values can reach the disk (threat model T35). */
function warnAboutSwap(log: Logger, meter: ReadableMeter | undefined): void {
  let lines = 0
  try {
    lines = readFileSync('/proc/swaps', 'utf8').trim().split('\n').length
  } catch {
    return
  }
  meter?.gauge('keyferry_swap_enabled', lines > 1 ? 1 : 0)
  if (lines > 1)
    log.warn('this node swaps: files of pods may reach the disk', { remedy: 'Switch swap off or encrypt it' })
}

async function ended(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal))
  })
}
