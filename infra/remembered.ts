export interface RememberOptions<T> {
  /** Where the value comes from. */
  load(key: string): Promise<T>
  /** How long a value is as good as new, ms. */
  freshMs(value: T): number
  /** Unix ms. */
  now(): number
  /** Values that are kept at most; the ones that were asked for longest ago go first. */
  capacity?: number
}

/** While one caller refreshes a value, or has just failed to, the others are given the old one, ms. */
const refreshMs = 5_000

/**
 * Remembers what was loaded. A value that is no longer fresh is loaded again by one caller at a time; when that
 * fails, the old value stays, so that what was known is known through an outage. Callers share no promise: on
 * Workers one request must not wait for the I/O of another.
 *
 * @example const tenantOf = remember({ load: (id) => readTenant(store, id), freshMs: () => 60_000, now: Date.now })
 */
export function remember<T>({ load, freshMs, now, capacity = 10_000 }: RememberOptions<T>) {
  const entries = new Map<string, { value: T; freshUntil: number }>()
  const put = (key: string, value: T, freshUntil: number) => {
    entries.delete(key)
    entries.set(key, { value, freshUntil })
    if (entries.size > capacity) entries.delete(entries.keys().next().value!)
  }
  return async (key: string): Promise<T> => {
    const known = entries.get(key)
    if (known) put(key, known.value, known.freshUntil)
    if (known && now() < known.freshUntil) return known.value
    if (known) put(key, known.value, now() + refreshMs)
    try {
      const value = await load(key)
      put(key, value, now() + freshMs(value))
      return value
    } catch (error) {
      if (known) return known.value
      throw error
    }
  }
}
