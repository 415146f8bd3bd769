import { BoundedMap } from './bounded-map.ts'

export interface RememberOptions<T> {
  load(key: string): Promise<T>
  /** Time for which a value is fresh, ms; undefined: it is not kept. */
  freshMs(value: T): number | undefined
  /** Unix ms. */
  now(): number
  /** Maximum number of values; the least recently used are dropped first. */
  capacity?: number
  /**
   * Callers share a load in progress, and get no stale value: a failed load is an error. Not for Workers, where one
   * request must not wait for the I/O of another. Default: false.
   */
  shared?: boolean
}

/** Loads values through the cache. */
export interface Remembered<T> {
  (key: string): Promise<T>
  /** Whether a value is at hand, be it stale. */
  has(key: string): boolean
}

/** Time for which others get the stale value while one caller refreshes it, or has just failed to, ms. */
const refreshMs = 5_000

/**
 * Caches loaded values. A stale value is refreshed by one caller at a time; when that fails it is served on, through
 * outages.
 *
 * @example const tenantOf = remember({ load: (id) => readTenant(store, id), freshMs: () => 60_000, now: Date.now })
 */
export function remember<T>({
  load,
  freshMs,
  now,
  capacity = 10_000,
  shared = false,
}: RememberOptions<T>): Remembered<T> {
  const entries = new BoundedMap<string, { value: T | Promise<T>; freshUntil: number }>(capacity)
  const put = (key: string, value: T | Promise<T>, freshUntil: number) =>
    void entries.set(key, { value, freshUntil })
  const remembered = async (key: string): Promise<T> => {
    const known = entries.get(key)
    if (known) put(key, known.value, known.freshUntil)
    if (known && now() < known.freshUntil) return known.value
    const startedAt = now()
    const loading = load(key)
    if (shared) put(key, loading, Number.POSITIVE_INFINITY)
    else if (known) put(key, known.value, startedAt + refreshMs)
    try {
      const value = await loading
      const ms = freshMs(value)
      if (ms === undefined) entries.delete(key)
      else put(key, value, (shared ? startedAt : now()) + ms)
      return value
    } catch (error) {
      if (shared) entries.delete(key)
      else if (known) return known.value
      throw error
    }
  }
  return Object.assign(remembered, { has: (key: string) => entries.has(key) })
}
