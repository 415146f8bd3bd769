/** Longest delay of a timer, ms. */
const maxTimerMs = 2 ** 31 - 1

/** Ends early, without an error, when the signal aborts. Runs on Node and on Workers. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const end = () => resolve()
  // A longer one would end at once.
  const timer = setTimeout(end, Math.min(ms, maxTimerMs))
  signal?.addEventListener('abort', end)
  await promise
  clearTimeout(timer)
  signal?.removeEventListener('abort', end)
}

/**
 * Lets what else waits in the event loop run, before or after a step on megabytes that takes milliseconds.
 * @example if (text.length > largeCharacters) await nextTurn()
 */
export const nextTurn = () => sleep(0)

/** Text of which each step takes milliseconds, characters. */
export const largeCharacters = 1024 * 1024

/** Rejects with `late()` when the work takes longer than `ms`. */
export async function within<T>(ms: number, work: Promise<T>, late: () => Error): Promise<T> {
  const expired = Promise.withResolvers<never>()
  const timer = setTimeout(() => expired.reject(late()), ms)
  try {
    return await Promise.race([work, expired.promise])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Resolves with the work's result, or with undefined when `ms` pass or the signal aborts before.
 * @example await valueWithin(drainMs, Promise.allSettled(running))
 */
export async function valueWithin<T>(
  ms: number,
  work: Promise<T>,
  signal?: AbortSignal,
): Promise<T | undefined> {
  const ended = Promise.withResolvers<undefined>()
  const end = () => ended.resolve(undefined)
  const timer = setTimeout(end, Math.min(ms, maxTimerMs))
  if (signal?.aborted) end()
  signal?.addEventListener('abort', end)
  try {
    return await Promise.race([work, ended.promise])
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', end)
  }
}

/** Resolves with the work's result; rejects with the signal's reason as soon as it aborts. */
export async function unlessAborted<T>(work: Promise<T>, signal?: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal?.reason)
  if (signal?.aborted) abort()
  signal?.addEventListener('abort', abort)
  try {
    return await Promise.race([work, aborted.promise])
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

/** Yields items until the signal aborts, without waiting for a source that is silent, as a pipe can be. */
export async function* untilAborted<T>(
  items: AsyncIterable<T> | Iterable<T>,
  signal?: AbortSignal,
): AsyncGenerator<Awaited<T>> {
  const source = (async function* () {
    yield* items
  })()
  try {
    while (!signal?.aborted) {
      const { done, value } = await unlessAborted(source.next(), signal)
      if (done) return
      yield value
    }
  } catch (error) {
    if (!signal?.aborted) throw error
  } finally {
    source.return(undefined).catch(() => {})
  }
}

/** Creates a signal that aborts with `reason()` after `ms`, unless it is cleared before. */
export function timeLimit(ms: number, reason: () => Error): { signal: AbortSignal; clear(): void } {
  const limit = new AbortController()
  const timer = setTimeout(() => limit.abort(reason()), Math.min(Math.max(ms, 0), maxTimerMs))
  return { signal: limit.signal, clear: () => clearTimeout(timer) }
}
/** A time limit that can stand still. */
export interface PausableLimit {
  signal: AbortSignal
  /** Waits for work whose time does not count. */
  outside<T>(work: Promise<T>): Promise<T>
  clear(): void
}

/** As `timeLimit`, for work that also waits for what is not its fault. */
export function pausableLimit(ms: number, reason: () => Error): PausableLimit {
  const limit = new AbortController()
  let left = ms
  let startedAt = 0
  let timer: ReturnType<typeof setTimeout>
  const start = () => {
    startedAt = performance.now()
    timer = setTimeout(() => limit.abort(reason()), Math.min(Math.max(left, 0), maxTimerMs))
  }
  let cleared = false
  start()
  return {
    signal: limit.signal,
    async outside(work) {
      clearTimeout(timer)
      left -= performance.now() - startedAt
      try {
        return await work
      } finally {
        if (!cleared) start()
      }
    },
    clear() {
      cleared = true
      clearTimeout(timer)
    },
  }
}

export interface RepeatOptions {
  everyMs: number
  /** Log message of a failure; logged once for consecutive failures. */
  failure: string
  log: { warn(fields: Record<string, unknown>, message: string): void }
  /** Waits between two runs; ends early when the signal aborts. */
  sleep?(ms: number, signal: AbortSignal): Promise<void>
}

/**
 * Runs the work at once and then periodically until it is closed, also after failures. `close` waits for a run in
 * progress.
 * @example const announcing = repeat(() => announce(), { everyMs: 20_000, failure: 'announcing failed', log })
 */
export function repeat(
  work: () => Promise<unknown>,
  { everyMs, failure, log, sleep: wait = sleep }: RepeatOptions,
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
      await wait(everyMs, closing.signal)
    }
  })()
  return {
    close() {
      closing.abort()
      return running
    },
  }
}
