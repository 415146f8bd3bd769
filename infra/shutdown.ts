import { valueWithin } from './timing.ts'

/** Closes one part; `drainMs` is the time left for work in progress. */
export type Closer = (drainMs: number) => Promise<unknown>

export interface ShutdownOptions {
  /** Called for a part that is left to the end of the process, because it could not be closed in time. */
  onLate?(): void
  /** Resolves with the work's result, or with undefined after `ms`. */
  within?<T>(ms: number, work: Promise<T>): Promise<T | undefined>
}

/** Time for saying goodbye after the grace period, ms, for all parts together: what they talk to may be away. */
const partingMs = 5_000
/** Each part has at least so long, ms, however long the others took. */
const leastMs = 250

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
  readonly #options: ShutdownOptions
  readonly #closers: Closer[] = []
  #running: Promise<void> | undefined

  constructor(options: ShutdownOptions = {}) {
    this.#options = options
  }

  get begun(): boolean {
    return this.#running !== undefined
  }

  add(closer: Closer): void {
    this.#closers.push(closer)
  }

  /** Closes everything within `ms` and some seconds, also after a part failed to close, or never does. */
  run(ms: number): Promise<void> {
    this.#running ??= this.#run(ms)
    return this.#running
  }

  async #run(ms: number): Promise<void> {
    const { onLate, within = valueWithin } = this.#options
    const until = Date.now() + ms
    const failures: unknown[] = []
    for (const close of this.#closers.reverse()) {
      const leftMs = until - Date.now()
      const closed = close(Math.max(0, leftMs)).then(
        () => 'closed' as const,
        (error: unknown) => {
          failures.push(error)
          return 'failed' as const
        },
      )
      const outcome = await within(Math.max(leftMs + partingMs, leastMs), closed)
      if (outcome === undefined) onLate?.()
    }
    if (failures.length > 0) throw failures[0]
  }
}
