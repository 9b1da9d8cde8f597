/** Owns the log interface that every room writes to, and its JSON-lines implementation on pino. */

/** Severity, most verbose first. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** Fields of a log line. Never a value, a token, `attributes` or `secrets` (driver.md section 6). */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined | readonly string[]>>

/** Writes structured lines. `message` is a constant text; everything variable goes into fields. */
export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /** A logger that adds `fields` to each of its lines. */
  with(fields: LogFields): Logger
}

/** Discards everything. */
export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  with: () => silentLogger,
}
