import { ImageError } from '../errors.ts'
import { isRetriable, retry, retryAfterMs } from '../retry.ts'
import { HostFault } from './faults.ts'

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

/** From 0 to the first, times the factor for each further failure, up to the longest. */
const pauses = { firstMs: 1_000, factor: 2, longestMs: 60_000 }
/** Each try of a host that does not answer takes long itself. */
const silencePauses = { firstMs: 5_000, factor: 4, longestMs: 300_000 }

const isSilence = (error: unknown) => error instanceof HostFault && error.lesson.kind === 'silence'

/**
 * Fetches an image again for as long as there is time and its fault may pass, with exponential pauses and full jitter. How
 * soon its host may be asked is up to `HostPaces`: a pause here is that of one address.
 * @param fetch gets the time since which it has failed, unix ms: with an answer of its host, or without one
 * @throws what `fetch` throws last; the signal's reason
 */
export async function fetchPatiently<T>(
  fetch: (failedSince?: number) => Promise<T>,
  { signal, until, onFault, sleep, now = Date.now, random = Math.random }: PatientOptions,
): Promise<T> {
  let failed: { since: number; isSilence: boolean } | undefined
  const pauseOf = (error: unknown, failures: number) => {
    const { firstMs, factor, longestMs } = isSilence(error) ? silencePauses : pauses
    return random() * Math.min(firstMs * factor ** (failures - 1), longestMs)
  }
  let pauseMs = 0
  return retry(() => fetch(failed?.since), {
    retriable: (error, failures) => {
      if (!(error instanceof ImageError) || !isRetriable(error)) return false
      if (failed?.isSilence !== isSilence(error)) failed = { since: now(), isSilence: isSilence(error) }
      // Who has little time left is told at once, with the time that the host asks for.
      pauseMs = pauseOf(error, failures)
      const soonest = until === undefined ? pauseMs : Math.max(pauseMs, retryAfterMs(error) ?? 0)
      return until === undefined || now() + soonest < until
    },
    pauseMs: () => pauseMs,
    onFailure: (error) => onFault?.(error as ImageError),
    signal,
    ...(sleep && { sleep }),
  })
}
