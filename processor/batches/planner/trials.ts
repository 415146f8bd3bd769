import type { Clock } from '../../delivery/outages.ts'

/** Longest time for which others wait for a trial, and a trial for others, ms. */
const longestMs = 60_000
const pollMs = 200

export interface Trial {
  /** Ends it as soon as the condition holds. */
  endWhen(condition: () => boolean): void
  /** Idempotent. */
  end(): void
}

/**
 * Keeps a batch that is suspected of killing planners apart from others, one at a time, so that its next death tells
 * whether it was this one. A trial that takes long stops holding up others, since an innocent batch can be large.
 */
export class Trials {
  readonly #clock: Clock
  readonly #signal: AbortSignal
  /** The trial that runs, or the last of those that wait. */
  #last: Promise<void> = Promise.resolve()
  #running: Promise<void> | undefined

  constructor({ clock, signal }: { clock: Clock; signal: AbortSignal }) {
    this.#clock = clock
    this.#signal = signal
  }

  /** Waits for the trial that runs, if any. */
  async pause(): Promise<void> {
    await this.#running
  }

  /** Begins a trial when those before it have ended and all is quiet. */
  async begin(isQuiet: () => boolean): Promise<Trial> {
    const before = this.#last
    const { promise: ended, resolve: end } = Promise.withResolvers<void>()
    this.#last = ended
    await before
    this.#running = ended
    void ended.then(() => {
      if (this.#running === ended) this.#running = undefined
    })
    await this.#until(isQuiet)
    return { end, endWhen: (condition) => void this.#until(condition).then(end) }
  }

  async #until(condition: () => boolean): Promise<void> {
    const end = this.#clock.now() + longestMs
    while (!condition() && this.#clock.now() < end && !this.#signal.aborted)
      await this.#clock.sleep(pollMs, this.#signal)
  }
}
