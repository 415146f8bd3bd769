import { pMapIterable, pMapSkip } from 'p-map'
import { untilAborted } from './timing.ts'

export interface OrderedMapOptions {
  concurrency: number
  /** Maximum items in progress or waiting for an earlier one; default 1024. */
  window?: number
  /** Once aborted no further item is taken; items in progress are finished and yielded. */
  signal?: AbortSignal
}

/**
 * Maps items concurrently and yields the results in the items' order. A slow item delays later results, not the work on
 * them, until `window` results wait.
 *
 * @example for await (const size of mapInOrder(paths, fileSize, { concurrency: 8 })) console.log(size)
 */
export function mapInOrder<T, R>(
  items: AsyncIterable<T> | Iterable<T>,
  work: (item: T) => Promise<R>,
  { concurrency, window = 1024, signal }: OrderedMapOptions,
): AsyncIterable<R> {
  // Items are read ahead, so some may be taken after the abort.
  const start = (item: Awaited<T>) => (signal?.aborted ? pMapSkip : work(item))
  const backpressure = Math.max(window, concurrency)
  return pMapIterable(untilAborted(items, signal), start, { concurrency, backpressure })
}
