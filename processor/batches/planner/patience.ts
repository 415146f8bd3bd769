/** Without a word of a shard for so long, the store is asked, ms. */
const quietMs = 10_000
/** However much is heard, the store is asked so often, since words can be lost, ms. */
const countMs = 60_000
/** Without a shard done for so long, shards are sent again; twice as long the next time, ms. */
const resendMs = 10 * 60_000

/** Decides when shards that were sent and are not done are looked for, and when they are sent again. */
export class Patience {
  #countedAt: number
  #resentAt: number
  #resendMs = resendMs

  /** @param now unix ms, as below */
  constructor(now: number) {
    this.#countedAt = now
    this.#resentAt = now
  }

  /**
   * What is to be done now; it counts as done.
   * @param doneAt when the last shard was done
   */
  decide(now: number, doneAt: number): { count: boolean; resend: boolean } {
    if (doneAt > this.#resentAt) this.#resendMs = resendMs
    const resend = now - Math.max(doneAt, this.#resentAt) >= this.#resendMs
    // Before anything is sent again, it is looked for.
    const count = resend || now - doneAt >= quietMs || now - this.#countedAt >= countMs
    if (count) this.#countedAt = now
    if (resend) {
      this.#resentAt = now
      this.#resendMs *= 2
    }
    return { count, resend }
  }
}
