import pLimit from 'p-limit'
import { getJson, type ObjectStore } from './store.ts'

/** Requests to the store under way at the same time. */
const concurrency = 16

/** Every JSON object below a prefix, in the order of their keys. */
export async function readAll<T>(store: ObjectStore, prefix: string): Promise<T[]> {
  const limit = pLimit(concurrency)
  const reads: Promise<T | undefined>[] = []
  let continuation: string | undefined
  do {
    const page = await store.list(prefix, { continuation })
    reads.push(...page.objects.map(({ key }) => limit(() => getJson<T>(store, key))))
    continuation = page.continuation
  } while (continuation !== undefined)
  return (await Promise.all(reads)).filter((value) => value !== undefined)
}

/** Deletes objects, each once. */
export async function deleteAll(store: ObjectStore, keys: Iterable<string>): Promise<void> {
  const limited = pLimit(concurrency)
  await Promise.all([...new Set(keys)].map((key) => limited(() => store.delete(key))))
}
