import { CommanderError } from 'commander'

/** The command line asks for something that cannot be: exit code 2. The message names the remedy. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  readonly code = 'usage'
  readonly retriable = false
}

/** The run was stopped from outside and can be taken up again: exit code 128 + the signal's number. */
export class InterruptedError extends Error {
  override readonly name = 'InterruptedError'
  readonly code = 'interrupted'
  readonly retriable = true
  readonly exitCode: number

  constructor(message: string, signal: NodeJS.Signals = 'SIGINT') {
    super(message)
    this.exitCode = signal === 'SIGTERM' ? 143 : 130
  }
}

/** The command did its work, but not all of it went well; what went wrong is in the message. */
export class IncompleteError extends Error {
  override readonly name = 'IncompleteError'
  readonly code = 'incomplete'
  readonly retriable = false
}

/** The reader of the output went away, as `head` does when it has enough: nobody wants to hear more. */
export const isClosedPipe = (error: unknown) =>
  error instanceof Error && 'code' in error && error.code === 'EPIPE'

/** 0 done, 1 failed, 2 wrong usage, 130 or 143 stopped by a signal, 141 (as of SIGPIPE) nobody reads the output. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  if (error instanceof UsageError) return 2
  if (error instanceof InterruptedError) return error.exitCode
  return isClosedPipe(error) ? 141 : 1
}

/** What a failed command prints: one line, and below it, when debugging, the stack with its causes. */
export function describeError(error: unknown, { debug = false } = {}): string {
  const message = error instanceof Error ? error.message : String(error)
  const line = message.trim().replace(/\s*\n\s*/g, ' ')
  return debug && error instanceof Error ? `${line}\n${stackOf(error)}` : line
}

function stackOf(error: Error): string {
  const stack = error.stack ?? ''
  return error.cause instanceof Error ? `${stack}\ncaused by ${stackOf(error.cause)}` : stack
}
