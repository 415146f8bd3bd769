/**
 * Arrivals per second, exponentially weighted: an arrival `age` ms ago counts `exp(-age / timeConstantMs)`. Between
 * arrivals the estimate decays, so that a burst that is over is forgotten without anything having to happen.
 *
 * @example
 * const rate = new ArrivalRate()
 * rate.observe(now)
 * rate.perSecond(now + 500)
 */
export class ArrivalRate {
  readonly #timeConstantMs: number
  #perMs = 0
  #at = 0

  constructor({ timeConstantMs = 2000 }: { timeConstantMs?: number } = {}) {
    this.#timeConstantMs = timeConstantMs
  }

  /** One arrival at `now`, ms. A clock that runs backwards counts as one that stands still. */
  observe(now: number): void {
    this.#perMs = this.#decayed(now) + 1 / this.#timeConstantMs
    this.#at = Math.max(this.#at, now)
  }

  perSecond(now: number): number {
    return this.#decayed(now) * 1000
  }

  #decayed(now: number): number {
    return this.#perMs * Math.exp(-Math.max(0, now - this.#at) / this.#timeConstantMs)
  }
}
