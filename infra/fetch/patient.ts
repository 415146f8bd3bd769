import { ImageError } from '../errors.ts'
import { isRetriable, retry, retryAfterMs } from '../retry.ts'

export interface PatientOptions {
  /** Ends the pauses; its reason is thrown then. */
  signal: AbortSignal
  /** No further try begins after this time, unix ms; default: the signal alone ends it. */
  until?: number
  /** Called with each fault that a further try follows. */
  onFault?(fault: ImageError): void
  /** Waits; ends early when the signal aborts. */
  sleep?(ms: number, signal?: AbortSignal): Promise<unknown>
  /** Unix ms. */
  now?(): number
  /** From 0 to 1. */
  random?(): number
}

const firstPauseMs = 500
const longestPauseMs = 60_000

/**
 * Fetches an image again for as long as there is time and its fault may pass, with exponential pauses and full jitter. How
 * soon its host may be asked is up to `HostPaces`: a pause here is that of one address.
 * @param fetch gets the time of its first failure, unix ms
 * @throws what `fetch` throws last; the signal's reason
 */
export async function fetchPatiently<T>(
  fetch: (failedSince?: number) => Promise<T>,
  { signal, until, onFault, sleep, now = Date.now, random = Math.random }: PatientOptions,
): Promise<T> {
  let failedSince: number | undefined
  const pauseOf = (failures: number) => random() * Math.min(firstPauseMs * 2 ** failures, longestPauseMs)
  let pauseMs = 0
  return retry(() => fetch(failedSince), {
    retriable: (error, failures) => {
      if (!(error instanceof ImageError) || !isRetriable(error)) return false
      failedSince ??= now()
      // Who has little time left is told at once, with the time that the host asks for.
      pauseMs = pauseOf(failures)
      const soonest = until === undefined ? pauseMs : Math.max(pauseMs, retryAfterMs(error) ?? 0)
      return until === undefined || now() + soonest < until
    },
    pauseMs: () => pauseMs,
    onFailure: (error) => onFault?.(error as ImageError),
    signal,
    ...(sleep && { sleep }),
  })
}
