import pLimit from 'p-limit'
import { getJson, type ObjectStore } from './store.ts'

const readsAtOnce = 16

/** Every JSON object below a prefix, in the order of their keys. */
export async function readAll<T>(store: ObjectStore, prefix: string): Promise<T[]> {
  const limit = pLimit(readsAtOnce)
  const reads: Promise<T | undefined>[] = []
  let continuation: string | undefined
  do {
    const page = await store.list(prefix, { continuation })
    reads.push(...page.objects.map(({ key }) => limit(() => getJson<T>(store, key))))
    continuation = page.continuation
  } while (continuation !== undefined)
  return (await Promise.all(reads)).filter((value) => value !== undefined)
}
