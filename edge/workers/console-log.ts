import { redact } from '../../infra/telemetry/redact.ts'

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

type LogLine = (fields: Record<string, unknown>, message: string) => void

export interface ConsoleLogOptions {
  /** Minimum level; default info. */
  level?: string
  /** Default: the console, which Workers Logs reads. */
  write?(line: string): void
}

/**
 * Logger for platforms without Node: JSON lines in the format of the service's logger, redacted like there.
 *
 * @example
 * const log = createConsoleLog()
 * log.warn({ id }, 'late reply')
 */
export function createConsoleLog(options: ConsoleLogOptions = {}) {
  const { level: least = 'info', write = (line) => console.log(line) } = options
  const at = (level: string): LogLine => {
    if (levels.indexOf(level) < levels.indexOf(least)) return () => {}
    return (fields, message) => {
      const line = { level, time: new Date().toISOString(), ...(redact(fields) as object), msg: message }
      write(JSON.stringify(line))
    }
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}
