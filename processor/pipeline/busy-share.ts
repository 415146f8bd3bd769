/**
 * Share of its time that a device has been busy of late, exponentially weighted: what ended `age` ms ago counts
 * `exp(-age / timeConstantMs)`.
 *
 * @example
 * const busy = new BusyShare()
 * busy.observe({ from: startedAt, to: now })
 * busy.at(now)
 */
export class BusyShare {
  readonly #timeConstantMs: number
  #share = 0
  #at = Number.NEGATIVE_INFINITY

  constructor({ timeConstantMs = 10_000 }: { timeConstantMs?: number } = {}) {
    this.#timeConstantMs = timeConstantMs
  }

  /** A run that has ended; runs come in the order of their ends and do not overlap. Unix ms. */
  observe({ from, to }: { from: number; to: number }): void {
    const idleUntil = this.at(Math.max(from, this.#at))
    const kept = Math.exp(-Math.max(0, to - Math.max(from, this.#at)) / this.#timeConstantMs)
    this.#share = idleUntil * kept + (1 - kept)
    this.#at = Math.max(this.#at, to)
  }

  /** From 0 to 1; a run that goes on now counts as idle until it ends. */
  at(now: number): number {
    return this.#share * Math.exp(-Math.max(0, now - this.#at) / this.#timeConstantMs)
  }
}
