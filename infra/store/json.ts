import pLimit from 'p-limit'
import {
  DamagedObjectError,
  getJson,
  listPages,
  maxJsonBytes,
  type ObjectInfo,
  type ObjectStore,
  PreconditionFailedError,
  type PutOptions,
  parseObject,
  parseWhole,
} from './store.ts'

/** Concurrent requests to the store. */
const concurrency = 16

/** JSON object with the version for a compare-and-swap. */
export interface Versioned<T> {
  value: T
  etag: string
}

/**
 * Reads a whole object as JSON with its version; undefined when there is none.
 * @throws DamagedObjectError, StoreUnavailableError
 */
export async function getVersioned<T>(
  store: Pick<ObjectStore, 'get' | 'read'>,
  key: string,
): Promise<Versioned<T> | undefined> {
  const whole = await store.read?.(key, { maxBytes: maxJsonBytes })
  if (whole) return whole === 'none' ? undefined : { value: parseWhole<T>(key, whole), etag: whole.etag }
  const object = await store.get(key)
  return object && { value: await parseObject<T>(object), etag: object.etag }
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

export interface ReadAllOptions<T> {
  /** Checks what an object holds; throws when it is damaged. */
  read(value: unknown): T
  /** Called for each damaged object, which is left out. */
  onDamaged(error: DamagedObjectError): void
  /** Default: all. */
  wanted?(object: ObjectInfo): boolean
}

/**
 * Reads all JSON objects below a prefix, or those that are wanted, in the order of their keys; without damaged ones.
 * @throws StoreUnavailableError
 */
export async function readAll<T>(
  store: Pick<ObjectStore, 'get' | 'list'>,
  prefix: string,
  { read, onDamaged, wanted = () => true }: ReadAllOptions<T>,
): Promise<T[]> {
  const limit = pLimit(concurrency)
  const readOne = async (key: string) => {
    try {
      const value = await getJson<unknown>(store, key)
      return value === undefined ? undefined : readAs(key, value, read)
    } catch (error) {
      if (!(error instanceof DamagedObjectError)) throw error
      onDamaged(error)
      return undefined
    }
  }
  const reads: Promise<T | undefined>[] = []
  for await (const page of listPages(store, prefix))
    reads.push(...page.filter(wanted).map(({ key }) => limit(() => readOne(key))))
  return (await Promise.all(reads)).filter((value) => value !== undefined)
}

function readAs<T>(key: string, value: unknown, read: (value: unknown) => T): T {
  try {
    return read(value)
  } catch (cause) {
    throw new DamagedObjectError(`The object "${key}" is not what it should be.`, { cause })
  }
}

/** Deletes objects, each once. */
export async function deleteAll(store: Pick<ObjectStore, 'delete'>, keys: Iterable<string>): Promise<void> {
  await pLimit(concurrency).map(new Set(keys), (key) => store.delete(key))
}
