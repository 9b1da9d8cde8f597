/** Owns a logger that keeps what is logged, as text, for tests that search it. */
import type { LogFields, Logger } from '../../src/telemetry/log.ts'

/** Appends `level message {fields}` to `lines` for each call, also of loggers made from it. */
export function recordingLogger(lines: string[]): Logger {
  const line = (level: string) => (message: string, fields?: LogFields) =>
    void lines.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`)
  const logger: Logger = {
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    with: () => logger,
  }
  return logger
}
