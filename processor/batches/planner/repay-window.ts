const fewest = 2
const most = 1_000
/** Busy processors are left alone for so long, ms. */
const restMs = 10_000

/**
 * Shards that a batch may have asked processors to caption again. They take what nobody else needs, and how much that
 * is shows only in the asking: one more with each shard that comes back whole, half as many when one comes back with
 * lines for which no device had time.
 */
export class RepayWindow {
  #size = fewest
  #restUntil = 0

  /** At `now`, unix ms. */
  size(now: number): number {
    return now < this.#restUntil ? 0 : this.#size
  }

  grow(): void {
    this.#size = Math.min(this.#size + 1, most)
  }

  shrink(now: number): void {
    // Several that come back at a time say the same thing.
    if (now >= this.#restUntil) this.#size = Math.max(this.#size >> 1, fewest)
    this.#restUntil = now + restMs
  }
}
