/** Weight of a decoded image in the estimate once many have been seen. */
const weight = 0.05
/** An image counts as at most this many times what they cost so far. */
const outlierFactor = 4

/**
 * What decoding an image costs, ms: a running mean. It is a plain mean of the first twenty images, so that a slow
 * first one is soon made up for, and an exponentially weighted one from then on. Images differ in size, so one that
 * costs up to four times the mean counts in full; an outlier beyond counts as four times.
 */
export class DecodingCost {
  #ms = 0
  #seen = 0

  /** 0 until an image has been decoded. */
  get ms(): number {
    return this.#ms
  }

  observe(ms: number): void {
    this.#seen++
    const counted = this.#seen === 1 ? ms : Math.min(ms, outlierFactor * this.#ms)
    this.#ms += Math.max(weight, 1 / this.#seen) * (counted - this.#ms)
  }
}
