/** Closes one part; `drainMs` is the time left for work in progress. */
export type Closer = (drainMs: number) => Promise<unknown>

/**
 * Closes what a process has opened, in reverse order.
 *
 * @example
 * const shutdown = new Shutdown()
 * const stream = await openStream()
 * shutdown.add(() => stream.close())
 * await shutdown.run(25_000)
 */
export class Shutdown {
  readonly #closers: Closer[] = []
  #running: Promise<void> | undefined

  get begun(): boolean {
    return this.#running !== undefined
  }

  add(closer: Closer): void {
    this.#closers.push(closer)
  }

  /** Closes everything within about `ms`, also after a part failed to close. */
  run(ms: number): Promise<void> {
    this.#running ??= this.#run(ms)
    return this.#running
  }

  async #run(ms: number): Promise<void> {
    const until = Date.now() + ms
    const failures: unknown[] = []
    for (const close of this.#closers.reverse()) {
      await close(Math.max(0, until - Date.now())).catch((error) => failures.push(error))
    }
    if (failures.length > 0) throw failures[0]
  }
}
