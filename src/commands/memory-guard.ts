/**
 * Owns the refusal to run where the memory of the process can be read or written out: debuggers, heap
 * snapshots, profiles and reports (threat model T24).
 */
import inspector from 'node:inspector'
import { ConfigError } from '../config.ts'
import type { Logger } from '../telemetry/log.ts'

/** Beginnings of flags of Node that open or write out the memory of the process. */
const OPENING = [
  '--inspect',
  '--heapsnapshot',
  '--heap-prof',
  '--cpu-prof',
  '--prof',
  '--report',
  '--experimental-report',
  '--abort-on-uncaught-exception',
] as const

/** The first flag, of the command line or NODE_OPTIONS, that opens the memory of the process. */
export function openingFlag(execArgv: readonly string[], nodeOptions = ''): string | undefined {
  const flags = [...execArgv, ...nodeOptions.split(/\s+/)].map((flag) => flag.replaceAll('_', '-'))
  return flags.find((flag) => OPENING.some((opening) => flag.startsWith(opening)))?.split('=')[0]
}

/**
 * Refuses to serve while memory is open, and lets no signal open it later: Node would start its inspector
 * on SIGUSR1 unless somebody listens for it. The flag `--disable-sigusr1` of the shipped command line
 * covers the moment before.
 * @throws ConfigError
 */
export function guardMemory(log: Logger, env: Readonly<Record<string, string | undefined>>): void {
  const flag = openingFlag(process.execArgv, env['NODE_OPTIONS'])
  if (flag !== undefined || inspector.url() !== undefined) {
    throw new ConfigError(
      `${flag ?? 'the inspector'} opens the memory of the process, with every secret in it, to others: ` +
        'start keyferry serve without it; use `keyferry mount` to debug',
    )
  }
  process.on('SIGUSR1', () => log.warn('SIGUSR1 ignored: it opens no debugger here'))
}
