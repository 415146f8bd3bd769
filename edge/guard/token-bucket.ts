import type { LimitState } from '../deps.ts'

const minuteMs = 60_000

/**
 * A token bucket: it holds at most as many tokens as requests are allowed in a minute, fills evenly, and each request
 * takes one. So after a rest a minute's worth may come at once, and over any longer time the rate holds.
 */
export class TokenBucket {
  /** Undefined until the first refill fills it to the brim. */
  #tokens: number | undefined
  #perMinute = 0
  #filledAt = 0

  /** Adds what the time since the last call brought. `perMinute` may change between calls; `now` is unix ms. */
  refill({ perMinute, now }: { perMinute: number; now: number }): void {
    const elapsedMs = Math.max(0, now - this.#filledAt)
    const tokens = this.#tokens === undefined ? perMinute : this.#tokens + (elapsedMs * perMinute) / minuteMs
    this.#tokens = Math.min(perMinute, tokens)
    this.#perMinute = perMinute
    // A clock that was set back must not make the same time count twice.
    this.#filledAt = Math.max(this.#filledAt, now)
  }

  /** Takes a token, if there is one. */
  take(): boolean {
    if (this.#whole < 1) return false
    this.#tokens = this.#tokens! - 1
    return true
  }

  /** Whole seconds until there is a token, at least 1. */
  secondsToNext(): number {
    return Math.max(1, Math.ceil(this.#secondsFor(1 - (this.#tokens ?? 0))))
  }

  /** Of the last refill. */
  state(): LimitState {
    return {
      limit: this.#perMinute,
      remaining: this.#whole,
      resetSeconds: this.#secondsFor(this.#perMinute - (this.#tokens ?? 0)),
    }
  }

  /** Tokens that can be taken. Thirds of a token do not add up to one in floating point, but nearly. */
  get #whole(): number {
    return Math.floor((this.#tokens ?? 0) + 1e-9)
  }

  #secondsFor(tokens: number): number {
    return (tokens / this.#perMinute) * (minuteMs / 1000)
  }
}
