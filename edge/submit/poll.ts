export interface PollOptions {
  /** Unix ms after which there is no further attempt; the first is always made. */
  until: number
  /** Unix ms. */
  now(): number
  /** Aborts when nobody wants the value any more. */
  signal: AbortSignal
}

const firstPauseMs = 50
const longestPauseMs = 500
const growth = 1.5

/** Tries until there is a value; undefined when there was none in time, or nobody wants it any more. */
export async function pollUntil<T>(
  attempt: () => Promise<T | undefined>,
  { until, now, signal }: PollOptions,
): Promise<T | undefined> {
  for (let pause = firstPauseMs; !signal.aborted; pause = Math.min(pause * growth, longestPauseMs)) {
    const value = await attempt()
    if (value !== undefined) return value
    const left = until - now()
    if (left <= 0) return undefined
    await sleep(Math.min(pause, left), signal)
  }
  return undefined
}

/** Resolves after `ms`, or as soon as `signal` aborts. */
function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, ms)
    signal.addEventListener('abort', end)
  })
}
