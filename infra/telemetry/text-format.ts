import { escapeControls } from './escape-controls.ts'

const colors: Record<string, string> = { warn: '\x1b[33m', error: '\x1b[31m', fatal: '\x1b[31m' }
const dim = '\x1b[2m'
const reset = '\x1b[0m'

/**
 * Formats a line of the JSON log: `12:04:31 info  listening port=8787`, in local time, an error's stack below.
 */
export function formatText(line: string, { color = false }: { color?: boolean } = {}): string {
  const { time, level, msg, err, ...fields } = JSON.parse(line)
  const clock = new Date(time).toTimeString().slice(0, 8)
  const paint = (style: string | undefined, text: string) => (color && style ? style + text + reset : text)
  const pairs = Object.entries(fields).map(([name, value]) =>
    paint(dim, escapeControls(`${name}=${formatValue(value)}`)),
  )
  const message = escapeControls(String(msg ?? err?.message ?? ''))
  const head = [paint(dim, clock), paint(colors[level], level.padEnd(5)), message, ...pairs]
  const below = stackLines(err).map((text) => `  ${escapeControls(text)}`)
  return `${[head.filter((part) => part !== '').join(' '), ...below].join('\n')}\n`
}

function formatValue(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)
}

interface LoggedError {
  stack?: string
  message?: string
  cause?: LoggedError
}

function stackLines(error: LoggedError | undefined): string[] {
  if (!error) return []
  const lines = (error.stack ?? error.message ?? JSON.stringify(error)).split('\n')
  const [first, ...rest] = stackLines(error.cause)
  return first === undefined ? lines : [...lines, `caused by ${first}`, ...rest]
}
