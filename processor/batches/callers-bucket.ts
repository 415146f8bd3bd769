import type { ObjectStore } from '../../infra/store/store.ts'
import { type Clock, isOutage, type Outages } from '../delivery/outages.ts'

export interface PatienceOptions {
  /** The service's own. */
  store: Pick<ObjectStore, 'head'>
  outages: Outages
  clock: Clock
  /** Unix ms. */
  giveUpAt: number
  signal: AbortSignal
}

/** Pauses between two tries, ms; the first doubles up to the longest. */
const firstPauseMs = 500
const maxPauseMs = 60_000

/** Of an object that need not exist. */
export const probeKey = 'ready'

/**
 * Patience with a bucket of a caller that cannot serve. Only the service's own store decides on an outage: while that
 * is away too, everything waits and no time counts.
 */
export class Patience {
  readonly #options: PatienceOptions
  #failures = 0
  #awayMs = 0

  constructor(options: PatienceOptions) {
    this.#options = options
  }

  /** Begins anew with short pauses. */
  succeeded(): void {
    this.#failures = 0
  }

  /**
   * Pauses before the next try.
   * @throws the error when it is a lasting one, or when it is time to give up; the signal's reason
   */
  async failed(error: unknown): Promise<void> {
    const { store, outages, clock, giveUpAt, signal } = this.#options
    signal.throwIfAborted()
    if (!isOutage(error)) throw error
    const failedAt = clock.now()
    await outages.outlast(() => store.head(probeKey), signal)
    this.#awayMs += clock.now() - failedAt
    const leftMs = giveUpAt + this.#awayMs - clock.now()
    if (leftMs <= 0) throw error
    await clock.sleep(Math.min(firstPauseMs * 2 ** this.#failures++, maxPauseMs, leftMs), signal)
    signal.throwIfAborted()
  }
}

/** Retries work at a bucket of a caller with patience. @throws as `Patience.failed` */
export async function atCallersBucket<T>(work: () => Promise<T>, options: PatienceOptions): Promise<T> {
  const patience = new Patience(options)
  for (;;) {
    try {
      return await work()
    } catch (error) {
      await patience.failed(error)
    }
  }
}
