import { backoffMs, retry } from '../../infra/retry.ts'
import { isOutage } from './dead-letters.ts'

export { isOutage }

export interface Clock {
  /** Unix ms. */
  now(): number
  /** Ends early, without an error, when the signal aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>
}

type LogCall = (fields: Record<string, unknown>, message: string) => void

/** Logger calls that a planner needs. */
export type PlannerLog = Record<'info' | 'warn' | 'error', LogCall>

/**
 * Retries work through outages of the store and the stream. However many calls meet an outage, its begin and its end
 * are logged once.
 */
export class Outages {
  readonly #clock: Clock
  readonly #log: Pick<PlannerLog, 'info' | 'warn'>
  /** Error names of the current outages. */
  readonly #current = new Set<string>()

  constructor({ clock, log }: { clock: Clock; log: Pick<PlannerLog, 'info' | 'warn'> }) {
    this.#clock = clock
    this.#log = log
  }

  /**
   * Retries the work during an outage, with a backoff up to 10 s.
   * @throws any other error of the work; the signal's reason
   * @example await outages.outlast(() => store.put(key, bytes), signal)
   */
  async outlast<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted()
    const names = new Set<string>()
    const result = await retry(work, {
      retriable: isOutage,
      signal,
      sleep: (ms) => this.#clock.sleep(ms, signal),
      onFailure: (error) => this.#meet(error as Error, names),
    })
    this.#recovered(names)
    return result
  }

  /**
   * For periodic work: the returned function runs the work once and swallows outages.
   * @example const attempt = outages.attempts(); await attempt(() => store.put(key, bytes))
   */
  attempts(): (work: () => Promise<void>) => Promise<void> {
    const names = new Set<string>()
    return async (work) => {
      try {
        await work()
        this.#recovered(names)
        names.clear()
      } catch (error) {
        if (!isOutage(error)) throw error
        this.#meet(error as Error, names)
      }
    }
  }

  #meet(error: Error, names: Set<string>): void {
    names.add(error.name)
    this.#report(error)
  }

  /** Reports an outage and backs off. `failures`: consecutive ones, from 1. */
  async pause(error: Error, failures: number, signal: AbortSignal): Promise<void> {
    this.#report(error)
    await this.#clock.sleep(backoffMs(failures), signal)
  }

  #report(error: Error): void {
    if (this.#current.has(error.name)) return
    this.#current.add(error.name)
    this.#log.warn({ err: error }, 'store or stream unavailable, batches paused')
  }

  #recovered(names: Iterable<string>): void {
    for (const name of names)
      if (this.#current.delete(name)) this.#log.info({ outage: name }, 'outage over, batches resumed')
  }
}
