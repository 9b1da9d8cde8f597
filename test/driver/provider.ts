/** Owns what the suites need to know of a provider, so that the same harness serves any of them. */
import type { Exit } from '../peers/process.ts'

/** A provider process that listens on `<socketDir>/<name>.sock`. */
export interface RunningProvider {
  readonly pid: number
  /** Everything it logged. */
  readonly log: () => string
  readonly running: () => boolean
  readonly signal: (signal: NodeJS.Signals) => void
  /** SIGTERM and wait for the end. */
  readonly stop: () => Promise<Exit>
  /** SIGKILL: sockets stay behind, calls break. */
  readonly kill: () => Promise<Exit>
}
