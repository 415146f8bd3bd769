import pLimit from 'p-limit'
import {
  getJson,
  listPages,
  type ObjectInfo,
  type ObjectStore,
  PreconditionFailedError,
  type PutOptions,
} from './store.ts'

/** Concurrent requests to the store. */
const concurrency = 16

/** JSON object with the version for a compare-and-swap. */
export interface Versioned<T> {
  value: T
  etag: string
}

/** Reads a whole object as JSON with its version; undefined when there is none. */
export async function getVersioned<T>(
  store: Pick<ObjectStore, 'get'>,
  key: string,
): Promise<Versioned<T> | undefined> {
  const object = await store.get(key)
  return object && { value: (await new Response(object.body).json()) as T, etag: object.etag }
}

/** @throws PreconditionFailedError when a condition does not hold */
export function putJson(
  store: Pick<ObjectStore, 'put'>,
  key: string,
  value: unknown,
  condition?: PutOptions,
) {
  return store.put(key, JSON.stringify(value), { contentType: 'application/json', ...condition })
}

/** Precondition: the object has this version; without one, that it does not exist. */
export const onlyIf = (etag: string | undefined): PutOptions =>
  etag === undefined ? { ifNoneMatch: '*' } : { ifMatch: etag }

/**
 * Compares and swaps: replaces version `etag` of a JSON object, or creates it.
 * @returns the new version; undefined when another writer was first
 * @example
 * const found = await getVersioned<Counter>(store, key)
 * const etag = await swapJson(store, key, { count: (found?.value.count ?? 0) + 1 }, found?.etag)
 */
export async function swapJson(
  store: Pick<ObjectStore, 'put'>,
  key: string,
  value: unknown,
  etag: string | undefined,
): Promise<string | undefined> {
  try {
    return (await putJson(store, key, value, onlyIf(etag))).etag
  } catch (error) {
    if (error instanceof PreconditionFailedError) return undefined
    throw error
  }
}

/**
 * Puts an object as JSON, unless it exists.
 * @returns the stored object: this one, or the earlier one
 */
export async function putOnce<T>(store: ObjectStore, key: string, value: T): Promise<T> {
  if ((await swapJson(store, key, value, undefined)) !== undefined) return value
  return (await getJson<T>(store, key)) ?? value
}

/** Reads all JSON objects below a prefix, or those that are wanted, in the order of their keys. */
export async function readAll<T>(
  store: Pick<ObjectStore, 'get' | 'list'>,
  prefix: string,
  wanted: (object: ObjectInfo) => boolean = () => true,
): Promise<T[]> {
  const limit = pLimit(concurrency)
  const reads: Promise<T | undefined>[] = []
  for await (const page of listPages(store, prefix))
    reads.push(...page.filter(wanted).map(({ key }) => limit(() => getJson<T>(store, key))))
  return (await Promise.all(reads)).filter((value) => value !== undefined)
}

/** Deletes objects, each once. */
export async function deleteAll(store: Pick<ObjectStore, 'delete'>, keys: Iterable<string>): Promise<void> {
  await pLimit(concurrency).map(new Set(keys), (key) => store.delete(key))
}
