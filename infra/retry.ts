import { sleep } from './timing.ts'

const firstPauseMs = 100
const longestPauseMs = 10_000

/** Exponential backoff after consecutive failures, ms: 100 after the first, doubling up to 10,000. */
export function backoffMs(failures: number): number {
  return Math.min(firstPauseMs * 2 ** (failures - 1), longestPauseMs)
}

/** Checks an error's own `retriable`. */
export const isRetriable = (error: unknown) =>
  error instanceof Error && 'retriable' in error && error.retriable === true

/** Pause that an error requests, as `Retry-After` does, ms. */
export function retryAfterMs(error: unknown): number | undefined {
  const { retryAfterMs, retryAfterSeconds } = error as { retryAfterMs?: number; retryAfterSeconds?: number }
  return retryAfterMs ?? (retryAfterSeconds === undefined ? undefined : retryAfterSeconds * 1000)
}

/** Longest pause that a server can ask for, ms. */
const longestRetryAfterMs = 300_000

/**
 * Pause that a `Retry-After` header asks for, in seconds or until an HTTP date, ms.
 * @param options.now unix ms: the server's own clock, where its `Date` tells it
 * @param options.longestMs default: five minutes
 * @returns undefined without a header that can be read
 */
export function parseRetryAfter(
  header: string | null,
  { now = Date.now(), longestMs = longestRetryAfterMs }: { now?: number; longestMs?: number } = {},
): number | undefined {
  const text = header?.trim() ?? ''
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : httpDate(text) - now
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), longestMs)
}

/** Unix ms; NaN for what is no date of HTTP (RFC 9110, 5.6.7), the obsolete forms included. */
function httpDate(text: string): number {
  if (!/^[A-Z][a-z]+,? .*\d\d:\d\d:\d\d/.test(text)) return Number.NaN
  return Date.parse(/GMT$|[+-]\d{4}$/.test(text) ? text : `${text} GMT`)
}

export interface RetryOptions {
  /** Maximum number of attempts; default: until it succeeds. */
  tries?: number
  /** Default `isRetriable`. */
  retriable?(error: unknown, failures: number): boolean
  /** Pause after the given number of failures, ms; default `backoffMs`. */
  pauseMs?(failures: number, error: unknown): number
  /** Ends the pauses; the signal's reason is thrown then. */
  signal?: AbortSignal
  /** Runs after a failure, before the pause. */
  onFailure?(error: unknown): void
  /** Waits; ends early when the signal aborts. */
  sleep?(ms: number, signal?: AbortSignal): Promise<unknown>
}

/**
 * Retries the work until it succeeds, with a pause after each failure. (Not p-retry: its pauses can neither follow
 * `Retry-After` nor use another clock.)
 *
 * @throws what the last attempt throws, or the signal's reason
 * @example await retry(() => describeModel(hub, id), { tries: 3, pauseMs: (failures) => 500 * 2 ** failures })
 */
export async function retry<T>(work: () => Promise<T>, options: RetryOptions = {}): Promise<T> {
  const { tries = Number.POSITIVE_INFINITY, retriable = isRetriable, pauseMs = backoffMs } = options
  const { signal, onFailure, sleep: wait = sleep } = options
  for (let failures = 1; ; failures++) {
    try {
      return await work()
    } catch (error) {
      if (failures >= tries || !retriable(error, failures)) throw error
      onFailure?.(error)
      await wait(pauseMs(failures, error), signal)
      signal?.throwIfAborted()
    }
  }
}
