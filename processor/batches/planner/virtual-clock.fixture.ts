import type { Clock } from '../../delivery/outages.ts'

/** Turns of the event loop in which work on a store in memory gets done. */
const turns = 25

/** A clock that stands still until a test moves it. */
export class VirtualClock implements Clock {
  #now: number
  #sleepers: { until: number; wake(): void }[] = []

  /** @param now unix ms; default: that of the objects in a store */
  constructor(now = Date.now()) {
    this.#now = now
  }

  // A field, so that it can be handed on alone.
  readonly now = () => this.#now

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const wake = () => resolve()
      this.#sleepers.push({ until: this.#now + ms, wake })
      signal.addEventListener('abort', wake, { once: true })
    })
  }

  /** Moves on, and lets everything happen that is due on the way. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms
    for (;;) {
      await settle()
      const next = this.#sleepers.sort((a, b) => a.until - b.until)[0]
      if (!next || next.until > end) break
      this.#sleepers.shift()
      this.#now = Math.max(this.#now, next.until)
      next.wake()
    }
    this.#now = end
  }

  /** Moves on in steps until something is the case. */
  async until(isSo: () => boolean | Promise<boolean>, { stepMs = 500, limitMs = 3_600_000 } = {}) {
    const end = this.#now + limitMs
    while (!(await isSo())) {
      if (this.#now > end) throw new Error(`Not so after ${limitMs} ms.`)
      await this.advance(stepMs)
    }
  }
}

/** Lets everything get done that waits for nothing but the event loop. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
}
