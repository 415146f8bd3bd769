/**
 * Lets tasks wait for each other's progress.
 * @example while (!isDone()) await changes.next(signal)
 */
export class Changes {
  #next = Promise.withResolvers<void>()

  /** Wakes everybody who waits. */
  announce(): void {
    this.#next.resolve()
    this.#next = Promise.withResolvers()
  }

  /**
   * Resolves at the next announcement.
   * @throws the signal's reason when it aborts
   */
  async next(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const wake = () => this.announce()
    signal.addEventListener('abort', wake, { once: true })
    await this.#next.promise
    signal.removeEventListener('abort', wake)
    signal.throwIfAborted()
  }
}
