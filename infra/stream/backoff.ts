const firstPauseMs = 100
const longestPauseMs = 10_000

/** Pause before a retry, ms: 100 after the first failure, doubling up to 10,000. */
export function backoffMs(failures: number): number {
  return Math.min(firstPauseMs * 2 ** (failures - 1), longestPauseMs)
}

/** Ends early, without an error, when the signal aborts. Runs on Node and on Workers. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const end = () => resolve()
  const timer = setTimeout(end, ms)
  signal.addEventListener('abort', end)
  await promise
  clearTimeout(timer)
  signal.removeEventListener('abort', end)
}
