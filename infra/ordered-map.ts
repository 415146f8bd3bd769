export interface OrderedMapOptions {
  /** Items worked on at the same time. */
  concurrency: number
  /** Items that may be under way or wait for an earlier one, at most; default 1024. */
  window?: number
  /** When it aborts no further item is taken; what is under way is finished and yielded. */
  signal?: AbortSignal
}

/**
 * Works on several items at a time and yields the results in the items' order. A slow item holds back the ones
 * behind it, not the work: that goes on until `window` results wait.
 *
 * @example for await (const size of mapInOrder(paths, fileSize, { concurrency: 8 })) console.log(size)
 */
export async function* mapInOrder<T, R>(
  items: AsyncIterable<T>,
  work: (item: T) => Promise<R>,
  { concurrency, window = 1024, signal }: OrderedMapOptions,
): AsyncGenerator<R> {
  const results: Promise<R>[] = []
  let running = 0
  let taken = false
  let stopped = false
  let changed = Promise.withResolvers<void>()
  const change = () => {
    changed.resolve()
    changed = Promise.withResolvers()
  }
  const isStopped = () => stopped || signal?.aborted === true

  const takeItems = async () => {
    for await (const item of items) {
      while (!isStopped() && (running >= concurrency || results.length >= window)) await changed.promise
      if (isStopped()) return
      running++
      const result = work(item).finally(() => {
        running--
        change()
      })
      result.catch(() => {})
      results.push(result)
      change()
    }
  }
  const taking = takeItems().finally(() => {
    taken = true
    change()
  })
  // The loop below may end by an error of an item before it looks at an error of the source.
  taking.catch(() => {})
  signal?.addEventListener('abort', change)

  try {
    while (true) {
      const first = results[0]
      if (first) {
        const result = await first
        results.shift()
        change()
        yield result
      } else if (taken) {
        await taking
        return
      } else if (isStopped()) {
        // The source may be a pipe that never says another word: it is not waited for.
        return
      } else await changed.promise
    }
  } finally {
    stopped = true
    signal?.removeEventListener('abort', change)
    change()
  }
}
