import { pause } from './stream/backoff.ts'

export interface RepeatOptions {
  everyMs: number
  /** What the log says when the work fails: once, however often it fails in a row. */
  failure: string
  log: { warn(fields: Record<string, unknown>, message: string): void }
  /** Waits between two turns; ends early when the signal aborts. */
  sleep?(ms: number, signal: AbortSignal): Promise<void>
}

/**
 * Does a piece of work at once and then again and again until it is closed. Work that fails is done again at the next
 * turn. `close` waits for the turn that goes on.
 *
 * @example const announcing = repeat(() => announce(), { everyMs: 20_000, failure: 'not announced', log })
 */
export function repeat(
  work: () => Promise<unknown>,
  { everyMs, failure, log, sleep = pause }: RepeatOptions,
): { close(): Promise<void> } {
  const closing = new AbortController()
  const running = (async () => {
    for (let failed = false; !closing.signal.aborted; ) {
      const err = await work().then(
        () => undefined,
        (error: unknown) => error ?? new Error('unknown'),
      )
      if (err !== undefined && !failed) log.warn({ err }, failure)
      failed = err !== undefined
      await sleep(everyMs, closing.signal)
    }
  })()
  return {
    close() {
      closing.abort()
      return running
    },
  }
}
