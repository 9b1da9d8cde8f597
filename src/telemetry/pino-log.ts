/** Owns the logger of the running process: JSON lines on a file descriptor, written synchronously. */
import { destination, pino, stdTimeFunctions, type Logger as Pino } from 'pino'
import { LOG_LEVELS, type LogFields, type Logger, type LogLevel } from './log.ts'

/** A logger whose level can be changed, for all that were made of it by `with`, too. */
export interface AdjustableLogger extends Logger {
  setLevel(level: LogLevel): void
}

/**
 * A logger that writes one JSON object per line to `fd` (2 is standard error). Synchronous, so that
 * the last lines before a crash are not lost; no worker thread.
 */
export function createLogger(level: LogLevel, fd = 2): AdjustableLogger {
  // pino's children keep the level that they were made with, so the level is ours.
  const least = { rank: LOG_LEVELS.indexOf(level) }
  const logger = adapt(
    pino(
      {
        level: 'debug',
        base: null,
        timestamp: stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
      },
      destination({ dest: fd, sync: true }),
    ),
    least,
  )
  return { ...logger, setLevel: (next) => (least.rank = LOG_LEVELS.indexOf(next)) }
}

function adapt(log: Pino, least: { readonly rank: number }): Logger {
  const at =
    (level: LogLevel) =>
    (message: string, fields: LogFields = {}): void => {
      if (LOG_LEVELS.indexOf(level) >= least.rank) log[level](fields, message)
    }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: (fields) => adapt(log.child(fields), least),
  }
}
