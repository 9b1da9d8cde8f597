/** Owns the configuration file while the process runs: when it is read again, and what is told about that. */
import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { ConfigError, readConfig, type Config, type LoadedConfig } from '../config.ts'
import type { Logger } from '../telemetry/log.ts'
import type { Meter } from '../telemetry/metrics.ts'

/** Keys whose changes are put in force at once; every other key needs a restart. */
export const LIVE_KEYS: readonly string[] = [
  'policy',
  'stores',
  'cache.freshFor',
  'cache.staleIfError',
  'cache.immutableFor',
  'log.level',
]

/** Between two looks at the file, in milliseconds. */
const LOOK_MS = 2000

export interface WatchOptions {
  readonly file: string
  /** What the process was started with. */
  readonly started: LoadedConfig
  /** The configuration that a text is, with the flags of the process laid over it. @throws ConfigError */
  readonly parse: (text: string) => LoadedConfig
  /** Puts the {@link LIVE_KEYS} in force, all or none. @throws ConfigError */
  readonly apply: (reading: LoadedConfig) => Promise<void>
  readonly log: Logger
  readonly meter: Meter
  readonly lookMs?: number
}

export interface ConfigWatch {
  /**
   * Reads the file. A change counts when two looks in a row have found it, so that nobody's half-written file
   * is taken, or `now`. Never throws: what cannot be used leaves the old configuration in force.
   */
  look(when?: 'now'): Promise<void>
  close(): void
}

/**
 * Looks at the file every few seconds. Its text is compared, not its inode: the kubelet updates a ConfigMap
 * volume by pointing a symbolic link elsewhere, and a file that is mounted over may not show a change at all.
 */
export function watchConfig(options: WatchOptions): ConfigWatch {
  const { file, started, log, meter } = options
  /** Digest of what was last dealt with, and of what the last look has found. */
  let settled = digestOf(started.text)
  let found = settled
  let told = ''
  let closed = false
  let queue = Promise.resolve()
  meter.gauge('keyferry_config_not_in_force', 0)

  function tell(outcome: 'applied' | 'partial' | 'failed'): void {
    meter.count('keyferry_config_reloads_total', { outcome })
    meter.gauge('keyferry_config_not_in_force', outcome === 'applied' ? 0 : 1)
  }

  async function takeOver(read: string | ConfigError): Promise<void> {
    try {
      if (read instanceof ConfigError) throw read
      // Emptied, or not yet written again: nobody means the defaults by it.
      if (read.trim() === '' && started.text.trim() !== '') throw new ConfigError(`${file}:1:1: is empty`)
      const reading = options.parse(read)
      await options.apply(reading)
      const keys = keysThatNeedRestart(started.config, reading.config)
      tell(keys.length > 0 ? 'partial' : 'applied')
      log.info('configuration reloaded', { file })
      if (keys.length > 0 && keys.join() !== told)
        log.warn('some changes of the configuration need a restart', { file, keys })
      told = keys.join()
    } catch (error) {
      tell('failed')
      const reason = error instanceof Error ? error.message : 'unknown error'
      log.error('configuration not reloaded, the old one stays in force', { reason })
    }
  }

  async function lookOnce(when?: 'now'): Promise<void> {
    const read = await readConfig(file).catch((error: unknown) =>
      error instanceof ConfigError ? error : new ConfigError(`${file}: cannot be read`),
    )
    if (closed) return
    const digest = read instanceof ConfigError ? read.message : digestOf(read)
    const steady = digest === found
    found = digest
    if (when !== 'now' && (digest === settled || !steady)) return
    settled = digest
    await takeOver(read)
  }

  const look = async (when?: 'now'): Promise<void> => {
    queue = queue.then(() => lookOnce(when))
    return queue
  }
  const timer = setInterval(() => void look(), options.lookMs ?? LOOK_MS).unref()
  return {
    look,
    close() {
      closed = true
      clearInterval(timer)
    },
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64')
}

/** Keys in which two configurations differ, down to the second level, but for the {@link LIVE_KEYS}. */
export function keysThatNeedRestart(before: Config, after: Config): readonly string[] {
  const values = (config: Config): ReadonlyMap<string, unknown> =>
    new Map(Object.entries(config).flatMap(flat))
  const old = values(before)
  const now = values(after)
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((key) => !isLive(key) && !isDeepStrictEqual(old.get(key), now.get(key)))
    .sort()
}

function flat([key, value]: [string, unknown]): [string, unknown][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [[key, value]]
  return Object.entries(value).map(([name, below]) => [`${key}.${name}`, below])
}

function isLive(key: string): boolean {
  return LIVE_KEYS.some((live) => key === live || key.startsWith(`${live}.`))
}
