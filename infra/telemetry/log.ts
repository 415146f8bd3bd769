import { type DestinationStream, type Logger, pino } from 'pino'
import { redact } from './redact.ts'
import { formatText } from './text-format.ts'
import { traceFields } from './tracing.ts'

export type { Logger }

export interface LoggerOptions {
  /** Minimum level; default info. */
  level?: string
  /** `auto`, the default, is text on a terminal and JSON lines elsewhere. */
  format?: 'auto' | 'text' | 'json'
  /** Default: standard error, so that standard output is free for results. */
  destination?: DestinationStream & { isTTY?: boolean }
}

/**
 * The service's logger. Secrets, image data and the queries of addresses are never written.
 *
 * @example
 * const log = createLogger({ level: 'debug' })
 * log.info({ port: 8787 }, 'listening')
 */
export function createLogger(options: LoggerOptions = {}): Logger {
  const { level = 'info', format = 'auto', destination = process.stderr } = options
  const asText = format === 'text' || (format === 'auto' && destination.isTTY === true)
  const color = asText && destination.isTTY === true
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: redactFields,
      },
      mixin: traceFields,
      // Errors are serialised with everything else, by redact.
      serializers: { err: (error: unknown) => error },
    },
    asText ? { write: (line) => destination.write(formatText(line, { color })) } : destination,
  )
  // Formatters do not reach the fields of children. Children inherit this method from their parent.
  const { child } = logger
  logger.child = function (this: Logger, fields, options) {
    return child.call(this, redactFields(fields), options)
  } as typeof child
  return logger
}

function redactFields(fields: object): Record<string, unknown> {
  return redact(fields) as Record<string, unknown>
}
