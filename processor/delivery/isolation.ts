import pLimit from 'p-limit'
import { unlessAborted, valueWithin } from '../../infra/timing.ts'

export interface AloneOptions {
  /** Time for which others are kept from beginning beside the work, and the work waits for those that run, ms. */
  holdMs: number
  /** Called before another begins beside the work: its death would not tell any longer which of both it was. */
  onCompany(): Promise<void>
  signal: AbortSignal
}

interface Lone {
  /** Ends with the work, or when others need no longer wait. */
  hold: Promise<unknown>
  companied?: Promise<void>
  onCompany(): Promise<void>
}

/**
 * Keeps track of what a process has in hand, so that work that is suspected of killing it can run alone. Shared by all
 * consumers of the process.
 */
export class Isolation {
  readonly #turn = pLimit(1)
  #lone: Lone | undefined
  #running = 0
  #idle: PromiseWithResolvers<void> | undefined

  /** True when nothing runs. */
  get idle(): boolean {
    return this.#running + this.#turn.activeCount + this.#turn.pendingCount === 0
  }

  /** Runs work beside other work. */
  async beside<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    for (let lone = this.#lone; lone && !lone.companied; lone = this.#lone) {
      await unlessAborted(lone.hold, signal)
      if (lone === this.#lone) await companied(lone)
    }
    await this.#lone?.companied
    this.#running++
    try {
      return await work()
    } finally {
      this.#running--
      if (this.#running === 0) this.#idle?.resolve()
    }
  }

  /** Runs work with nothing beside it, as far as that is possible; one after the other. */
  alone<T>(
    work: (hasCompany: boolean) => Promise<T>,
    { holdMs, onCompany, signal }: AloneOptions,
  ): Promise<T> {
    return this.#turn(async () => {
      signal.throwIfAborted()
      const ended = Promise.withResolvers<void>()
      const lone: Lone = { hold: valueWithin(holdMs, ended.promise), onCompany }
      this.#lone = lone
      try {
        if (this.#running > 0) await this.#untilIdle(holdMs, signal)
        if (this.#running > 0) await companied(lone)
        return await work(lone.companied !== undefined)
      } finally {
        this.#lone = undefined
        ended.resolve()
      }
    })
  }

  async #untilIdle(ms: number, signal: AbortSignal): Promise<void> {
    this.#idle = Promise.withResolvers()
    await valueWithin(ms, this.#idle.promise, signal)
    signal.throwIfAborted()
  }
}

/** Others begin beside it now; after a failure the next one tries again. */
function companied(lone: Lone): Promise<void> {
  lone.companied ??= lone.onCompany().catch((error: unknown) => {
    lone.companied = undefined
    throw error
  })
  return lone.companied
}
