export interface CachedOptions<T> {
  /** Where the value comes from. */
  load(key: string): Promise<T>
  /** How long a value counts, ms. */
  forMs: number
  /** Unix ms. */
  now(): number
}

/**
 * A look-up that is made at most once in a while for each key, however many ask. One that failed is made again for
 * whoever asks next.
 *
 * @example const tenantOf = cached({ load: (id) => readTenant(store, id), forMs: 10_000, now: Date.now })
 */
export function cached<T>({ load, forMs, now }: CachedOptions<T>): (key: string) => Promise<T> {
  const entries = new Map<string, { value: Promise<T>; until: number }>()
  return (key) => {
    const known = entries.get(key)
    if (known && now() < known.until) return known.value
    // Keys that nobody asks for any more go when others are loaded.
    for (const [old, { until }] of entries) if (until <= now()) entries.delete(old)
    const value = load(key)
    const entry = { value, until: now() + forMs }
    entries.set(key, entry)
    value.catch(() => {
      if (entries.get(key) === entry) entries.delete(key)
    })
    return value
  }
}
