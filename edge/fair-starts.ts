export interface FairStartsOptions {
  /** Starts of one sender in a turn of the event loop. Default 8. */
  perTurn?: number
  /** Calls back in the next turn. Default: `setImmediate`. */
  nextTurn?(callback: () => void): void
}

/**
 * Spreads the starts of one sender's requests over turns of the event loop, so that a thousand at once do not go ahead of
 * the next one of another sender. Requests that come one after the other are not held up.
 *
 * @example
 * const starts = new FairStarts()
 * await starts.enter(request.headers.get('authorization') ?? address)
 */
export class FairStarts {
  readonly #perTurn: number
  readonly #nextTurn: (callback: () => void) => void
  /** Starts in this turn, by sender. */
  readonly #started = new Map<string, number>()
  readonly #waiting = new Map<string, (() => void)[]>()

  constructor({ perTurn = 8, nextTurn = setImmediate }: FairStartsOptions = {}) {
    this.#perTurn = perTurn
    this.#nextTurn = nextTurn
  }

  /** Resolves in the turn in which the request may start; undefined: it is this one. */
  enter(sender: string): Promise<void> | undefined {
    if (this.#started.size === 0 && this.#waiting.size === 0) this.#nextTurn(() => this.#begin())
    const started = this.#started.get(sender) ?? 0
    if (started < this.#perTurn) {
      this.#started.set(sender, started + 1)
      return undefined
    }
    const { promise, resolve } = Promise.withResolvers<void>()
    const waiting = this.#waiting.get(sender)
    if (waiting) waiting.push(resolve)
    else this.#waiting.set(sender, [resolve])
    return promise
  }

  #begin(): void {
    this.#started.clear()
    for (const [sender, waiting] of this.#waiting) {
      const starting = waiting.splice(0, this.#perTurn)
      this.#started.set(sender, starting.length)
      for (const start of starting) start()
      if (waiting.length === 0) this.#waiting.delete(sender)
    }
    if (this.#started.size > 0) this.#nextTurn(() => this.#begin())
  }
}
