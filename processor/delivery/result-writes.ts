import { retry } from '../../infra/retry.ts'
import { sleep, unlessAborted } from '../../infra/timing.ts'
import { isOutage } from './dead-letters.ts'

export interface ResultWritesOptions {
  log?: { warn(fields: Record<string, unknown>, message: string): void }
  /** Waits between two tries; ends early when the signal aborts. */
  sleep?(ms: number, signal?: AbortSignal): Promise<void>
}

/**
 * Writes results through outages of the store (a full disk, say): what is computed stays in memory, and only the write
 * is repeated. Shared by all consumers of a process: while a write fails, none begins new work.
 */
export class ResultWrites {
  readonly #options: ResultWritesOptions
  /** Writes that have failed and are repeated. */
  #failing = 0
  #over: PromiseWithResolvers<void> | undefined

  constructor(options: ResultWritesOptions = {}) {
    this.#options = options
  }

  /** Resolves when results can be written, as far as known. @throws the signal's reason */
  async ready(signal: AbortSignal): Promise<void> {
    while (this.#over) await unlessAborted(this.#over.promise, signal)
  }

  /** Writes until it succeeds. @throws any error that is no outage; the signal's reason */
  async write<T>(put: () => Promise<T>, signal: AbortSignal): Promise<T> {
    let failed = false
    try {
      return await retry(put, {
        retriable: isOutage,
        signal,
        sleep: this.#options.sleep ?? sleep,
        onFailure: (error) => {
          if (!failed) this.#fail(error)
          failed = true
        },
      })
    } finally {
      if (failed) this.#recover()
    }
  }

  #fail(err: unknown): void {
    if (this.#failing++ > 0) return
    this.#over = Promise.withResolvers()
    this.#options.log?.warn({ err }, 'results cannot be written; no work is begun until they can')
  }

  #recover(): void {
    if (--this.#failing > 0) return
    this.#over?.resolve()
    this.#over = undefined
  }
}
