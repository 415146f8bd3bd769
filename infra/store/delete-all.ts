import pLimit from 'p-limit'
import type { ObjectStore } from './store.ts'

/** Deletions under way at the same time. */
const concurrency = 16

/** Deletes objects, each once. */
export async function deleteAll(store: ObjectStore, keys: Iterable<string>): Promise<void> {
  const limited = pLimit(concurrency)
  await Promise.all([...new Set(keys)].map((key) => limited(() => store.delete(key))))
}
