/** Weight of a reply in the estimate. */
const weight = 0.05
/** A reply counts as at most this long: pruning harder does not make a slow store faster, ms. */
const longestMs = 100

/** How long it takes of late from a caption to the caller's answer, ms: an exponentially weighted mean. */
export class ReplyTime {
  #ms = 0

  get ms(): number {
    return this.#ms
  }

  observe(ms: number): void {
    this.#ms += weight * (Math.min(Math.max(0, ms), longestMs) - this.#ms)
  }
}
