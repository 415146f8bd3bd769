import { pMapIterable, pMapSkip } from 'p-map'
import { untilAborted } from './timing.ts'

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
export function mapInOrder<T, R>(
  items: AsyncIterable<T> | Iterable<T>,
  work: (item: T) => Promise<R>,
  { concurrency, window = 1024, signal }: OrderedMapOptions,
): AsyncIterable<R> {
  // Items are read ahead: those that were not begun are left out too.
  const begin = (item: Awaited<T>) => (signal?.aborted ? pMapSkip : work(item))
  const backpressure = Math.max(window, concurrency)
  return pMapIterable(untilAborted(items, signal), begin, { concurrency, backpressure })
}
