import { CommanderError } from 'commander'

/** Wrong usage: exit code 2. The message names the remedy. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
  readonly code = 'usage'
  readonly retriable = false
}

/** Interruption by a signal, after which the run can be resumed: exit code 128 + the signal's number. */
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

/** Failure of a part of the work: exit code 1. */
export class IncompleteError extends Error {
  override readonly name = 'IncompleteError'
  readonly code = 'incomplete'
  readonly retriable = false
}

/** Tests for an output whose reader has exited, as `head` does. */
export const isClosedPipe = (error: unknown) =>
  error instanceof Error && 'code' in error && error.code === 'EPIPE'

/** 0 success, 1 failure, 2 wrong usage, 130 or 143 stopped by a signal, 141 (as of SIGPIPE) closed output. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  if (error instanceof UsageError) return 2
  if (error instanceof InterruptedError) return error.exitCode
  return isClosedPipe(error) ? 141 : 1
}

/** What to do about failures of the file system, which say only what happened. */
const remedies = new Map(
  Object.entries({
    ENOSPC: 'Make room, and run the command again.',
    EDQUOT: 'Make room within your quota, and run the command again.',
    EROFS: 'Choose a place that can be written.',
    EACCES: 'Check the permissions, or choose another place.',
    EPERM: 'Check the permissions, or choose another place.',
    ENOTDIR: 'A part of the path is a file. Choose another path.',
    EEXIST: 'A part of the path is a file. Choose another path.',
    EMFILE: 'Raise the limit of open files, e.g. with "ulimit -n 4096".',
  }),
)

function remedyOf(error: unknown): string | undefined {
  const { code, syscall } = error as { code?: unknown; syscall?: unknown }
  return typeof code === 'string' && typeof syscall === 'string' ? remedies.get(code) : undefined
}

/** Formats an error as one line, followed by the stack with its causes when debugging. */
export function describeError(error: unknown, { debug = false } = {}): string {
  const message = error instanceof Error ? error.message : String(error)
  const remedy = error instanceof Error ? remedyOf(error) : undefined
  const said = message.trim().replace(/\s*\n\s*/g, ' ')
  const line = remedy === undefined ? said : `${said}. ${remedy}`
  return debug && error instanceof Error ? `${line}\n${stackOf(error)}` : line
}

function stackOf(error: Error): string {
  const stack = error.stack ?? ''
  return error.cause instanceof Error ? `${stack}\ncaused by ${stackOf(error.cause)}` : stack
}
