/** Owns the logger of the running process: JSON lines on a file descriptor, written synchronously. */
import { destination, pino, stdTimeFunctions, type Logger as Pino } from 'pino'
import type { LogFields, Logger, LogLevel } from './log.ts'

/**
 * A logger that writes one JSON object per line to `fd` (2 is standard error). Synchronous, so that
 * the last lines before a crash are not lost; no worker thread.
 */
export function createLogger(level: LogLevel, fd = 2): Logger {
  return adapt(
    pino(
      {
        level,
        base: null,
        timestamp: stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
      },
      destination({ dest: fd, sync: true }),
    ),
  )
}

function adapt(log: Pino): Logger {
  return {
    debug: (message, fields) => log.debug(fields ?? {}, message),
    info: (message, fields) => log.info(fields ?? {}, message),
    warn: (message, fields) => log.warn(fields ?? {}, message),
    error: (message, fields) => log.error(fields ?? {}, message),
    with: (fields: LogFields) => adapt(log.child(fields)),
  }
}
