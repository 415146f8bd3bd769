/** Standard deviations of a Poisson process by which a rate has to differ to be no chance. */
const chanceDeviations = 1.5

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

  /** The rate as far as it is no chance: less 1.5 standard deviations of what Poisson arrivals of that rate show. */
  certainPerSecond(now: number): number {
    const rate = this.perSecond(now)
    const deviation = Math.sqrt((1000 * rate) / (2 * this.#timeConstantMs))
    return Math.max(0, rate - chanceDeviations * deviation)
  }

  #decayed(now: number): number {
    return this.#perMs * Math.exp(-Math.max(0, now - this.#at) / this.#timeConstantMs)
  }
}
