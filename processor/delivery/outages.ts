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
 * Holds work while the store or the stream is away. However many pieces of work meet an outage, the log tells of it
 * once, and once when it is over.
 */
export class Outages {
  readonly #clock: Clock
  readonly #log: Pick<PlannerLog, 'info' | 'warn'>
  /** Names of the errors that stand for what is away. */
  readonly #away = new Set<string>()

  constructor({ clock, log }: { clock: Clock; log: Pick<PlannerLog, 'info' | 'warn'> }) {
    this.#clock = clock
    this.#log = log
  }

  /**
   * Does the work again and again while it fails for an outage, with a pause that grows up to 10 s.
   * @throws what else the work throws, and the signal's reason when it aborts
   * @example await outages.outlast(() => store.put(key, bytes), signal)
   */
  async outlast<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted()
    const met = new Set<string>()
    const result = await retry(work, {
      retriable: isOutage,
      signal,
      sleep: (ms) => this.#clock.sleep(ms, signal),
      onFailure: (error) => this.#meet(error as Error, met),
    })
    for (const name of met) this.#over(name)
    return result
  }

  /**
   * For work that is done again after a while anyway: what it returns does the work once, and lets an outage pass.
   * @example
   * const attempt = outages.attempts()
   * for (;;) {
   *   await attempt(() => store.put(key, bytes))
   *   await clock.sleep(1000, signal)
   * }
   */
  attempts(): (work: () => Promise<void>) => Promise<void> {
    const met = new Set<string>()
    return async (work) => {
      try {
        await work()
        for (const name of met) this.#over(name)
        met.clear()
      } catch (error) {
        if (!isOutage(error)) throw error
        this.#meet(error as Error, met)
      }
    }
  }

  #meet(error: Error, met: Set<string>): void {
    met.add(error.name)
    this.#note(error)
  }

  /** Tells of an outage and waits a while. `failures`: how often it was met in turn, from 1. */
  async pause(error: Error, failures: number, signal: AbortSignal): Promise<void> {
    this.#note(error)
    await this.#clock.sleep(backoffMs(failures), signal)
  }

  /** Tells of an outage, where it is not known already. */
  #note(error: Error): void {
    if (this.#away.has(error.name)) return
    this.#away.add(error.name)
    this.#log.warn({ err: error }, 'batches are held until it is back')
  }

  /** What errors of this name stood for works again. */
  #over(name: string): void {
    if (this.#away.delete(name)) this.#log.info({ outage: name }, 'batches go on')
  }
}
