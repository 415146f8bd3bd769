export interface RememberOptions<T> {
  /** Where the value comes from. */
  load(key: string): Promise<T>
  /** How long a value is as good as new, ms. */
  freshMs(value: T): number
  /** Unix ms. */
  now(): number
  /** Values that are kept at most; the ones that were asked for longest ago go first. */
  capacity?: number
  /**
   * Whether callers share the load that goes on, and get no old value instead: what cannot be loaded is not known
   * then. Not on Workers, where one request must not wait for the I/O of another. Default: false.
   */
  shared?: boolean
}

/** While one caller refreshes a value, or has just failed to, the others are given the old one, ms. */
const refreshMs = 5_000

/**
 * Remembers what was loaded. A value that is no longer fresh is loaded again by one caller at a time; when that
 * fails, the old value stays, so that what was known is known through an outage.
 *
 * @example const tenantOf = remember({ load: (id) => readTenant(store, id), freshMs: () => 60_000, now: Date.now })
 */
export function remember<T>({
  load,
  freshMs,
  now,
  capacity = 10_000,
  shared = false,
}: RememberOptions<T>): (key: string) => Promise<T> {
  const entries = new Map<string, { value: T | Promise<T>; freshUntil: number }>()
  const put = (key: string, value: T | Promise<T>, freshUntil: number) => {
    entries.delete(key)
    entries.set(key, { value, freshUntil })
    if (entries.size > capacity) entries.delete(entries.keys().next().value!)
  }
  return async (key) => {
    const known = entries.get(key)
    if (known) put(key, known.value, known.freshUntil)
    if (known && now() < known.freshUntil) return known.value
    const startedAt = now()
    const loading = load(key)
    if (shared) put(key, loading, Number.POSITIVE_INFINITY)
    else if (known) put(key, known.value, startedAt + refreshMs)
    try {
      const value = await loading
      put(key, value, (shared ? startedAt : now()) + freshMs(value))
      return value
    } catch (error) {
      if (shared) entries.delete(key)
      else if (known) return known.value
      throw error
    }
  }
}
